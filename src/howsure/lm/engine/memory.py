"""Out of memory: less is read at a time from there on, and more again when that has gone well."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

_AFTER = 64
"""Passes that must go well before the budget grows again: what filled the memory may be gone."""

_SAID_BY_TORCH = ("out of memory", "not enough memory", "can't allocate memory")

_log = logging.getLogger("howsure")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed for want of memory, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error) for s in _SAID_BY_TORCH)


def give_back() -> None:
    """What the allocator holds but nobody uses, so that a smaller piece finds room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Two parts in order, neither of them empty; ValueError for fewer than two items."""
    if len(items) < 2:
        raise ValueError("one item has no halves")
    middle = len(items) // 2
    return items[:middle], items[middle:]


class Budget:
    """How many tokens one forward pass is given: `most`, unless that did not fit."""

    def __init__(self, most: int) -> None:
        self.most = self.tokens = most
        self._passed = 0

    def refused(self, tokens: int) -> None:
        """A pass of so many tokens did not fit: half of that from now on."""
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        self._passed = 0
        _log.warning("out of memory with %d tokens; going on with %d", tokens, self.tokens)

    def passed(self) -> None:
        """A pass went well."""
        if self.tokens == self.most:
            return
        self._passed += 1
        if self._passed >= _AFTER:
            self.tokens, self._passed = min(self.most, 2 * self.tokens), 0

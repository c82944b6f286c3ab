"""Where a free answer ends, and what of it is kept: its first line, as in the published code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


def first_line(output: str) -> str:
    """An answer as the published code cleans it: its first line, headings joined to what follows.

    ("\\nParis" is "Paris", "Sure:\\nParis\\n\\nQuestion: ..." is "Sure:Paris".)
    """
    text = output.strip().replace("\n\n", "\n").replace(":\n", ":")
    return text.strip("\n").split("\n")[0]


def is_settled(output: str) -> bool:
    """Whether the first line is over, so that nothing that follows can change it."""
    return "\n" in output.lstrip().replace("\n\n", "\n").replace(":\n", ":")


@dataclass(frozen=True, slots=True)
class Stops:
    """When a growing answer is over."""

    ends: frozenset[int]
    """Tokens that end any text: of text, of turn."""
    breaks: frozenset[int]
    """Tokens with a line break in them; they end an answer whose first line has begun."""
    decode: Callable[[Sequence[int]], str]

    def take(self, ids: Sequence[int], token: int) -> tuple[bool, bool]:
        """(whether the token belongs to the answer so far, whether the answer is over with it)."""
        if token in self.ends:
            return False, True
        if token not in self.breaks:
            return True, False
        longer = self.decode([*ids, token])
        if not is_settled(longer):
            return True, False
        return first_line(longer) != first_line(self.decode(ids)), True

    def length(self, ids: Sequence[int]) -> int | None:
        """How many of the tokens belong to the answer; None where it is not over yet."""
        for n, token in enumerate(ids):
            if token in self.ends or token in self.breaks:
                belongs, over = self.take(ids[:n], token)
                if over:
                    return n + belongs
        return None

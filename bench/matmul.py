"""How much of a work's time its matrix products would take by themselves.

Those of the dense layers and those of attention: a causal segment needs half of its square.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from howsure.lm.engine import parts

Shape = tuple[int, int, int, int]
"""(how many at once, rows, inputs, outputs); a dense layer is 0 at once: its weight is turned."""

_LEAST_SECONDS = 0.05
"""For how long the products of one shape are repeated to be timed."""


class Products(defaultdict[Shape, float]):
    """Which products a work asks for, and how often."""

    def __init__(self) -> None:
        super().__init__(float)
        self._segments: list[tuple[Any, ...]] = []

    def add_call(self, module: Any, given: tuple[Any, ...], _: object) -> None:
        x = given[0]
        times = 1
        if torch.is_grad_enabled():  # the gradient of the input, and that of a trained weight
            times += int(x.requires_grad) + int(module.weight.requires_grad)
        self[0, x.numel() // x.shape[-1], module.in_features, module.out_features] += times

    def add_attention(self, q: Any, k: Any, is_causal: bool, times: int) -> None:
        """Scores and values, so many times each; the heads of a group share their keys."""
        batch, heads, rows, size = q.shape
        self._add(
            batch * k.shape[1], rows * heads // k.shape[1], size, k.shape[2], is_causal, times
        )

    def add_segments(self, q: Any, k: Any, segments: Any, is_causal: bool, times: int) -> None:
        """The same of segments; how long they are is looked at when the work is done."""
        self._segments.append((q.shape, k.shape[1], segments, is_causal, times))

    def _add(
        self, many: int, height: int, size: int, keys: int, is_causal: bool, times: int
    ) -> None:
        share = 0.5 if is_causal else 1.0
        self[many, height, size, keys] += times * share
        self[many, height, keys, size] += times * share

    def settle(self) -> None:
        """Counts the segments that wait for it."""
        for (_, heads, size), groups, segments, is_causal, times in self._segments:
            rows = segments.rows.diff().tolist()
            keys = rows if segments.seen is None else segments.seen.tolist()
            for count, seen in zip(rows, keys, strict=True):
                self._add(groups, count * heads // groups, size, seen, is_causal, times)
        self._segments.clear()

    @property
    def flops(self) -> float:
        self.settle()
        return sum(2 * max(1, m) * a * b * c * n for (m, a, b, c), n in self.items())

    def seconds_alone(self) -> float:
        """Processor seconds for all of them, each shape timed by itself."""
        self.settle()
        return sum(_seconds(shape) * count for shape, count in self.items())


@contextmanager
def counted(model: nn.Module) -> Iterator[Products]:
    """Counts meanwhile the products of all dense layers, and those of the engine's attention."""
    products = Products()
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(products.add_call) for m in dense]
    names = ("attend", "attend_backward", "attend_segments", "attend_segments_backward")
    one, back, many, many_back = (getattr(parts, name) for name in names)

    def attend(q: Any, k: Any, v: Any, **how: Any) -> Any:
        products.add_attention(q, k, how["is_causal"], 1)
        return one(q, k, v, **how)

    def attend_backward(grad: Any, q: Any, k: Any, *more: Any, **how: Any) -> Any:
        products.add_attention(q, k, how["is_causal"], 2)
        return back(grad, q, k, *more, **how)

    def attend_segments(q: Any, k: Any, v: Any, segments: Any, **how: Any) -> Any:
        products.add_segments(q, k, segments, how["is_causal"], 1)
        return many(q, k, v, segments, **how)

    def attend_segments_backward(grad: Any, q: Any, k: Any, *more: Any, **how: Any) -> Any:
        products.add_segments(q, k, more[-1], how["is_causal"], 2)
        return many_back(grad, q, k, *more, **how)

    ours = (attend, attend_backward, attend_segments, attend_segments_backward)
    try:
        with patch.multiple(parts, **dict(zip(names, ours, strict=True))):
            yield products
    finally:
        for handle in handles:
            handle.remove()


def _seconds(shape: Shape) -> float:
    many, rows, inputs, outputs = shape
    if many:
        x, weight = torch.randn(many, rows, inputs), torch.randn(many, inputs, outputs)
        multiply = torch.bmm
    else:
        x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        multiply = torch.nn.functional.linear
    with torch.inference_mode():
        multiply(x, weight)
        begin, count = time.process_time(), 0
        while (spent := time.process_time() - begin) < _LEAST_SECONDS or count < 2:
            multiply(x, weight)
            count += 1
    return spent / count

"""How much of a work's time the matrix products of its dense layers would take by themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Shape = tuple[int, int, int]
"""(rows, inputs, outputs)"""

_LEAST_SECONDS = 0.05
"""For how long the products of one shape are repeated to be timed."""


class Products(Counter[Shape]):
    """Which products a work asks for, and how often."""

    def add_call(self, module: Any, given: tuple[Any, ...], _: object) -> None:
        x = given[0]
        times = 1
        if torch.is_grad_enabled():  # the gradient of the input, and that of a trained weight
            times += int(x.requires_grad) + int(module.weight.requires_grad)
        self[x.numel() // x.shape[-1], module.in_features, module.out_features] += times

    @property
    def flops(self) -> int:
        return sum(2 * a * b * c * n for (a, b, c), n in self.items())

    def seconds_alone(self) -> float:
        """Processor seconds for all of them, each shape timed by itself."""
        return sum(_seconds(shape) * count for shape, count in self.items())


@contextmanager
def counted(model: nn.Module) -> Iterator[Products]:
    """Counts the products of all dense layers meanwhile; those of attention are not in it."""
    products = Products()
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(products.add_call) for m in dense]
    try:
        yield products
    finally:
        for handle in handles:
            handle.remove()


def _seconds(shape: Shape) -> float:
    rows, inputs, outputs = shape
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    with torch.inference_mode():
        torch.nn.functional.linear(x, weight)
        begin, count = time.process_time(), 0
        while (spent := time.process_time() - begin) < _LEAST_SECONDS or count < 2:
            torch.nn.functional.linear(x, weight)
            count += 1
    return spent / count

"""The classifier on a hidden state, shared by Probe and LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """MLP (by default 256-128-64, ReLU) to two logits: (not correct, correct).

    Kapoor et al. 2024, section 4.2: (n, hidden size) → (n, 2). Xavier-normal weights.
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (256, 128, 64)) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.layers(hidden)
        return logits


def new_head(inputs: int, widths: Sequence[int], seed: int) -> Head:
    """A freshly initialised head; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(inputs, widths)

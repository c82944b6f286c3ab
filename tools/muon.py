"""Muon in float32: momentum whose matrix updates are made orthogonal.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". torch.optim.Muon
orthogonalises in bfloat16, which CPUs without bfloat16 units do a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic Newton-Schulz iteration (same source)."""


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices to g, approximately. Shape (..., m, n) in and out."""
    transpose = g.size(-2) > g.size(-1)
    x = g.mT if transpose else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = _A * x + (_B * a + _C * a @ a) @ x
    return x.mT if transpose else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; matrices of one shape share one batched call."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
                for p, u in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                    p.add_(u, alpha=-group["lr"] * scale)

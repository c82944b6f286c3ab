"""Norms as one kernel: a library's own take six passes over the rows, which a GPU feels."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from howsure.lm.engine.layers import with_forward

_CLOSE = 2e-2
"""Of a norm in bfloat16, which libraries round once more in the middle."""


def standard_norms(body: nn.Module) -> list[nn.Module]:
    """Its modules that compute x / rms(x) * weight (Zhang and Sennrich 2019) and nothing else.

    By their names and by a try: some architectures have 1 + weight under the same name. Modules
    that something else has wrapped are left alone.
    """
    return [m for m in body.modules() if "RMSNorm" in type(m).__name__ and _is_standard(m)]


def fused(norms: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """For a while they are computed by torch's own operator."""
    return with_forward(norms, lambda forward: _of(forward.__self__))


def _of(norm: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        return rms_norm(x, norm.weight.shape, norm.weight, _epsilon(norm))

    return forward


def _epsilon(norm: Any) -> Any:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def _is_standard(norm: nn.Module) -> bool:
    tensors = dict(norm.named_parameters()) | dict(norm.named_buffers())
    weight = tensors.pop("weight", None)
    if weight is None or tensors or weight.dim() != 1 or not isinstance(_epsilon(norm), float):
        return False
    if "forward" in vars(norm) or type(weight) not in (Tensor, nn.Parameter):
        return False
    x = torch.linspace(-2.0, 3.0, weight.numel()).to(weight.device, weight.dtype)[None, None]
    with torch.no_grad():
        mine, theirs = (f(x).float() for f in (_of(norm), norm.forward))
    return bool(torch.allclose(mine, theirs, rtol=_CLOSE, atol=_CLOSE * float(theirs.abs().max())))

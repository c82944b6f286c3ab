"""Attention that also returns its log-sum-exp, on each kind of device.

The public attention of torch keeps the log-sum-exp to itself, so its operators are called by name.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_aten = torch.ops.aten


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention's output (b, heads, rows, size) and its log-sum-exp (b, heads, rows) in float32.

    `k` and `v` may have fewer heads than `q` (grouped queries). `mask` is additive, (rows, keys);
    a row that sees nothing has the output 0 and the log-sum-exp -inf.
    """
    if q.device.type == "cpu":
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, is_causal, attn_mask=mask, scale=scale
        )
    elif mask is None and fits_flash(q):
        out, lse = _aten._scaled_dot_product_flash_attention(
            q, *_expanded(q, k, v), 0.0, is_causal, False, scale=scale
        )[:2]
    else:
        out, lse = by_products(q, k, v, is_causal=is_causal, mask=mask, scale=scale)
    if mask is not None:
        lse = lse.masked_fill(torch.isneginf(mask).all(-1), -torch.inf)
    return out, lse


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    is_causal: bool,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v; `out` and `lse` are those of all parts merged."""
    if q.device.type == "cpu":
        dq, dk, dv = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, is_causal, attn_mask=mask, scale=scale
        )
        return dq, dk, dv
    if mask is None and fits_flash(q):
        # Its state of random numbers is that of a dropout that there is not.
        none = torch.zeros(2, dtype=torch.uint64, device=q.device)
        # The kernel takes the log-sum-exp for dense, whatever its strides say.
        tensors = (grad.to(q.dtype), q, *_expanded(q, k, v), out, lse)
        dq, dk, dv = _aten._scaled_dot_product_flash_attention_backward(
            *(x.contiguous() for x in tensors),
            *(None, None, q.shape[2], k.shape[2], 0.0, is_causal, none, none[0]),
            scale=scale,
        )
        return dq, _summed(dk, k), _summed(dv, v)
    return by_products_backward(
        grad, q, k, v, out, lse, is_causal=is_causal, mask=mask, scale=scale
    )


def by_products(
    q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """`attend` written out as matrix products in float32, for any device and dtype."""
    scores = _scores(q, k, is_causal, mask, scale)
    lse = scores.logsumexp(-1)
    p = (scores - lse.clamp(min=torch.finfo(lse.dtype).min).unsqueeze(-1)).exp()
    return _grouped_product(p.to(v.dtype), v), lse


def by_products_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    is_causal: bool,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`attend_backward` written out. Dao et al. 2022, appendix B.2."""
    keys, values = (x.float() for x in _expanded(q, k, v))
    p = (_scores(q, k, is_causal, mask, scale) - lse.unsqueeze(-1)).exp()
    grad = grad.float()
    dp = grad @ values.transpose(-1, -2)
    ds = p * (dp - (grad * out.float()).sum(-1, keepdim=True)) * scale
    dq = ds @ keys
    dk, dv = ds.transpose(-1, -2) @ q.float(), p.transpose(-1, -2) @ grad
    return dq.to(q.dtype), _summed(dk, k), _summed(dv, v)


def _scores(q: Tensor, k: Tensor, is_causal: bool, mask: Tensor | None, scale: float) -> Tensor:
    scores = _grouped_product(q.float(), k.float().transpose(-1, -2)) * scale
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores if mask is None else scores + mask


def _grouped_product(a: Tensor, b: Tensor) -> Tensor:
    """(b, heads, rows, x) @ (b, kv heads, x, y), each of the second for a group of the first's."""
    grouped = a.reshape(a.shape[0], b.shape[1], -1, a.shape[-1]) @ b
    return grouped.view(*a.shape[:-1], b.shape[-1])


def _summed(grad: Tensor, like: Tensor) -> Tensor:
    """Gradients of keys or values that were expanded: those of a group add up."""
    return grad.view(*like.shape[:2], -1, *like.shape[2:]).sum(2).to(like.dtype)


def _expanded(q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Keys or values with as many heads as the queries."""
    return [x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in tensors]


def fits_flash(q: Tensor) -> bool:
    """Whether the GPU's flash attention takes such queries: their device, dtype and head size."""
    half, size = q.dtype in (torch.float16, torch.bfloat16), q.shape[-1]
    return q.is_cuda and half and size <= 256 and size % 8 == 0

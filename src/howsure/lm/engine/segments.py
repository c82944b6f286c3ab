"""Attention of many segments in one call: each has rows of its own and sees a range of keys.

On a GPU, in half precision, that is one launch of flash attention's kernel for sequences of
different lengths (Dao 2023) where `kernels.attend` would need one a segment. Its public form in
torch takes no ranges that overlap, so the operator beneath it is called by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from howsure.lm.engine.kernels import by_products, by_products_backward, fits_flash

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Segments:
    """Which rows see which keys. All tensors are int32, on the device of the rows."""

    rows: Tensor
    """(segments + 1,), where each segment's rows begin, and the end of the last."""
    first: Tensor
    """(segments + 1,), each segment's first key; the last entry stands for none."""
    seen: Tensor | None
    """(segments,), how many keys each sees; None: up to the next one's first."""
    longest: tuple[int, int]
    """Most rows and most keys of a segment, or more."""
    total: int = 0
    """How many keys all of them see, where `seen` is told."""

    @classmethod
    def own(cls, lengths: Sequence[int], device: Any) -> Segments:
        """Segments of so many rows, each of which sees the keys of its own rows."""
        ends = sent([0, *accumulate(lengths)], device, torch.int32)
        return cls(ends, ends, None, (max(lengths), max(lengths)))

    @classmethod
    def of(cls, lengths: Sequence[int], keys: Sequence[slice], device: Any) -> Segments:
        """Segments of so many rows; the ranges of keys may overlap."""
        counts = [k.stop - k.start for k in keys]
        return cls(
            sent([0, *accumulate(lengths)], device, torch.int32),
            sent([*(k.start for k in keys), 0], device, torch.int32),
            sent(counts, device, torch.int32),
            (max(lengths), max(counts)),
            sum(counts),
        )


def sent(values: Sequence[int], device: Any, dtype: torch.dtype = torch.int64) -> Tensor:
    """A list as a tensor on the device, without waiting for what the device still has to do."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def are_one_call(device: Any, dtype: torch.dtype) -> bool:
    """Whether the device computes segments in one launch; elsewhere they come one by one."""
    return torch.device(device).type == "cuda" and dtype in (torch.float16, torch.bfloat16)


def attend_segments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    *,
    is_causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attention's output (rows, heads, size) and its log-sum-exp (rows, heads) in float32.

    `q` is (rows, heads, size), `k` and `v` (keys, kv heads, size) with a divisor of its heads.
    Each segment sees at least one key. With `is_causal` its rows and keys are the same tokens, of
    which a row sees those up to its own, and no more than `window` of them.
    """
    if not fits_flash(q):
        return _one_by_one(q, k, v, segments, is_causal=is_causal, window=window, scale=scale)
    rows, keys = segments.longest
    out, lse = _aten._flash_attention_forward(
        *(q, k, v, segments.rows, segments.first),
        max(rows, 2),  # of single rows the kernel makes another order of its log-sum-exp
        *(keys, 0.0, is_causal, False),
        scale=scale,
        seqused_k=segments.seen,
        **_seen_back(window),
    )[:2]
    return out, lse.transpose(0, 1)


def attend_segments_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    *,
    is_causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, in their shapes; `out` and `lse` are those of all parts merged."""
    how: dict[str, Any] = {"is_causal": is_causal, "window": window, "scale": scale}
    if not fits_flash(q):
        return _one_by_one_backward(grad, q, k, v, out, lse, segments, **how)
    if segments.seen is None:
        return _flash_backward(grad, q, k, v, out, lse, segments, **how)
    # The backward kernel takes no ranges that overlap: each segment gets a copy of its keys.
    ends = torch.cat([segments.seen.new_zeros(1), segments.seen.cumsum(0, dtype=torch.int32)])
    shift = segments.first[:-1] - ends[:-1]
    count = segments.total  # known here, so that nobody waits for the device to say it
    at = torch.repeat_interleave(shift.long(), segments.seen, output_size=count)
    at = at + torch.arange(count, device=at.device)
    apart = Segments(segments.rows, ends, None, segments.longest)
    dq, *copies = _flash_backward(grad, q, k[at], v[at], out, lse, apart, **how)
    dk, dv = (
        torch.zeros(x.shape, dtype=torch.float32, device=x.device).index_add_(0, at, copy.float())
        for x, copy in zip((k, v), copies, strict=True)
    )
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _flash_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    *,
    is_causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    # Its state of random numbers is that of a dropout that there is not.
    none = torch.zeros(2, dtype=torch.uint64, device=q.device)
    # The kernel takes the log-sum-exp for dense, whatever its strides say.
    dense = (x.contiguous() for x in (grad.to(q.dtype), q, k, v, out, lse.transpose(0, 1)))
    dq, dk, dv = _aten._flash_attention_backward(
        *dense,
        *(segments.rows, segments.first, *segments.longest),
        *(0.0, is_causal, none, none[0]),
        scale=scale,
        **_seen_back(window),
    )
    return dq, dk, dv


def _seen_back(window: int | None) -> dict[str, int]:
    return {} if window is None else {"window_size_left": window - 1, "window_size_right": 0}


def _one_by_one(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, **how: Any
) -> tuple[Tensor, Tensor]:
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
    for rows, keys, given in _calls(segments, q, **how):
        one, its_lse = by_products(*map(_as_batch, (q[rows], k[keys], v[keys])), **given)
        out[rows], lse[rows] = one[0].transpose(0, 1), its_lse[0].transpose(0, 1)
    return out, lse


def _one_by_one_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    segments: Segments,
    **how: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    for rows, keys, given in _calls(segments, q, **how):
        of_rows = (_as_batch(x) for x in (out[rows], lse[rows]))
        dense = map(_as_batch, (grad[rows], q[rows], k[keys], v[keys]))
        found = by_products_backward(*dense, *of_rows, **given)
        for total, at, one in zip((dq, dk, dv), (rows, keys, keys), found, strict=True):
            total[at] += one[0].transpose(0, 1)
    return dq, dk, dv


def _calls(
    segments: Segments, q: Tensor, *, is_causal: bool, window: int | None, scale: float
) -> Iterator[tuple[slice, slice, dict[str, Any]]]:
    """(rows, keys, how) of each segment."""
    ends, first = segments.rows.tolist(), segments.first.tolist()
    seen = [b - a for a, b in pairwise(first)]
    if segments.seen is not None:
        seen = segments.seen.tolist()
    for i, count in enumerate(seen):
        mask = None
        if window is not None and window < count:
            at = torch.arange(count, device=q.device)
            far = at[:, None] - at[None, :] >= window
            mask = torch.zeros(far.shape, device=q.device).masked_fill_(far, -torch.inf)
        keys = slice(first[i], first[i] + count)
        given = {"is_causal": is_causal, "mask": mask, "scale": scale}
        yield slice(ends[i], ends[i + 1]), keys, given


def _as_batch(x: Tensor) -> Tensor:
    """(rows, heads, ...) → (1, heads, rows, ...)"""
    return x.transpose(0, 1)[None]

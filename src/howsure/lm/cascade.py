"""Attention over a padding-free pack of tree nodes, as an attention function of transformers.

Each row attends to its own segment (causal) and to what it sees of each ancestor (all of it). The
parts are computed apart and merged exactly: with o_i the output and l_i the log of the sum of
exponentials of part i, o = Σ exp(l_i - l) o_i where l = log Σ exp(l_i). An ancestor that many
segments share is one large call instead of many small ones ("cascade" attention). The backward pass
of each part needs nothing but the merged o and l, as in ring attention (Liu et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from howsure.lm.kernels import attend, attend_backward
from howsure.lm.tree import Node, runs, spans

NAME = "howsure_cascade"


class Unsupported(Exception):
    """The architecture asks for something that this attention doesn't do."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values: layer → (kv heads, rows, head size) each, the node's own from `row` on."""

    layers: dict[int, tuple[Tensor, Tensor]]
    row: int = 0

    def copied(self, length: int) -> Memory:
        """The node's own rows alone, so that the pack they were made in can be freed."""
        end = self.row + length
        return Memory(
            {
                layer: (k[:, self.row : end].clone(), v[:, self.row : end].clone())
                for layer, (k, v) in self.layers.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One attention call: which rows of the pack see which keys."""

    rows: slice | Tensor
    low: int
    """Lowest position of the rows, and the highest."""
    high: int
    keys: slice
    """Of the pack itself, or of `memory`."""
    start: int
    """Position of the first key."""
    memory: Memory | None = None
    segments: int = 1
    """More than one: neighbouring segments of one length, each of which sees its own keys only."""
    is_causal: bool = False
    mask: Tensor | None = None
    """Additive, (rows, keys), or (length, length) for causal segments; None: nothing is hidden."""


def in_window(part: Part, window: int | None, positions: Tensor, dtype: Any) -> Part | None:
    """The part without the keys that a sliding window hides; None when it hides all of them.

    A row sees the `window` positions up to its own. `positions` has each row's position.
    """
    if window is None or part.high - part.start < window:
        return part
    rows = torch.arange(part.high + 1, device=positions.device)
    if not part.is_causal:
        hidden = max(0, part.low - window + 1 - part.start)
        if part.keys.start + hidden >= part.keys.stop:
            return None
        keys = slice(part.keys.start + hidden, part.keys.stop)
        part = replace(part, keys=keys, start=part.start + hidden)
        if part.high - part.start < window:
            return part
        rows = positions[part.rows]
    count = len(rows) if part.is_causal else part.keys.stop - part.keys.start
    at = torch.arange(part.start, part.start + count, device=positions.device)
    distance = rows[:, None] - at[None, :]
    unseen = (distance >= window) | (distance < 0)
    mask = torch.zeros(unseen.shape, dtype=dtype, device=positions.device)
    return replace(part, mask=mask.masked_fill_(unseen, -torch.inf))


class Layout:
    """What the attention of one forward pass has to know; made once per pack of nodes."""

    def __init__(
        self, pack: Sequence[Node], device: Any, dtype: Any, *, keep: bool = False
    ) -> None:
        self._device, self._dtype = device, dtype
        self.keep = keep
        """Whether keys and values are kept, in `kept`: layer → (kv heads, rows, head size) each."""
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.trim: int | None = None
        """The layer behind which only the wanted rows matter."""
        self.row_of: dict[Node, int] = {}
        self._positions: list[int] = []
        self._wanted: list[int] = []
        for node in pack:
            row = self.row_of[node] = len(self._positions)
            self._positions += range(node.start, node.stop)
            self._wanted += [row + p - node.start for p in sorted(node.wanted)]
        self.positions = torch.tensor(self._positions, device=device)
        self.wanted = torch.tensor(self._wanted, dtype=torch.long, device=device)
        """Rows of the pack that are wanted, in order."""
        self._all = [*self._own(pack), *self._shared(pack)]
        self._made: dict[tuple[bool, int | None], list[Part]] = {}

    def _own(self, pack: Sequence[Node]) -> Iterator[Part]:
        for run in runs(pack):
            here = slice(run.row, run.row + run.count * run.length)
            # Positions count from the segment's start: neighbours may start at different places.
            yield Part(here, 0, run.length - 1, here, 0, segments=run.count, is_causal=True)

    def _shared(self, pack: Sequence[Node]) -> Iterator[Part]:
        for span in spans(pack):
            inside = span.node in self.row_of
            memory: Memory | None = None if inside else span.node.memory
            row = self.row_of[span.node] if memory is None else memory.row
            at = self._positions[span.row : span.end]
            yield Part(
                slice(span.row, span.end),
                min(at),
                max(at),
                slice(row, row + span.seen),
                span.node.start,
                memory=memory,
            )

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """(heads, rows, size), and (kv heads, rows, size) twice → (rows, heads, size)."""
        if self.keep:
            self.kept[layer] = (k.detach(), v.detach())
        parts = self.parts(layer, window)
        out: Tensor = _Cascade.apply(q, k, v, parts, layer, scale)  # type: ignore[no-untyped-call]
        return out

    def parts(self, layer: int, window: int | None) -> list[Part]:
        """The calls of a layer; where rows are trimmed, only wanted ones see ancestors."""
        key = (layer == self.trim, window)
        if key not in self._made:
            parts = (self._trimmed(p) if key[0] else p for p in self._all)
            self._made[key] = [
                seen
                for p in parts
                if p and (seen := in_window(p, window, self.positions, self._dtype)) is not None
            ]
        return self._made[key]

    def _trimmed(self, part: Part) -> Part | None:
        assert isinstance(part.rows, slice)
        mine = [r for r in self._wanted if part.rows.start <= r < part.rows.stop]
        if not mine or part.is_causal:
            return part if mine else None
        at = [self._positions[r] for r in mine]
        rows = torch.tensor(mine, device=self._device)
        return replace(part, rows=rows, low=min(at), high=max(at))


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cascade: Any = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, heads, rows, head size) each → (1, rows, heads, head size)."""
    if cascade is None:
        raise Unsupported("its layers do not pass on to the attention what they are given")
    if attention_mask is not None or softcap is not None or s_aux is not None or dropout:
        raise Unsupported("its attention has a mask of its own, a soft cap, sinks or dropout")
    layer = int(module.layer_idx)
    scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
    out = cascade.attend(query[0], key[0], value[0], layer, scale, sliding_window)
    return out[None], None


class _Cascade(torch.autograd.Function):
    """Queries (heads, rows, size), keys and values (kv heads, rows, size) → (rows, heads, size)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: list[Part], layer: int, scale: float
    ) -> Tensor:
        out = q.new_zeros(q.shape[1], q.shape[0], v.shape[-1])
        lse = torch.full(out.shape[:2], -torch.inf, dtype=torch.float32, device=q.device)
        for part in parts:
            pair = attend(*_seen(part, q, k, v, layer), **_how(part, scale))
            one, its_lse = (x.transpose(1, 2).flatten(0, 1) for x in pair)
            if part.is_causal:
                out[part.rows], lse[part.rows] = one, its_lse
            else:
                merge(out, lse, part.rows, one, its_lse)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.how = (parts, layer, scale)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v, out, lse = ctx.saved_tensors
        parts, layer, scale = ctx.how
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for part in parts:
            n, rows = part.segments, part.rows
            found = attend_backward(
                _batched(grad[rows].transpose(0, 1), n),
                *_seen(part, q, k, v, layer),
                _batched(out[rows].transpose(0, 1), n),
                lse[rows].view(n, -1, lse.shape[1]).transpose(1, 2),
                **_how(part, scale),
            )
            dq_, dk_, dv_ = (x.transpose(0, 1).flatten(1, 2) for x in found)
            dq[:, rows] += dq_
            if part.memory is None:
                dk[:, part.keys] += dk_
                dv[:, part.keys] += dv_
        return dq, dk, dv, None, None, None


def merge(out: Tensor, lse: Tensor, rows: slice | Tensor, one: Tensor, its_lse: Tensor) -> None:
    """Join a part's output and log-sum-exp into rows that have seen something already."""
    before = lse[rows]
    weight = torch.sigmoid(its_lse - before).to(one.dtype).unsqueeze(-1)
    out[rows] = torch.lerp(out[rows], one, weight)
    lse[rows] = torch.logaddexp(before, its_lse)


def _how(part: Part, scale: float) -> dict[str, Any]:
    return {
        "is_causal": part.is_causal and part.mask is None,
        "mask": part.mask,
        "scale": scale,
    }


def _seen(part: Part, q: Tensor, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """The part's queries, keys and values, (segments, heads, rows, size) each."""
    if part.memory is not None:
        k, v = part.memory.layers[layer]
    n = part.segments
    return (
        _batched(q[:, part.rows], n),
        _batched(k[:, part.keys], n),
        _batched(v[:, part.keys], n),
    )


def _batched(x: Tensor, count: int) -> Tensor:
    """(heads, count × length, size) → (count, heads, length, size), without a copy."""
    return x.view(x.shape[0], count, -1, x.shape[-1]).transpose(0, 1)


@contextmanager
def installed(config: Any) -> Iterator[None]:
    """For a while the model attends through `attention`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before

"""Attention over a padding-free pack of tree nodes, as an attention function of transformers.

Each row attends to its own segment (causal) and to what it sees of each ancestor (all of it). The
parts are computed apart and merged exactly: with o_i the output and l_i the log of the sum of
exponentials of part i, o = Σ exp(l_i - l) o_i where l = log Σ exp(l_i). An ancestor that many
segments share is one large call instead of many small ones ("cascade" attention). The backward pass
of each part needs nothing but the merged o and l, as in ring attention (Liu et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from howsure.lm.engine.parts import Bundle, Given, Layers, Memory, Part, bundled, in_window, merge
from howsure.lm.engine.segments import Segments, are_one_call, sent
from howsure.lm.engine.tree import Node, runs, spans

NAME = "howsure_cascade"


class Unsupported(Exception):
    """The architecture asks for something that this attention doesn't do."""


class Layout:
    """What the attention of one forward pass has to know; made once per pack of nodes."""

    def __init__(
        self, pack: Sequence[Node], device: Any, dtype: Any, *, keep: bool = False
    ) -> None:
        self._device, self._dtype = device, dtype
        self.keep = keep
        """Whether keys and values are kept, in `kept`."""
        self.kept: Layers = {}
        self.trim: int | None = None
        """The layer behind which only the wanted rows matter."""
        self.row_of: dict[Node, int] = {}
        self._pack = pack
        self._positions: list[int] = []
        self._wanted: list[int] = []
        for node in pack:
            row = self.row_of[node] = len(self._positions)
            self._positions += range(node.start, node.stop)
            self._wanted += [row + p - node.start for p in sorted(node.wanted)]
        self.positions = sent(self._positions, device)
        self.wanted = sent(self._wanted, device)
        """Rows of the pack that are wanted, in order."""
        self._made: dict[tuple[bool, int | None], list[Part | Bundle]] = {}

    def _own(self) -> Iterator[Part]:
        for run in runs(self._pack):
            here = slice(run.row, run.row + run.count * run.length)
            # Positions count from the segment's start: neighbours may start at different places.
            yield Part(here, 0, run.length - 1, here, 0, segments=run.count, is_causal=True)

    def _shared(self) -> Iterator[Part]:
        for span in spans(self._pack):
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

    def parts(self, layer: int, window: int | None) -> list[Part | Bundle]:
        """The calls of a layer, those of the segments themselves first; where rows are trimmed,
        only wanted ones see ancestors."""
        key = (layer == self.trim, window)
        if key not in self._made:
            self._made[key] = list(self._calls(*key))
        return self._made[key]

    def _calls(self, trimmed: bool, window: int | None) -> Iterator[Part | Bundle]:
        in_bundles = are_one_call(self._device, self._dtype)
        if in_bundles:
            lengths = [len(n.ids) for n in self._pack]
            own = Segments.own(lengths, self._device)
            near = window if window is not None and window < max(lengths) else None
            yield Bundle(slice(0, sum(lengths)), own, is_causal=True, window=near)
        else:
            yield from self._visible(self._own(), trimmed, window)
        shared = list(self._visible(self._shared(), trimmed, window))
        if in_bundles:
            yield from bundled(shared, self._device)
            return
        for part in shared:
            rows = part.rows
            yield part if isinstance(rows, slice) else replace(part, rows=rows.to(self._device))

    def _visible(self, parts: Iterable[Part], trimmed: bool, window: int | None) -> Iterator[Part]:
        for part in parts:
            some = self._trimmed(part) if trimmed else part
            if some is not None:
                seen = in_window(some, window, self.positions, self._dtype)
                if seen is not None:
                    yield seen

    def _trimmed(self, part: Part) -> Part | None:
        assert isinstance(part.rows, slice)
        mine = [r for r in self._wanted if part.rows.start <= r < part.rows.stop]
        if not mine or part.is_causal:
            return part if mine else None
        at = [self._positions[r] for r in mine]
        return replace(part, rows=torch.tensor(mine), low=min(at), high=max(at))


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
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        parts: list[Part | Bundle],
        layer: int,
        scale: float,
    ) -> Tensor:
        given = Given(q, k, v, layer, scale)
        if parts and isinstance(parts[0], Bundle):  # of all rows, each of which sees itself
            first, *others = parts
            out, lse = first.attend(given)
        else:
            others = parts
            out = q.new_zeros(q.shape[1], q.shape[0], v.shape[-1])
            lse = torch.full(out.shape[:2], -torch.inf, dtype=torch.float32, device=q.device)
        for part in others:
            one, its_lse = part.attend(given)
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
        given = Given(q, k, v, layer, scale)
        if parts and isinstance(parts[0], Bundle):
            first, *others = parts
            found = first.gradients(grad, given, out, lse)
        else:
            others = parts
            found = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for part in others:
            part.add_gradients(found, grad, given, out, lse)
        return *found, None, None, None


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

"""The calls that the attention of a pack is made of: which rows see which keys.

A `Part` is one dense call. Where a device computes many segments in one launch, parts become a
`Bundle`. Queries, keys and values come as (heads, rows, size), what is found is row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from howsure.lm.engine.kernels import attend, attend_backward
from howsure.lm.engine.segments import Segments, attend_segments, attend_segments_backward, sent

Layers = dict[int, tuple[Tensor, Tensor]]
"""Layer → keys and values, (kv heads, rows, head size) each."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values, the node's own from `row` on."""

    layers: Layers
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
class Given:
    """What the attention of a layer is given: queries, keys and values of a pack."""

    q: Tensor
    k: Tensor
    v: Tensor
    layer: int
    scale: float

    def keys(self, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Keys and values, of the pack itself or of what was kept of an earlier one."""
        return (self.k, self.v) if memory is None else memory.layers[self.layer]


Grads = tuple[Tensor, Tensor, Tensor]
"""Of queries, keys and values."""


@dataclass(frozen=True, slots=True)
class Part:
    """One attention call."""

    rows: slice | Tensor
    """Of the pack, in ascending order."""
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

    def attend(self, given: Given) -> tuple[Tensor, Tensor]:
        """The rows' output (rows, heads, size) and log-sum-exp (rows, heads)."""
        out, lse = attend(*self._seen(given), **self._how(given.scale))
        return out.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)

    def add_gradients(
        self, into: Grads, grad: Tensor, given: Given, out: Tensor, lse: Tensor
    ) -> None:
        """Adds those that come through this call; keys and values of a memory have none."""
        n, rows = self.segments, self.rows
        found = attend_backward(
            _batched(grad[rows].transpose(0, 1), n),
            *self._seen(given),
            _batched(out[rows].transpose(0, 1), n),
            lse[rows].view(n, -1, lse.shape[1]).transpose(1, 2),
            **self._how(given.scale),
        )
        dq, dk, dv = (x.transpose(0, 1).flatten(1, 2) for x in found)
        into[0][:, rows] += dq
        if self.memory is None:
            into[1][:, self.keys] += dk
            into[2][:, self.keys] += dv

    def _how(self, scale: float) -> dict[str, Any]:
        causal = self.is_causal and self.mask is None
        return {"is_causal": causal, "mask": self.mask, "scale": scale}

    def _seen(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Its queries, keys and values, (segments, heads, rows, size) each."""
        k, v = given.keys(self.memory)
        n = self.segments
        return (
            _batched(given.q[:, self.rows], n),
            _batched(k[:, self.keys], n),
            _batched(v[:, self.keys], n),
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """Many attention calls in one launch."""

    rows: slice | Tensor
    segments: Segments
    memory: Memory | None = None
    is_causal: bool = False
    """Each segment sees itself, up to each row's own token."""
    window: int | None = None
    """For causal ones: how many tokens a row sees at most."""

    def attend(self, given: Given) -> tuple[Tensor, Tensor]:
        """The rows' output (rows, heads, size) and log-sum-exp (rows, heads)."""
        return attend_segments(*self._seen(given), self.segments, scale=given.scale, **self._how())

    def add_gradients(
        self, into: Grads, grad: Tensor, given: Given, out: Tensor, lse: Tensor
    ) -> None:
        """Adds those that come through these calls; keys and values of a memory have none."""
        dq, dk, dv = self.gradients(grad, given, out, lse)
        into[0][:, self.rows] += dq
        if self.memory is None:
            into[1].add_(dk)
            into[2].add_(dv)

    def gradients(self, grad: Tensor, given: Given, out: Tensor, lse: Tensor) -> Grads:
        """Those of its queries, and of all keys and values."""
        rows = self.rows
        found = attend_segments_backward(
            grad[rows],
            *self._seen(given),
            out[rows],
            lse[rows],
            self.segments,
            scale=given.scale,
            **self._how(),
        )
        dq, dk, dv = (x.transpose(0, 1) for x in found)
        return dq, dk, dv

    def _how(self) -> dict[str, Any]:
        return {"is_causal": self.is_causal, "window": self.window}

    def _seen(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Its queries, and all keys and values, (rows, heads, size) each."""
        k, v = given.keys(self.memory)
        return given.q.transpose(0, 1)[self.rows], k.transpose(0, 1), v.transpose(0, 1)


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


def bundled(parts: Sequence[Part], device: Any) -> list[Part | Bundle]:
    """The same in fewer calls: parts whose keys lie in one place, and none of whose rows are the
    same, become one. The parts are in the order of their first rows, none is causal, and rows that
    are no slice are on the CPU; those with a mask stay as they are."""
    out: list[Part | Bundle] = [p for p in parts if p.mask is not None]
    groups: dict[int, list[list[Part]]] = {}
    for part in parts:
        if part.mask is None:
            there = groups.setdefault(id(part.memory.layers) if part.memory else 0, [])
            first = _bounds(part)[0]
            group = next((g for g in there if _bounds(g[-1])[1] <= first), None)
            if group is None:
                there.append(group := [])
            group.append(part)
    return out + [_bundle(g, device) for there in groups.values() for g in there]


def _bundle(parts: list[Part], device: Any) -> Bundle:
    rows = [_numbers(p) for p in parts]
    every = [r for some in rows for r in some]
    is_run = every[-1] - every[0] == len(every) - 1
    return Bundle(
        slice(every[0], every[-1] + 1) if is_run else sent(every, device),
        Segments.of(list(map(len, rows)), [p.keys for p in parts], device),
        memory=parts[0].memory,
    )


def _numbers(part: Part) -> Sequence[int]:
    rows = part.rows
    return range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()


def _bounds(part: Part) -> tuple[int, int]:
    """The first of its rows, and the end of the last."""
    numbers = _numbers(part)
    return numbers[0], numbers[-1] + 1


def merge(out: Tensor, lse: Tensor, rows: slice | Tensor, one: Tensor, its_lse: Tensor) -> None:
    """Join a part's output and log-sum-exp into rows that have seen something already."""
    before = lse[rows]
    weight = torch.sigmoid(its_lse - before).to(one.dtype).unsqueeze(-1)
    if isinstance(rows, slice):
        out[rows].lerp_(one, weight)
    else:
        out[rows] = torch.lerp(out[rows], one, weight)
    lse[rows] = torch.logaddexp(before, its_lse)


def _batched(x: Tensor, count: int) -> Tensor:
    """(heads, count × length, size) → (count, heads, length, size), without a copy."""
    return x.view(x.shape[0], count, -1, x.shape[-1]).transpose(0, 1)

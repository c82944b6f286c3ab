"""Greedy generation on the tree: each step reads one new token of every unfinished sequence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from howsure.lm.engine.kernels import attend
from howsure.lm.engine.parts import Bundle, Given, Layers, Memory, Part, bundled, in_window, merge
from howsure.lm.engine.segments import Segments, are_one_call, attend_segments, sent
from howsure.lm.engine.tree import Node, spans
from howsure.lm.stops import Stops

Step = Callable[[list[int], "Decoding"], Tensor]
"""One forward pass of the model over one token per sequence: hidden states (sequences, size)."""


class Decoding:
    """The attention of sequences that grow token by token, and the keys and values they grow.

    What a sequence shares with others is attended to once for all of them; its own leaf and what
    it has generated stand in a buffer, right-aligned so that all sequences grow at the same column.
    """

    def __init__(self, leaves: Sequence[Node], room: int, dtype: Any, device: Any) -> None:
        self._leaves = list(leaves)
        self._dtype, self._device = dtype, device
        self._longest = max(len(n.ids) for n in leaves)
        self._width = self._longest + room
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}
        """Layer → (sequences, width, kv heads, size) each."""
        self.rows = list(range(len(leaves)))
        """Which of the leaves still grow."""
        self.steps = 0
        self._in_bundles = are_one_call(device, dtype)
        self._arrange()

    def _arrange(self) -> None:
        leaves = [self._leaves[i] for i in self.rows]
        self._starts = [n.stop for n in leaves]
        self._empty = [self._longest - len(n.ids) for n in leaves]
        next_tokens = [Node((0,), n.stop, n) for n in leaves]
        self._spans = [s for s in spans(next_tokens) if s.node not in set(leaves)]
        self._shared: dict[int | None, list[Part | Bundle]] = {}
        self._begin()

    def _begin(self) -> None:
        """What one step needs, for all layers: made when the first of them asks."""
        self.positions = sent([s + self.steps for s in self._starts], self._device)
        """(sequences,), of the tokens that are read in this step."""
        self._own: dict[int | None, Segments | Tensor | None] = {}
        self._shared = {None: self._shared[None]} if None in self._shared else {}

    def advance(self) -> None:
        """Each of the sequences has one token more."""
        self.steps += 1
        self._begin()

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """(heads, sequences, size), (kv heads, sequences, size) twice → (sequences, heads,
        size)."""
        keys, values = self._append(k, v, layer)
        if window is not None and max(self._starts) + self.steps < window:
            window = None
        out, lse = self._attend_to_own(q, keys, values, scale, window)
        given = Given(q, k, v, layer, scale)
        for part in self._to_shared(window):
            # What a leaf continues was kept: none of it is in this pass.
            one, its_lse = part.attend(given)
            merge(out, lse, part.rows, one, its_lse)
        return out

    def _attend_to_own(
        self, q: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Output (sequences, heads, size) and log-sum-exp (sequences, heads)."""
        if window not in self._own:
            made = self._own_segments(window) if self._in_bundles else self._own_mask(window)
            self._own[window] = made
        own = self._own[window]
        if isinstance(own, Segments):
            flat_keys, flat_values = keys.flatten(0, 1), values.flatten(0, 1)
            how: dict[str, Any] = {"is_causal": False, "window": None, "scale": scale}
            return attend_segments(q.transpose(0, 1), flat_keys, flat_values, own, **how)
        seen = slice(self._first(window), self._longest + self.steps + 1)
        out, lse = attend(
            q.transpose(0, 1).unsqueeze(2),
            keys[:, seen].transpose(1, 2),
            values[:, seen].transpose(1, 2),
            is_causal=False,
            mask=own,
            scale=scale,
        )
        return out[:, :, 0], lse[:, :, 0].clone()

    def _first(self, window: int | None) -> int:
        """The first column of the buffer that any sequence sees."""
        return 0 if window is None else max(0, self._longest + self.steps + 1 - window)

    def _own_segments(self, window: int | None) -> Segments:
        count, end, first = len(self.rows), self._longest + self.steps + 1, self._first(window)
        begins = [max(first, empty) for empty in self._empty]
        keys = [slice(i * self._width + b, i * self._width + end) for i, b in enumerate(begins)]
        return Segments.of([1] * count, keys, self._device)

    def _own_mask(self, window: int | None) -> Tensor | None:
        """Over the columns that a sequence shorter than others leaves empty."""
        first = self._first(window)
        if not any(empty > first for empty in self._empty):
            return None
        columns = torch.arange(first, self._longest + self.steps + 1, device=self._device)
        hidden = columns[None, :] < sent(self._empty, self._device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(hidden, -torch.inf)[:, None, None, :]

    def _to_shared(self, window: int | None) -> list[Part | Bundle]:
        """The calls for what stands before the leaves; without a window the same in every step."""
        if window not in self._shared:
            found = (self._part(s.row, s.end, s.node, s.seen, window) for s in self._spans)
            parts = [part for part in found if part is not None]
            calls: list[Part | Bundle] = [*parts]
            self._shared[window] = bundled(parts, self._device) if self._in_bundles else calls
        return self._shared[window]

    def _part(self, row: int, end: int, node: Node, seen: int, window: int | None) -> Part | None:
        memory: Memory = node.memory
        at = [s + self.steps for s in self._starts[row:end]]
        keys = slice(memory.row, memory.row + seen)
        part = Part(slice(row, end), min(at), max(at), keys, node.start, memory=memory)
        return in_window(part, window, self.positions, self._dtype)

    def _append(self, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The buffers, with this step's keys and values behind the others."""
        if layer not in self._buffers:
            self._buffers[layer] = self._filled(k, layer, 0), self._filled(v, layer, 1)
        column = self._longest + self.steps
        for buffer, new in zip(self._buffers[layer], (k, v), strict=True):
            buffer[:, column] = new.transpose(0, 1)
        return self._buffers[layer]

    def _filled(self, like: Tensor, layer: int, which: int) -> Tensor:
        """A buffer with the leaves' own keys or values, by one copy for each pack they are of."""
        kv_heads, _, size = like.shape
        buffer = like.new_zeros(len(self.rows), self._width, kv_heads, size)
        for layers, source, target in self._leaf_rows:
            buffer.view(-1, kv_heads, size)[target] = layers[layer][which].transpose(0, 1)[source]
        return buffer

    @cached_property
    def _leaf_rows(self) -> list[tuple[Layers, Tensor, Tensor]]:
        """Of each pack that leaves are of: its layers, their rows there, and where in the flat
        buffer these go."""
        packs: dict[int, Layers] = {}
        source: dict[int, list[int]] = defaultdict(list)
        target: dict[int, list[int]] = defaultdict(list)
        for row, i in enumerate(self.rows):
            leaf, memory = self._leaves[i], self._leaves[i].memory
            pack = id(memory.layers)
            packs[pack] = memory.layers
            end = row * self._width + self._longest
            source[pack] += range(memory.row, memory.row + len(leaf.ids))
            target[pack] += range(end - len(leaf.ids), end)
        return [
            (layers, sent(source[pack], self._device), sent(target[pack], self._device))
            for pack, layers in packs.items()
        ]

    def leave(self, stay: Sequence[int]) -> dict[int, Memory]:
        """Only these rows go on; what the others have grown: leaf index → keys and values."""
        gone = [row for row in range(len(self.rows)) if row not in set(stay)]
        grown = slice(self._longest, self._longest + self.steps)
        memories = {
            self.rows[row]: Memory(
                {
                    layer: (
                        k[row, grown].transpose(0, 1).clone(),
                        v[row, grown].transpose(0, 1).clone(),
                    )
                    for layer, (k, v) in self._buffers.items()
                }
            )
            for row in gone
        }
        keep = sent(stay, self._device)
        self._buffers = {
            layer: (k.index_select(0, keep), v.index_select(0, keep))
            for layer, (k, v) in self._buffers.items()
        }
        self.rows = [self.rows[row] for row in stay]
        if self.rows:
            self._arrange()
        return memories


def grow_greedily(
    leaves: Sequence[Node],
    first: Tensor,
    step: Step,
    logits: Callable[[Tensor], Tensor],
    *,
    max_tokens: int,
    stops: Stops,
    dtype: Any,
) -> tuple[list[tuple[list[int], float]], dict[int, Node]]:
    """The continuation of each leaf, and as nodes what of it has been read.

    `first` holds the hidden states at the leaves' ends, (leaves, size). A continuation is its
    token ids without the stop, and the sum of their log-probabilities, or the stop's own if there
    are none.
    """
    state = Decoding(leaves, max_tokens, dtype, first.device)
    tokens: list[list[int]] = [[] for _ in leaves]
    sums = [0.0] * len(leaves)
    hidden_of: list[list[Tensor]] = [[] for _ in leaves]
    nodes: dict[int, Node] = {}
    hidden = first
    while state.rows:
        best, which = logits(hidden).log_softmax(-1).max(-1)
        going = []
        for row, (token, value) in enumerate(zip(which.tolist(), best.tolist(), strict=True)):
            i = state.rows[row]
            belongs, over = stops.take(tokens[i], token)
            if belongs or not tokens[i]:
                sums[i] += value
            if belongs:
                tokens[i].append(token)
            if not over and len(tokens[i]) < max_tokens:
                going.append(row)
        if len(going) < len(state.rows):
            for i, memory in state.leave(going).items():
                if state.steps:
                    nodes[i] = _grown(leaves[i], tokens[i][: state.steps], memory, hidden_of[i])
        if not state.rows:
            break
        hidden = step([tokens[i][-1] for i in state.rows], state)
        state.advance()
        for row, i in enumerate(state.rows):
            hidden_of[i].append(hidden[row])
    return list(zip(tokens, sums, strict=True)), nodes


def _grown(leaf: Node, ids: list[int], memory: Memory, hidden: list[Tensor]) -> Node:
    node = Node(ids, leaf.stop, leaf, memory=memory)
    node.wanted = set(range(node.start, node.stop))
    node.rows = {-1: torch.stack(hidden[: len(ids)])}
    return node

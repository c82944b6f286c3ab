"""Greedy generation on the tree: each step reads one new token of every unfinished sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from howsure.lm.cascade import Memory, Part, in_window, merge
from howsure.lm.kernels import attend
from howsure.lm.stops import Stops
from howsure.lm.tree import Node, spans

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
        self._room = room
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self.rows = list(range(len(leaves)))
        """Which of the leaves still grow."""
        self.steps = 0
        self._arrange()

    def _arrange(self) -> None:
        leaves = [self._leaves[i] for i in self.rows]
        self._starts = torch.tensor([n.stop for n in leaves], device=self._device)
        empty = torch.tensor([self._longest - len(n.ids) for n in leaves], device=self._device)
        columns = torch.arange(self._longest, device=self._device)
        self._padding = columns[None, :] < empty[:, None] if bool(empty.any()) else None
        next_tokens = [Node((0,), n.stop, n) for n in leaves]
        self._spans = [s for s in spans(next_tokens) if s.node not in set(leaves)]

    @property
    def positions(self) -> Tensor:
        """(sequences,), of the tokens that are read in this step."""
        return self._starts + self.steps

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """(heads, sequences, size), (kv heads, sequences, size) twice → (sequences, heads,
        size)."""
        keys, values = self._append(k, v, layer)
        first = 0 if window is None else max(0, keys.shape[2] - window)
        mask = None
        if self._padding is not None and first < self._longest:
            width = keys.shape[2] - first
            mask = torch.zeros(len(self.rows), 1, 1, width, dtype=q.dtype, device=q.device)
            hidden = self._padding[:, first:]
            mask[..., : hidden.shape[1]].masked_fill_(hidden[:, None, None, :], -torch.inf)
        own, own_lse = attend(
            q.transpose(0, 1).unsqueeze(2),
            keys[:, :, first:],
            values[:, :, first:],
            is_causal=False,
            mask=mask,
            scale=scale,
        )
        out, lse = own[:, :, 0], own_lse[:, :, 0].clone()
        for span in self._spans:
            part = self._part(span.row, span.end, span.node, span.seen, window)
            if part is None:
                continue
            stored_k, stored_v = part.memory.layers[layer]  # type: ignore[union-attr]
            one, its_lse = attend(
                q[None, :, part.rows],
                stored_k[None, :, part.keys],
                stored_v[None, :, part.keys],
                is_causal=False,
                mask=part.mask,
                scale=scale,
            )
            merge(out, lse, part.rows, one[0].transpose(0, 1), its_lse[0].transpose(0, 1))
        return out

    def _part(self, row: int, end: int, node: Node, seen: int, window: int | None) -> Part | None:
        memory: Memory = node.memory
        at = self.positions
        low, high = 0, -1
        if window is not None:
            low, high = int(at[row:end].min()), int(at[row:end].max())
        keys = slice(memory.row, memory.row + seen)
        part = Part(slice(row, end), low, high, keys, node.start, memory=memory)
        return in_window(part, window, at, self._dtype)

    def _append(self, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The buffers with this step's keys and values behind the others."""
        if layer not in self._buffers:
            self._buffers[layer] = self._filled(k, layer, 0), self._filled(v, layer, 1)
        column = self._longest + self.steps
        for buffer, new in zip(self._buffers[layer], (k, v), strict=True):
            buffer[:, :, column] = new.transpose(0, 1)
        keys, values = self._buffers[layer]
        return keys[:, :, : column + 1], values[:, :, : column + 1]

    def _filled(self, like: Tensor, layer: int, which: int) -> Tensor:
        width = self._longest + self._room
        buffer = like.new_zeros(len(self.rows), like.shape[0], width, like.shape[2])
        for row, i in enumerate(self.rows):
            leaf = self._leaves[i]
            memory: Memory = leaf.memory
            own = memory.layers[layer][which][:, memory.row : memory.row + len(leaf.ids)]
            buffer[row, :, self._longest - len(leaf.ids) : self._longest] = own
        return buffer

    def leave(self, stay: Sequence[int]) -> dict[int, Memory]:
        """Only these rows go on; what the others have grown: leaf index → keys and values."""
        gone = [row for row in range(len(self.rows)) if row not in set(stay)]
        grown = slice(self._longest, self._longest + self.steps)
        memories = {
            self.rows[row]: Memory(
                {
                    layer: (k[row, :, grown].clone(), v[row, :, grown].clone())
                    for layer, (k, v) in self._buffers.items()
                }
            )
            for row in gone
        }
        keep = torch.tensor(stay, dtype=torch.long, device=self._device)
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
        state.steps += 1
        for row, i in enumerate(state.rows):
            hidden_of[i].append(hidden[row])
    return list(zip(tokens, sums, strict=True)), nodes


def _grown(leaf: Node, ids: list[int], memory: Memory, hidden: list[Tensor]) -> Node:
    node = Node(ids, leaf.stop, leaf, memory=memory)
    node.wanted = set(range(node.start, node.stop))
    node.rows = {-1: torch.stack(hidden[: len(ids)])}
    return node

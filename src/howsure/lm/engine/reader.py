"""The fast path: each token of a tree of sequences is read once, in padding-free packs.

The model's own layers do the work; only its attention (`cascade`) is ours, and in the last layer
the wanted rows alone pass the query and output projections and the MLP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from howsure.lm.engine.cascade import Layout, installed
from howsure.lm.engine.decoding import Decoding, grow_greedily
from howsure.lm.engine.layers import decoder_layers, kv_width, recomputing, with_forward
from howsure.lm.engine.memory import Budget, give_back, halves, is_out_of_memory
from howsure.lm.engine.norms import fused, standard_norms
from howsure.lm.engine.parts import Memory
from howsure.lm.engine.planning import batches_by_length
from howsure.lm.engine.segments import sent
from howsure.lm.engine.tree import Ask, Node, common_prefix, grow, packs
from howsure.lm.passage import Next
from howsure.lm.sharding import is_divided
from howsure.lm.stops import Stops

_PACKS_A_WAVE = (4, 32)
"""Packs whose keys and values are held for what continues them: at least, and at most. On a GPU
they are two waves: the next one's packs are in its queue while the processor looks at one."""

_HELD = 1 / 8
"""Of a GPU's memory, for keys and values that are held. The more sequences grow together the
better: a step of few takes as long as one of many."""

Rows = dict[int, Tensor]
"""Layer → (rows, hidden size); -1 is after the final norm."""

_GROWING = 1 / 2
"""Of the tokens that are held: what sequences that grow together may hold of their own."""


class TreeReader:
    """Reads through the tree. `tokens_read` counts every token that a forward pass was given."""

    name = "tree"

    def __init__(self, body: Any, budget: int) -> None:
        self._body = body
        self._config = body.config.get_text_config()
        self._layers = decoder_layers(body)
        self.budget = Budget(budget)
        self.tokens_read = 0
        self.queues = body.device.type == "cuda"
        """Whether passes are waited for by who looks at their rows, and not before."""
        self._norms = standard_norms(body) if self.queues and not is_divided(body) else []
        self._packs_a_wave = _held_packs(body, budget)
        self._trimmed_to: Tensor | None = None
        """The wanted rows of the last pass, if its last layer computed them alone."""

    def waves(
        self, asks: Sequence[Ask], layers: Sequence[int] = (-1,), *, then: Next = "nothing"
    ) -> Iterator[TreeWave]:
        """The asks' rows, some asks at a time, in the order of reading. Where something comes
        `then`, a wave's sequences can be continued until the next wave is asked for."""
        nodes = grow(asks)
        made = packs(nodes, lambda: self.budget.tokens)
        keep = then != "nothing"
        held = self._packs_a_wave if then == "generate" else _PACKS_A_WAVE[0]
        at_once = held // (1 + self.queues) if keep else 1
        waiting: deque[list[list[Node]]] = deque()
        for chunk in _chunks(made, at_once):
            for pack in chunk:
                self.read(pack, layers, keep=keep)
            waiting.append(chunk)
            if len(waiting) > self.queues:
                yield from self._wave(asks, waiting.popleft(), layers)
        while waiting:
            yield from self._wave(asks, waiting.popleft(), layers)

    def _wave(
        self, asks: Sequence[Ask], chunk: list[list[Node]], layers: Sequence[int]
    ) -> Iterator[TreeWave]:
        """What has been read of the asks in these packs, if they end there; then it is freed."""
        leaves = [n for pack in chunk for n in pack if n.ask is not None]
        if leaves:
            yield TreeWave(self, asks, leaves, layers)
        _forget(chunk)

    def rows(self, asks: Sequence[Ask], layers: Sequence[int] = (-1,)) -> Rows:
        """All rows in one pass, ask by ask, with gradients if they are on."""
        nodes = grow(asks)
        self._pass(nodes, layers, keep=False)
        leaves = {n.ask: n for n in nodes if n.ask is not None}
        return _gather([(leaves[i], ask) for i, ask in enumerate(asks)], layers)

    def read(self, pack: Sequence[Node], layers: Sequence[int], *, keep: bool) -> None:
        """Fills the nodes' `rows`, and `memory` where somebody continues them.

        One forward pass; where that does not fit into memory, one for each half, and so on, unless
        other processes would have to do the same.
        """
        try:
            self._read(pack, layers, keep=keep)
            self.budget.passed()
            return
        except (RuntimeError, MemoryError) as error:
            if len(pack) == 1 or is_divided(self._body) or not is_out_of_memory(error):
                raise
        self.budget.refused(sum(len(n.ids) for n in pack))  # the error holds memory no longer
        give_back()
        for half in halves(pack):
            self.read(half, layers, keep=keep)

    def _read(self, pack: Sequence[Node], layers: Sequence[int], *, keep: bool) -> None:
        end = pack[-1].order
        layout = self._pass(pack, layers, keep=keep or any(n.last > end for n in pack))
        for node in pack:
            memory = Memory(layout.kept, layout.row_of[node])
            if node.last > end:
                node.memory = memory.copied(len(node.ids))
            elif keep:
                node.memory = memory

    def _pass(self, pack: Sequence[Node], layers: Sequence[int], *, keep: bool) -> Layout:
        layout = Layout(pack, self._body.device, self._body.dtype, keep=keep)
        ids = sent([t for n in pack for t in n.ids], self._body.device)
        deep: Rows = {}
        with ExitStack() as stack:
            stack.enter_context(self._ours())
            for layer in layers:
                if layer != -1:
                    stack.enter_context(self._listening(layer, layout.wanted, deep))
            self._trimmed_to = None
            if 2 * len(layout.wanted) < len(ids):
                layout.trim = len(self._layers) - 1
                self._trimmed_to = layout.wanted
                stack.enter_context(_trimmed(self._layers[-1], layout.wanted))
            result = self._body(
                input_ids=ids[None],
                position_ids=layout.positions[None],
                use_cache=False,
                cascade=layout,
            )
        self.tokens_read += len(ids)
        found = self.rows_of_pass(result, layout, deep)
        counts = [len(n.wanted) for n in pack]
        split = {layer: torch.split(found[layer], counts) for layer in layers}
        for i, node in enumerate(pack):
            node.rows = {layer: split[layer][i] for layer in layers}
        return layout

    @staticmethod
    def rows_of_pass(result: Any, layout: Layout, deep: Rows) -> Rows:
        """The wanted rows of the final hidden states, beside those of deeper layers."""
        return deep | {-1: result.last_hidden_state[0, layout.wanted]}

    def step(self, tokens: list[int], state: Decoding) -> Tensor:
        """One new token of each growing sequence: their hidden states, (sequences, size)."""
        ids = sent(tokens, self._body.device)
        with self._ours():
            result = self._body(
                input_ids=ids[None],
                position_ids=state.positions[None],
                use_cache=False,
                cascade=state,
            )
        self.tokens_read += len(tokens)
        hidden: Tensor = result.last_hidden_state[0]
        return hidden

    @property
    def growing_tokens(self) -> int:
        """How many tokens of their own sequences that grow together may hold."""
        return int(_GROWING * self._packs_a_wave * self.budget.tokens)

    def recomputing(self) -> AbstractContextManager[None]:
        """For a while, layers keep for the backward pass only what goes into them."""
        return recomputing(self._layers, self._as_in_the_last_pass)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """For a while, the parts of the model that are computed in our way."""
        with installed(self._config), fused(self._norms):
            yield

    @contextmanager
    def _as_in_the_last_pass(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self._ours())
            if self._trimmed_to is not None:
                stack.enter_context(_trimmed(self._layers[-1], self._trimmed_to))
            yield

    @contextmanager
    def _listening(self, layer: int, wanted: Tensor, into: Rows) -> Iterator[None]:
        """Catch the wanted rows of hidden_states[layer]: what goes into that layer."""
        count = len(self._layers)
        index = layer if layer >= 0 else layer + count + 1

        def hear(_: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            into[layer] = hidden[0, wanted]

        handle = self._layers[index].register_forward_pre_hook(hear, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


class TreeWave:
    """Some asks that have been read, and can be continued if they were kept."""

    def __init__(
        self, reader: TreeReader, asks: Sequence[Ask], leaves: Sequence[Node], layers: Sequence[int]
    ) -> None:
        self._reader, self._layers = reader, layers
        self._leaves = list(leaves)
        self.sequences = [asks[n.ask or 0] for n in leaves]
        self.asks = [n.ask or 0 for n in leaves]
        """Which asks these are, in the order of the rows."""
        self.rows = _gather(list(zip(leaves, self.sequences, strict=True)), layers)
        """All wanted rows, ask by ask."""
        self._known = [
            [(node, list(ask.ids))] for node, ask in zip(leaves, self.sequences, strict=True)
        ]

    def read(self, more: Sequence[tuple[int, Ask]], layers: Sequence[int] = (-1,)) -> Rows:
        """Rows of sequences that continue those of the wave: (index into the wave, ask) each."""
        made = [self._continue(self._known[i], ask, layers) for i, ask in more]
        for order, node in enumerate(made):
            node.order = node.last = order
        for pack in packs(made, lambda: self._reader.budget.tokens):
            self._reader.read(pack, layers, keep=True)
        for (i, ask), node in zip(more, made, strict=True):
            self._known[i].append((node, list(ask.ids)))
        return _gather([(n, ask) for n, (_, ask) in zip(made, more, strict=True)], layers)

    def generate(
        self, max_tokens: int, stops: Stops, logits: Callable[[Tensor], Tensor]
    ) -> list[tuple[list[int], float]]:
        """Greedy continuations of sequences whose last rows are wanted: new token ids up to a stop
        or `max_tokens`, and the sum of their log-probabilities."""
        made: dict[int, tuple[list[int], float]] = {}
        # Each sequence's own tokens are copied, those of all at the width of the longest.
        lengths = [len(leaf.ids) + max_tokens for leaf in self._leaves]
        waiting = list(batches_by_length(lengths, self._reader.growing_tokens))
        while waiting:
            some = sorted(waiting.pop())  # neighbours in the tree share what they are given
            leaves = [self._leaves[i] for i in some]
            ends = torch.cat([leaf.rows[-1][-1:] for leaf in leaves])
            try:
                grown, nodes = grow_greedily(
                    leaves,
                    ends,
                    self._reader.step,
                    logits,
                    max_tokens=max_tokens,
                    stops=stops,
                    dtype=ends.dtype,
                )
            except (RuntimeError, MemoryError) as error:
                if len(some) == 1 or not is_out_of_memory(error):
                    raise
                refused = sum(lengths[i] for i in some)
            else:
                made |= dict(zip(some, grown, strict=True))
                for k, node in nodes.items():
                    known = self._known[some[k]]
                    known.append((node, [*known[0][1], *node.ids]))
                continue
            self._reader.budget.refused(refused)  # the error holds memory no longer
            give_back()
            waiting += map(list, halves(some))
        return [made[i] for i in range(len(self._leaves))]

    def _continue(
        self, known: Sequence[tuple[Node, list[int]]], ask: Ask, layers: Sequence[int]
    ) -> Node:
        """A new leaf behind the longest part of the ask that has been read already."""
        shared, home = max(
            ((common_prefix(ids, ask.ids), node) for node, ids in known), key=lambda s: s[0]
        )
        shared = min(shared, len(ask.ids) - 1)
        for position in ask.at:
            if position < shared and not _looked_at(home.at(position), position, layers):
                shared = position
        parent: Node | None = home
        while parent is not None and shared <= parent.start:
            parent = parent.parent
        node = Node(ask.ids[shared:], shared, parent, ask=0)
        node.wanted = {p for p in ask.at if p >= shared}
        return node


def _looked_at(node: Node, position: int, layers: Sequence[int]) -> bool:
    """Whether the rows of a position were kept when it was read."""
    return position in node.wanted and all(layer in node.rows for layer in layers)


def _held_packs(body: Any, pack: int) -> int:
    """Packs of so many tokens whose keys and values may be held at a time."""
    least, most = _PACKS_A_WAVE
    if body.device.type != "cuda":
        return least
    config = body.config.get_text_config()
    token = 2 * config.num_hidden_layers * kv_width(config) * body.dtype.itemsize
    memory = torch.cuda.get_device_properties(body.device).total_memory
    return min(most, max(least, int(_HELD * memory / (token * pack))))


def _chunks(items: Iterator[list[Node]], size: int) -> Iterator[list[list[Node]]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _gather(leaves: Sequence[tuple[Node, Ask]], layers: Sequence[int]) -> Rows:
    """The wanted rows of each ask, one below the other."""
    pieces: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for leaf, ask in leaves:
        if all(p >= leaf.start for p in ask.at):
            for layer in layers:
                pieces[layer].append(leaf.rows[layer])
            continue
        for position in ask.at:
            node = leaf.at(position)
            index = sorted(node.wanted).index(position)
            for layer in layers:
                pieces[layer].append(node.rows[layer][index : index + 1])
    return {layer: torch.cat(rows) for layer, rows in pieces.items()}


def _forget(chunk: Sequence[Sequence[Node]]) -> None:
    """Free what nobody will continue or look at any more."""
    end = chunk[-1][-1].order
    for pack in chunk:
        for node in pack:
            for mine in [node, *(n for n, _ in node.path())]:
                if mine.last <= end:
                    mine.memory = mine.rows = None


def _trimmed(layer: nn.Module, wanted: Tensor) -> AbstractContextManager[None]:
    """The layer's row-wise parts compute the wanted rows only; the others hold no meaning."""
    found = [m for name in ("q_proj", "o_proj", "mlp") if (m := _part(layer, name)) is not None]
    return with_forward(found, lambda forward: _on_rows(forward, wanted))


def _part(layer: nn.Module, name: str) -> nn.Module | None:
    """A part of a decoder layer by its usual name, in the layer itself or in its attention."""
    for owner in (layer, getattr(layer, "self_attn", None)):
        part = getattr(owner, name, None)
        if isinstance(part, nn.Module):
            return part
    return None


def _on_rows(forward: Any, wanted: Tensor) -> Any:
    def rows_only(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        some = forward(x[:, wanted], *args, **kwargs)
        if not isinstance(some, Tensor):  # a mixture of experts that returns more than its output
            return forward(x, *args, **kwargs)
        return some.new_zeros(*x.shape[:-1], some.shape[-1]).index_copy(1, wanted, some)

    return rows_only

"""The plain path: whole sequences, padded on the right, one forward pass per batch.

Obviously right rather than fast: a causal model never looks at what stands behind a token, so
padding on the right changes nothing that is read, whatever the attention window. It is the oracle
of the fast path (`reader`), and its stand-in where a model's architecture is not known to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteriaList

from howsure.errors import ModelError
from howsure.lm.engine.layers import decoder_layers, recomputing
from howsure.lm.engine.memory import give_back, halves, is_out_of_memory
from howsure.lm.engine.planning import batches_by_length
from howsure.lm.engine.tree import Ask
from howsure.lm.passage import Next
from howsure.lm.sharding import is_divided
from howsure.lm.stops import Stops

Rows = dict[int, Tensor]
"""Layer → (rows, hidden size), sequence by sequence; layer -1 is after the final norm."""

Continuation = tuple[list[int], float]
"""New token ids without the stop, and the sum of their log-probabilities (of the stop's own if
there are none)."""

_GENERATE_BUDGET = {"cpu": 24576, "cuda": 32768}
"""Tokens whose keys and values are held at a time: each step reads only one token of a row."""


class PlainReader:
    """Reads each sequence as a whole. `tokens_read` counts padding too: it is computed."""

    name = "plain"

    def __init__(self, model: Any, body: Any, pad: int, budget: int) -> None:
        self.model, self._body, self._pad = model, body, pad
        self.budget = budget
        self.tokens_read = 0

    def waves(
        self, asks: Sequence[Ask], layers: Sequence[int] = (-1,), *, then: Next = "nothing"
    ) -> Iterator[PlainWave]:
        """The asks' rows, batch by batch. Nothing is kept: continuing reads the whole again."""
        for batch, rows in self._batches(asks, layers):
            yield PlainWave(self, asks, batch, rows)

    def _batches(
        self, asks: Sequence[Ask], layers: Sequence[int]
    ) -> Iterator[tuple[list[int], Rows]]:
        """Indices of asks of like length, and their rows, in as many passes as the budget wants."""
        for batch in batches_by_length([len(a.ids) for a in asks], self.budget):
            yield from self._halved(asks, batch, layers)

    def _halved(
        self, asks: Sequence[Ask], batch: Sequence[int], layers: Sequence[int]
    ) -> Iterator[tuple[list[int], Rows]]:
        """The batch; where it does not fit into memory, its halves, and so on."""
        rows: Rows | None = None
        try:
            rows = self.rows([asks[i] for i in batch], layers)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or is_divided(self.model) or not is_out_of_memory(error):
                raise
        if rows is not None:
            yield list(batch), rows
            return
        give_back()
        for half in halves(batch):
            yield from self._halved(asks, half, layers)

    def rows(self, asks: Sequence[Ask], layers: Sequence[int] = (-1,)) -> Rows:
        """All rows in one pass, ask by ask, with gradients if they are on."""
        longest = max(len(a.ids) for a in asks)
        ids = [[*a.ids, *[self._pad] * (longest - len(a.ids))] for a in asks]
        mask = torch.tensor([[1] * len(a.ids) + [0] * (longest - len(a.ids)) for a in asks])
        result = self._body(
            input_ids=torch.tensor(ids, device=self._body.device),
            attention_mask=None if bool(mask.all()) else mask.to(self._body.device),
            use_cache=False,
            output_hidden_states=list(layers) != [-1],
        )
        self.tokens_read += mask.numel()
        row = [i for i, a in enumerate(asks) for _ in a.at]
        position = [p for a in asks for p in a.at]
        return {
            layer: (result.last_hidden_state if layer == -1 else result.hidden_states[layer])[
                row, position
            ]
            for layer in layers
        }

    def recomputing(self) -> AbstractContextManager[None]:
        """For a while, layers keep for the backward pass only what goes into them.

        Raises ModelError for a model without a list of layers.
        """
        try:
            layers = decoder_layers(self._body)
        except ValueError as error:
            raise ModelError(
                f"its layers can't run again in the backward pass: {error}; leave the schedule's "
                "gradient_checkpointing out"
            ) from error
        return recomputing(layers, nullcontext)

    def read(self, asks: Sequence[Ask], layers: Sequence[int]) -> Rows:
        """As `rows`, in as many passes as the budget asks for."""
        found: dict[int, Rows] = {}
        for batch, rows in self._batches(asks, layers):
            counts = [len(asks[i].at) for i in batch]
            split = {layer: torch.split(rows[layer], counts) for layer in layers}
            for k, i in enumerate(batch):
                found[i] = {layer: split[layer][k] for layer in layers}
        return {layer: torch.cat([found[i][layer] for i in range(len(asks))]) for layer in layers}


class PlainWave:
    """Some asks that have been read; `engine.TreeWave` has the same interface."""

    def __init__(
        self, reader: PlainReader, asks: Sequence[Ask], batch: list[int], rows: Rows
    ) -> None:
        self._reader, self.sequences = reader, [asks[i] for i in batch]
        self.asks = batch
        """Which asks these are, in the order of the rows."""
        self.rows = rows
        """All wanted rows, ask by ask."""

    def read(self, more: Sequence[tuple[int, Ask]], layers: Sequence[int] = (-1,)) -> Rows:
        """Rows of sequences that continue those of the wave: (index into the wave, ask) each."""
        return self._reader.read([ask for _, ask in more], layers)

    def generate(self, max_tokens: int, stops: Stops, logits: Any) -> list[Continuation]:
        """Greedy continuations, up to a stop or `max_tokens` tokens."""
        model, pad = self._reader.model, self._reader._pad
        budget = _GENERATE_BUDGET[model.device.type]
        out: dict[int, Continuation] = {}
        lengths = [len(a.ids) + max_tokens for a in self.sequences]
        for batch in batches_by_length(lengths, budget):
            sequences = [list(self.sequences[i].ids) for i in batch]
            made = _greedy(model, pad, sequences, max_tokens=max_tokens, stops=stops)
            out |= dict(zip(batch, made, strict=True))
        return [out[i] for i in range(len(self.sequences))]


def _greedy(
    model: Any,
    pad: int,
    sequences: Sequence[list[int]],
    *,
    max_tokens: int,
    stops: Stops,
) -> list[Continuation]:
    """transformers' own generation, all rows at once.

    Here padding stands on the left, so that all rows grow at the same end. The checkpoint's own
    generation settings (sampling, penalties) are not used.
    """
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])

    def over(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ended = [stops.length(row) is not None for row in input_ids[:, longest:].tolist()]
        return torch.tensor(ended, device=input_ids.device)

    made = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=sorted(stops.ends) or None,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=True,
        ),
        stopping_criteria=StoppingCriteriaList([over]),
    )
    new = made.sequences[:, longest:]
    steps = torch.stack(
        [
            logits.float().log_softmax(-1).gather(1, new[:, [t]]).squeeze(1)
            for t, logits in enumerate(made.logits)
        ],
        dim=1,
    )
    out = []
    for row, scores in zip(new.tolist(), steps.tolist(), strict=True):
        n = stops.length(row)
        n = len(row) if n is None else n
        out.append((row[:n], float(sum(scores[: max(n, 1)]))))
    return out

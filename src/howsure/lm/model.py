"""A language model as the methods see it: read rows, generate, train an adapter. See `passage`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from howsure.errors import ModelError
from howsure.lm import loading
from howsure.lm.adapters import Adapters
from howsure.lm.batching import Plan, batches_by_length, plan
from howsure.lm.chat import Prompting, choose
from howsure.lm.loading import embedded_names
from howsure.lm.passage import AnswerTokens, Generation, Hidden, Options, Passage, Place, Want
from howsure.lm.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]

_BUDGET = {"cpu": 4096, "cuda": 16384}
"""Tokens in one forward pass."""

_GENERATE_BUDGET = {"cpu": 24576, "cuda": 32768}
"""Tokens whose keys and values are held at a time: each step reads only one token of a row."""


def _end_tokens(model: Any) -> list[int]:
    """End tokens that the checkpoint's generation settings name; chat models have several."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


class LanguageModel:
    """A frozen causal language model with its tokenizer and, when used, LoRA adapters.

    Reading never changes it: weights stay as loaded, and each call says which adapter it means
    (None, the default, is the bare model).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        path: Path | None = None,
        adapter: Path | None = None,
    ) -> None:
        """`path` is the checkpoint's folder, `adapter` that of an adapter merged into it."""
        self.name = name
        self.adapters = Adapters(model)
        self.tokens = Tokens(tokenizer, name, stops=_end_tokens(model))
        self._path = path
        self._merged = adapter
        self._model = model
        self._body = model.base_model
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise ModelError(
                f"model {name!r} has no output head; a causal language model is needed"
            )
        config = model.config.get_text_config()
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale = float(getattr(config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        self.hidden_size = int(config.hidden_size)
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        self._budget = _BUDGET[self.device.type]
        self._check_head()

    @property
    def device(self) -> Any:
        return self._model.device

    @property
    def dtype(self) -> Any:
        return self._model.dtype

    @property
    def parameters(self) -> int:
        """How many weights the model has, adapters not counted."""
        # Several 4-bit weights share one stored number, which the library's own count knows.
        lora = sum(int(p.numel()) for n, p in self._model.named_parameters() if "lora_" in n)
        return int(self._model.num_parameters()) - lora

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the checkpoint's weights, config and tokenizer; "" if made in memory."""
        return loading.fingerprint(self._path, self._merged) if self._path else ""

    def prompting(self, mode: str) -> Prompting:
        """Whether it is asked through its chat template under `--chat mode`, and why."""
        chat = self.tokens.chat if mode != "off" else None
        return choose(chat, self.name, embedded=self.name in embedded_names(), mode=mode)

    # reading ----------------------------------------------------------------------------------

    def read(
        self,
        passages: Sequence[Passage],
        wants: Sequence[Want],
        *,
        adapter: str | None = None,
        on_progress: Progress | None = None,
    ) -> list[NDArray[np.float32]]:
        """One array per want, each with one row per passage, in their order. See `passage.Want`.

        A row does not depend on which other passages are read with it. Raises ModelError when a
        passage is longer than the model's context, or an option is not one token.
        """
        import torch

        places = [w.place for w in wants if not isinstance(w, AnswerTokens)]
        spans = any(isinstance(w, AnswerTokens) for w in wants)
        work = plan(self.tokens, passages, places, answer_tokens=spans, limit=self.context)
        layers = sorted({w.layer for w in wants if isinstance(w, Hidden)} | {-1})
        out = [np.zeros((len(passages), self._width(w)), dtype=np.float32) for w in wants]
        owners: dict[int, list[int]] = {}
        for i, rows in enumerate(work.rows):
            for home in {sequence for sequence, _ in rows.values()}:
                owners.setdefault(home, []).append(i)
        done = 0
        with torch.inference_mode(), self.adapters.using(adapter):
            for batch in batches_by_length([len(s) for s in work.sequences], self._budget):
                states = self._states([work.sequences[s] for s in batch], layers)
                where = {sequence: row for row, sequence in enumerate(batch)}
                for k, want in enumerate(wants):
                    self._fill(out[k], want, work, passages, owners, where, states)
                done += len(batch)
                if on_progress:
                    on_progress(len(passages) * done // len(work.sequences), len(passages))
        return out

    def rows(self, passages: Sequence[Passage], places: Sequence[Place]) -> list[Tensor]:
        """Hidden states at each place, (n, hidden size) each, with gradients if they are on.

        For training: the active adapter is the one that `adapters.training` opened.
        """
        work = plan(self.tokens, passages, places, answer_tokens=False, limit=self.context)
        hidden = self._states(work.sequences, [-1])[-1]
        return [hidden[[r[p][0] for r in work.rows], [r[p][1] for r in work.rows]] for p in places]

    def answer_rows(
        self, passages: Sequence[Passage], place: Place
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows that predict the answer's tokens, and the row at `place`, from one forward pass.

        Returns (rows (total, hidden size), owner (total,), at place (n, hidden size)): `owner`
        is the index of the passage each of the rows belongs to.
        """
        import torch

        work = plan(self.tokens, passages, [place], answer_tokens=True, limit=self.context)
        hidden = self._states(work.sequences, [-1])[-1]
        at = [
            (sequence, position - 1, i)
            for i, (sequence, first, end) in enumerate(work.answers)
            for position in range(first, end)
        ]
        sequence, position, owner = zip(*at, strict=True)
        last = hidden[[r[place][0] for r in work.rows], [r[place][1] for r in work.rows]]
        return (
            hidden[list(sequence), list(position)],
            torch.tensor(owner, device=hidden.device),
            last,
        )

    def logits(self, hidden: Tensor, token_ids: Sequence[int] | None = None) -> Tensor:
        """float32 logits of final hidden states: (n, vocabulary), or (n, k) for k token ids."""
        if token_ids is None:
            logits = self._head(hidden)
        else:
            weight = self._head.weight[list(token_ids)]
            bias = self._head.bias
            logits = hidden @ weight.T
            if bias is not None:
                logits = logits + bias[list(token_ids)]
        logits = logits.float() * self._scale
        if self._softcap:
            logits = (logits / self._softcap).tanh() * self._softcap
        scaled: Tensor = logits
        return scaled

    # generating -------------------------------------------------------------------------------

    def generate(
        self,
        passages: Sequence[Passage],
        *,
        max_tokens: int,
        on_progress: Progress | None = None,
    ) -> list[Generation]:
        """Greedy continuations of the questions, up to a line break or the end token."""
        import torch

        from howsure.lm.generating import greedy

        sequences = self.tokens.encode([p.upto(Place.QUESTION) for p in passages])
        longest = max(map(len, sequences), default=0) + max_tokens
        if longest > self.context:
            raise ModelError(
                f"prompt and answer need {longest} tokens but model {self.name!r} takes at most "
                f"{self.context}; use fewer --shots"
            )
        out: list[Generation | None] = [None] * len(passages)
        budget = _GENERATE_BUDGET[self.device.type]
        done = 0
        with torch.inference_mode(), self.adapters.using(None):
            for batch in batches_by_length([len(s) + max_tokens for s in sequences], budget):
                texts = [sequences[i] for i in batch]
                made = greedy(self._model, self.tokens, texts, max_tokens=max_tokens)
                for i, generation in zip(batch, made, strict=True):
                    out[i] = generation
                done += len(batch)
                if on_progress:
                    on_progress(done, len(passages))
        return [generation for generation in out if generation is not None]

    # inside -----------------------------------------------------------------------------------

    def _width(self, want: Want) -> int:
        if isinstance(want, Hidden):
            return self.hidden_size
        return len(want.options) if isinstance(want, Options) else 2

    def _states(
        self, sequences: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[int, Tensor]:
        """Hidden states of right-padded sequences, (rows, longest, hidden size) per layer."""
        import torch

        longest = max(map(len, sequences))
        pad = self.tokens.pad_id
        ids = torch.tensor([[*s, *[pad] * (longest - len(s))] for s in sequences])
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences])
        deep = list(layers) != [-1]
        result = self._body(
            input_ids=ids.to(self.device),
            attention_mask=None if bool(mask.all()) else mask.to(self.device),
            use_cache=False,
            output_hidden_states=deep,
        )
        states = {-1: result.last_hidden_state}
        if deep:
            states |= {layer: result.hidden_states[layer] for layer in layers if layer != -1}
        return states

    def _fill(
        self,
        out: NDArray[np.float32],
        want: Want,
        work: Plan,
        passages: Sequence[Passage],
        owners: dict[int, list[int]],
        where: dict[int, int],
        states: dict[int, Tensor],
    ) -> None:
        """Write the rows of one want that this batch holds."""
        if isinstance(want, AnswerTokens):
            self._fill_answers(out, work, owners, where, states[-1])
            return
        mine = [
            (i, where[work.rows[i][want.place][0]], work.rows[i][want.place][1])
            for sequence in where
            for i in owners[sequence]
            if work.rows[i][want.place][0] == sequence
        ]
        if not mine:
            return
        index, row, position = (list(x) for x in zip(*mine, strict=True))
        if isinstance(want, Hidden):
            out[index] = states[want.layer][row, position].float().cpu().numpy()
            return
        logp = self.logits(states[-1][row, position]).log_softmax(-1).cpu().numpy()
        for k, i in enumerate(index):
            ids = self.tokens.option_ids(passages[i].upto(want.place), want.options)
            out[i] = logp[k, list(ids)]

    def _fill_answers(
        self,
        out: NDArray[np.float32],
        work: Plan,
        owners: dict[int, list[int]],
        where: dict[int, int],
        hidden: Tensor,
    ) -> None:
        at = [
            (i, where[sequence], position, work.sequences[sequence][position])
            for sequence in where
            for i in owners[sequence]
            if work.answers[i][0] == sequence
            for position in range(*work.answers[i][1:])
        ]
        if not at:
            return
        index, row, position, target = (list(x) for x in zip(*at, strict=True))
        logp = self.logits(hidden[row, [p - 1 for p in position]]).log_softmax(-1)
        chosen = logp[range(len(target)), target].cpu().numpy()
        for i, value in zip(index, chosen, strict=True):
            out[i, 0] += value
            out[i, 1] += 1

    def _check_head(self) -> None:
        """Refuse an architecture whose logits are not head(final hidden state) as we compute it."""
        import torch

        ids = torch.tensor([[1, 2, 3, 4]], device=self.device)
        with torch.inference_mode():
            expected = self._model(input_ids=ids, use_cache=False).logits.float()
            hidden = self._body(input_ids=ids, use_cache=False).last_hidden_state
            ours = self.logits(hidden)
        scale = expected.abs().max().clamp(min=1.0)
        if not torch.isfinite(expected).all():
            raise ModelError(
                f"model {self.name!r} gives logits that are not finite; its weights are unusable"
            )
        if ours.shape != expected.shape or (ours - expected).abs().max() > 2e-2 * scale:
            raise ModelError(
                f"model {self.name!r} ({type(self._model).__name__}) makes its logits in a way "
                "that howsure does not know; this architecture is not supported"
            )

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Dropout off for a while, inside `training`."""
        before = self._model.training
        self._model.eval()
        try:
            yield
        finally:
            self._model.train(before)

    @contextmanager
    def training(self, adapter: str) -> Iterator[None]:
        """The adapter is active and its dropout on; afterwards the model is as before."""
        with self.adapters.using(adapter):
            self._model.train()
            try:
                yield
            finally:
                self._model.eval()

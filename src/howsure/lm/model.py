"""A language model as the methods see it: read rows, answer, train an adapter. See `passage`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from howsure import heap
from howsure.errors import ModelError
from howsure.lm import loading, sharding
from howsure.lm.adapters import Adapters
from howsure.lm.chat import Prompting, choose
from howsure.lm.engine import selfcheck
from howsure.lm.engine.ahead import ahead
from howsure.lm.engine.plain import PlainReader
from howsure.lm.engine.planning import Plan, blocks, plan
from howsure.lm.engine.segments import sent
from howsure.lm.loading import embedded_names
from howsure.lm.passage import AnswerTokens, Generation, Hidden, Next, Options, Passage, Place, Want
from howsure.lm.readings import Readings
from howsure.lm.stops import first_line
from howsure.lm.tokens import Tokens

if TYPE_CHECKING:
    from howsure.lm.engine.plain import PlainWave
    from howsure.lm.engine.reader import TreeReader, TreeWave

_VERIFIED = 256
"""One passage in so many is read by both paths: some 5% of reading MMLU with five examples."""

Progress = Callable[[int, int], None]
Values = list[NDArray[np.float32]]
"""One array per want, with one row per passage."""


def _end_tokens(model: Any) -> list[int]:
    """End tokens that the checkpoint's generation settings name; chat models have several."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


class LanguageModel:
    """A frozen causal language model with its tokenizer and, when used, LoRA adapters.

    Reading never changes it: weights stay as loaded, and each call says which adapter it means
    (None, the default, is the bare model). `engine` is "auto" (the fast path where the
    architecture passes its self-check), "tree" (the fast path or a ModelError) or "plain".
    """

    unknown = "nonfinite_logits"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        path: Path | None = None,
        adapter: Path | None = None,
        engine: str = "auto",
    ) -> None:
        """`path` is the checkpoint's folder, `adapter` that of an adapter merged into it."""
        self.name = name
        self.adapters = Adapters(model)
        self.tokens = Tokens(tokenizer, name, stops=_end_tokens(model))
        self.readings = Readings()
        """Rows of the bare model that need not be read again; `answers` fills it."""
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
        selfcheck.check_head(model, self._body, self.logits, name)
        self._reader: TreeReader | PlainReader
        self._reader, self._plain, self.engine_note = selfcheck.choose(
            engine, model, self._body, self.tokens.pad_id, name
        )
        """Why the plain path is taken although the fast one was possible to ask for; else ""."""

    @property
    def engine(self) -> str:
        """ "tree" or "plain": the path that reads."""
        return self._reader.name

    @property
    def is_divided(self) -> bool:
        """Whether other processes have parts of its weights, and must read whenever it does."""
        return sharding.is_divided(self._body)

    def reading(self) -> AbstractContextManager[Any]:
        """For a while, without gradients."""
        return sharding.reading(self._model)

    @property
    def tokens_read(self) -> int:
        """Tokens that forward passes were given so far, padding included."""
        return self._reader.tokens_read

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

    @property
    def facts(self) -> Mapping[str, Any]:
        """For `run.json`."""
        return {
            "parameters": self.parameters,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "engine": self.engine,
            "engine_note": self.engine_note,
        }

    def tells_probabilities(self, mode: str) -> bool:
        """It does: `served.ServedModel` may not."""
        return True

    def lengths(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text."""
        return list(map(len, self.tokens.encoded(texts)))

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
    ) -> Values:
        """One array per want, each with one row per passage, in their order. See `passage.Want`.

        A row does not depend on which other passages are read with it. Rows of the bare model that
        are in `readings` are not read again. Raises ModelError when a passage is longer than the
        model's context, or an option is not one token.
        """
        out = [np.zeros((len(passages), self._width(w)), dtype=np.float32) for w in wants]
        todo = np.ones(len(passages), dtype=np.bool_)
        if adapter is None:
            todo &= ~self._recall(passages, wants, out)
        open_ = np.flatnonzero(todo).tolist()
        rest = [passages[i] for i in open_]
        done = len(passages) - len(rest)
        for index, values in self._pieces(rest, wants, adapter):
            for array, value in zip(out, values, strict=True):
                array[[open_[i] for i in index]] += value
            done += len(set(index))
            if on_progress:
                on_progress(min(done, len(passages)), len(passages))
        return out

    def _recall(
        self, passages: Sequence[Passage], wants: Sequence[Want], out: Values
    ) -> NDArray[np.bool_]:
        """Fill in the passages all of whose rows are known; which they are."""
        found = [self.readings.get(passages, want) for want in wants]
        known = np.ones(len(passages), dtype=np.bool_)
        for pair in found:
            known &= pair[1] if pair else False
        for array, pair in zip(out, found, strict=True):
            if pair:
                array[known] = pair[0][known]
        return known

    def _pieces(
        self, passages: Sequence[Passage], wants: Sequence[Want], adapter: str | None
    ) -> Iterator[tuple[list[int], Values]]:
        """(passages, their values), bit by bit; values of a passage that came apart add up."""
        layers = _layers(wants)
        for block, (some, work) in self._blocks(passages, wants):
            with self.reading(), self.adapters.using(adapter), self.adapters.mixed_precision():
                for wave in self._reader.waves(work.asks, layers):
                    owners = sorted({work.owners[a] for a in wave.asks})
                    values = self._values(some, owners, wants, work, wave.asks, wave.rows)
                    yield [block[i] for i in owners], values
            del some, work  # not the tokens of two blocks at a time

    def _blocks(
        self, passages: Sequence[Passage], wants: Sequence[Want]
    ) -> Iterator[tuple[list[int], tuple[list[Passage], Plan]]]:
        """Passages to read together, and their plan; a GPU is not kept waiting for the next one."""

        on_gpu = self.device.type == "cuda"

        def one_by_one() -> Iterator[list[int]]:
            for i, block in enumerate(blocks(passages)):
                if i and not on_gpu:
                    heap.give_back()  # what the block before has left
                yield block

        def planned(block: list[int]) -> tuple[list[Passage], Plan]:
            some = [passages[i] for i in block]
            return some, self._plan(some, wants)

        return ahead(one_by_one(), planned, in_background=on_gpu)

    def waves(
        self, passages: Sequence[Passage], wants: Sequence[Want], *, then: Next = "read"
    ) -> Iterator[Wave]:
        """The bare model reads the passages, some at a time; each wave's can be continued.

        All wants are at one place, the end of the passages. The order is the engine's.
        """
        layers = _layers(wants)
        with self.reading(), self.adapters.using(None):
            for block, (some, work) in self._blocks(passages, wants):
                for wave in self._reader.waves(work.asks, layers, then=then):
                    owners = [work.owners[a] for a in wave.asks]
                    values = self._values(some, owners, wants, work, wave.asks, wave.rows)
                    yield Wave(self, wave, [block[i] for i in owners], values)
                del some, work  # as above

    def planned(
        self, passages: Sequence[Passage], places: Sequence[Place], *, answer_tokens: bool = False
    ) -> Plan:
        """What `rows` and `answer_rows` read, of all passages of a training: tokenised once."""
        return plan(self.tokens, passages, places, answer_tokens=answer_tokens, limit=self.context)

    def rows(self, work: Plan, places: Sequence[Place]) -> list[Tensor]:
        """Hidden states at each place, (n, hidden size) each, with gradients if they are on.

        For training: the active adapter is the one that `training` opened.
        """
        hidden = self._trained_rows(work)
        offsets = _offsets(work, range(len(work.asks)))
        at = ([_row(work, offsets, *p[place]) for p in work.places] for place in places)
        return [hidden[sent(rows, hidden.device)] for rows in at]

    def answer_rows(self, work: Plan, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Rows that predict the answer's tokens, and the row at `place`, from one forward pass.

        Returns (rows (total, hidden size), owner (total,), at place (n, hidden size)): `owner`
        is the index of the passage each of the rows belongs to.
        """
        hidden = self._trained_rows(work)
        offsets = _offsets(work, range(len(work.asks)))
        at = [
            (_row(work, offsets, ask, position - 1), i)
            for i, (ask, first, end) in enumerate(work.answers)
            for position in range(first, end)
        ]
        last = [_row(work, offsets, *places[place]) for places in work.places]
        row, owner, last_row = (sent(x, hidden.device) for x in (*zip(*at, strict=True), last))
        return hidden[row], owner, hidden[last_row]

    def _trained_rows(self, work: Plan) -> Tensor:
        with self.adapters.mixed_precision():
            return self._reader.rows(work.asks)[-1]

    def logits(self, hidden: Tensor, token_ids: Sequence[int] | None = None) -> Tensor:
        """float32 logits of final hidden states: (n, vocabulary), or (n, k) for k token ids."""
        if token_ids is None:
            logits = self._head(hidden)
        else:
            weight, bias = self._head.weight, self._head.bias
            some = sent(token_ids, weight.device)
            logits = hidden @ weight[some].T
            if bias is not None:
                logits = logits + bias[some]
        logits = logits.float() * self._scale
        if self._softcap:
            logits = (logits / self._softcap).tanh() * self._softcap
        scaled: Tensor = logits
        return scaled

    def generate(
        self,
        passages: Sequence[Passage],
        *,
        max_tokens: int,
        on_progress: Progress | None = None,
    ) -> list[Generation]:
        """Greedy continuations of the questions, up to the end of their first line or the end
        token."""
        out: dict[int, Generation] = {}
        for wave in self.waves(passages, [Hidden(Place.QUESTION)], then="generate"):
            out |= dict(zip(wave.index, wave.generate(max_tokens), strict=True))
            if on_progress:
                on_progress(len(out), len(passages))
        return [out[i] for i in range(len(passages))]

    def verify(self, passages: Sequence[Passage], *, seed: int = 0) -> None:
        """Reads one passage in 256, drawn at random, by both paths of the bare model.

        Raises ModelError where their hidden states at question, answer or query differ by more
        than rounding explains. Nothing happens where the plain path reads everything anyway.
        """
        reader = self._reader
        if isinstance(reader, PlainReader) or not passages:
            return
        count = -(-len(passages) // _VERIFIED)
        some = random.Random(seed).sample(list(passages), count)
        work = self._plan(some, [Hidden(p) for p in Place])
        with self.reading(), self.adapters.using(None):
            selfcheck.check_items(reader, self._plain, work.asks, self.dtype, self.name)

    # inside -----------------------------------------------------------------------------------

    def _width(self, want: Want) -> int:
        if isinstance(want, Hidden):
            return self.hidden_size
        return len(want.options) if isinstance(want, Options) else 2

    def _plan(self, passages: Sequence[Passage], wants: Sequence[Want]) -> Plan:
        places = [w.place for w in wants if not isinstance(w, AnswerTokens)]
        spans = any(isinstance(w, AnswerTokens) for w in wants)
        return self.planned(passages, places, answer_tokens=spans)

    def _values(
        self,
        passages: Sequence[Passage],
        owners: Sequence[int],
        wants: Sequence[Want],
        work: Plan,
        asks: Sequence[int],
        rows: dict[int, Tensor],
    ) -> Values:
        """What is wanted of the owners, as far as it is in these asks' rows; 0 where it isn't."""
        offsets = _offsets(work, asks)
        out = []
        for want in wants:
            values = np.zeros((len(owners), self._width(want)), dtype=np.float32)
            if isinstance(want, AnswerTokens):
                self._fill_answers(values, owners, work, offsets, rows[-1])
            else:
                here = [k for k, i in enumerate(owners) if work.places[i][want.place][0] in offsets]
                at = [_row(work, offsets, *work.places[owners[k]][want.place]) for k in here]
                if at:
                    some = [passages[owners[k]] for k in here]
                    values[here] = self._value(want, some, rows, at)
            out.append(values)
        return out

    def _value(
        self,
        want: Hidden | Options,
        passages: Sequence[Passage],
        rows: dict[int, Tensor],
        at: list[int],
    ) -> NDArray[np.float32]:
        if isinstance(want, Hidden):
            hidden: NDArray[np.float32] = rows[want.layer][at].float().cpu().numpy()
            return hidden
        logp = self.logits(rows[-1][at]).log_softmax(-1)
        ids = [self.tokens.option_ids(p.upto(want.place), want.options) for p in passages]
        chosen: NDArray[np.float32] = logp.gather(1, logp.new_tensor(ids).long()).cpu().numpy()
        return chosen

    def _fill_answers(
        self,
        out: NDArray[np.float32],
        owners: Sequence[int],
        work: Plan,
        offsets: dict[int, int],
        hidden: Tensor,
    ) -> None:
        at = [
            (k, _row(work, offsets, ask, position - 1), work.asks[ask].ids[position])
            for k, (ask, first, end) in enumerate(work.answers[i] for i in owners)
            if ask in offsets
            for position in range(first, end)
        ]
        if not at:
            return
        index, row, target = (list(x) for x in zip(*at, strict=True))
        logp = self.logits(hidden[row]).log_softmax(-1)
        chosen = logp[range(len(target)), target].cpu().numpy()
        np.add.at(out[:, 0], index, chosen)
        np.add.at(out[:, 1], index, 1.0)

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
    def training(self, adapter: str, *, recompute: bool = False) -> Iterator[None]:
        """The adapter is active and its dropout on; afterwards the model is as before.

        With `recompute` the layers keep only what goes into them, and run again in the backward
        pass. An adapter whose training fails is removed.
        """
        try:
            with self.adapters.using(adapter):
                self._model.train()
                try:
                    with self._reader.recomputing() if recompute else nullcontext():
                        yield
                finally:
                    self._model.eval()
        except BaseException:
            self.adapters.remove(adapter)
            raise


class Wave:
    """Passages that have been read; more can be asked about them, at the cost of what is new."""

    def __init__(
        self, lm: LanguageModel, wave: TreeWave | PlainWave, index: list[int], values: Values
    ) -> None:
        self._lm, self._wave = lm, wave
        self.index = index
        """Which passages these are."""
        self.values = values
        """One array per want, (passages of the wave, ...)."""

    def read(self, more: Sequence[tuple[int, Passage]], wants: Sequence[Want]) -> Values:
        """Rows of passages that continue those of the wave: (place in the wave, passage) each."""
        passages = [p for _, p in more]
        work = self._lm._plan(passages, wants)
        homes = [more[owner][0] for owner in work.owners]
        rows = self._wave.read(list(zip(homes, work.asks, strict=True)), _layers(wants))
        every = range(len(passages))
        return self._lm._values(passages, every, wants, work, range(len(work.asks)), rows)

    def letters(self) -> list[str | None]:
        """Never needed: probabilities are told."""
        return [None] * len(self.index)

    def generate(self, max_tokens: int) -> list[Generation]:
        """Greedy continuations, up to the end of their first line or the end token."""
        lm = self._lm
        longest = max(map(len, (a.ids for a in self._wave.sequences))) + max_tokens
        if longest > lm.context:
            raise ModelError(
                f"prompt and answer need {longest} tokens but model {lm.name!r} takes at most "
                f"{lm.context}; use fewer --shots"
            )
        made = self._wave.generate(max_tokens, lm.tokens.stops, lm.logits)
        return [
            Generation(first_line(lm.tokens.decode(ids)).strip(), total, max(len(ids), 1))
            for ids, total in made
        ]


def _layers(wants: Sequence[Want]) -> list[int]:
    return sorted({w.layer for w in wants if isinstance(w, Hidden)} | {-1})


def _offsets(work: Plan, asks: Sequence[int]) -> dict[int, int]:
    """Ask → where its rows begin, when the asks' rows stand one below the other."""
    out, row = {}, 0
    for ask in asks:
        out[ask] = row
        row += len(work.asks[ask].at)
    return out


def _row(work: Plan, offsets: dict[int, int], ask: int, position: int) -> int:
    return offsets[ask] + work.asks[ask].at.index(position)

"""A model on an OpenAI-compatible server: it answers, and says how likely its words were.

Conversations go to chat/completions, where the server applies the model's chat template; plain text
goes to completions. Weights, hidden states and ids stay on the server.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure.api import CHAT, COMPLETIONS, Client, Limits, Server
from howsure.errors import ApiError, ModelError
from howsure.lm.chat import Frame, Prompting, Turns
from howsure.lm.names import find_known
from howsure.lm.passage import Generation, Next, Options, Passage, Place, Want
from howsure.lm.readings import Readings
from howsure.lm.replies import Reply, answer_of, kept, option_row, read
from howsure.prompts import CORRECTNESS_QUERY, MARKED, marked, plain

Progress = Callable[[int, int], None]
Values = list[NDArray[np.float32]]

_MOST = (20, 5)
"""Of the likeliest tokens, that are asked for; some servers tell five at most."""

_WAVE = 64
"""Questions that are asked before the next ones, beside eight for each request under way."""

_NO_CONVERSATIONS = {400, 404, 405, 422, 500, 501}
"""With which servers refuse a conversation with a model that has no chat template."""

_REPLY = 8
"""Tokens in which a letter has to be said where no log-probabilities are told."""

_USER, _ASSISTANT = marked("<user>\n"), marked("\n<assistant>\n")
_ROLES = {"<user>\n": "user", "\n<assistant>\n": "assistant"}


class Conversation:
    """Turns for a server, which writes them as the model's chat template says.

    In a passage a mark stands before each turn; `messages` tells them apart again.
    """

    lead = ""
    query = f"{_USER}{plain(CORRECTNESS_QUERY.strip())}{_ASSISTANT}"

    def frame(self, turns: Turns) -> Frame:
        """The conversation after the earlier turns, ready for a question."""
        prefix = "".join(
            f"{_USER}{plain(asked.strip())}{_ASSISTANT}{plain(said.strip())}"
            for asked, said in turns
        )
        return Frame(prefix, _USER, _ASSISTANT)


def messages(text: str) -> list[dict[str, str]]:
    """The turns of a conversation up to the opening of the reply."""
    parts = MARKED.split(text)
    turns = [
        {"role": _ROLES[role], "content": said}
        for role, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return turns[:-1]


class ServedModel:
    """A model of which a server tells what it says. `model.LanguageModel` has the same interface,
    as far as answers, probabilities of options and the correctness query need it.
    """

    engine, engine_note = "server", ""
    unknown = "not_among_likeliest_tokens"

    def __init__(
        self, server: Server, limits: Limits | None = None, cache: Path | None = None
    ) -> None:
        """Replies are kept in `cache`, so that nothing is asked for twice."""
        self.server, self.name = server, server.name
        self.context = 1 << 30
        """Not known; a server refuses what is too long."""
        self.readings = Readings()
        self._client = Client(server, limits, cache)
        self._tops: dict[str, int | ApiError] = {}
        self._single: dict[tuple[str, str], bool] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of address and name: nothing else can be known of its weights."""
        return hashlib.sha256(str(self.server).encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        """For `run.json`."""
        return {
            "parameters": None,
            "device": "server",
            "dtype": None,
            "engine": self.engine,
            "engine_note": self.engine_note,
            "server": self.server.url,
        }

    def lengths(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text at most: no tokenizer makes more of it than it has bytes."""
        return [len(text.encode()) + 1 for text in texts]

    def prompting(self, mode: str) -> Prompting:
        """Whether it is asked in conversations under `--chat mode`, and why.

        "auto": where the server takes any, unless the model is known as a base model. Raises
        ApiError when the server can't be asked at all.
        """
        if mode == "off":
            return Prompting(None, "--chat off")
        if mode == "on":
            return Prompting(Conversation(), "--chat on")
        known = find_known(self.name)
        if known is not None and known.kind == "base":
            return Prompting(None, f"{known.hub_id} is a base model")
        try:
            self._told(CHAT)
        except ApiError as error:
            if error.status not in _NO_CONVERSATIONS:
                raise
            try:
                self._told(COMPLETIONS)
            except ApiError as other:
                raise (other if error.status == 500 else error) from None
            return Prompting(None, f"its server takes no conversation (status {error.status})")
        return Prompting(Conversation(), "its server applies it")

    def tells_probabilities(self, mode: str) -> bool:
        """Whether the server tells log-probabilities of the likeliest tokens."""
        return self._told(CHAT if self.prompting(mode).chat else COMPLETIONS) > 0

    def verify(self, passages: Sequence[Passage], *, seed: int = 0) -> None:
        """There is no other path to compare with."""

    def read(
        self,
        passages: Sequence[Passage],
        wants: Sequence[Want],
        *,
        adapter: str | None = None,
        on_progress: Progress | None = None,
    ) -> Values:
        """One array per want, each with one row per passage; NaN where a row can't be known.

        Raises ModelError for anything but options, ApiError.
        """
        options = [w for w in wants if isinstance(w, Options)]
        if len(options) < len(wants) or adapter is not None:
            raise ModelError(
                f"model {self.name!r} on a server shows no hidden states and takes no adapter; "
                "load its weights here, or use zero_shot, likelihood and subject_prior"
            )
        until = self._client.deadline()
        return [self._options(passages, want, until, on_progress) for want in options]

    def waves(
        self, passages: Sequence[Passage], wants: Sequence[Want], *, then: Next = "read"
    ) -> Iterator[ServedWave]:
        """The passages, some at a time, all within one deadline."""
        until = self._client.deadline()
        most = _WAVE + 8 * self._client.limits.concurrency
        for start in range(0, len(passages), most):
            index = list(range(start, min(start + most, len(passages))))
            yield ServedWave(self, [passages[i] for i in index], index, wants, until)

    # requests -----------------------------------------------------------------------------------

    def say(
        self,
        texts: Sequence[str],
        max_tokens: int,
        until: float,
        *,
        top: bool = False,
        on_progress: Progress | None = None,
    ) -> list[Reply]:
        """What follows each text; `top` also wants the likeliest first tokens."""
        out: dict[int, Reply] = {}
        for path in (CHAT, COMPLETIONS):
            mine = [i for i, t in enumerate(texts) if bool(MARKED.search(t)) == (path == CHAT)]
            most = self._told(path) if mine else 0
            bodies = [_body(path, texts[i], max_tokens, most, top) for i in mine]
            out |= dict(zip(mine, self._replies(path, bodies, until, on_progress), strict=True))
        return [out[i] for i in range(len(texts))]

    def _replies(
        self,
        path: str,
        bodies: Sequence[Mapping[str, Any]],
        until: float,
        on_progress: Progress | None = None,
        *,
        trying: bool = False,
    ) -> list[Reply]:
        said = self._client.ask(
            bodies, on_progress, path=path, read=read, until=until, trying=trying
        )
        return [kept(text) for text in said]

    def _options(
        self,
        passages: Sequence[Passage],
        want: Options,
        until: float,
        on_progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """(passages, options) log-probabilities, NaN where unknown."""
        out = np.zeros((len(passages), len(want.options)), dtype=np.float32)
        known = self.readings.get(passages, want)
        todo = range(len(passages)) if known is None else np.flatnonzero(~known[1]).tolist()
        if known is not None:
            out[:] = known[0]
        texts = [passages[i].upto(want.place) for i in todo]
        replies = self.say(texts, 1, until, top=True, on_progress=on_progress)
        for i, text, reply in zip(todo, texts, replies, strict=True):
            path = CHAT if MARKED.search(text) else COMPLETIONS
            single = {o for o in want.options if len(o) > 1 and self._is_single(path, o, until)}
            out[i] = option_row(reply, want.options, chat=path == CHAT, known=single)
        return out

    def _told(self, path: str) -> int:
        """How many of the likeliest tokens the server tells; 0 without any log-probabilities.

        Asked once. Raises ApiError where the server refuses.
        """
        if path not in self._tops:
            try:
                self._tops[path] = self._ask_told(path)
            except ApiError as error:
                self._tops[path] = error
        told = self._tops[path]
        if isinstance(told, ApiError):
            raise told
        return told

    def _ask_told(self, path: str) -> int:
        text = "a b c d a b c d a b c"
        text = f"{_USER}Go on: {text}{_ASSISTANT}" if path == CHAT else text
        until = self._client.deadline()
        for most in (*_MOST, 0):
            try:
                body = _body(path, text, 1, most, True)
                (reply,) = self._replies(path, [body], until, trying=path == CHAT)
            except ApiError as error:
                if most and error.status in (400, 422) and "logprob" in str(error).lower():
                    continue
                raise
            listed = reply.tokens is not None and all(t.top for t in reply.tokens)
            return most if listed else 0
        return 0

    def _is_single(self, path: str, option: str, until: float) -> bool:
        """Whether the option is one token of the server's tokenizer, told by where it must come."""
        if (path, option) not in self._single:
            line = " ".join(["x", option] * 5 + ["x"])
            text = f"{_USER}Reply with the next word only: {line}{_ASSISTANT}"
            (reply,) = self.say([text if path == CHAT else line], 1, until, top=True)
            row = option_row(reply, [option], chat=path == CHAT, known=())
            self._single[path, option] = not bool(np.isnan(row[0]))
        return self._single[path, option]


class ServedWave:
    """Some passages; what is wanted of them is asked for when it is looked at."""

    def __init__(
        self,
        lm: ServedModel,
        passages: Sequence[Passage],
        index: list[int],
        wants: Sequence[Want],
        until: float,
    ) -> None:
        self._lm, self._passages, self._wants, self._until = lm, passages, wants, until
        self.index = index
        """Which passages these are."""

    @cached_property
    def values(self) -> Values:
        """One array per want for options, (passages of the wave, options)."""
        wants = [w for w in self._wants if isinstance(w, Options)]
        return [self._lm._options(self._passages, w, self._until) for w in wants]

    def read(self, more: Sequence[tuple[int, Passage]], wants: Sequence[Want]) -> Values:
        """Rows of passages that continue those of the wave."""
        return self._lm.read([p for _, p in more], wants)

    def generate(self, max_tokens: int) -> list[Generation]:
        """Greedy continuations, as far as their first line."""
        texts = [p.upto(Place.QUESTION) for p in self._passages]
        replies = self._lm.say(texts, max_tokens, self._until)
        return [Generation(*answer_of(reply)) for reply in replies]

    def letters(self) -> list[str | None]:
        """The letter that each reply is; None where it is none."""
        return [_letter(g.text) for g in self.generate(_REPLY)]


def _letter(text: str) -> str | None:
    """ "b", "(b)", "b.", "b: Paris" say "b"; "b and c" and "a town" say none."""
    found = re.match(r"\(?([a-z])(?:[).:]|$)", text)
    return found[1] if found else None


def _body(path: str, text: str, max_tokens: int, most: int, top: bool) -> dict[str, Any]:
    """A request: greedy, with log-probabilities where `most` of them are told."""
    body: dict[str, Any] = {"max_tokens": max_tokens, "seed": 0}
    if path == CHAT:
        body["messages"] = messages(text)
        if most:
            body |= {"logprobs": True} | ({"top_logprobs": most} if top else {})
        return body
    body["prompt"] = text
    return body | ({"logprobs": most if top else 1} if most else {})

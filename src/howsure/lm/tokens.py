"""Everything about tokenizers, in one place: BOS, padding, options, common beginnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from howsure.errors import ModelError
from howsure.lm.stops import Stops
from howsure.prompts import MARKED, plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from howsure.lm.chat import Chat


_CHARACTERS = 100_000
"""Of the texts that are tokenised at a time."""
_MOST_SEGMENTS = 20_000
"""Pieces of chat text whose ids are remembered; the turns of few-shot examples come again."""


class Tokens:
    """A tokenizer seen as what scoring needs of it."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, name: str, *, stops: Sequence[int] = ()
    ) -> None:
        """`stops` are end tokens that the checkpoint names beside the tokenizer's own."""
        self._tokenizer = tokenizer
        self._name = name
        # Some tokenizers close each text with an end token, which no continuation may follow.
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        full = tokenizer("a")["input_ids"]
        if full[len(full) - len(bare) :] == bare:
            self._lead = full[: len(full) - len(bare)]
        else:
            self._lead = full[: full.index(bare[0])]
        pad = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
        self.pad_id: int = pad if pad is not None else 0
        self._stops = tuple(stops)
        self._busy = Lock()
        """A tokenizer may be set up anew for each call, so it takes one thread at a time."""
        self._segments: dict[tuple[str, str, str], list[int]] = {}
        self._option_ids: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each whole text, with what the tokenizer puts in front (BOS) and no end."""
        return list(self.encoded(texts))

    def encoded(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The same, one after the other; a tokenizer at work needs a hundred bytes a token, so it
        is given little at a time."""
        some: list[str] = []
        characters = 0
        for text in texts:
            some.append(text)
            characters += len(text)
            if characters >= _CHARACTERS:
                yield from self._encode(some)
                some, characters = [], 0
        yield from self._encode(some)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        chat = [i for i, text in enumerate(texts) if MARKED.search(text)]
        if len(chat) == len(texts):
            return [self._encode_marked(text) for text in texts]
        # Questions are untrusted: a "</s>" written in one must stay four ordinary characters.
        rows = [self._lead + row for row in self._ids(list(texts), split=True)]
        for i in chat:
            rows[i] = self._encode_marked(texts[i])
        return rows

    def _encode_marked(self, text: str) -> list[int]:
        """Ids of a text with marks: marked tokens are special, everything between them ordinary."""
        parts = MARKED.split(text)
        out: list[int] = [] if MARKED.match(text) else list(self._lead)
        for i in range(0, len(parts), 2):
            left, right = parts[i - 1] if i else "", parts[i + 1] if i + 1 < len(parts) else ""
            out += self._special_id(left) + self._between(left, parts[i], right)
        return out

    def _special_id(self, token: str) -> list[int]:
        if not token:
            return []
        known = self._tokenizer.get_added_vocab()
        return [known[token]] if token in known else [self._vocabulary[token]]

    def _between(self, left: str, text: str, right: str) -> list[int]:
        """Ids of ordinary text between two special tokens, as the tokenizer makes them there.

        What stands beside a text can change its tokens (a space put before the first word, white
        space that a special token swallows), so it is encoded with its neighbours.
        """
        if not text:
            return []
        key = (left, text, right)
        found = self._segments.get(key)
        if found is None:
            found = self._encode_between(left, text, right)
            if len(self._segments) > _MOST_SEGMENTS:
                self._segments.clear()
            self._segments[key] = found
        return found

    def _encode_between(self, left: str, text: str, right: str) -> list[int]:
        def ids(text: str, *, split: bool = False) -> list[int]:
            return self._ids([text], split=split)[0]

        if not self._special_texts.search(text):
            whole = ids(left + text + right)
            return whole[len(self._special_id(left)) : len(whole) - len(self._special_id(right))]
        # Someone wrote a special token's text: it stays text, so the neighbours can't stand beside
        # it. A line break does, where the tokenizer leaves it alone, so that no space is put first.
        anchor, anchored = ids("\n", split=True), ids("\n" + text, split=True)
        if left and anchored[: len(anchor)] == anchor:
            return anchored[len(anchor) :]
        return ids(text, split=True)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    @cached_property
    def _special_texts(self) -> re.Pattern[str]:
        texts = {t.content for t in self._tokenizer.added_tokens_decoder.values()}
        texts |= set(self._tokenizer.all_special_tokens)
        return re.compile("|".join(map(re.escape, sorted(texts))) or r"(?!)")

    @cached_property
    def chat(self) -> Chat | None:
        """The tokenizer's chat template; None when it has none. Raises ModelError for a bad one."""
        from howsure.lm.chat import Chat

        has = getattr(self._tokenizer, "chat_template", None)
        return Chat(self._tokenizer, self._name) if has else None

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return plain(str(text))

    @cached_property
    def stops(self) -> Stops:
        """Where free answers end: end of text or turn, and a line break after the first line."""
        size = len(self._tokenizer)
        texts = self._tokenizer.batch_decode([[i] for i in range(size)])
        ends = {i for i in self._stops if i >= 0} | set(self._special_id(self._end_of_turn()))
        if self._tokenizer.eos_token_id is not None:
            ends.add(self._tokenizer.eos_token_id)
        breaks = {i for i, text in enumerate(texts) if "\n" in text} - ends
        return Stops(frozenset(ends), frozenset(breaks), self.decode)

    def _end_of_turn(self) -> str:
        """The special token that ends a turn of the chat template; "" without one."""
        try:
            return (self.chat.end_of_turn if self.chat else None) or ""
        except ModelError:  # a template that can't be used says so to whoever asks for `chat`
            return ""

    def option_ids(self, context: str, options: Sequence[str]) -> tuple[int, ...]:
        """The one token that each option is when it follows `context`.

        It follows after a space, or after what the chat template puts before an answer. " a" and
        "a" are different tokens in most vocabularies, so the option is looked up where it will
        stand. Raises ModelError when an option is not exactly one token, or two options
        are the same token.
        """
        lead = " "
        if self._in_chat(context):
            assert self.chat is not None
            lead = self.chat.lead
        # The last line decides how the option is split; the text before it can't change that.
        start = context.rfind("\n") + 1
        marks = [m.start() for m in MARKED.finditer(context)]
        tail = context[min([start, *marks[-1:]]) :]
        key = (tail, tuple(options))
        if key in self._option_ids:
            return self._option_ids[key]
        before = self._encode_tail(tail)
        ids = []
        for option in options:
            after = self._encode_tail(f"{tail}{lead}{option}")
            added = after[len(before) :]
            if after[: len(before)] != before or len(added) != 1:
                shown = MARKED.sub(r"\1", tail)
                raise ModelError(
                    f"model {self._name!r}: its tokenizer makes {len(added)} tokens of the option "
                    f"{lead + option!r} after {shown!r}, but one is needed; use --format "
                    "open, or --choose-by text, or another model"
                )
            ids.append(int(added[0]))
        if len(set(ids)) < len(ids):
            raise ModelError(
                f"model {self._name!r}: its tokenizer gives two of the options "
                f"{', '.join(map(repr, options))} the same token; use another model"
            )
        self._option_ids[key] = tuple(ids)
        return self._option_ids[key]

    def _in_chat(self, context: str) -> bool:
        chat = self.chat if MARKED.search(context) else None
        return chat is not None and context.endswith(chat.opening)

    def _encode_tail(self, tail: str) -> list[int]:
        if MARKED.search(tail):
            return self._encode_marked(tail)
        return self._ids([tail], split=False)[0]

    def _ids(self, texts: list[str], *, split: bool) -> list[list[int]]:
        """The tokenizer at work; with `split` the text of a special token is ordinary text."""
        with self._busy:
            made = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=split)
        return [list(row) for row in made["input_ids"]]

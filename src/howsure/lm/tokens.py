"""Everything about tokenizers, in one place: BOS, padding, options, common beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from howsure.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens:
    """A tokenizer seen as what scoring needs of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
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
        self._stop_ids: tuple[int, ...] | None = None
        self._option_ids: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each whole text, with what the tokenizer puts in front (BOS) and no end."""
        if not texts:
            return []
        # Questions are untrusted: a "</s>" written in one must stay four ordinary characters.
        ids = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [self._lead + row for row in ids["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: end of text, and every token with a line break in it."""
        if self._stop_ids is None:
            size = len(self._tokenizer)
            texts = self._tokenizer.batch_decode([[i] for i in range(size)])
            stops = {i for i, text in enumerate(texts) if "\n" in text}
            if self._tokenizer.eos_token_id is not None:
                stops.add(self._tokenizer.eos_token_id)
            self._stop_ids = tuple(sorted(stops))
        return self._stop_ids

    def option_ids(self, context: str, options: Sequence[str]) -> tuple[int, ...]:
        """The one token that each option is when it follows `context` after a space.

        " a" and "a" are different tokens in most vocabularies, so the option is looked up where
        it will stand. Raises ModelError when an option is not exactly one token, or two options
        are the same token.
        """
        # The last line decides how the option is split; the text before it can't change that.
        tail = context[context.rfind("\n") + 1 :]
        key = (tail, tuple(options))
        if key in self._option_ids:
            return self._option_ids[key]
        before = self._tokenizer(tail, add_special_tokens=False)["input_ids"]
        ids = []
        for option in options:
            after = self._tokenizer(f"{tail} {option}", add_special_tokens=False)["input_ids"]
            added = after[len(before) :]
            if after[: len(before)] != before or len(added) != 1:
                raise ModelError(
                    f"model {self._name!r}: its tokenizer makes {len(added)} tokens of the option "
                    f"{' ' + option!r} after {tail!r}, but one is needed; use --format open, or "
                    "--choose-by text, or another model"
                )
            ids.append(int(added[0]))
        if len(set(ids)) < len(ids):
            raise ModelError(
                f"model {self._name!r}: its tokenizer gives two of the options "
                f"{', '.join(map(repr, options))} the same token; use another model"
            )
        self._option_ids[key] = tuple(ids)
        return self._option_ids[key]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two texts share."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n

"""A local model as a judge: yes or no, read from the probabilities of these words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from howsure.errors import ModelError
from howsure.judges import Pair, Progress
from howsure.judges.wording import INSTRUCTION, prompt
from howsure.lm import Options, Passage, Place

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

LEAST_MASS = 0.5
"""Of the probability, that has to lie on yes and no together; with less the judge says neither."""

_BOTH_CASES = ("no", "No", "yes", "Yes")


@dataclass(frozen=True, slots=True)
class LocalJudge:
    """Asks through the chat template of chat models, else in plain text up to "Answer:"."""

    lm: LanguageModel

    def __call__(
        self, pairs: Sequence[Pair], on_progress: Progress | None = None
    ) -> list[bool | None]:
        """Raises ModelError when a text does not fit, or yes and no are no single tokens."""
        passages = [self._passage(p) for p in pairs]
        words = self._words(passages[:1])
        (logp,) = self.lm.read(passages, [Options(Place.QUESTION, words)], on_progress=on_progress)
        p = np.exp(logp.astype(np.float64))
        yes = np.array([w.casefold() == "yes" for w in words])
        return [
            bool(row[yes].sum() > row[~yes].sum()) if row.sum() >= LEAST_MASS else None for row in p
        ]

    def _passage(self, pair: Pair) -> Passage:
        text = f"{INSTRUCTION}\n\n{prompt(pair)}"
        chat = self.lm.prompting("auto").chat
        if chat is None:
            return Passage("", f"{text}\nAnswer:")
        frame = chat.frame([])
        return Passage(frame.prefix, frame.question(text), lead=chat.lead)

    def _words(self, some: Sequence[Passage]) -> tuple[str, ...]:
        """Both spellings of both words, where each is one token of its own."""
        for words in (_BOTH_CASES, ("no", "yes")):
            try:
                for passage in some:
                    self.lm.tokens.option_ids(passage.upto(Place.QUESTION), words)
            except ModelError:
                continue
            return words
        raise ModelError(
            f"model {self.lm.name!r} can't judge: its tokenizer has no single tokens for yes and "
            "no; name another --grader"
        )

"""Which column of a recorded table holds what: as named, else guessed by name, and that is said.

A guess is made only where one column fits. Where two do, the error names the option that decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from howsure.errors import PredictionsError, UnknownName, UsageError

SCORE_NAME = re.compile(r"perplex|ppl|log_?prob|log_?lik|nll|entropy|seq\w*_(?:score|prob)", re.I)
"""Names of columns that hold something of the text's likelihood, which is no P(correct)."""

NAMES: dict[str, tuple[str, ...]] = {
    "p": (
        *("p_correct", "p_true", "prob_correct", "correct_prob", "p_is_correct", "confidence"),
        *("conf", "confidence_score", "probability", "prob", "verbal_numerical"),
        *("verbal_confidence", "verbalized_confidence", "verbalised_confidence"),
    ),
    "options": (
        *("probs", "option_probs", "choice_probs", "probabilities", "option_probabilities"),
        *("choice_probabilities", "logprobs", "option_logprobs", "choice_logprobs"),
        *("loglikelihoods", "option_logits", "choice_logits"),
    ),
    "correct": ("is_correct", "correct", "is_right", "correctness", "acc", "exact_match"),
    "predicted": ("predicted", "prediction", "pred", "predicted_answer", "model_answer", "choice"),
    "gold": ("gold", "target", "reference", "ground_truth", "label", "gold_answer", "answer_key"),
    "subject": ("subject", "topic", "category", "domain", "task"),
    "model": ("model", "model_name", "model_id"),
    "method": ("method",),
    "id": ("id", "question_id", "qid", "doc_id", "sample_id", "uid"),
}
"""By what each is known, in lower case."""

OURS = ("p_correct", "is_correct", "subject", "model", "method", "id")
"""Columns of our own tables: they win over others, and using them is no guess."""

_VARIANTS = (
    "prompt",
    "prompt_id",
    "template",
    "run",
    "seed",
    "epoch",
    "trial",
    "repeat",
    "variant",
)
"""Columns that may tell the rows of one question apart."""
_MOST_VARIANTS = 100


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of columns; None or () where they are to be guessed."""

    p: tuple[str, ...] = ()
    """The confidence that the answer is correct; several are several methods."""
    options: str | None = None
    """A list of one number per option: probabilities that sum to 1, log-probabilities or logits."""
    correct: str | None = None
    predicted: str | None = None
    """What the model answered: compared with `gold` where there is no `correct`, and the index
    (from 0) or letter of the chosen one of the `options`."""
    gold: str | None = None
    subject: str | None = None
    model: str | None = None
    variant: str | None = None
    """What tells the rows of one question apart, such as the prompt. A model that is asked in
    another way gives other answers, so that each variant counts as a model of its own."""
    method: str | None = None
    id: str | None = None


def resolve(frame: pl.DataFrame, given: Columns, where: str) -> tuple[Columns, list[str]]:
    """All columns that are to be read, and a sentence on those that were guessed.

    Raises UnknownName for a named column that isn't there, PredictionsError where a needed one
    can't be guessed.
    """
    for role in Columns.__dataclass_fields__:
        for name in _listed(getattr(given, role)):
            if name not in frame.columns:
                option = _option(role)
                raise UnknownName("column", name, frame.columns, f"({option}, {where})")
    if given.p and given.options:
        raise UsageError("--p-column and --options-column are both given; give one")
    finder = _Finder(frame, given, where)
    found = replace(given, **finder.confidence())
    found = replace(found, **finder.correctness(found))
    for role in ("subject", "model", "method", "id"):
        if getattr(found, role) is None:
            guess: Any = {role: finder.one(role)}
            found = replace(found, **guess)
    return replace(found, variant=found.variant or finder.variant(found)), finder.said()


class _Finder:
    """Guesses columns by name, and remembers what has to be said of it."""

    def __init__(self, frame: pl.DataFrame, given: Columns, where: str) -> None:
        self.frame, self.given, self.where = frame, given, where
        self.guessed: list[str] = []
        self.more: list[str] = []

    def one(self, role: str, options: Sequence[str] = ()) -> str | None:
        """The one column whose name is known for the role; None if there is none."""
        plain = {re.sub(r"\W+", "_", name.strip().lower()): name for name in self.frame.columns}
        known = NAMES[role]
        if known[0] in OURS and plain.get(known[0]) == known[0]:
            return known[0]
        fitting = [plain[name] for name in known if name in plain]
        if len(fitting) > 1:
            raise PredictionsError(
                f"{self.where}: {' and '.join(map(repr, fitting))} could all be the "
                f"{_MEANING[role]}; say which with {' or '.join(options or [_option(role)])}"
            )
        if fitting:
            self.guessed.append(f"{_MEANING[role]} from {fitting[0]!r} ({_option(role)})")
        return fitting[0] if fitting else None

    def confidence(self) -> dict[str, Any]:
        """The confidence's own column, else the list of options with the chosen one."""
        if self.given.p:
            return {}
        options = self.given.options
        if options is None:
            if (p := self.one("p")) is not None:
                return {"p": (p,)}
            if (options := self.one("options")) is None:
                raise self._lacking("p_correct", "name yours with --p-column or --options-column")
        predicted = self.given.predicted or self.one("predicted")
        if predicted is None:
            self.more.append(f"the option with the highest number in {options!r} is taken as given")
        return {"options": options, "predicted": predicted}

    def correctness(self, found: Columns) -> dict[str, Any]:
        """The verdict's column, else what is compared for one."""
        if found.correct:
            return {}
        compared = found.predicted is not None and found.gold is not None
        if not compared and (correct := self.one("correct")) is not None:
            return {"correct": correct}
        predicted = found.predicted or self.one("predicted")
        gold = found.gold or self.one("gold")
        if gold is None or (predicted is None and found.options is None):
            raise self._lacking(
                "is_correct",
                "name yours with --correct-column, or --predicted-column and --gold-column",
            )
        return {"predicted": predicted, "gold": gold}

    def variant(self, found: Columns) -> str | None:
        """The column that makes ids unique, where they repeat."""
        frame, own = self.frame, ("calibration", "format")
        key = [c for c in (found.model, found.method, found.id, *own) if c in frame.columns]
        if found.id is None or not frame.select(key).is_duplicated().any():
            return None
        for name in frame.columns:
            few = name.lower() in _VARIANTS and frame[name].n_unique() <= _MOST_VARIANTS
            if few and not frame.select(*key, name).is_duplicated().any():
                self.more.append(
                    f"each question occurs once per {name!r}, so each {name} counts as a model of "
                    "its own (--variant-column)"
                )
                return name
        return None

    def said(self) -> list[str]:
        guessed = f"guessed by name: {'; '.join(dict.fromkeys(self.guessed))}"
        return [*([guessed] if self.guessed else []), *self.more]

    def _lacking(self, name: str, remedy: str) -> PredictionsError:
        return PredictionsError(
            f"{self.where} has no column {name!r}; it has: {', '.join(self.frame.columns)}; "
            f"{remedy}"
        )


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _option(role: str) -> str:
    return f"--{role}-column"


_MEANING = {
    "p": "confidence",
    "options": "list of options' probabilities",
    "correct": "verdict (correct or not)",
    "predicted": "model's answer",
    "gold": "right answer",
    "subject": "subject",
    "model": "model",
    "variant": "variant",
    "method": "method",
    "id": "question's id",
}

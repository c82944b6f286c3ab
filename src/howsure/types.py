"""The values that travel through howsure, in the order in which they come to be.

questions → answers → graded answers → predictions

All are frozen. Labels live in `GradedAnswer` and `Predictions` only: an estimator is
handed `Answer`s, so it can't see whether they are correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from howsure.errors import PredictionsError, QuestionError
from howsure.notebook import card

if TYPE_CHECKING:
    import polars as pl

Format = Literal["open", "choice"]
ChooseBy = Literal["letter", "text"]
Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")

_SHOWN = 8
"""Rows that a notebook shows of predictions."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its reference answer.

    `reference` is the text of the right answer. When there are `choices`, it is one of them;
    `choices == ()` means that the question can only be asked open-ended.
    """

    id: str
    subject: str
    text: str
    reference: str
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise QuestionError(f"question {self.id!r} has no text; give it some")
        if not self.reference.strip():
            raise QuestionError(f"question {self.id!r} has no reference answer; add its 'answer'")
        if not self.choices:
            return
        if len(self.choices) < 2:
            raise QuestionError(f"question {self.id!r} has one choice; give at least two, or none")
        if len(self.choices) > len(LETTERS):
            raise QuestionError(
                f"question {self.id!r} has {len(self.choices)} choices; at most {len(LETTERS)} fit"
            )
        if len(set(self.choices)) < len(self.choices):
            twice = next(c for c in self.choices if self.choices.count(c) > 1)
            raise QuestionError(
                f"question {self.id!r} has the choice {twice!r} twice; "
                "remove or reword one, otherwise 'correct' is ambiguous"
            )
        if self.reference not in self.choices:
            raise QuestionError(
                f"question {self.id!r}: the answer {self.reference!r} is not among its choices"
            )

    @property
    def answer_index(self) -> int:
        """Index of the reference in `choices`. Raises QuestionError when there are none."""
        if not self.choices:
            raise QuestionError(f"question {self.id!r} has no choices; ask it with --format open")
        return self.choices.index(self.reference)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one question. It carries neither reference nor label.

    `prompt` is the whole text that the model read up to and including "Answer:", made of the
    `prefix` that all questions of the subject share (few-shot examples, may be empty) and the
    rest; `prompt + lead + text` is the text that the correctness query continues. Special tokens
    of a chat template are marked in `prompt` and `query` (`prompts.marked`): don't put untrusted
    text there without `prompts.plain`.
    """

    question_id: str
    subject: str
    prompt: str
    text: str
    model: str
    format: Format
    prefix: str = ""
    """The leading part of `prompt` shared within the subject; `prompt.startswith(prefix)`."""
    choose_by: ChooseBy | None = None
    choice: int | None = None
    """Index of the chosen option; None when open-ended."""
    likelihood: float | None = None
    """Probability in [0, 1] that the model gave this answer: softmax over the options (choice), or
    the geometric mean of the answer tokens' probabilities (open-ended)."""
    option_mass: float | None = None
    """Probability in [0, 1] on all option tokens together, before they are normalised (letters)."""
    lead: str = " "
    """What stands between `prompt` and `text`: a space, or what a chat template puts there."""
    query: str | None = None
    """The text after the answer, after which the model says whether it is correct; None: the
    correctness query as plain text (`prompts.CORRECTNESS_QUERY`)."""
    dropped_shots: int = 0
    """Examples left out of the prompt because it was too long for the model."""
    note: str = ""
    """Why an answer can't be used (for example "nonfinite_logits"); empty when it can."""

    def __post_init__(self) -> None:
        if not self.prompt.startswith(self.prefix):
            raise QuestionError(f"answer to {self.question_id!r}: its prompt lacks its prefix")


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """An answer with the verdict on it, and who gave the verdict."""

    answer: Answer
    is_correct: bool
    grader: str


@dataclass(frozen=True, slots=True)
class Ungraded:
    """An answer on which the grader gave no verdict."""

    answer: Answer
    grader: str
    reason: str


@runtime_checkable
class Estimator(Protocol):
    """Says how likely each answer is to be correct."""

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """Shape (n,), float64, each a probability in [0, 1]; higher is surer."""
        ...


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one method said of n graded answers of one model.

    Refuses what can't be scored: unequal lengths, NaN, values outside [0, 1], repeated ids.
    """

    model: str
    method: str
    format: str
    calibration: str
    ids: tuple[str, ...]
    subjects: tuple[str, ...]
    p_correct: NDArray[np.float64]
    is_correct: NDArray[np.bool_]
    answers: tuple[str, ...] = ()
    """The answers' texts, in the same order; empty when unknown."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        where = f"predictions of {self.method!r} for {self.model!r}"
        sizes = (len(self.subjects), len(self.p_correct), len(self.is_correct))
        if set(sizes) != {n} or (self.answers and len(self.answers) != n):
            raise PredictionsError(
                f"{where}: {n} ids, but {sizes[0]} subjects, {sizes[1]} p_correct, "
                f"{sizes[2]} is_correct, {len(self.answers)} answers; give one of each per id"
            )
        bad = ~((self.p_correct >= 0.0) & (self.p_correct <= 1.0))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise PredictionsError(
                f"{where}: p_correct of {self.ids[i]!r} is {self.p_correct[i]!r}; "
                "it must be a probability in [0, 1]"
            )
        if len(set(self.ids)) < n:
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise PredictionsError(f"{where}: the id {twice!r} occurs twice; ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    def to_polars(self) -> pl.DataFrame:
        """A row per answer, as in `predictions.parquet`; `answer` is null where it is unknown."""
        import polars as pl

        group = {k: getattr(self, k) for k in ("model", "method", "calibration", "format")}
        columns = {
            "id": self.ids,
            "subject": self.subjects,
            "answer": self.answers or [None] * len(self),
            "is_correct": self.is_correct,
            "p_correct": self.p_correct,
        }
        texts = dict.fromkeys((*group, "id", "subject", "answer"), pl.String)
        return pl.DataFrame(columns, schema_overrides=texts).select(
            *(pl.lit(v).alias(k) for k, v in group.items()), pl.all()
        )

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame; needs pandas."""
        return self.to_polars().to_pandas()

    def _repr_html_(self) -> str:
        n, first = len(self), min(len(self), _SHOWN)
        right = f", {self.is_correct.mean():.3f} correct" if n else ""
        rows = [
            (self.ids[i], self.subjects[i], f"{self.p_correct[i]:.3f}", str(self.is_correct[i]))
            for i in range(first)
        ]
        return card(
            f"{self.method} on {self.model} ({self.format}, calibration {self.calibration})",
            [f"{n} answers on {len(set(self.subjects))} subjects{right}"],
            ("id", "subject", "p_correct", "is_correct"),
            [*rows, *([("…",) * 4] if first < n else [])],
        )

"""Who says whether a free answer is right: a normalised match, or a model that is asked.

    match                the answer is the reference, as far as differences in writing go
    judge:MODEL          a local model reads both and says yes or no
    openai:NAME[@URL]    a model on an OpenAI-compatible server does

A judge that says neither gives no grade: the answer becomes `Ungraded`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from howsure import api
from howsure.answers import grade
from howsure.errors import UnknownName, UsageError
from howsure.grading import is_match
from howsure.types import Answer, GradedAnswer, Question, Ungraded

MATCH = "match"
LOCAL = "judge:"

NEITHER = "judge_said_neither_yes_nor_no"
"""Why an answer has no grade."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """A submitted answer beside the right one."""

    question: str
    reference: str
    answer: str
    choices: tuple[str, ...] = ()


class Judge(Protocol):
    """Says of each pair whether the answer is right; None where it says neither yes nor no."""

    def __call__(
        self, pairs: Sequence[Pair], on_progress: Progress | None = None
    ) -> list[bool | None]: ...


def check(grader: str) -> None:
    """Raises UnknownName or UsageError for what names no grader."""
    if grader == MATCH:
        return
    if api.is_server(grader):
        api.parse(grader)
    elif not grader.startswith(LOCAL):
        raise UnknownName("grader", grader, (MATCH, f"{LOCAL}MODEL", f"{api.PREFIX}NAME@URL"))
    elif not grader.removeprefix(LOCAL):
        raise UsageError(f"--grader {grader}: name the model, for example {LOCAL}qwen2.5:7b-chat")


def local_model(grader: str) -> str | None:
    """The model of a local judge; None for every other grader."""
    return grader.removeprefix(LOCAL) if grader.startswith(LOCAL) else None


def match(pairs: Sequence[Pair], on_progress: Progress | None = None) -> list[bool | None]:
    """The grader "match"."""
    return [is_match(p.answer, p.reference, p.choices) for p in pairs]


def grade_with(
    judge: Judge,
    grader: str,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    on_progress: Progress | None = None,
) -> list[GradedAnswer | Ungraded]:
    """Each answer graded by the judge, which is called `grader`; choices are graded exactly.

    An answer without any content is wrong, and nobody is asked. Raises QuestionError when an
    answer belongs to none of the questions, ApiError when a server can't be asked.
    """
    by_match = grade(questions, answers)
    asked = [
        i
        for i, a in enumerate(answers)
        if a.format == "open" and a.text.strip() and not a.note and grader != MATCH
    ]
    by_id = {q.id: q for q in questions}
    pairs = []
    for a in (answers[i] for i in asked):
        q = by_id[a.question_id]
        pairs.append(Pair(q.text, q.reference, a.text, q.choices))
    verdicts = dict(zip(asked, judge(pairs, on_progress), strict=True)) if pairs else {}
    out: list[GradedAnswer | Ungraded] = []
    for i, (a, plainly) in enumerate(zip(answers, by_match, strict=True)):
        if a.format == "choice":
            out.append(plainly)
        elif i not in verdicts:
            out.append(GradedAnswer(a, plainly.is_correct, grader))
        elif (verdict := verdicts[i]) is None:
            out.append(Ungraded(a, grader, NEITHER))
        else:
            out.append(GradedAnswer(a, verdict, grader))
    return out

"""Models that say whether a free answer is right; `names` says which there are.

A judge that says neither yes nor no gives no grade: the answer becomes `Ungraded`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from howsure.answers import grade
from howsure.types import Answer, GradedAnswer, Question, Ungraded

NEITHER = "judge_said_neither_yes_nor_no"
"""Why an answer has no grade."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """A submitted answer beside the right one."""

    question: str
    reference: str
    answer: str


class Judge(Protocol):
    """Says of each pair whether the answer is right; None where it says neither yes nor no."""

    def __call__(
        self, pairs: Sequence[Pair], on_progress: Progress | None = None
    ) -> list[bool | None]: ...


def grade_with(
    judge: Judge,
    grader: str,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    on_progress: Progress | None = None,
) -> list[GradedAnswer | Ungraded]:
    """Each answer graded by the judge, which is called `grader`.

    Choices, and answers without any content, are graded as `grade` does: nobody is asked. Raises
    QuestionError when an answer belongs to none of the questions, ApiError when a server can't be
    asked.
    """
    out: list[GradedAnswer | Ungraded] = [*grade(questions, answers)]
    asked = [
        i for i, a in enumerate(answers) if a.format == "open" and a.text.strip() and not a.note
    ]
    if not asked:
        return out
    by_id = {q.id: q for q in questions}
    pairs = []
    for a in (answers[i] for i in asked):
        q = by_id[a.question_id]
        pairs.append(Pair(q.text, q.reference, a.text))
    for i, verdict in zip(asked, judge(pairs, on_progress), strict=True):
        if verdict is None:
            out[i] = Ungraded(answers[i], grader, NEITHER)
        else:
            out[i] = GradedAnswer(answers[i], verdict, grader)
    return out

"""How many tokens the texts of a run have: counted, or told from their bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure.answers import MAX_TOKENS
from howsure.plan import DEFAULT_SHOTS, Plan
from howsure.prompts import few_shot_prefix, question_prompt
from howsure.spec import TRAIN_SIZE, RunSpec
from howsure.types import Format, Question

Counts = NDArray[np.int64]

BYTES_PER_TOKEN = {True: 3.6, False: 4.1}
"""Of prompts with and without lettered options. With Mistral 7B's tokenizer, MMLU's 14,042 test
questions have 3.68 and 4.19, their solved examples 3.50 and 3.98."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of one split's texts. Each array but `prefixes` has one entry per question."""

    prefixes: Counts
    """Each text of solved examples that is read, once."""
    before: Counts
    """The solved examples before each question."""
    questions: Counts
    answers: Counts
    """What is answered."""
    spoken: Counts
    """What is read to find the answer: itself, or every choice in turn."""

    def __len__(self) -> int:
        return len(self.questions)


class Counter:
    """How many tokens texts have: by the tokenizer, or estimated from their bytes."""

    def __init__(self, tokenizer: Any, letters: bool) -> None:
        self._tokenizer = tokenizer
        self._ratio = BYTES_PER_TOKEN[letters]

    def __call__(self, texts: Sequence[str]) -> Counts:
        if self._tokenizer is None:
            sizes = [max(1, round(len(t.encode()) / self._ratio)) if t else 0 for t in texts]
        else:
            ids = self._tokenizer(list(texts), add_special_tokens=False) if texts else {}
            sizes = [len(row) for row in ids.get("input_ids", [])]
        return np.array(sizes, dtype=np.int64)


def of_plan(
    spec: RunSpec, plan: Plan, format: Format, letters: bool, count: Counter
) -> dict[str, Lengths]:
    """Split → its lengths. Examples stand before training questions of the same set only."""
    return {
        split: _of(questions, examples, spec, format, letters, count)
        for split, questions, examples in (
            ("training", plan.train, {} if spec.train_questions else plan.examples),
            ("validation", plan.valid, plan.examples),
            ("test", plan.test, plan.examples),
        )
    }


def _of(
    questions: Sequence[Question],
    examples: Mapping[str, Sequence[Question]],
    spec: RunSpec,
    format: Format,
    letters: bool,
    count: Counter,
) -> Lengths:
    subjects = sorted({q.subject for q in questions})
    texts = [few_shot_prefix(s, examples.get(s, ()), options=letters) for s in subjects]
    by_subject = dict(zip(subjects, count(texts).tolist(), strict=True))
    before = np.array([by_subject[q.subject] for q in questions], dtype=np.int64)
    own = np.array(list(by_subject.values()), dtype=np.int64)
    answers, spoken = _answers(questions, format, letters, count)
    return Lengths(
        # In an order of its own before each question, they can't be read once for all.
        prefixes=before if spec.shuffle_shots else own,
        before=before,
        questions=count([question_prompt(q, options=letters) for q in questions]),
        answers=answers,
        spoken=spoken,
    )


def _answers(
    questions: Sequence[Question], format: Format, letters: bool, count: Counter
) -> tuple[Counts, Counts]:
    n = len(questions)
    if format == "open" or letters:
        each = np.full(n, MAX_TOKENS if format == "open" else 1, dtype=np.int64)
        return each, each
    choices = [count([f" {c}" for c in q.choices]) for q in questions]
    spoken = np.array([c.sum() for c in choices], dtype=np.int64)
    return np.array([c.max() for c in choices], dtype=np.int64), spoken


PUBLISHED_NOTE = "57 subjects with 14,042 test and 1,531 validation questions"

_EVALUATED = {True: (136, 675), False: (70, 393)}
"""MMLU with and without lettered options, in tokens of Mistral 7B's tokenizer: mean of the test
questions, mean of the subjects' five solved examples. Measured."""

_TRAINING = {True: 77, False: 33}
"""Likewise, the mean of nine of the training sets."""


def published(spec: RunSpec, format: Format, letters: bool) -> dict[str, Lengths]:
    """MMLU and a training mixture where they can't be had: published counts, measured means."""
    question, prefix = _EVALUATED[letters]
    shots = DEFAULT_SHOTS if spec.shots is None else spec.shots
    subjects = len(spec.subjects) or 57

    def evaluated(published: int) -> Lengths:
        n = round(published * subjects / 57)
        n = n if spec.limit is None else min(n, spec.limit * subjects)
        return made(n, question, prefix * shots // DEFAULT_SHOTS, subjects)

    def made(n: int, tokens: int, before: int, prefixes: int) -> Lengths:
        answer = MAX_TOKENS if format == "open" else 1 if letters else 10
        spoken = answer if format == "open" or letters else 4 * answer
        counts = (n if spec.shuffle_shots else prefixes, before), (n, before), (n, tokens)
        return Lengths(
            *(np.full(k, v, dtype=np.int64) for k, v in (*counts, (n, answer), (n, spoken)))
        )

    return {
        "training": made(
            (spec.train_size or TRAIN_SIZE) if spec.trained else 0, _TRAINING[letters], 0, 1
        ),
        "validation": evaluated(1531),
        "test": evaluated(14042),
    }

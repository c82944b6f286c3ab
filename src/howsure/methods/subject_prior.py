"""Subject prior: how often training answers of the same subject are correct.

A baseline that any estimator has to beat: it knows nothing of the single answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from howsure.types import Answer, GradedAnswer


@dataclass(frozen=True, slots=True)
class SubjectPrior:
    name = "subject_prior"
    strength: float = 10.0
    """The overall accuracy counts as so many answers beside the subject's own."""


@dataclass(frozen=True, slots=True)
class SubjectPriorEstimator:
    spec: SubjectPrior
    overall: float
    by_subject: Mapping[str, float]

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]; a subject not seen in training gets the overall accuracy."""
        values = [self.by_subject.get(a.subject, self.overall) for a in answers]
        return np.array(values, dtype=np.float64)


def fit(spec: SubjectPrior, train: Sequence[GradedAnswer]) -> SubjectPriorEstimator:
    """(right + strength × overall) / (answers + strength), by subject."""
    overall = sum(g.is_correct for g in train) / len(train)
    counts: dict[str, list[int]] = {}
    for g in train:
        tally = counts.setdefault(g.answer.subject, [0, 0])
        tally[0] += g.is_correct
        tally[1] += 1
    by_subject = {
        subject: (right + spec.strength * overall) / (n + spec.strength)
        for subject, (right, n) in counts.items()
    }
    return SubjectPriorEstimator(spec, overall, by_subject)

"""Answer likelihood: the probability with which the model gave its answer. Nothing is trained.

A baseline that any estimator has to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from howsure.errors import PredictionsError
from howsure.types import Answer


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Nothing to set."""

    name = "likelihood"


@dataclass(frozen=True, slots=True)
class LikelihoodEstimator:
    spec: Likelihood

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]. Raises PredictionsError for an answer without its likelihood."""
        values = []
        for a in answers:
            if a.likelihood is None:
                raise PredictionsError(
                    f"the answer to {a.question_id!r} carries no likelihood; answer it again"
                )
            values.append(a.likelihood)
        return np.array(values, dtype=np.float64)

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
        """(n,), in [0, 1]; NaN for an answer whose likelihood a server did not tell.

        Raises PredictionsError where none of the answers carries one.
        """
        if answers and all(a.likelihood is None for a in answers):
            raise PredictionsError(
                f"the answer to {answers[0].question_id!r} carries no likelihood, nor does any "
                "other; answer it again"
            )
        known = [np.nan if a.likelihood is None else a.likelihood for a in answers]
        return np.array(known, dtype=np.float64)

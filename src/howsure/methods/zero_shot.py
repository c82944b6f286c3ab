"""Zero-Shot Classifier: ask the model itself whether its answer is correct.

Kadavath et al. 2022 ("P(True)"), in the wording of Kapoor et al. 2024, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from howsure.lm import Options, Passage, Place
from howsure.prompts import QUERY_OPTIONS
from howsure.types import Answer

if TYPE_CHECKING:
    from howsure.lm.seam import Model


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Nothing to set: nothing is trained."""

    name = "zero_shot"


def query_probability(
    lm: Model,
    answers: Sequence[Answer],
    adapter: str | None,
    temperature: float = 1.0,
) -> NDArray[np.float64]:
    """P(" ii") against P(" i") after the correctness query, (n,) float64."""
    (logp,) = lm.read(
        [Passage.of(a) for a in answers], [Options(Place.QUERY, QUERY_OPTIONS)], adapter=adapter
    )
    d = (logp[:, 1].astype(np.float64) - logp[:, 0]) / temperature
    p: NDArray[np.float64] = np.where(
        d >= 0, 1 / (1 + np.exp(-np.abs(d))), np.exp(-np.abs(d)) / (1 + np.exp(-np.abs(d)))
    )
    return p


@dataclass(frozen=True, slots=True)
class ZeroShotEstimator:
    lm: Model
    spec: ZeroShot

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]."""
        return query_probability(self.lm, answers, adapter=None)

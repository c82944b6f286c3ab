"""Scores that are no probabilities → probabilities, by a calibrator fitted by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from howsure.calibrate import fit_calibrator
from howsure.errors import FitError, PredictionsError

Floats = NDArray[np.float64]

RECALIBRATIONS = ("platt", "isotonic")
FOLDS = 5


def recalibrated(
    kind: str, scores: Floats, is_correct: NDArray[np.bool_], ids: Sequence[str]
) -> Floats:
    """(n,) in [0, 1]: each row's comes from a calibrator that was fitted without its fold.

    `scores` are (n,), finite, of any scale, higher is surer. All rows of one id are in one fold.
    Raises PredictionsError where a fit lacks right or wrong answers.
    """
    fold = folds(ids)
    if len(set(ids)) < FOLDS:
        raise PredictionsError(
            f"--recalibrate needs at least {FOLDS} questions per model and method, not {len(ids)}"
        )
    spread = float(scores.std()) or 1.0
    # Only the order counts for isotonic; Platt's line is through these logits.
    p = 1.0 / (1.0 + np.exp(-((scores - scores.mean()) / spread).clip(-30.0, 30.0)))
    out = np.empty(len(scores))
    for k in range(FOLDS):
        here = fold == k
        try:
            fitted = fit_calibrator(kind, p[~here], is_correct[~here])
        except FitError:
            raise PredictionsError(
                "--recalibrate needs right and wrong answers in every part of the rows; there are "
                f"{int(is_correct.sum())} right and {int((~is_correct).sum())} wrong ones"
            ) from None
        out[here] = fitted(p[here])
    return out


def folds(ids: Sequence[str], count: int = FOLDS) -> NDArray[np.intp]:
    """(n,) in 0..count-1: equal ids together, the same whatever the order of the rows.

    Ids are ordered by a hash of their text and dealt out in turn, so the folds are as large as they
    can be, and the same question is in the same fold wherever the same questions are asked.
    """
    distinct = sorted(set(ids), key=lambda text: (crc32(text.encode()), text))
    place = {text: k % count for k, text in enumerate(distinct)}
    return np.array([place[text] for text in ids], dtype=np.intp)

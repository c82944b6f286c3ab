"""A mean over subjects x models with its interval: bootstrap over subjects and over models.

The cells of one subject stand or fall together (the same questions), and so do those of one model.
A resample draws subjects and, independently, models, and takes every cell as often as the product
of the two (the pigeonhole bootstrap of Owen 2007: never too narrow for crossed effects). A mean
that two models of six carry thus has an interval that holds 0. It needs a table, no predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from howsure.intervals import student_t

RESAMPLES = 10_000
UNIT_RESAMPLES = 2_000
LEAST_SUBJECTS = 3
_Z = 1.959963984540054

Floats = NDArray[np.float64]
Cells = Floats
"""(subjects, units): NaN where unknown."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over cells; positive cells are "wins"."""

    estimate: float
    low: float | None
    """Of the 95% interval; None where there are too few subjects for one."""
    high: float | None
    share_of_wins: float
    n: int
    """Known cells."""


def mean_over_cells(cells: Cells, models: Sequence[str] = ()) -> Mean | None:
    """None when no cell is known. `models` names the model (or pair) of each unit.

    One model alone is not resampled: the interval then speaks of that model only.
    """
    known = ~np.isnan(cells)
    if not known.any():
        return None
    sums, counts = np.where(known, cells, 0.0).sum(axis=1), known.sum(axis=1)
    used = counts > 0
    estimate = float(sums.sum() / counts.sum())
    wins = float((cells[known] > 0.0).mean())
    low, high = None, None
    if used.sum() >= LEAST_SUBJECTS:
        by_subject = _weights(int(used.sum()), seed=0)
        by_unit = _unit_weights(models or [str(u) for u in range(cells.shape[1])])
        filled = np.where(known, cells, 0.0)[used]
        total = ((by_subject @ filled) * by_unit).sum(axis=1)
        number = ((by_subject @ known[used].astype(np.float64)) * by_unit).sum(axis=1)
        drawn = total[number > 0] / number[number > 0]
        low, high = _ends(estimate, drawn, int(used.sum()))
    return Mean(estimate, low, high, wins, int(known.sum()))


def means_by_unit(cells: Cells) -> tuple[Floats, Floats, Floats]:
    """(mean, low, high) over subjects of each unit on its own, (units,); NaN where unknown."""
    known = ~np.isnan(cells)
    counts = known.sum(axis=0)
    filled = np.where(known, cells, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = filled.sum(axis=0) / counts
        weights = _weights(len(cells), seed=0)[:UNIT_RESAMPLES]
        drawn = (weights @ filled) / (weights @ known.astype(np.float64))
    low, high = np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    for n in np.unique(counts[counts >= LEAST_SUBJECTS]):
        at = counts == n
        ends = np.nanquantile(drawn[:, at], (0.025, 0.975), axis=0)
        low[at], high[at] = estimate[at] + _widening(int(n)) * (ends - estimate[at])
    return estimate, low, high


def difference_of_groups(inside: Cells, outside: Cells, *, comparisons: int = 1) -> Mean | None:
    """Mean of the subjects inside minus mean of those outside; both share their units (models).

    The interval is the two-sample t interval of the subjects' means over these models, with one
    variance for both (a group of three subjects has none of its own to speak of). `comparisons`:
    out of how many the group was picked (Bonferroni). A win is a subject inside above one outside.
    """
    ours, theirs = (part[~np.isnan(part).any(axis=1)] for part in (inside, outside))
    if not len(ours) or not len(theirs):
        return None
    estimate = float(ours.mean() - theirs.mean())
    wins = float((ours[:, None] > theirs[None]).mean())
    low, high = None, None
    freedom = len(ours) + len(theirs) - 2
    if freedom >= LEAST_SUBJECTS:
        means = [part.mean(axis=1) for part in (ours, theirs)]
        variance = sum(float(((m - m.mean()) ** 2).sum()) for m in means) / freedom
        error = math.sqrt(variance * (1 / len(ours) + 1 / len(theirs)))
        z = NormalDist().inv_cdf(1 - 0.025 / comparisons)
        half = z * student_t(freedom) / _Z * error
        low, high = estimate - half, estimate + half
    return Mean(estimate, low, high, wins, ours.size + theirs.size)


@lru_cache(maxsize=8)
def _weights(n: int, seed: int) -> Floats:
    """(RESAMPLES, n): how often each subject is drawn."""
    rng = np.random.default_rng([seed, n])
    return rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES).astype(np.float64)


def _unit_weights(models: Sequence[str]) -> Floats:
    """(RESAMPLES, units): how often the model of each unit is drawn."""
    names = list(dict.fromkeys(models))
    weights = _weights(len(names), seed=3)
    return weights[:, [names.index(m) for m in models]]


def _ends(estimate: float, drawn: Floats, n: int) -> tuple[float, float]:
    low, high = estimate + _widening(n) * (np.quantile(drawn, (0.025, 0.975)) - estimate)
    return float(low), float(high)


def _widening(n: int) -> float:
    """Of a percentile interval over n subjects, by Student's t (Hesterberg 2015, section 5)."""
    return student_t(n - 1.0) / _Z * math.sqrt(n / (n - 1.0))

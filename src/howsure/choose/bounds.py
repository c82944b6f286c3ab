"""Exact binomial bounds: what a count of wrong answers proves."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=256)
def allowed_errors(n: int, risk: float, alpha: float) -> NDArray[np.intp]:
    """(n + 1,): with a = 0..n answers let through, how many may be wrong; -1: not even none.

    The largest k with P(Binomial(a, risk) <= k) <= alpha: so few wrong ones are that improbable
    where the risk is `risk` or more (Clopper and Pearson 1934). Found by walking along a: another
    answer takes risk * P(= k) off P(<= k), and k rises where the next term still fits.
    """
    allowed = np.full(n + 1, -1)
    k, below, at = -1, 0.0, 0.0  # P(<= k), P(= k)
    for a in range(1, n + 1):
        if k >= 0:
            below -= risk * at
            at *= (1.0 - risk) * a / (a - k)
        following = (1.0 - risk) ** a if k < 0 else at * (a - k) / (k + 1) * risk / (1.0 - risk)
        if below + following <= alpha and k < a:
            k, below, at = k + 1, below + following, following
        allowed[a] = k
    allowed.setflags(write=False)
    return allowed


def count_for_coverage(n: int, coverage: float, alpha: float) -> int | None:
    """The fewest answers, by falling p, behind which a threshold lets `coverage` through.

    The share of all questions at or above the a-th largest p of n is below `coverage` with
    probability P(Binomial(n, coverage) >= a), which is at most `alpha` for what is returned. None
    where n is too small; a coverage of 1 is never proven by a sample.
    """
    if coverage >= 1.0:
        return None
    spared = int(allowed_errors(n, 1.0 - coverage, alpha)[n])
    return n - spared if spared >= 0 else None


def accuracy_bound(wrong: int, answers: int, alpha: float) -> float:
    """Lower end, at level alpha, of the accuracy that shows `wrong` of `answers` (Clopper-Pearson).

    For a threshold that was fixed without looking at what is correct.
    """
    if wrong >= answers:
        return 0.0
    i = np.arange(wrong + 1)
    ways = np.array(
        [math.lgamma(answers + 1) - math.lgamma(j + 1) - math.lgamma(answers - j + 1) for j in i]
    )
    low, high = 0.0, 1.0
    for _ in range(60):  # P(Binomial(answers, risk) <= wrong) falls as the risk rises
        risk = (low + high) / 2
        terms = ways + i * math.log(risk) + (answers - i) * math.log1p(-risk)
        low, high = (risk, high) if np.exp(terms).sum() > alpha else (low, risk)
    return 1.0 - high

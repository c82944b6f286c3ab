"""How good the probabilities of one sample of answers are: numbers, no tables, no files.

A sample is `p_correct` (n,), the stated probabilities in [0, 1], and `is_correct` (n,), booleans.
Every function takes them in this order, does not depend on the order of the questions, raises
PredictionsError for what is no such sample (empty, unequal lengths, NaN, outside [0, 1]) and
returns None, never NaN, where its quantity is undefined. Numpy only.

The intervals around these numbers are in `howsure.intervals`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from howsure.errors import PredictionsError, UsageError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 10
"""Equal-width bins of both ECE definitions, unless a caller says otherwise."""

NLL_EPS = 1e-7
"""`nll` clips p to [NLL_EPS, 1 - NLL_EPS]: float32 softmax can't tell a p nearer to 1 from 1."""

_NORMAL_FROM = 25.0
"""Variance of a bin's count of correct answers from which `ece_floor` takes it as normal; the
error of the floor is then below 0.5% of it."""


def as_sample(p_correct: ArrayLike, is_correct: ArrayLike) -> tuple[Floats, Bools]:
    """The two arrays, checked: both (n,), n >= 1; p finite and in [0, 1]; labels boolean or 0/1."""
    p = as_probabilities(p_correct)
    labels = np.asarray(is_correct)
    if labels.shape != p.shape:
        raise PredictionsError(
            f"p_correct has shape {p.shape}, is_correct {labels.shape}; give one label per p"
        )
    if labels.dtype != np.bool_:
        if not np.isin(labels, (0, 1)).all():
            raise PredictionsError("is_correct holds something other than true/false or 1/0")
        labels = labels.astype(np.bool_)
    return p, labels


def as_probabilities(p_correct: ArrayLike) -> Floats:
    """`p_correct` as float64 (n,), checked: n >= 1, finite, in [0, 1]."""
    p = np.asarray(p_correct, dtype=np.float64)
    if p.ndim != 1 or p.size == 0:
        raise PredictionsError(
            f"p_correct has shape {p.shape}; metrics need one dimension and at least one question"
        )
    bad = ~((p >= 0.0) & (p <= 1.0))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise PredictionsError(f"p_correct[{i}] is {p[i]!r}; it must be a probability in [0, 1]")
    return p


def bin_index(p: Floats, bins: int = BINS) -> NDArray[np.intp]:
    """(n,) in 0..bins-1: bin b holds b/bins <= p < (b+1)/bins, and the last one holds 1.0 too."""
    if bins < 1:
        raise UsageError(f"bins is {bins}; give at least 1")
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, p, side="right")


def decision(p_correct: ArrayLike, is_correct: ArrayLike) -> tuple[Floats, Bools]:
    """Confidence (n,) in [0.5, 1] of the decision "correct / not", and whether it was right (n,).

    The decision is "correct" when p >= 0.5 (0.5 itself is on that side); its confidence is
    max(p, 1 - p).
    """
    p, y = as_sample(p_correct, is_correct)
    return np.maximum(p, 1.0 - p), (p >= 0.5) == y


def ece(p_correct: ArrayLike, is_correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error in [0, 1], 0 is best: sum over bins of n_b/n |accuracy - mean p|.

    `bins` equal-width bins on p_correct, closed at 1.0 (Guo et al. 2017, section 2, with p_correct
    as the confidence). It is never below what chance alone gives: see `ece_floor`.
    """
    p, y = as_sample(p_correct, is_correct)
    gaps = np.bincount(bin_index(p, bins), weights=y - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def ece_decision(p_correct: ArrayLike, is_correct: ArrayLike, bins: int = BINS) -> float:
    """ECE in [0, 1] of the decision at 0.5: its confidence against its being right.

    The published definition (Kapoor et al. 2024); their code drops confidences of exactly 1.0, here
    the last bin is closed.
    """
    return ece(*decision(p_correct, is_correct), bins)


def ece_floor(p_correct: ArrayLike, bins: int = BINS) -> float:
    """The ECE expected of an estimator that states these p and is perfectly calibrated.

    That is the mean of `ece` over labels drawn anew, each correct with its own p: what chance alone
    shows with these n and p. Exact (a bin's number of correct answers is Poisson-binomial) for bins
    of few questions, else from the normal limit, to better than 0.5%.
    """
    p = as_probabilities(p_correct)
    order = np.argsort(p, kind="stable")
    ends = np.cumsum(np.bincount(bin_index(p, bins), minlength=bins))
    parts = np.split(p[order], ends[:-1])
    return sum(_mean_absolute_deviation(part) for part in parts) / len(p)


def ece_decision_floor(p_correct: ArrayLike, bins: int = BINS) -> float:
    """`ece_floor` of `ece_decision`: the decision is right with probability max(p, 1 - p)."""
    p = as_probabilities(p_correct)
    return ece_floor(np.maximum(p, 1.0 - p), bins)


def _mean_absolute_deviation(p: Floats) -> float:
    """E|S - E S| for S = the sum of independent Bernoulli(p_i)."""
    q = 1.0 - p if p.sum() > len(p) / 2 else p  # |S - E S| is the same; short counts are cheaper
    q = q[q > 0.0]
    mean, variance = float(q.sum()), float((q * (1.0 - q)).sum())
    if variance >= _NORMAL_FROM:
        return math.sqrt(2.0 * variance / math.pi)
    size = min(len(q), math.ceil(mean + 12.0 * math.sqrt(variance)) + 30) + 1
    pmf = np.zeros(size)
    pmf[0] = 1.0
    for chance in q:
        more = pmf[:-1] * chance
        pmf *= 1.0 - chance
        pmf[1:] += more
    return float(pmf @ np.abs(np.arange(size) - mean))


def auroc(p_correct: ArrayLike, is_correct: ArrayLike) -> float | None:
    """Chance in [0, 1] that a correct answer has a higher p than a wrong one; 0.5 knows nothing.

    Ties count half (midranks: the Mann-Whitney statistic). None when all answers are correct or all
    are wrong.
    """
    p, y = as_sample(p_correct, is_correct)
    positives = int(y.sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    midrank = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(midrank[inverse][y].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def brier(p_correct: ArrayLike, is_correct: ArrayLike) -> float:
    """Mean of (p - label)^2, in [0, 1], 0 is best (Brier 1950, for one event)."""
    p, y = as_sample(p_correct, is_correct)
    return float(np.mean((p - y) ** 2))


def nll(p_correct: ArrayLike, is_correct: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels in nats, >= 0; p is clipped by NLL_EPS.

    A wrong answer stated with p = 1 thus costs 16.1 nats instead of infinity.
    """
    p, y = as_sample(p_correct, is_correct)
    return float(nll_terms(p, y).mean())


def nll_terms(p: Floats, y: Bools) -> Floats:
    """(n,): each question's part of `nll`, in nats."""
    clipped = np.clip(p, NLL_EPS, 1.0 - NLL_EPS)
    return -np.log(np.where(y, clipped, 1.0 - clipped))


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The risk-coverage curve: answer only the k questions with the highest p, k = 1..n."""

    coverage: Floats
    """(n,): k/n, rising to 1."""
    risk: Floats
    """(n,) in [0, 1]: the share of wrong answers among those k."""

    @property
    def accuracy(self) -> Floats:
        """(n,): 1 - risk."""
        return 1.0 - self.risk


def risk_coverage(p_correct: ArrayLike, is_correct: ArrayLike) -> RiskCoverage:
    """The risk at every coverage (Geifman and El-Yaniv 2017, section 2).

    Among equal p any order is as good; the curve is the mean over all of them, so each question of
    a tie counts as wrong to the tie's share of wrong answers.
    """
    p, y = as_sample(p_correct, is_correct)
    _, inverse, counts = np.unique(-p, return_inverse=True, return_counts=True)
    wrong = np.bincount(inverse, weights=~y) / counts
    answered = np.arange(1, len(p) + 1)
    risk = np.cumsum(np.repeat(wrong, counts)) / answered
    return RiskCoverage(answered / len(p), np.clip(risk, 0.0, 1.0))


def aurc(p_correct: ArrayLike, is_correct: ArrayLike) -> float:
    """Area under the risk-coverage curve, in [0, 1], low is best: the mean risk over k = 1..n.

    Geifman, Uziel and El-Yaniv 2019, section 2; ties as in `risk_coverage`.
    """
    return float(risk_coverage(p_correct, is_correct).risk.mean())


def selective_accuracy(p_correct: ArrayLike, is_correct: ArrayLike, coverage: float) -> float:
    """Accuracy in [0, 1] of the ceil(coverage * n) surest answers; 0 < coverage <= 1.

    Ties at the border count by the mean over their orders, as in `risk_coverage`.
    """
    if not 0.0 < coverage <= 1.0:
        raise UsageError(f"coverage is {coverage!r}; it must be above 0 and at most 1")
    accuracy = risk_coverage(p_correct, is_correct).accuracy
    # 0.07 * 100 is a little above 7 in floating point, and must still mean 7 questions.
    answered = max(1, math.ceil(coverage * len(accuracy) - 1e-9))
    return float(accuracy[answered - 1])


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One occupied bin of a reliability diagram; all but `count` are in [0, 1]."""

    lower: float
    upper: float
    count: int
    mean_p: float
    accuracy: float
    accuracy_low: float
    """Lower end of the 95% Wilson interval of the accuracy."""
    accuracy_high: float


def reliability(
    p_correct: ArrayLike, is_correct: ArrayLike, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The bins of `ece` that hold a question, lowest first; empty bins are left out."""
    p, y = as_sample(p_correct, is_correct)
    index = bin_index(p, bins)
    counts = np.bincount(index, minlength=bins)
    right = np.bincount(index, weights=y, minlength=bins)
    sums = np.bincount(index, weights=p, minlength=bins)
    occupied = [int(b) for b in np.flatnonzero(counts)]
    rows = []
    for b in occupied:
        k, n = int(right[b]), int(counts[b])
        low, high = wilson(k, n)
        mean_p = min(1.0, float(sums[b]) / n)
        rows.append(ReliabilityBin(b / bins, (b + 1) / bins, n, mean_p, k / n, low, high))
    return tuple(rows)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% score interval of a share (Wilson 1927): (low, high) in [0, 1], for n >= 1 trials."""
    if not 0 <= successes <= n or n < 1:
        raise UsageError(f"{successes} successes of {n} trials: give 0 <= successes <= n, n >= 1")
    z2 = 1.959963984540054**2
    share = successes / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2 * z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))

"""95% intervals of the metrics, by bootstrap over questions. Numpy only.

A resample draws n of the n questions with replacement; it is kept as how often each question was
drawn, so all resamples of a sample are scored at once by matrix products and running sums, never
in a Python loop.

What the intervals cover, and what else was tried: docs/decisions/0003-intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from howsure import metrics
from howsure.errors import PredictionsError, UsageError
from howsure.metrics import BINS, Bools, Floats

Metric = Literal["accuracy", "ece", "ece_decision", "auroc", "brier", "nll", "aurc"]
Counts = NDArray[np.float32]
Replicates = NDArray[np.float32]
Seed = int | Sequence[int]

RESAMPLES = 1000
_TAILS = (0.025, 0.975)
_Z = 1.959963984540054
_BLOCK = 2**19
"""Cells of counts made at a time: 2 MB, so that a block stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Ends of a 95% interval, low <= high."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Metric of a minus metric of b on the same questions, with its 95% interval."""

    value: float
    low: float
    high: float
    excluded: int
    """Groups left out because the metric (AUROC) is undefined in them."""


def value(metric: Metric, p_correct: ArrayLike, is_correct: ArrayLike) -> float | None:
    """The metric of a sample; None where it is undefined (AUROC of one class)."""
    match metric:
        case "accuracy":
            return float(metrics.as_sample(p_correct, is_correct)[1].mean())
        case "ece":
            return metrics.ece(p_correct, is_correct)
        case "ece_decision":
            return metrics.ece_decision(p_correct, is_correct)
        case "auroc":
            return metrics.auroc(p_correct, is_correct)
        case "brier":
            return metrics.brier(p_correct, is_correct)
        case "nll":
            return metrics.nll(p_correct, is_correct)
        case "aurc":
            return metrics.aurc(p_correct, is_correct)


def draw_counts(n: int, *, resamples: int, seed: Seed) -> Iterator[Counts]:
    """Blocks (n, k) of the resamples: how often each question is in each; columns sum to n.

    The k of all blocks sum to `resamples`. The same n, resamples and seed draw the same.
    """
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}; give at least 1")
    rng = np.random.default_rng(seed)
    width = max(1, _BLOCK // n)
    for start in range(0, resamples, width):
        k = min(width, resamples - start)
        drawn = rng.integers(0, n, size=(n, k)) * k + np.arange(k)
        yield np.bincount(drawn.ravel(), minlength=n * k).reshape(n, k).astype(np.float32)


def resampled(metric: Metric, p: Floats, y: Bools, counts: Counts) -> Replicates:
    """(k,): the metric of each resample of a sample that `as_sample` has checked.

    A resample with one class has no AUROC: NaN here, and `redrawn` replaces it.
    """
    match metric:
        case "accuracy":
            terms = y.astype(np.float64)
        case "brier":
            terms = (p - y) ** 2
        case "nll":
            terms = metrics.nll_terms(p, y)
        case "ece":
            return _resampled_ece(p, y, counts)
        case "ece_decision":
            return _resampled_ece(*metrics.decision(p, y), counts)
        case "auroc":
            return _resampled_auroc(p, y, counts)
        case "aurc":
            return _resampled_aurc(p, y, counts)
    means: Replicates = (terms.astype(np.float32) @ counts) / np.float32(len(p))
    return means


def _resampled_ece(p: Floats, y: Bools, counts: Counts) -> Replicates:
    n = len(p)
    gaps = np.zeros((BINS, n), np.float32)
    gaps[metrics.bin_index(p), np.arange(n)] = y - p
    values: Replicates = np.abs(gaps @ counts).sum(axis=0) / np.float32(n)
    return values


def _resampled_auroc(p: Floats, y: Bools, counts: Counts) -> Replicates:
    wrong = np.flatnonzero(~y)
    wrong = wrong[np.argsort(p[wrong], kind="stable")]
    drawn = counts[wrong]
    below = np.zeros((len(wrong) + 1, counts.shape[1]), np.float32)
    np.cumsum(drawn, axis=0, out=below[1:])
    first = np.searchsorted(p[wrong], p[y], side="left")
    last = np.searchsorted(p[wrong], p[y], side="right")
    beaten = below[first]
    if (first != last).any():  # a tie counts half
        beaten = (beaten + below[last]) * np.float32(0.5)
    right = counts[y]
    pairs = right.sum(axis=0) * below[-1]
    wins: Replicates = np.einsum("ik,ik->k", right, beaten)
    shares = np.full_like(wins, np.nan)
    np.divide(wins, pairs, out=shares, where=pairs > 0)
    return shares


def _resampled_aurc(p: Floats, y: Bools, counts: Counts) -> Replicates:
    """A question drawn c times is a tie of c: the risk within a tie moves evenly to its end."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=np.inf))
    drawn = counts[order]
    wrong = drawn * ~y[order, None]
    if len(starts) < len(p):
        drawn, wrong = (np.add.reduceat(part, starts, axis=0) for part in (drawn, wrong))
    after, wrong_after = np.cumsum(drawn, axis=0), np.cumsum(wrong, axis=0)
    share = np.divide(wrong, drawn, out=np.zeros_like(wrong), where=drawn > 0)
    # The sum over the tie's places j of (wrong before + j share) / (before + j).
    sums = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, len(p) + 1)))).astype(np.float32)
    spread = sums[after.astype(np.intp)] - sums[(after - drawn).astype(np.intp)]
    extra = (wrong_after - wrong - (after - drawn) * share) * spread
    areas: Replicates = (extra + wrong).sum(axis=0) / np.float32(len(p))
    return areas


def percentiles(replicates: Replicates) -> Interval:
    """The plain percentile interval of (R,) replicates."""
    low, high = np.quantile(np.asarray(replicates), _TAILS)
    return Interval(float(low), float(high))


def redrawn(replicates: Replicates) -> Replicates | None:
    """(R,) replicates with the undefined ones replaced by defined ones, in turn; None if none is.

    A resample that holds one class only is thus drawn again until it holds both: the bootstrap is
    over samples of n questions with both classes, the only ones in which AUROC means something.
    """
    defined = replicates[~np.isnan(replicates)]
    return np.resize(defined, replicates.shape) if len(defined) else None


def ece_interval(ece: float, replicates: Replicates) -> Interval:
    """95% interval of the ECE that such an estimator shows, on average, at this n.

    `replicates` (R,) are the ECE of the resamples. Their spread around their own mean is laid
    around the measured ECE. Binned ECE is biased upward (chance never cancels within |.|), and
    resampling adds that bias a second time, so the plain percentile interval may lie above the
    measured value; here the second helping is taken out. The first stays: the target is the mean of
    the ECE over samples of n questions, of which `ece_floor` tells how much chance alone gives.
    The ECE that infinitely many questions would show lies in [low - ece_floor, high].
    """
    low, high = np.quantile(replicates, _TAILS) - replicates.mean()
    return Interval(max(0.0, ece + min(0.0, float(low))), min(1.0, ece + max(0.0, float(high))))


def auroc_interval(
    auroc: float, replicates: Sequence[Replicates], rarer: Sequence[int]
) -> Interval | None:
    """95% interval of AUROC, or of its mean over groups of questions resampled on their own.

    For each group: the AUROC of its resamples (R,), as `redrawn` gives them, and the number of
    questions in its rarer class. The bootstrap's standard error is taken to the logit scale, where
    the distribution is nearly symmetric even close to 1, with Student's t at (rarer class - 1)
    degrees of freedom, joined over groups by Satterthwaite's formula. Percentiles alone cover 78%
    where the rarer class has six questions and AUROC is 0.95.

    At 0 or 1, where resamples don't vary, the far end is the (rarer class)-th root of 0.025: so low
    could the chance of one more separated answer be. None where the rarer class of the only group
    is a single question, which resampling can't vary.
    """
    if max(rarer) < 2:
        return None
    if auroc <= 0.0 or auroc >= 1.0:
        far = 0.025 ** (1.0 / min(rarer))
        return Interval(far, 1.0) if auroc >= 1.0 else Interval(0.0, 1.0 - far)
    variances = np.array([float(np.var(r, dtype=np.float64)) for r in replicates]) / len(rarer) ** 2
    if variances.sum() == 0.0:
        return Interval(auroc, auroc)
    freedom = np.maximum(np.asarray(rarer) - 1.0, 1.0)
    joined = float(variances.sum() ** 2 / (variances**2 / freedom).sum())
    half = student_t(joined) * math.sqrt(variances.sum()) / (auroc * (1.0 - auroc))
    middle = math.log(auroc / (1.0 - auroc))
    return Interval(min(auroc, _logistic(middle - half)), max(auroc, _logistic(middle + half)))


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(x / 2.0))  # does not overflow


def student_t(freedom: float) -> float:
    """The 0.975 quantile of Student's t, freedom >= 1 (Abramowitz and Stegun 1964, 26.7.5).

    Within 1% for freedom >= 2, 12% below the true value at 1.
    """
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


def canonical(p_correct: ArrayLike, is_correct: ArrayLike) -> tuple[Floats, Bools]:
    """The checked sample, sorted: equal samples get equal intervals in whatever order they come."""
    p, y = metrics.as_sample(p_correct, is_correct)
    order = np.lexsort((y, p))
    return p[order], y[order]


def bootstrap_interval(
    metric: Metric,
    p_correct: ArrayLike,
    is_correct: ArrayLike,
    *,
    seed: Seed,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """95% interval of a metric over questions; None where one can't be had.

    ECE of both kinds: `ece_interval`. AUROC: `auroc_interval`. The rest are means over questions,
    for which it is the plain percentile interval. One question says nothing of its spread: None.
    """
    p, y = canonical(p_correct, is_correct)
    measured = value(metric, p, y)
    if measured is None or len(p) < 2:
        return None
    blocks = draw_counts(len(p), resamples=resamples, seed=seed)
    replicates = np.concatenate([resampled(metric, p, y, counts) for counts in blocks])
    if metric in ("ece", "ece_decision"):
        return ece_interval(measured, replicates)
    if metric == "auroc":
        drawn = redrawn(replicates)
        rarer = int(min(y.sum(), (~y).sum()))
        return None if drawn is None else auroc_interval(measured, [drawn], [rarer])
    return percentiles(replicates)


def paired_difference(
    metric: Metric,
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    *,
    seed: Seed,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Metric of `a` minus metric of `b`, two samples (p_correct, is_correct) of the same questions.

    Element i of both is the same question, so each resample takes the same questions for both and
    what they share cancels. With `groups` (the subject of each question) the questions are
    resampled within each group and the difference is that of the means over groups (macro); groups
    in which either metric is undefined are left out and counted. Percentile interval; for ECE the
    replicates are centred on the measured difference, as in `ece_interval`. None when the metric is
    undefined everywhere. Positive means that `a` is higher, which is better for AUROC only.
    """
    samples = metrics.as_sample(*a), metrics.as_sample(*b)
    n = len(samples[0][0])
    labels = np.asarray(groups if groups is not None else [""] * n)
    if len(samples[1][0]) != n or len(labels) != n:
        raise PredictionsError(
            f"a has {n} questions, b {len(samples[1][0])}, groups {len(labels)}; "
            "a paired difference needs the same questions in the same order"
        )
    values, replicates = [], []
    names = np.unique(labels)
    for k, name in enumerate(names):
        pair = [(p[labels == name], y[labels == name]) for p, y in samples]
        measured = [value(metric, p, y) for p, y in pair]
        drawn = _paired_replicates(metric, pair, resamples, [*np.atleast_1d(seed), k])
        if measured[0] is None or measured[1] is None or drawn is None:
            continue
        values.append(measured[0] - measured[1])
        replicates.append(drawn)
    if not values:
        return None
    middle, spread = float(np.mean(values)), np.mean(replicates, axis=0)
    shift = middle - float(spread.mean()) if metric in ("ece", "ece_decision") else 0.0
    low, high = np.quantile(spread, _TAILS) + shift
    return Difference(middle, float(low), float(high), len(names) - len(values))


def _paired_replicates(
    metric: Metric, pair: Sequence[tuple[Floats, Bools]], resamples: int, seed: Seed
) -> Replicates | None:
    (p_a, y_a), (p_b, y_b) = pair
    blocks = draw_counts(len(p_a), resamples=resamples, seed=seed)
    return redrawn(
        np.concatenate(
            [resampled(metric, p_a, y_a, c) - resampled(metric, p_b, y_b, c) for c in blocks]
        )
    )

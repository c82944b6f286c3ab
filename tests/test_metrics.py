"""Every metric against an independent implementation, a closed form, or a sum worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relplot.metrics import binnedECE
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from howsure import metrics
from howsure.errors import PredictionsError, UsageError

PROBABILITY = st.one_of(
    st.floats(0.0, 1.0),
    st.integers(0, 20).map(lambda k: k / 20),  # ties, and the edges of the bins
)
SAMPLE = st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=1, max_size=60)
OFF_EDGES = st.lists(
    st.tuples(st.integers(0, 999).map(lambda k: (k + 0.37) / 1000), st.booleans()),
    min_size=1,
    max_size=60,
)


def arrays(sample: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p for p, _ in sample]), np.array([y for _, y in sample])


def all_metrics(p: np.ndarray, y: np.ndarray) -> list[float | None]:
    return [
        metrics.ece(p, y),
        metrics.ece_decision(p, y),
        metrics.ece_floor(p),
        metrics.auroc(p, y),
        metrics.brier(p, y),
        metrics.nll(p, y),
        metrics.aurc(p, y),
        metrics.selective_accuracy(p, y, 0.6),
    ]


@settings(max_examples=500, deadline=None)
@given(SAMPLE)
def test_auroc_brier_and_nll_agree_with_scikit_learn(sample: list[tuple[float, bool]]) -> None:
    p, y = arrays(sample)
    clipped = np.clip(p, metrics.NLL_EPS, 1 - metrics.NLL_EPS)
    assert metrics.nll(p, y) == pytest.approx(log_loss(y, clipped, labels=[False, True]), rel=1e-9)
    assert metrics.brier(p, y) == pytest.approx(
        brier_score_loss(y, p, labels=[False, True], pos_label=True), abs=1e-12
    )
    if y.all() or not y.any():
        assert metrics.auroc(p, y) is None
    else:
        assert metrics.auroc(p, y) == pytest.approx(roc_auc_score(y, p), abs=1e-12)


@settings(max_examples=600, deadline=None)
@given(OFF_EDGES, st.integers(1, 20))
def test_ece_agrees_with_relplot(sample: list[tuple[float, bool]], bins: int) -> None:
    """relplot keeps 1.0 in a bin of its own and rounds at edges, so both are left out here."""
    p, y = arrays(sample)
    edges = np.arange(bins + 1) / bins
    p = p[np.abs(p[:, None] - edges).min(axis=1) > 1e-9]
    y = y[: len(p)]
    if len(p):
        assert metrics.ece(p, y, bins) == pytest.approx(binnedECE(p, y, bins), abs=1e-12)


def naive_ece(confidence: list[float], right: list[bool], bins: int = 10) -> float:
    """Straight from the definition, one bin after the other."""
    total = 0.0
    for b in range(bins):
        lower, upper, last = b / bins, (b + 1) / bins, b == bins - 1
        inside = [
            i for i, c in enumerate(confidence) if lower <= c and (c < upper or (last and c <= 1.0))
        ]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@settings(max_examples=600, deadline=None)
@given(SAMPLE, st.integers(1, 15))
def test_both_eces_follow_their_definitions(sample: list[tuple[float, bool]], bins: int) -> None:
    p, y = arrays(sample)
    assert metrics.ece(p, y, bins) == pytest.approx(naive_ece(list(p), list(y), bins), abs=1e-12)
    confidence = [x if x >= 0.5 else 1 - x for x in p]
    right = [bool(label) if x >= 0.5 else not label for x, label in zip(p, y, strict=True)]
    assert metrics.ece_decision(p, y, bins) == pytest.approx(
        naive_ece(confidence, right, bins), abs=1e-12
    )


@settings(max_examples=400, deadline=None)
@given(SAMPLE, st.randoms(use_true_random=False))
def test_metrics_are_bounded_and_ignore_the_order(
    sample: list[tuple[float, bool]], random: object
) -> None:
    p, y = arrays(sample)
    values = all_metrics(p, y)
    for k, value in enumerate(values):
        top = 16.2 if k == 5 else 1.0
        assert value is None or 0.0 <= value <= top
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for before, after in zip(values, all_metrics(p[order], y[order]), strict=True):
        assert before == pytest.approx(after, abs=1e-12)


@settings(max_examples=400, deadline=None)
@given(SAMPLE, st.sampled_from([0.25, 0.5, 2.0, 3.0]))
def test_a_monotone_transform_leaves_auroc_and_aurc(
    sample: list[tuple[float, bool]], temperature: float
) -> None:
    p, y = arrays(sample)
    p = np.round(p, 3)  # otherwise rounding of the transform may create ties
    scaled = p**temperature / (p**temperature + (1 - p) ** temperature)
    assert metrics.auroc(scaled, y) == metrics.auroc(p, y)
    assert metrics.aurc(scaled, y) == metrics.aurc(p, y)


def test_ece_by_hand() -> None:
    # Bin 1 holds two of 0.15, one right: |1 - 0.30|; bin 9 holds 0.95 and 1.0, one right: |1-1.95|.
    p, y = [0.15, 0.15, 0.95, 1.0], [False, True, True, False]
    assert metrics.ece(p, y) == pytest.approx((0.70 + 0.95) / 4)
    # In the decision kind 0.2 and 0.8 share a bin, and one error hides the other: |1 - 1.6| / 2.
    assert metrics.ece([0.2, 0.8], [True, True]) == pytest.approx((0.8 + 0.2) / 2)
    assert metrics.ece_decision([0.2, 0.8], [True, True]) == pytest.approx(0.3)


def test_one_half_decides_for_correct_and_one_is_in_the_last_bin() -> None:
    confidence, right = metrics.decision([0.5, 0.5, 0.3, 1.0], [True, False, False, True])
    assert confidence.tolist() == [0.5, 0.5, 0.7, 1.0]
    assert right.tolist() == [True, False, True, True]
    p = np.array([0.0, 0.1, 0.3, np.nextafter(0.3, 0), 0.7, 0.9, 1.0])
    assert metrics.bin_index(p).tolist() == [0, 1, 3, 2, 7, 9, 9]
    assert metrics.ece([1.0], [False]) == 1.0  # a definition that drops 1.0 says 0
    assert metrics.ece_decision([1.0], [False]) == 1.0


def test_closed_forms() -> None:
    n = 1000
    p, y = np.full(n, 0.65), np.arange(n) < 400
    assert metrics.ece(p, y) == pytest.approx(0.25)
    assert metrics.ece_decision(p, y) == pytest.approx(0.25)
    assert metrics.auroc(p, y) == 0.5
    assert metrics.aurc(p, y) == pytest.approx(0.6)
    assert metrics.brier(p, y) == pytest.approx(0.4 * 0.35**2 + 0.6 * 0.65**2)
    assert metrics.nll(p, y) == pytest.approx(-0.4 * math.log(0.65) - 0.6 * math.log(0.35))
    # Perfectly calibrated: in bin b, p = (b + 0.5)/10 and that share is correct.
    centres = (np.arange(10) + 0.5) / 10
    p = np.repeat(centres, 20)
    y = np.concatenate([np.arange(20) < round(20 * c) for c in centres])
    assert metrics.ece(p, y) == pytest.approx(0.0, abs=1e-12)
    # Perfectly sharp and right.
    y = np.arange(10) < 3
    assert all_metrics(y.astype(float), y)[:3] == [0.0, 0.0, 0.0]
    assert metrics.auroc(y.astype(float), y) == 1.0
    assert metrics.nll(1.0 - y, y) == pytest.approx(-math.log(1e-7))


def test_auroc_of_two_normals() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(200_000) < 0.3
    score = rng.normal(size=len(y)) + y
    p = 1 / (1 + np.exp(-score))
    assert metrics.auroc(p, y) == pytest.approx(0.7602, abs=0.004)  # Phi(1 / sqrt 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_risk_coverage_is_the_mean_over_orders_of_ties(sample: list[tuple[float, bool]]) -> None:
    p, y = arrays(sample)
    n, curves = len(p), []
    for order in itertools.permutations(range(n)):
        if all(p[a] >= p[b] for a, b in itertools.pairwise(order)):
            curves.append(np.cumsum(~y[list(order)]) / np.arange(1, n + 1))
    mean = np.mean(curves, axis=0)
    assert metrics.risk_coverage(p, y).risk == pytest.approx(mean)
    assert metrics.aurc(p, y) == pytest.approx(mean.mean())
    for k in range(1, n + 1):
        assert metrics.selective_accuracy(p, y, k / n) == pytest.approx(1 - mean[k - 1])


def test_aurc_and_selective_accuracy_by_hand() -> None:
    p, y = [0.7, 0.9, 0.8], [True, True, False]
    curve = metrics.risk_coverage(p, y)
    assert curve.coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3])
    assert curve.accuracy == pytest.approx([1, 1 / 2, 2 / 3])
    assert metrics.aurc(p, y) == pytest.approx(5 / 18)
    assert metrics.selective_accuracy(p, y, 0.01) == 1.0
    assert metrics.selective_accuracy(p, y, 0.34) == 0.5
    hundred = np.arange(100) / 100
    assert metrics.selective_accuracy(hundred, hundred >= 0.93, 0.07) == 1.0  # seven, not eight


def test_the_floor_of_one_p_is_the_binomial_mean_deviation() -> None:
    """De Moivre: E|S - nq| = 2 v C(n, v) q^v (1-q)^(n-v+1), v = floor(nq) + 1."""
    for n, q in [(1, 0.5), (7, 0.23), (30, 0.61), (90, 0.05), (150, 0.97), (40, 0.999)]:
        v = math.floor(n * q) + 1
        exact = 2 * v * math.comb(n, v) * q**v * (1 - q) ** (n - v + 1)
        assert metrics.ece_floor([q] * n) == pytest.approx(exact / n, rel=1e-9)
    for n, q in [(150, 0.31), (1000, 0.04), (4000, 0.5)]:  # by the normal limit
        v = math.floor(n * q) + 1
        log = math.lgamma(n + 1) - math.lgamma(v + 1) - math.lgamma(n - v + 1)
        exact = 2 * v * math.exp(log + v * math.log(q) + (n - v + 1) * math.log(1 - q))
        assert metrics.ece_floor([q] * n) == pytest.approx(exact / n, rel=5e-3)


@settings(max_examples=100, deadline=None)
@given(st.lists(PROBABILITY, min_size=1, max_size=9))
def test_the_floor_is_the_mean_ece_over_all_labellings(p: list[float]) -> None:
    expected = expected_decision = 0.0
    for labels in itertools.product([False, True], repeat=len(p)):
        chance = math.prod(x if y else 1 - x for x, y in zip(p, labels, strict=True))
        expected += chance * metrics.ece(p, labels)
    for labels in itertools.product([False, True], repeat=len(p)):
        chance = math.prod(x if y else 1 - x for x, y in zip(p, labels, strict=True))
        expected_decision += chance * metrics.ece_decision(p, labels)
    assert metrics.ece_floor(p) == pytest.approx(expected, abs=1e-9)
    assert metrics.ece_decision_floor(p) == pytest.approx(expected_decision, abs=1e-9)


def test_the_floor_by_redrawing_labels() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(2, 1, 400)
    redrawn = [metrics.ece(p, rng.random(400) < p) for _ in range(2000)]
    assert metrics.ece_floor(p) == pytest.approx(np.mean(redrawn), abs=3e-4 * 3)
    assert metrics.ece_floor(rng.random(100)) == pytest.approx(0.1, abs=0.02)


@settings(max_examples=300, deadline=None)
@given(SAMPLE)
def test_reliability_bins_add_up_to_the_ece(sample: list[tuple[float, bool]]) -> None:
    p, y = arrays(sample)
    rows = metrics.reliability(p, y)
    assert sum(row.count for row in rows) == len(p)
    gaps = [row.count * abs(row.accuracy - row.mean_p) for row in rows]
    assert sum(gaps) / len(p) == pytest.approx(metrics.ece(p, y), abs=1e-12)
    for row in rows:
        assert row.lower - 1e-12 <= row.mean_p <= row.upper + 1e-12
        assert 0 <= row.accuracy_low <= row.accuracy <= row.accuracy_high <= 1


def test_wilson_by_hand() -> None:
    # 0 of 10: (0, z^2 / (10 + z^2)), z = 1.96; 8 of 10: the value given by Brown et al. (2001).
    assert metrics.wilson(0, 10) == pytest.approx((0.0, 3.8415 / 13.8415), abs=1e-4)
    assert metrics.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    with pytest.raises(UsageError):
        metrics.wilson(3, 2)


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([], [], "at least one question"),
        ([[0.5]], [[True]], "one dimension"),
        ([0.5, 0.5], [True], "one label per p"),
        ([0.5, math.nan], [True, False], r"p_correct\[1\]"),
        ([1.1], [True], "probability in"),
        ([-0.1], [True], "probability in"),
        ([0.5], [2], "true/false"),
        ([0.5], [math.nan], "true/false"),
    ],
)
def test_what_is_no_sample_is_refused(p: list, y: list, message: str) -> None:
    for metric in (metrics.ece, metrics.ece_decision, metrics.auroc, metrics.brier, metrics.nll):
        with pytest.raises(PredictionsError, match=message):
            metric(p, y)
    for metric in (metrics.aurc, metrics.risk_coverage, metrics.reliability):
        with pytest.raises(PredictionsError, match=message):
            metric(p, y)


def test_other_bad_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="bins is 0"):
        metrics.ece([0.5], [True], bins=0)
    for coverage in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError, match="coverage"):
            metrics.selective_accuracy([0.5], [True], coverage)
    with pytest.raises(PredictionsError):
        metrics.ece_floor([])


def test_labels_may_be_zeros_and_ones() -> None:
    assert all_metrics(np.array([0.2, 0.9]), np.array([0, 1])) == all_metrics(
        np.array([0.2, 0.9]), np.array([False, True])
    )

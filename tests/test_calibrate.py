"""Calibration: optimal where it should be, monotone, in range, against independent oracles."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from howsure import metrics
from howsure.calibrate import (
    CALIBRATIONS,
    MAX_TEMPERATURE,
    Calibrated,
    Identity,
    Isotonic,
    Platt,
    Temperature,
    fit_calibrator,
    from_json,
    to_json,
)
from howsure.errors import BundleError, FitError, PredictionsError, UnknownName
from howsure.types import Answer

KINDS = [kind for kind in CALIBRATIONS if kind != "none"]

probabilities = st.integers(0, 1000).map(lambda i: i / 1000)


@st.composite
def samples(draw, least=2):
    """(p, y) with both classes; p on a grid of thousandths, 0 and 1 included."""
    n = draw(st.integers(least, 60))
    p = np.array(draw(st.lists(probabilities, min_size=n, max_size=n)))
    y = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assume(0 < y.sum() < n)
    return p, y


def logit(p):
    return np.log(p) - np.log1p(-p)


def nll(p, y):
    return float(-np.log(np.where(y, p, 1 - p)).mean())


@pytest.mark.parametrize("kind", KINDS)
@given(sample=samples(), other=st.lists(probabilities, min_size=1, max_size=30))
@settings(deadline=None)
def test_in_range_and_non_decreasing_also_on_unseen_values(kind, sample, other):
    calibrator = fit_calibrator(kind, *sample)
    q = calibrator(np.sort(other))
    assert q.dtype == np.float64 and q.shape == (len(other),)
    assert ((q >= 0) & (q <= 1)).all()
    assert (np.diff(q) >= 0).all()


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@given(sample=samples())
@settings(deadline=None)
def test_strictly_monotone_ones_leave_auroc_unchanged(kind, sample):
    p, y = sample
    assert metrics.auroc(fit_calibrator(kind, p, y)(p), y) == metrics.auroc(p, y)


@pytest.mark.parametrize("kind", KINDS)
@given(sample=samples())
@settings(deadline=None)
def test_through_json_and_back(kind, sample):
    calibrator = fit_calibrator(kind, *sample)
    assert from_json(json.loads(json.dumps(to_json(calibrator)))) == calibrator


@given(sample=samples())
@settings(deadline=None, max_examples=200)
def test_no_temperature_does_better(sample):
    """Oracle: scipy's bounded scalar minimiser over 1/T."""
    p, y = sample
    p = p.clip(0.001, 0.999)
    fitted = fit_calibrator("temperature", p, y)
    assert isinstance(fitted, Temperature)
    lowest = np.abs(logit(p)).max() / 30

    def loss(beta):
        z = beta * logit(p)
        return float((np.logaddexp(0, z) - y * z).mean())

    best = minimize_scalar(
        loss, bounds=(1 / MAX_TEMPERATURE, 1 / max(lowest, 1e-9)), method="bounded"
    )
    assert loss(1 / fitted.temperature) <= best.fun + 1e-9


def test_temperature_recovers_the_one_that_made_the_labels():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, 200_000)
    y = rng.random(len(z)) < 1 / (1 + np.exp(-z / 2.5))
    fitted = fit_calibrator("temperature", 1 / (1 + np.exp(-z)), y)
    assert fitted == Temperature(pytest.approx(2.5, rel=0.02))


def test_temperature_by_hand():
    """p = 0.9 four times, three of them right: 0.75 at the optimum, T = ln 9 / ln 3 = 2."""
    p, y = [0.9, 0.9, 0.9, 0.9, 0.5], [True, True, True, False, False]
    fitted = fit_calibrator("temperature", p, y)
    assert fitted == Temperature(pytest.approx(2.0, rel=1e-9))
    np.testing.assert_allclose(fitted([0.9, 0.5, 0.1]), [0.75, 0.5, 0.25])


def test_temperature_at_its_ends():
    worse_than_chance = fit_calibrator("temperature", [0.9, 0.1], [False, True])
    assert worse_than_chance == Temperature(MAX_TEMPERATURE)
    separable = fit_calibrator("temperature", [0.6, 0.4], [True, False])
    assert isinstance(separable, Temperature) and 0 < separable.temperature < 0.1
    assert fit_calibrator("temperature", [0.5, 0.5], [True, False]) == Temperature(1.0)
    extreme = fit_calibrator("temperature", [1.0, 1.0, 0.0], [True, False, True])
    assert np.isfinite(extreme([0.0, 0.5, 1.0])).all()


@given(sample=samples(least=5))
@settings(deadline=None, max_examples=40)
def test_platt_is_the_logistic_regression_on_smoothed_targets(sample):
    """Oracle: scikit-learn's logistic regression with each answer as two weighted ones."""
    p, y = sample
    p = p.clip(0.01, 0.99)
    assume(np.ptp(p) > 0.05)
    fitted = fit_calibrator("platt", p, y)
    assert isinstance(fitted, Platt)
    assume(fitted.slope > 0.02)
    z, right, n = logit(p), int(y.sum()), len(y)
    target = np.where(y, (right + 1) / (right + 2), 1 / (n - right + 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = LogisticRegression(C=1e8, tol=1e-9, solver="newton-cholesky").fit(
            np.r_[z, z][:, None], np.r_[np.ones(n), np.zeros(n)], np.r_[target, 1 - target]
        )
    np.testing.assert_allclose(
        fitted(p), oracle.predict_proba(z[:, None])[:, 1], rtol=1e-3, atol=1e-4
    )


def test_platt_does_not_turn_an_estimator_round():
    p, y = np.linspace(0.05, 0.95, 40), np.linspace(0.05, 0.95, 40) < 0.5
    fitted = fit_calibrator("platt", p, y)
    assert isinstance(fitted, Platt) and fitted.slope == 0.01
    assert np.ptp(fitted(p)) < 0.05 and fitted(p).mean() == pytest.approx(0.5, abs=0.01)


def test_platt_of_one_value_finds_its_level():
    fitted = fit_calibrator("platt", [0.9] * 8, [True] * 4 + [False] * 4)
    assert fitted([0.9]) == pytest.approx([0.5])


@given(sample=samples())
@settings(deadline=None, max_examples=200)
def test_isotonic_is_scikit_learns(sample):
    p, y = sample
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
    at = np.linspace(0, 1, 101)
    np.testing.assert_allclose(fit_calibrator("isotonic", p, y)(at), oracle.predict(at), atol=1e-9)


def test_isotonic_by_hand():
    """0.2 and 0.4 fall (1 then 0): they pool to 0.5; 0.8 stays at 1."""
    fitted = fit_calibrator("isotonic", [0.2, 0.4, 0.8], [True, False, True])
    assert fitted == Isotonic((0.2, 0.4, 0.8), (0.5, 0.5, 1.0))
    np.testing.assert_allclose(fitted([0.0, 0.6, 1.0]), [0.5, 0.75, 1.0])


@given(sample=samples(least=20))
@settings(deadline=None)
def test_fitting_does_not_raise_the_loss_it_minimises(sample):
    p, y = sample
    p = p.clip(0.01, 0.99)
    q = fit_calibrator("temperature", p, y)(p)
    # T = 1 is within the bounds unless every logit is huge, which this grid excludes.
    assert nll(q, y) <= nll(p, y) + 1e-9


def test_none_changes_nothing_and_needs_no_answers():
    assert fit_calibrator("none", [], []) == Identity()
    np.testing.assert_array_equal(Identity()([0.0, 0.3, 1.0]), [0.0, 0.3, 1.0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("p", "y", "words"),
    [
        ([0.2, 0.7], [True, True], "all 2 validation answers are right"),
        ([0.2, 0.7, 0.7], [False] * 3, "all 3 validation answers are wrong"),
        ([], [], "there are no validation answers"),
    ],
)
def test_one_class_is_refused_in_one_line(kind, p, y, words):
    with pytest.raises(FitError, match=words) as caught:
        fit_calibrator(kind, p, y)
    assert "--calibrate none" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_input():
    with pytest.raises(UnknownName, match="did you mean 'temperature'"):
        fit_calibrator("temprature", [0.5], [True])
    with pytest.raises(PredictionsError, match="not in"):
        fit_calibrator("platt", [0.5, 1.5], [True, False])
    with pytest.raises(PredictionsError, match="not in"):
        Temperature(2.0)([float("nan")])
    with pytest.raises(PredictionsError, match="2 probabilities, but 1 labels"):
        fit_calibrator("platt", [0.5, 0.4], [True])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "magic"},
        {"kind": "temperature"},
        {"kind": "temperature", "temperature": "hot"},
        {"kind": "platt", "slope": 1.0, "intercept": 0.0, "extra": 1},
        {"kind": "temperature", "temperature": -1.0},
        {"kind": "temperature", "temperature": float("nan")},
        {"kind": "isotonic", "p": [], "value": []},
        {"kind": "isotonic", "p": [0.1, 0.9], "value": [0.9, 0.1]},
    ],
)
def test_a_broken_description_is_refused(data):
    with pytest.raises(BundleError):
        from_json(data)


def test_calibrated_composes_and_each_answer_stands_alone():
    class Lengths:
        def p_correct(self, answers):
            return np.array([min(1.0, len(a.text) / 10) for a in answers])

    answers = [
        Answer(str(i), "s", "Question: q\nAnswer:", "x" * i, "m", "open") for i in range(1, 8)
    ]
    estimator = Calibrated(Lengths(), Temperature(3.0))
    together = estimator.p_correct(answers)
    alone = np.concatenate([estimator.p_correct([a]) for a in answers])
    np.testing.assert_array_equal(together, alone)
    assert together[0] == pytest.approx(1 / (1 + 9 ** (1 / 3)))
    assert estimator.p_correct([]).shape == (0,)

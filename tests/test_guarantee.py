"""What thresholds promise: exact bounds, and simulations in which the promise must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from howsure.choose.bounds import accuracy_bound, allowed_errors, count_for_coverage
from howsure.choose.guarantee import certified, on_average, promised, questions_needed

RNG = np.random.default_rng


class Population:
    """Questions whose p and chance of being right are known, so that every threshold's worth is."""

    def __init__(self, p, right):
        order = np.argsort(-p, kind="stable")
        self.p, self.right = p[order], right[order]
        self.accuracies = np.cumsum(self.right) / np.arange(1, len(p) + 1)

    def draw(self, rng, n):
        i = rng.integers(len(self.p), size=n)
        return self.p[i], rng.random(n) < self.right[i]

    def count(self, threshold):
        """How many of all are let through from there on."""
        return int(np.searchsorted(-self.p, -threshold, side="right"))

    def coverage(self, threshold):
        return self.count(threshold) / len(self.p)

    def accuracy(self, threshold):
        count = self.count(threshold)
        return float(self.accuracies[count - 1]) if count else 1.0

    def best_coverage(self, target):
        """Of the threshold that would be picked by whoever knows all of them."""
        ends = np.append(np.diff(self.p) != 0, True)
        kept = np.flatnonzero((self.accuracies >= target) & ends)
        return (kept[-1] + 1) / len(self.p) if len(kept) else 0.0


def calibrated(a=0.5, b=0.5):
    p = RNG(5).beta(a, b, 200_000)
    return Population(p, p)


def overconfident_at_the_top():
    """The surest are wrong more often than the next: accuracy rises with coverage, then falls."""
    p = RNG(6).random(200_000)
    return Population(p, np.where(p > 0.93, 0.86, np.where(p > 0.5, 0.97, 0.55)))


def verbal():
    """Six values, as people and chat models state them."""
    p = RNG(7).choice(
        [0.5, 0.7, 0.8, 0.9, 0.95, 1.0], size=200_000, p=[0.1, 0.1, 0.2, 0.3, 0.2, 0.1]
    )
    return Population(p, np.interp(p, [0.5, 1.0], [0.5, 0.97]))


def worthless():
    """p says nothing: at no threshold is the target met, or at every one."""
    return Population(RNG(8).random(200_000), np.full(200_000, 0.88))


POPULATIONS = {
    "calibrated": calibrated(),
    "overconfident at the top": overconfident_at_the_top(),
    "verbal": verbal(),
    "worthless": worthless(),
}


def outcomes(population, *, draws, n, target, alpha, find=certified):
    """(share of draws whose threshold misses the target, mean coverage)."""
    rng, missed, covered = RNG(1), 0, 0.0
    for _ in range(draws):
        found = find(*population.draw(rng, n), target=target, alpha=alpha)
        if found is not None:
            missed += population.accuracy(found.value) < target
            covered += population.coverage(found.value)
    return missed / draws, covered / draws


def at_most(rate, alpha, draws):
    """Whether a rate of failures is within chance (4 standard errors) of being alpha or less."""
    return rate <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / draws)


# bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "risk", "alpha"),
    [(1500, 0.1, 0.1), (1500, 0.02, 0.05), (300, 0.4, 0.01), (1500, 0.9, 0.1), (40, 0.001, 0.1)],
)
def test_allowed_errors_are_scipys(n, risk, alpha):
    answers = np.arange(1, n + 1)
    k = stats.binom.ppf(alpha, answers, risk)
    k = np.where(stats.binom.cdf(k, answers, risk) <= alpha, k, k - 1)
    assert (allowed_errors(n, risk, alpha)[1:] == k).all()


@given(st.integers(1, 400), st.data())
def test_accuracy_bounds_are_those_of_clopper_and_pearson(n, data):
    wrong = data.draw(st.integers(0, n))
    alpha = data.draw(st.sampled_from([0.01, 0.1, 0.5]))
    expected = 1.0 - stats.beta.ppf(1 - alpha, wrong + 1, n - wrong) if wrong < n else 0.0
    assert accuracy_bound(wrong, n, alpha) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 300), st.sampled_from([0.05, 0.5, 0.9]), st.sampled_from([0.01, 0.1]))
def test_the_count_that_proves_a_coverage(n, coverage, alpha):
    count = count_for_coverage(n, coverage, alpha)
    if count is None:
        assert stats.binom.sf(n - 1, n, coverage) > alpha
    else:
        assert stats.binom.sf(count - 1, n, coverage) <= alpha
        assert count == 1 or stats.binom.sf(count - 2, n, coverage) > alpha
    assert count_for_coverage(n, 1.0, alpha) is None


# certified --------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([None, 0.1, 0.5]))
def test_the_sequence_written_out(seed, n, grid):
    """Distinct p: threshold after threshold, scipy's binomial test each, until one fails."""
    rng = RNG(seed)
    p, target, alpha = rng.permutation(np.linspace(0.001, 0.999, n)), 0.8, 0.1
    y = rng.random(n) < p**0.2
    if grid is not None:  # with ties only their ends can come out
        p = np.ceil(p / grid) * grid
        found = certified(p, y, target=target, alpha=alpha)
        assert found is None or found.coverage == pytest.approx(np.mean(p >= found.value))
        assert found is None or found.accuracy == pytest.approx(np.mean(y[p >= found.value]))
        return
    order, last = np.argsort(-p), None
    for count in range(max(1, int(np.ceil(0.1 * n - 1e-9))), n + 1):
        if 0.8**count > alpha:
            continue  # not even without a wrong one
        wrong = int((~y[order[:count]]).sum())
        if stats.binom.cdf(wrong, count, 1 - target) > alpha:
            break
        last = count
    found = certified(p, y, target=target, alpha=alpha)
    assert (None if found is None else round(found.coverage * n)) == last


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_promise_of_accuracy_holds(name):
    rate, _ = outcomes(POPULATIONS[name], draws=1500, n=300, target=0.9, alpha=0.1)
    assert at_most(rate, 0.1, 1500)


def test_the_simulation_sees_a_promise_that_is_not_kept():
    """The lowest threshold that looks right misses the target half of the time."""

    def naive(p, y, *, target, alpha):
        return on_average(p, y, target=target)

    rate, _ = outcomes(
        POPULATIONS["calibrated"], draws=300, n=300, target=0.9, alpha=0.1, find=naive
    )
    assert not at_most(rate, 0.1, 300) and 0.3 < rate < 0.6


def test_nothing_depends_on_the_order_of_the_rows():
    p, y = POPULATIONS["verbal"].draw(RNG(0), 500)
    turned = RNG(1).permutation(500)
    for find in (certified, on_average):
        level = {} if find is on_average else {"alpha": 0.1}
        assert find(p, y, target=0.8, **level) == find(p[turned], y[turned], target=0.8, **level)


def test_answers_without_a_confidence_are_never_let_through():
    p, y = POPULATIONS["calibrated"].draw(RNG(0), 1000)
    p[:500] = -np.inf
    found = certified(p, y, target=0.6, alpha=0.1)
    assert found.coverage <= 0.5 and np.isfinite(found.value)
    assert certified(np.full(100, -np.inf), np.ones(100, bool), target=0.6, alpha=0.1) is None


def test_an_easy_target_lets_everything_through():
    p, y = POPULATIONS["calibrated"].draw(RNG(0), 500)
    assert certified(p, y, target=0.3, alpha=0.1).coverage == 1.0


# coverage, and both -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize(("target", "coverage"), [(None, 0.4), (0.88, 0.2)])
def test_promises_of_coverage_hold(name, target, coverage):
    population, rng, broken, draws = POPULATIONS[name], RNG(2), 0, 600
    for _ in range(draws):
        p, y = population.draw(rng, 300)
        found = promised(p, y, target=target, coverage=coverage, alpha=0.1)
        if found is not None:
            assert found.least_coverage == coverage
            assert target is None or found.least_accuracy == target
            broken += (
                population.coverage(found.value) < coverage
                or population.accuracy(found.value) < found.least_accuracy
            )
    assert at_most(broken / draws, 0.1, draws)


def test_all_of_it():
    y = np.arange(200) % 10 > 0
    p = np.linspace(0.1, 0.9, 200)
    found = promised(p, y, target=None, coverage=1.0, alpha=0.05)
    assert (found.value, found.coverage, found.least_coverage) == (0.0, 1.0, 1.0)
    assert found.least_accuracy == pytest.approx(1 - stats.beta.ppf(0.95, 21, 180))
    assert promised(p, y, target=0.85, coverage=1.0, alpha=0.05).least_accuracy == 0.85
    assert promised(p, y, target=0.9, coverage=1.0, alpha=0.05) is None
    p[3] = -np.inf
    assert promised(p, y, target=None, coverage=1.0, alpha=0.05) is None
    assert promised(p[:5], y[:5], target=None, coverage=0.9, alpha=0.05) is None


# on average, and how many -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calibrated", "overconfident at the top"])
def test_on_average_the_target_is_met_and_nothing_is_given_away(name):
    population, rng, target = POPULATIONS[name], RNG(3), 0.9
    right, let = [], []
    for _ in range(400):
        found = on_average(*population.draw(rng, 2000), target=target)
        right.append(population.accuracy(found.value))
        let.append(population.coverage(found.value))
    assert np.mean(right) == pytest.approx(target, abs=0.004)
    assert np.mean(let) == pytest.approx(population.best_coverage(target), abs=0.02)


def test_the_questions_needed_are_enough_four_times_of_five():
    population = POPULATIONS["calibrated"]
    needed = [
        questions_needed(*population.draw(RNG(seed), 200), target=0.95, alpha=0.05)
        for seed in range(20)
    ]
    middle = int(np.median([n for n in needed if n is not None]))
    found = [
        certified(*population.draw(RNG(seed), middle), target=0.95, alpha=0.05) is not None
        for seed in range(200)
    ]
    assert 0.5 < np.mean(found) <= 1.0


def test_no_number_of_questions_helps_what_knows_nothing():
    p, y = RNG(0).random(2000), RNG(1).random(2000) < 0.5
    assert questions_needed(p, y, target=0.9, alpha=0.1) is None


# the heavy form ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("target", [0.8, 0.9])
def test_ten_thousand_draws_of_two_thousand(name, target):
    population, draws = POPULATIONS[name], 10_000
    rate, _ = outcomes(population, draws=draws, n=2000, target=target, alpha=0.1)
    assert at_most(rate, 0.1, draws)


def best_by_hindsight(p, y, *, target, alpha):
    """The lowest threshold that passes the same test alone, as if it had been fixed beforehand."""
    order = np.argsort(-p)
    allowed = allowed_errors(len(p), 1.0 - target, alpha)[1:]
    passed = np.flatnonzero(np.cumsum(~y[order]) <= allowed)
    return None if not len(passed) else type("Found", (), {"value": p[order[passed[-1]]]})


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.7, 0.3), (1.0, 1.0)])
def test_the_sequence_costs_next_to_nothing_beside_hindsight(a, b):
    population, how = calibrated(a, b), {"draws": 2000, "n": 2000, "target": 0.8, "alpha": 0.1}
    _, ours = outcomes(population, **how)
    _, hindsight = outcomes(population, **how, find=best_by_hindsight)
    assert abs(hindsight - ours) < 0.02


def test_picking_with_hindsight_breaks_the_promise_where_p_knows_nothing():
    nearly = Population(RNG(8).random(200_000), np.full(200_000, 0.895))
    how = {"draws": 300, "n": 1000, "target": 0.9, "alpha": 0.1}
    assert at_most(outcomes(nearly, **how)[0], 0.1, 300)
    assert not at_most(outcomes(nearly, **how, find=best_by_hindsight)[0], 0.1, 300)

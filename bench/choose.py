"""What the promises of `howsure choose` cost, and how often they are broken, in simulation.

    python bench/choose.py [--draws 10000]

Calibrated p of a Beta distribution: every threshold's accuracy and coverage over all questions is
known. Each draw is a sample of n questions, from which a threshold is made in three ways:

promised     the sequence of tests, as `howsure choose` recommends it
hindsight    the lowest threshold that passes the same test alone, picked after the fact
on average   the lowest threshold that keeps the target in the sample, one wrong answer added

Beside them `best`, the coverage of the lowest threshold that is good, which only infinitely many
questions would show, and `limit`, above which no way of picking a threshold gets on average,
however clever, if it promises the same of every population.

Prints a table, and its figures as one JSON object in the last line.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from howsure.choose.bounds import allowed_errors
from howsure.choose.guarantee import certified, on_average
from howsure.metrics import Bools, Floats

SHAPES = ((1.0, 1.0), (2.0, 1.0), (0.5, 0.5), (0.7, 0.3), (0.3, 0.3))
_WIDE = 2**15
"""Steps of a hundredth of the ratio's range; far more than the sum of 2,000 varies by."""


def hindsight(p: Floats, y: Bools, *, target: float, alpha: float) -> float | None:
    """The lowest threshold that passes alone; None if none does."""
    order = np.argsort(-p)
    passed = np.cumsum(~y[order]) <= allowed_errors(len(p), 1.0 - target, alpha)[1:]
    return float(p[order[np.flatnonzero(passed)[-1]]]) if passed.any() else None


def limit(p: Floats, *, target: float, n: int, alpha: float, best: int) -> float:
    """The most coverage, up to the best, that a promise can let through on average.

    `p` is the population by falling p, of which the first `best` have the target's accuracy. For
    any c below that, from where p itself is below the target, there is a population with the same p
    in which the first c have that accuracy and further ones have less: there a promise may let more
    than c through with probability alpha at most. So here it does so no more often than the best
    test of that population against this one says "this one" (Neyman and Pearson). The mean of
    min(coverage, best) is the integral over c of how often it is above c.
    """
    logit = np.log(p) - np.log1p(-p)
    shares = np.linspace(np.mean(p >= target), best / len(p), 100)
    power = []
    for share in shares:
        odds = logit[: int(share * len(p))]
        low, high = 0.0, 60.0
        for _ in range(60):  # the nearest such population: all odds changed by the same factor
            shift = (low + high) / 2
            there = 1.0 / (1.0 + np.exp(shift - odds))
            low, high = (shift, high) if there.mean() > target else (low, shift)
        wrong = np.log1p(np.expm1(-shift) * p[: len(odds)])  # the log ratio of a wrong answer
        ratios = np.concatenate([wrong + shift, wrong])  # of a right one, of a wrong one
        step = shift / 100
        here, other = (
            _sum_of(ratios, np.concatenate([right, 1.0 - right]) / len(p), n, step)
            for right in (p[: len(odds)], there)
        )
        kept = np.cumsum(other[::-1])[::-1] <= alpha  # the sums that only alpha of the others reach
        power.append(float(here[kept].sum()))
    return float(np.trapezoid([1.0, 1.0, *power[1:]], [0.0, *shares]))


def _sum_of(values: Floats, chances: Floats, n: int, step: float) -> Floats:
    """Chances of the sum of n draws of a value, else 0, by steps from -_WIDE on."""
    low = np.floor(values / step)
    share = values / step - low
    cell = low.astype(int)
    one = np.bincount(cell % (2 * _WIDE), chances * (1.0 - share), 2 * _WIDE)
    one += np.bincount((cell + 1) % (2 * _WIDE), chances * share, 2 * _WIDE)
    one[0] += 1.0 - chances.sum()
    return np.roll(np.fft.irfft(np.fft.rfft(one) ** n, 2 * _WIDE), _WIDE)


def one_setting(
    shape: tuple[float, float], target: float, n: int, alpha: float, draws: int
) -> dict[str, Any]:
    """The row of the table."""
    rng = np.random.default_rng(0)
    every = np.sort(np.random.default_rng(1).beta(*shape, 1_000_000))[::-1].clip(1e-9, 1 - 1e-9)
    falling = -every
    accuracy = np.cumsum(every) / np.arange(1, len(every) + 1)
    ways: dict[str, list[float | None]] = {"promised": [], "hindsight": [], "on_average": []}
    for _ in range(draws):
        p = rng.beta(*shape, n)
        y = rng.random(n) < p
        made = certified(p, y, target=target, alpha=alpha)
        average = on_average(p, y, target=target)
        ways["promised"].append(made and made.value)
        ways["hindsight"].append(hindsight(p, y, target=target, alpha=alpha))
        ways["on_average"].append(average and average.value)
    row: dict[str, Any] = {"beta": shape, "target": target, "n": n, "alpha": alpha, "draws": draws}
    best = int(np.flatnonzero(accuracy >= target)[-1]) + 1
    row["best"] = best / len(every)
    row["limit"] = limit(every[4::10], target=target, n=n, alpha=alpha, best=best // 10)
    for way, thresholds in ways.items():
        found = np.array([np.inf if t is None else t for t in thresholds])
        let = np.searchsorted(falling, -found, side="right")
        right = np.where(let > 0, accuracy[let - 1], 1.0)
        row[f"{way}_coverage"] = float(np.mean(let) / len(every))
        row[f"{way}_up_to_best"] = float(np.mean(np.minimum(let, best)) / len(every))
        row[f"{way}_missed"] = float(np.mean(right < target))
        row[f"{way}_accuracy"] = float(np.average(right, weights=np.maximum(let, 1e-9)))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--alpha", type=float, default=0.1)
    given = parser.parse_args()
    print("cov.: mean coverage; gap: points of coverage behind hindsight; missed: promises broken;")
    print("up to best: mean coverage, where that above the best counts as the best; see --help")
    print(
        "Beta       target |  best | promised: cov. missed   gap up to best limit "
        "| hindsight: cov. missed | on average: cov. accuracy"
    )
    rows = []
    for shape in SHAPES:
        for target in (0.8, 0.9):
            r = one_setting(shape, target, given.n, given.alpha, given.draws)
            rows.append(r)
            gap = 100 * (r["hindsight_coverage"] - r["promised_coverage"])
            print(
                f"{shape!s:10} {target:6} | {r['best']:.3f} | {r['promised_coverage']:14.3f} "
                f"{r['promised_missed']:6.4f} {gap:5.1f} {r['promised_up_to_best']:10.3f} "
                f"{r['limit']:5.3f} | {r['hindsight_coverage']:15.3f} {r['hindsight_missed']:6.4f} "
                f"| {r['on_average_coverage']:16.3f} {r['on_average_accuracy']:8.3f}",
                flush=True,
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()

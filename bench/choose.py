"""What the promises of `howsure choose` cost, and how often they are broken, in simulation.

    python bench/choose.py [--draws 10000]

Calibrated p of a Beta distribution: every threshold's accuracy and coverage over all questions is
known. Each draw is a sample of n questions, from which a threshold is made in three ways:

promised     the sequence of tests, as `howsure choose` recommends it
hindsight    the lowest threshold that passes the same test alone, picked after the fact
on average   the lowest threshold that keeps the target in the sample, one wrong answer added

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


def hindsight(p: Floats, y: Bools, *, target: float, alpha: float) -> float | None:
    """The lowest threshold that passes alone; None if none does."""
    order = np.argsort(-p)
    passed = np.cumsum(~y[order]) <= allowed_errors(len(p), 1.0 - target, alpha)[1:]
    return float(p[order[np.flatnonzero(passed)[-1]]]) if passed.any() else None


def one_setting(
    shape: tuple[float, float], target: float, n: int, alpha: float, draws: int
) -> dict[str, Any]:
    """The row of the table."""
    rng = np.random.default_rng(0)
    every = np.sort(np.random.default_rng(1).beta(*shape, 1_000_000))[::-1]
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
    row["best"] = float((np.flatnonzero(accuracy >= target)[-1] + 1) / len(every))
    for way, thresholds in ways.items():
        let = [0 if t is None else np.searchsorted(-every, -t, side="right") for t in thresholds]
        right = np.array([accuracy[c - 1] if c else 1.0 for c in let])
        row[f"{way}_coverage"] = float(np.mean(let) / len(every))
        row[f"{way}_missed"] = float(np.mean(right < target))
        row[f"{way}_accuracy"] = float(np.average(right, weights=np.maximum(let, 1e-9)))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--alpha", type=float, default=0.1)
    given = parser.parse_args()
    # Coverage and broken promises of each way; accuracy of the last.
    print("Beta       target   best | promised: cov. missed | hindsight: cov. missed | average")
    rows = []
    for shape in SHAPES:
        for target in (0.8, 0.9):
            r = one_setting(shape, target, given.n, given.alpha, given.draws)
            rows.append(r)
            print(
                f"{shape!s:10} {target:6} {r['best']:6.3f} | {r['promised_coverage']:13.3f} "
                f"{r['promised_missed']:6.4f} | {r['hindsight_coverage']:14.3f} "
                f"{r['hindsight_missed']:6.4f} | {r['on_average_coverage']:12.3f} "
                f"{r['on_average_accuracy']:5.3f}",
                flush=True,
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()

"""Which candidates the data can tell from the first: paired differences over the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from howsure.intervals import Interval
from howsure.metrics import Floats

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Behind:
    """By how much a candidate is behind the first (at least 0), and whether chance can do that."""

    by: float
    interval: Interval
    """Simultaneous over all pairs of candidates, at LEVEL."""

    @property
    def told_apart(self) -> bool:
        return self.interval.low > 0.0


def behind_the_first(values: Sequence[float], replicates: Sequence[Floats]) -> list[Behind]:
    """Of each candidate; the first of `values` is the highest.

    `replicates` are (resamples,) each, of the same resamples, none NaN.

    The first is picked for being the highest here, so a plain interval of the difference would
    often exclude 0 between equals. The width is that which, at LEVEL, no pair of candidates
    exceeds: the bootstrap of the largest studentised difference (Tukey's and Hsu's comparisons,
    with the bootstrap's joint distribution in place of theirs).
    """
    v, r = np.asarray(values), np.stack(replicates)
    centred = r - r.mean(axis=1, keepdims=True)
    spread = np.empty((len(v), len(v)))
    largest = np.zeros(r.shape[1])
    for i in range(len(v)):
        differences = centred - centred[i]
        spread[i] = differences.std(axis=1)
        scaled = np.abs(differences) / np.where(spread[i] > 0.0, spread[i], np.inf)[:, None]
        largest = np.maximum(largest, scaled.max(axis=0))
    width = float(np.quantile(largest, LEVEL)) * spread[0]
    gap = v[0] - v
    return [
        Behind(float(g), Interval(float(g - w), float(g + w)))
        for g, w in zip(gap, width, strict=True)
    ]

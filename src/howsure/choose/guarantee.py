"""Thresholds that keep a promise of accuracy, or of coverage, at a stated level.

Learn then test (Angelopoulos et al. 2021, "Learn then Test") as one fixed sequence: thresholds are
tested from the strict end down, each with an exact binomial test, until the first that fails. Why
that holds, and what it costs: docs/decisions/0008-choosing.md.

A sample is `p` (n,), with -inf where there is no confidence (which is never let through), and `y`
(n,), whether the answer is correct: questions drawn at random from those of the application.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from howsure.choose.bounds import accuracy_bound, allowed_errors, count_for_coverage
from howsure.metrics import Bools, Floats

START = 0.1
"""The sequence starts where this share of the questions is let through: earlier, a single wrong
answer would end it."""
POWER = 0.8
"""With `questions_needed` questions a threshold is found this often."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Let through what has p_correct >= value."""

    value: float
    coverage: float
    """Share of the sample's questions that it lets through, in [0, 1]."""
    accuracy: float
    """Share of those that are correct in the sample; not what is promised."""
    least_accuracy: float | None = None
    """What is promised of all such answers at the level; None where nothing is."""
    least_coverage: float | None = None
    """Likewise, of all such questions."""


def promised(
    p: Floats, y: Bools, *, target: float | None, coverage: float | None, alpha: float
) -> Threshold | None:
    """The threshold for what is wished, with what is promised of it; None where none can be.

    With a target: the lowest threshold of which accuracy >= target is proven. With a coverage: one
    that is proven to let so much through, and of which the accuracy is bounded. With both: the
    sequence starts where the coverage is proven. The probability over samples that any part of the
    promise is broken is at most `alpha`; where there are two parts, each takes half of it.
    """
    if coverage is None:
        assert target is not None
        return certified(p, y, target=target, alpha=alpha)
    if coverage >= 1.0:
        return _everything(p, y, target=target, alpha=alpha)
    first = count_for_coverage(len(p), coverage, alpha / 2)
    if first is None:
        return None
    if target is not None:
        found = _certified(p, y, target=target, alpha=alpha / 2, first=first)
        return None if found is None else _with(found, target, coverage)
    order, known = _ranked(p, y)
    ends = _ends(p[order][:known])
    ends = ends[ends >= first]
    if not len(ends):
        return None
    found = _threshold(p, y, order, int(ends[0]))
    wrong = int((~y[order][: int(ends[0])]).sum())
    return _with(found, accuracy_bound(wrong, int(ends[0]), alpha / 2), coverage)


def certified(
    p: Floats, y: Bools, *, target: float, alpha: float, start: float = START
) -> Threshold | None:
    """The lowest threshold of which it is proven that its selective accuracy is >= target.

    The probability, over the draw of the sample, that a threshold comes out whose accuracy on all
    such questions is below `target` is at most `alpha`, whatever p is worth. At least `start` of
    the questions are let through, or None comes out.
    """
    first = max(1, math.ceil(start * len(p) - 1e-9))
    found = _certified(p, y, target=target, alpha=alpha, first=first)
    return None if found is None else _with(found, target, None)


def on_average(p: Floats, y: Bools, *, target: float) -> Threshold | None:
    """The lowest threshold that keeps the target in the sample, with one wrong answer added.

    As in split conformal prediction, that one is the answer which is yet to come: on average over
    samples the accuracy of what is let through is the target. About half of the samples give a
    threshold that falls short of it, most of them by little.
    """
    order, known = _ranked(p, y)
    wrong = np.cumsum(~y[order])[:known]
    ends = _ends(p[order][:known])
    kept = ends[wrong[ends - 1] + 1 <= (1.0 - target) * ends + 1e-9]
    return _threshold(p, y, order, int(kept[-1])) if len(kept) else None


def questions_needed(
    p: Floats, y: Bools, *, target: float, alpha: float, start: float = START
) -> int | None:
    """About how many questions give some threshold with probability POWER; None: none is in sight.

    From the sample's own risk at each coverage, half a wrong and half a right answer added, by the
    normal approximation of the binomial test.
    """
    n, risk = len(p), 1.0 - target
    order, known = _ranked(p, y)
    answers = np.arange(1, known + 1)
    shown = (np.cumsum(~y[order])[:known] + 0.5) / (answers + 1)
    fits = (answers >= start * n) & (shown < risk)
    if not fits.any():
        return None
    z, power = NormalDist().inv_cdf(1.0 - alpha), NormalDist().inv_cdf(POWER)
    spread = z * math.sqrt(risk * (1 - risk)) + power * np.sqrt(shown * (1 - shown))
    at_least = math.log(alpha) / math.log(target)
    wanted = np.maximum((spread[fits] / (risk - shown[fits])) ** 2, at_least)
    return math.ceil(float((wanted * n / answers[fits]).min()))


def _everything(p: Floats, y: Bools, *, target: float | None, alpha: float) -> Threshold | None:
    """Every answer, if each has a confidence: coverage is 1, and only the accuracy is in doubt."""
    least = accuracy_bound(int((~y).sum()), len(p), alpha)
    if not np.isfinite(p).all() or (target is not None and least < target):
        return None
    return Threshold(0.0, 1.0, float(y.mean()), least if target is None else target, 1.0)


def _certified(p: Floats, y: Bools, *, target: float, alpha: float, first: int) -> Threshold | None:
    """The fixed sequence, from `first` answers on: every further answer is one more test."""
    order, known = _ranked(p, y)
    allowed = allowed_errors(known, 1.0 - target, alpha)
    if allowed[-1] < 0 or first > known:
        return None
    first = max(int(np.argmax(allowed >= 0)), first)
    passed = np.cumsum(~y[order])[first - 1 : known] <= allowed[first:]
    length = len(passed) if passed.all() else int(np.argmin(passed))
    ends = _ends(p[order][:known])
    ends = ends[(ends >= first) & (ends < first + length)]
    return _threshold(p, y, order, int(ends[-1])) if len(ends) else None


def _ranked(p: Floats, y: Bools) -> tuple[NDArray[np.intp], int]:
    """Rows by falling p, and how many have one.

    Ties are in a random order, which makes every count of answers a test of its own; it depends
    neither on the rows' order nor on what is correct.
    """
    known = int(np.isfinite(p).sum())
    order = np.argsort(-p)
    if (np.diff(p[order[:known]]) < 0.0).all():  # no ties: most of the time, and much less work
        return order, known
    order = np.lexsort((y, -p))
    shuffle = np.random.default_rng(0).random(len(p))
    return order[np.lexsort((shuffle, -p[order]))], known


def _ends(falling: Floats) -> NDArray[np.intp]:
    """The counts of answers behind which another p follows: where a threshold can lie."""
    return np.flatnonzero(np.append(falling[1:] != falling[:-1], len(falling) > 0)) + 1


def _threshold(p: Floats, y: Bools, order: NDArray[np.intp], count: int) -> Threshold:
    right = int(y[order[:count]].sum())
    return Threshold(float(p[order[count - 1]]), count / len(p), right / count)


def _with(found: Threshold, accuracy: float | None, coverage: float | None) -> Threshold:
    return Threshold(found.value, found.coverage, found.accuracy, accuracy, coverage)

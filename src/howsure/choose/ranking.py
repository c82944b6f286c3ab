"""How much a candidate lets through at the target, measured on questions that had no say in it.

Cross-validation: the threshold is picked on the other folds, coverage and accuracy are measured on
the held-out one. Intervals resample questions within subjects and pick anew, so they hold the
threshold's uncertainty too, which is the larger part. Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from howsure.choose.application import Application
from howsure.choose.candidates import Candidate, Questions
from howsure.intervals import Interval
from howsure.metrics import Bools, Floats

FOLDS = 5
RESAMPLES = 400
STEPS = 1000
"""Thresholds that are looked at, where p takes more values than that: each is a step of 0.1% of
the questions."""
_BLOCK = 2**20
"""Cells of counts handled at a time: 8 MB."""
_TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was let through in the held-out folds, weighted as in the application."""

    coverage: float
    """In [0, 1]."""
    accuracy: float | None
    """Of what was let through; None if that is nothing."""
    coverages: Floats
    """(RESAMPLES,): the coverage in each resample; the same resamples for every candidate."""
    accuracies: Floats
    """(RESAMPLES,): NaN where nothing was let through."""

    def coverage_interval(self) -> Interval:
        return percentiles(self.coverages, self.coverage)

    def accuracy_interval(self) -> Interval | None:
        known = self.accuracies[~np.isnan(self.accuracies)]
        if self.accuracy is None or not len(known):
            return None
        return percentiles(known, self.accuracy)


def percentiles(replicates: Floats, value: float) -> Interval:
    """95% interval of a value with these resamples; it holds the value itself."""
    low, high = np.quantile(replicates, _TAILS)
    return Interval(min(value, float(low)), max(value, float(high)))


def held_out(
    candidates: Sequence[Candidate], questions: Questions, wish: Application, *, seed: int = 0
) -> list[HeldOut]:
    """One per candidate, in their order."""
    folds = folds_of(questions)
    cells = [_Cells.of(c, folds, questions.weights) for c in candidates]
    measured: list[list[tuple[Floats, Floats]]] = [[] for _ in candidates]
    for counts in (np.ones((1, len(questions))), *_resamples(questions, seed)):
        for candidate, parts in zip(cells, measured, strict=True):
            parts.append(candidate.measure(counts, wish))
    out = []
    for parts in measured:
        coverage, accuracy = (np.concatenate(part) for part in zip(*parts, strict=True))
        first = None if np.isnan(accuracy[0]) else float(accuracy[0])
        out.append(HeldOut(float(coverage[0]), first, coverage[1:], accuracy[1:]))
    return out


@dataclass(frozen=True, slots=True)
class _Cells:
    """A candidate's answers, by fold and by step of p; step 0 is the surest."""

    cell: NDArray[np.intp]
    """(n,): fold * steps + step."""
    weights: Floats
    wrong: Bools
    steps: int
    known: int
    """Steps from this one on have no p, and are never let through."""

    @classmethod
    def of(cls, c: Candidate, folds: NDArray[np.intp], weights: Floats) -> _Cells:
        step, known = _steps(c.p)
        steps = int(step.max()) + 1
        return cls(folds * steps + step, weights, ~c.y, steps, known)

    def measure(self, counts: Floats, wish: Application) -> tuple[Floats, Floats]:
        """Held-out coverage and accuracy, (k,) each, of k samples given as counts (k, n)."""
        drawn = counts * self.weights
        held = self._through(drawn, slice(None))  # (k, folds, steps)
        held_wrong = self._through(drawn, self.wrong)
        every = held.sum(axis=1, keepdims=True)
        others, others_wrong = every - held, held_wrong.sum(axis=1, keepdims=True) - held_wrong
        last = _pick(others, others_wrong, self.known, wish)[:, :, None]
        let, bad = (
            np.where(last >= 0, np.take_along_axis(a, np.maximum(last, 0), axis=2), 0.0).sum((1, 2))
            for a in (held, held_wrong)
        )
        accuracy = np.full(len(let), np.nan)
        np.divide(let - bad, let, out=accuracy, where=let > 0)
        return let / every[:, 0, -1], accuracy

    def _through(self, drawn: Floats, rows: Bools | slice) -> Floats:
        """(k, folds, steps): the weight in each fold down to each step."""
        k, width = len(drawn), FOLDS * self.steps
        at = self.cell[rows] + width * np.arange(k)[:, None]
        sums = np.bincount(at.ravel(), drawn[:, rows].ravel(), k * width)
        return np.cumsum(sums.reshape(k, FOLDS, self.steps), axis=2)


def _steps(p: Floats) -> tuple[NDArray[np.intp], int]:
    """(n,) the step of each answer, by falling p, equal p in one; and how many steps have a p."""
    values, place, counts = np.unique(-p, return_inverse=True, return_counts=True)
    step = np.arange(len(values))
    if len(values) > STEPS:
        last = np.cumsum(counts) - 1
        step = np.unique(last * STEPS // len(p), return_inverse=True)[1]
    missing = bool(np.isinf(values[-1]))
    if missing and len(step) > 1 and step[-1] == step[-2]:
        step[-1] += 1
    return step[place], int(step[-1]) + (0 if missing else 1)


def _pick(through: Floats, wrong: Floats, known: int, wish: Application) -> NDArray[np.intp]:
    """(k, folds): the last step that is let through; -1 if none is.

    As many answers as possible while the target is kept, or, without a target, as few as the
    coverage allows. `through`, `wrong`: (k, folds, steps).
    """
    total = through[..., -1:]
    through, wrong = through[..., :known], wrong[..., :known]
    if wish.target_accuracy is not None:
        slack = 1e-9 * total  # 0.1 * 10 wrong of 10 is no more than the tenth
        kept = (wrong <= (1.0 - wish.target_accuracy) * through + slack) & (through > 0.0)
        last = known - 1 - kept[..., ::-1].argmax(axis=-1)
        return np.where(kept.any(axis=-1), last, -1)
    assert wish.min_coverage is not None
    enough = through >= wish.min_coverage * total * (1.0 - 1e-9)
    return np.where(enough.any(axis=-1), enough.argmax(axis=-1), known - 1)


def folds_of(questions: Questions) -> NDArray[np.intp]:
    """(n,) in 0..FOLDS-1, even within each subject, and the same for every candidate."""
    keys = [
        (s, crc32(q.encode()), q) for q, s in zip(questions.ids, questions.subjects, strict=True)
    ]
    folds = np.empty(len(keys), dtype=np.intp)
    for place, i in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        folds[i] = place % FOLDS
    return folds


def _resamples(questions: Questions, seed: int) -> Iterator[Floats]:
    """Blocks (k, n) of how often each question is drawn; within subjects, with replacement."""
    rng = np.random.default_rng(seed)
    names = np.array(questions.subjects)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(questions.subjects)]
    width = max(1, _BLOCK // len(names))
    for start in range(0, RESAMPLES, width):
        counts = np.zeros((min(width, RESAMPLES - start), len(names)))
        for rows in groups:
            each = np.full(len(rows), 1.0 / len(rows))
            counts[:, rows] = rng.multinomial(len(rows), each, size=len(counts))
        yield counts

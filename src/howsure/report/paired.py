"""Paired bootstrap over questions: every two methods of a model, every two models of a method.

All columns of a subject share the draws of its questions, so that what two of them have in common
cancels in their difference; each column is resampled once and the differences are subtractions.
Where two columns lack different questions, both are resampled once more on those they share. All
metrics share the draws too: to make them costs more than to score them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from howsure import intervals
from howsure.figures.table import Column
from howsure.intervals import Metric, Replicates
from howsure.metrics import Bools, Floats
from howsure.types import Predictions

_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Cell:
    """One column's answers to the questions of one subject, in the order of their ids."""

    ids: tuple[str, ...]
    p: Floats
    y: Bools


@dataclass(frozen=True)
class Resampled:
    """One metric of every (subject, column), with its value in each resample."""

    metric: Metric
    subjects: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    values: NDArray[np.float64]
    """(subjects, columns); NaN where undefined."""
    replicates: NDArray[np.float32] = field(repr=False)
    """(subjects, columns, resamples); NaN where a resample has no value."""

    on_common: dict[tuple[int, int, int], tuple[float, Replicates]] = field(repr=False)
    """(subject, column i, column j > i) → the difference i - j, and in each resample, (resamples,),
    where the two lack different questions."""

    def difference(self, a: Column, b: Column) -> tuple[NDArray[np.float64], Replicates]:
        """Metric of `a` minus that of `b` by subject, (S,), and in each resample, (S, R).

        The two are of the same model or of the same method. NaN where either is undefined. Only
        questions that both answered count.
        """
        i, j = self.columns.index(a), self.columns.index(b)
        if i > j:
            value, drawn = self.difference(b, a)
            return -value, -drawn
        value = self.values[:, i] - self.values[:, j]
        drawn = self.replicates[:, i] - self.replicates[:, j]
        for s in range(len(self.subjects)):
            if (s, i, j) in self.on_common:
                value[s], drawn[s] = self.on_common[s, i, j]
            if np.isnan(drawn[s]).any():
                again = intervals.redrawn(drawn[s])
                value[s] = np.nan if again is None else value[s]
                drawn[s] = np.nan if again is None else again
        return value, drawn


@dataclass(frozen=True)
class _Job:
    """One column, or two on the questions they share: what is resampled together."""

    key: str
    metric: Metric
    at: tuple[int, ...]
    """The columns."""
    cells: tuple[Cell, ...]


def resampled(
    wanted: Mapping[str, tuple[Metric, Mapping[Column, Predictions]]],
    subjects: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = intervals.RESAMPLES,
) -> dict[str, Resampled]:
    """Under each key its metric of every column in every subject, resampled `resamples` times.

    A subject's draws depend on its name and on how many questions there are, on nothing else.
    """
    by_subject = _Cells(subjects)
    made = {
        key: _undefined(metric, predictions, by_subject, seed, resamples)
        for key, (metric, predictions) in wanted.items()
    }
    for s, subject in enumerate(subjects):
        jobs: dict[int, list[_Job]] = {}
        for key, r in made.items():
            for job in _jobs(key, r, s, by_subject):
                jobs.setdefault(len(job.cells[0].ids), []).append(job)
        for n, of_size in jobs.items():
            drawn = _resample(of_size, n, [seed, _code(subject)], resamples)
            for job, (value, replicates) in zip(of_size, drawn, strict=True):
                r = made[job.key]
                if len(job.at) == 1:
                    r.values[s, job.at[0]], r.replicates[s, job.at[0]] = value[0], replicates[0]
                else:
                    i, j = job.at
                    r.on_common[s, i, j] = value[0] - value[1], replicates[0] - replicates[1]
    return made


class _Cells:
    """The cells of predictions, each made once."""

    def __init__(self, subjects: Sequence[str]) -> None:
        self.subjects = tuple(subjects)
        self._of: dict[int, dict[str, Cell]] = {}
        self._on_common: dict[tuple[int, int], tuple[Cell, Cell] | None] = {}

    def of(self, p: Predictions) -> dict[str, Cell]:
        if id(p) not in self._of:
            self._of[id(p)] = _cells(p)
        return self._of[id(p)]

    def on_common(self, a: Cell, b: Cell) -> tuple[Cell, Cell] | None:
        """Both, on the questions that both hold; None if there are none."""
        key = id(a), id(b)
        if key not in self._on_common:
            common = sorted(set(a.ids) & set(b.ids))
            pair = (_restricted(a, common), _restricted(b, common)) if common else None
            self._on_common[key] = pair
        return self._on_common[key]


def _undefined(
    metric: Metric,
    predictions: Mapping[Column, Predictions],
    by_subject: _Cells,
    seed: int,
    resamples: int,
) -> Resampled:
    subjects = by_subject.subjects
    named = set(subjects)
    cells = {
        (subject, column): cell
        for column, p in predictions.items()
        for subject, cell in by_subject.of(p).items()
        if subject in named
    }
    values = np.full((len(subjects), len(predictions)), np.nan)
    replicates = np.full((*values.shape, resamples), np.nan, np.float32)
    return Resampled(metric, subjects, tuple(predictions), cells, values, replicates, {})


def _jobs(key: str, r: Resampled, s: int, by_subject: _Cells) -> Iterator[_Job]:
    held = [(j, r.cells.get((r.subjects[s], column))) for j, column in enumerate(r.columns)]
    known = [(j, cell) for j, cell in held if cell is not None]
    for j, cell in known:
        yield _Job(key, r.metric, (j,), (cell,))
    for (i, a), (j, b) in combinations(known, 2):
        if a.ids == b.ids or not _compared(r.columns[i], r.columns[j]):
            continue
        r.on_common[s, i, j] = float("nan"), np.full(r.replicates.shape[2], np.nan, np.float32)
        if (pair := by_subject.on_common(a, b)) is not None:
            yield _Job(key, r.metric, (i, j), pair)


def interval_of_difference(
    metric: Metric, value: NDArray[np.float64], replicates: Replicates
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) of each row's difference, as `intervals.paired_difference` has them."""
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    known = ~np.isnan(value)
    if known.any():
        drawn = replicates[known]
        low[known], high[known] = np.quantile(drawn, _TAILS, axis=1)
        if metric in ("ece", "ece_decision"):
            shift = value[known] - drawn.mean(axis=1)
            low[known], high[known] = low[known] + shift, high[known] + shift
    return low, high


def mean_rows(
    value: NDArray[np.float64], replicates: Replicates, groups: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float64], Replicates]:
    """The mean of each group of rows, without the undefined ones: (G,) and (G, R)."""
    means = np.full(len(groups), np.nan)
    drawn = np.full((len(groups), replicates.shape[1]), np.nan, np.float32)
    for g, members in enumerate(groups):
        known = [s for s in members if not np.isnan(value[s])]
        if known:
            means[g], drawn[g] = value[known].mean(), replicates[known].mean(axis=0)
    return means, drawn


def _compared(a: Column, b: Column) -> bool:
    """Two models by the same method, or two methods of the same model."""
    return a[0] == b[0] or a[1] == b[1]


def _code(subject: str) -> int:
    return crc32(subject.encode("utf-8", "replace"))


def _cells(p: Predictions) -> dict[str, Cell]:
    places: dict[str, list[int]] = {}
    for i in np.argsort(np.array(p.ids)):
        places.setdefault(p.subjects[i], []).append(int(i))
    return {
        subject: Cell(tuple(p.ids[i] for i in at), p.p_correct[at], p.is_correct[at])
        for subject, at in places.items()
    }


def _restricted(cell: Cell, ids: Sequence[str]) -> Cell:
    place = {name: i for i, name in enumerate(cell.ids)}
    at = [place[name] for name in ids]
    return Cell(tuple(ids), cell.p[at], cell.y[at])


def _resample(
    jobs: Sequence[_Job], n: int, seed: Sequence[int], resamples: int
) -> list[tuple[list[float], NDArray[np.float32]]]:
    """Of each job on n questions: the values of its cells, (k,), and their replicates, (k, R)."""
    made = [np.empty((len(job.cells), resamples), np.float32) for job in jobs]
    done = 0
    for counts in intervals.draw_counts(n, resamples=resamples, seed=seed):
        here = slice(done, done := done + counts.shape[1])
        for job, drawn in zip(jobs, made, strict=True):
            for k, cell in enumerate(job.cells):
                drawn[k, here] = intervals.resampled(job.metric, cell.p, cell.y, counts)
    return [
        ([_value(job.metric, c) for c in job.cells], r) for job, r in zip(jobs, made, strict=True)
    ]


def _value(metric: Metric, cell: Cell) -> float:
    value = intervals.value(metric, cell.p, cell.y)
    return float("nan") if value is None else value

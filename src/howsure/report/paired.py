"""Paired bootstrap over questions: every two methods of a model, every two models of a method.

All columns of a subject share the draws of its questions, so that what two of them have in common
cancels in their difference; each column is resampled once and the differences are subtractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    seed: int
    resamples: int
    subjects: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    values: NDArray[np.float64]
    """(subjects, columns); NaN where undefined."""
    replicates: NDArray[np.float32] = field(repr=False)
    """(subjects, columns, resamples); NaN where a resample has no value."""

    def difference(self, a: Column, b: Column) -> tuple[NDArray[np.float64], Replicates]:
        """Metric of `a` minus that of `b` by subject, (S,), and in each resample, (S, R).

        NaN where either is undefined. Only questions that both answered count.
        """
        i, j = self.columns.index(a), self.columns.index(b)
        value = self.values[:, i] - self.values[:, j]
        drawn = self.replicates[:, i] - self.replicates[:, j]
        for s, subject in enumerate(self.subjects):
            ours, theirs = self.cells.get((subject, a)), self.cells.get((subject, b))
            if ours and theirs and ours.ids != theirs.ids:
                value[s], drawn[s] = self._on_common(subject, ours, theirs)
            if np.isnan(drawn[s]).any():
                again = intervals.redrawn(drawn[s])
                value[s] = np.nan if again is None else value[s]
                drawn[s] = np.nan if again is None else again
        return value, drawn

    def _on_common(self, subject: str, a: Cell, b: Cell) -> tuple[float, Replicates]:
        common = sorted(set(a.ids) & set(b.ids))
        if not common:
            return float("nan"), np.full(self.resamples, np.nan, np.float32)
        pair = [_restricted(cell, common) for cell in (a, b)]
        made = [_resample(self.metric, [c], subject, self.seed, self.resamples) for c in pair]
        (value_a, drawn_a), (value_b, drawn_b) = ((v[0], r[0]) for v, r in made)
        return float(value_a - value_b), drawn_a - drawn_b


def resampled(
    metric: Metric,
    predictions: Mapping[Column, Predictions],
    subjects: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = intervals.RESAMPLES,
) -> Resampled:
    """Every column's metric in every subject, resampled `resamples` times."""
    cells = {
        (subject, column): cell
        for column, p in predictions.items()
        for subject, cell in _cells(p).items()
        if subject in set(subjects)
    }
    columns = tuple(predictions)
    values = np.full((len(subjects), len(columns)), np.nan)
    replicates = np.full((*values.shape, resamples), np.nan, np.float32)
    for s, subject in enumerate(subjects):
        alike: dict[tuple[str, ...], list[int]] = {}
        for j, column in enumerate(columns):
            if (subject, column) in cells:
                alike.setdefault(cells[subject, column].ids, []).append(j)
        for js in alike.values():
            group = [cells[subject, columns[j]] for j in js]
            values[s, js], replicates[s, js] = _resample(metric, group, subject, seed, resamples)
    return Resampled(metric, seed, resamples, tuple(subjects), columns, cells, values, replicates)


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
    metric: Metric, cells: Sequence[Cell], subject: str, seed: int, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(k,) values and (k, R) replicates of cells that hold the same questions."""
    n, key = len(cells[0].ids), [seed, crc32(subject.encode("utf-8", "replace"))]
    values = [intervals.value(metric, c.p, c.y) for c in cells]
    drawn = [
        np.stack([intervals.resampled(metric, c.p, c.y, counts) for c in cells])
        for counts in intervals.draw_counts(n, resamples=resamples, seed=key)
    ]
    return np.array([np.nan if v is None else v for v in values]), np.concatenate(drawn, axis=1)

"""Predictions → the table of scores: by subject, then the mean over subjects, then all together.

The files that hold the two ends, `predictions.parquet` and `scores.csv`, are in `howsure.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import polars as pl

from howsure import intervals, metrics
from howsure.errors import PredictionsError
from howsure.intervals import Interval, Replicates
from howsure.metrics import Bools, Floats
from howsure.tables import (
    GROUP_COLUMNS,
    MACRO,
    POOLED,
    PREDICTION_COLUMNS,
    SCORE_COLUMNS,
    SCORE_SCHEMA,
    Row,
    group_keys,
    mean_known,
    read_predictions,
    read_scores,
    write_predictions,
    write_scores,
)
from howsure.types import Predictions

__all__ = [
    "GROUP_COLUMNS",
    "MACRO",
    "POOLED",
    "PREDICTION_COLUMNS",
    "SCORE_COLUMNS",
    "SCORE_SCHEMA",
    "read_predictions",
    "read_scores",
    "score",
    "write_predictions",
    "write_scores",
]

_MEANS = ("accuracy", "ece", "ece_floor", "ece_decision", "auroc", "brier", "nll", "aurc")


@dataclass(frozen=True, slots=True)
class _Cell:
    """The questions of one subject (or all) in one group, with their resampled metrics."""

    p: Floats
    y: Bools
    ece: Replicates
    auroc: Replicates | None
    """With one-class resamples drawn again; None where AUROC is undefined."""

    @property
    def rarer(self) -> int:
        return int(min(self.y.sum(), (~self.y).sum()))


def score(
    predictions: Sequence[Predictions], *, seed: int = 0, resamples: int = intervals.RESAMPLES
) -> pl.DataFrame:
    """SCORE_COLUMNS, one row per subject, then `macro` and `pooled`, for each of the predictions.

    Groups come in the order given, subjects in the order in which they first appear in the group.
    `macro` is the mean over subjects (its n counts all questions; AUROC is the mean where it is
    defined, and `auroc_excluded=k` notes the rest), `pooled` takes all questions together.

    Undefined is null: AUROC of one class (note `single_class`), its interval where the rarer class
    has one question (`auroc_interval_undefined`), any interval of a single question. The intervals
    are those of `ece_interval` and `auroc_interval`; for `macro` each subject is resampled on its
    own. Each row depends on its own questions, `seed` and `resamples` alone, not on the order of
    questions, subjects or groups. Raises PredictionsError for nothing, an empty group, a group
    given twice, or a subject named macro or pooled.
    """
    keys = group_keys(predictions)
    if not predictions:
        raise PredictionsError("no predictions to score; give at least one group of them")
    groups = [_samples(p) for p in predictions]
    cells = _resample(groups, seed, resamples)
    rows: list[Row] = []
    for g, (key, samples) in enumerate(zip(keys, groups, strict=True)):
        labels = [label for label in samples if label != POOLED]
        subjects = {label: _row(label, cells[g, label]) for label in labels}
        by_name = sorted(labels)  # sums round alike whatever the order of the subjects
        macro = _macro_row([subjects[s] for s in by_name], [cells[g, s] for s in by_name])
        named = dict(zip(GROUP_COLUMNS, key, strict=True))
        rows += [named | row for row in (*subjects.values(), macro, _row(POOLED, cells[g, POOLED]))]
    return pl.DataFrame(rows, schema=SCORE_SCHEMA, orient="row")


def _samples(predictions: Predictions) -> dict[str, tuple[Floats, Bools]]:
    """Subject → its (p_correct, is_correct) in order of first appearance, and POOLED → all."""
    where = f"predictions of {predictions.method!r} for {predictions.model!r}"
    if not len(predictions):
        raise PredictionsError(f"{where} are empty; scoring needs at least one answer")
    names = {name: k for k, name in enumerate(dict.fromkeys(predictions.subjects))}
    for reserved in (MACRO, POOLED):
        if reserved in names:
            raise PredictionsError(f"{where}: a subject is named {reserved!r}; rename it")
    code = np.array([names[subject] for subject in predictions.subjects])
    p, y = predictions.p_correct, predictions.is_correct
    samples = {name: intervals.canonical(p[code == k], y[code == k]) for name, k in names.items()}
    return samples | {POOLED: intervals.canonical(p, y)}


def _resample(
    groups: Sequence[dict[str, tuple[Floats, Bools]]], seed: int, resamples: int
) -> dict[tuple[int, str], _Cell]:
    """(group, subject) → cell. Groups with as many questions in a subject share its draws."""
    shared: dict[tuple[str, int], list[int]] = {}
    for g, samples in enumerate(groups):
        for label, (p, _) in samples.items():
            shared.setdefault((label, len(p)), []).append(g)
    cells = {}
    for (label, n), members in shared.items():
        draws = intervals.draw_counts(n, resamples=resamples, seed=[seed, crc32(label.encode())])
        of_block = [_block([groups[g][label] for g in members], counts) for counts in draws]
        for g, parts in zip(members, zip(*of_block, strict=True), strict=True):
            ece, auroc = (np.concatenate(part) for part in zip(*parts, strict=True))
            cells[g, label] = _Cell(*groups[g][label], ece, intervals.redrawn(auroc))
    return cells


def _block(
    samples: Iterable[tuple[Floats, Bools]], counts: intervals.Counts
) -> list[tuple[Replicates, Replicates]]:
    """(ECE, AUROC) of each sample in a block of resamples."""
    return [
        (
            intervals.resampled("ece", p, y, counts),
            intervals.resampled("auroc", p, y, counts),
        )
        for p, y in samples
    ]


def _row(label: str, cell: _Cell) -> Row:
    p, y = cell.p, cell.y
    row: Row = {
        "subject": label,
        "n": len(p),
        "accuracy": float(y.mean()),
        "ece": metrics.ece(p, y),
        "ece_floor": metrics.ece_floor(p),
        "ece_decision": metrics.ece_decision(p, y),
        "auroc": metrics.auroc(p, y),
        "brier": metrics.brier(p, y),
        "nll": metrics.nll(p, y),
        "aurc": metrics.aurc(p, y),
        "note": "",
    }
    ece = intervals.ece_interval(row["ece"], cell.ece) if len(p) > 1 else None
    auroc = None
    if row["auroc"] is None:
        row["note"] = "single_class"
    elif cell.auroc is not None:
        auroc = intervals.auroc_interval(row["auroc"], [cell.auroc], [cell.rarer])
    if row["auroc"] is not None and auroc is None:
        row["note"] = "auroc_interval_undefined"
    return row | _ends("ece", ece) | _ends("auroc", auroc)


def _macro_row(subjects: Sequence[Row], cells: Sequence[_Cell]) -> Row:
    row: Row = {name: mean_known([subject[name] for subject in subjects]) for name in _MEANS}
    row |= {"subject": MACRO, "n": sum(subject["n"] for subject in subjects)}
    varied = any(len(cell.p) > 1 for cell in cells)
    spread = np.mean([cell.ece for cell in cells], axis=0)
    ece = intervals.ece_interval(row["ece"], spread) if varied else None
    notes = []
    defined = [(c, s) for c, s in zip(cells, subjects, strict=True) if s["auroc"] is not None]
    if len(defined) < len(subjects):
        notes.append(f"auroc_excluded={len(subjects) - len(defined)}")
    drawn = [(cell.auroc, cell.rarer) for cell, _ in defined if cell.auroc is not None]
    auroc = None
    if defined and len(drawn) == len(defined):
        auroc = intervals.auroc_interval(row["auroc"], *map(list, zip(*drawn, strict=True)))
    if defined and auroc is None:
        notes.append("auroc_interval_undefined")
    return row | _ends("ece", ece) | _ends("auroc", auroc) | {"note": ";".join(notes)}


def _ends(metric: str, interval: Interval | None) -> Row:
    return {
        f"{metric}_low": None if interval is None else interval.low,
        f"{metric}_high": None if interval is None else interval.high,
    }

"""A table beside a reference (published numbers, an earlier run): here, there, and the difference.

Compared are the subjects that both have. A model is the same in both where its names lead to the
same checkpoint; its difference has a 95% interval from a bootstrap over subjects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from howsure.figures.labels import format_label, method_name, model_labels, one_line
from howsure.figures.table import ECE_NAMES, Selection, formats, select
from howsure.lm.names import find_known
from howsure.report.clustered import mean_over_cells
from howsure.report.parts import Table
from howsure.report.text import UNKNOWN, number, signed
from howsure.report.views import mean_by_method
from howsure.scores import GROUP_COLUMNS, MACRO, POOLED, SCORE_SCHEMA
from howsure.tables import mean_known

Floats = NDArray[np.float64]

_MEANS = ("accuracy", "ece", "ece_floor", "ece_decision", "auroc", "brier", "nll", "aurc")


@dataclass(frozen=True)
class Compared:
    """One number here and there; a row of `comparison.csv`."""

    format: str
    model: str
    reference_model: str
    method: str
    subject: str
    metric: str
    here: float | None
    reference: float | None
    difference: float | None
    """Here minus there."""
    low: float | None = None
    """Of the 95% interval, in the row of the mean over subjects."""
    high: float | None = None


@dataclass(frozen=True)
class Beside:
    """One format here and in the reference."""

    label: str
    subjects: int
    """Those that both have; with none, all of either are in the means and nothing else is there."""
    means: Table
    """Method by method, over whatever models either has."""
    same: Table | None
    """The models that are the same in both, method by method; None when there are none."""
    rows: tuple[Compared, ...]
    """Of the models that are the same."""
    together: Selection | None
    """Both tables as one, for the heatmap."""


@dataclass(frozen=True)
class _Quantity:
    """A column that both tables have, here and there: (subjects, columns)."""

    key: str
    label: str
    here: Floats
    there: Floats


def beside(scores: pl.DataFrame, reference: pl.DataFrame, name: str) -> list[Beside]:
    """Every format that both tables have."""
    return [
        _of_format(scores.filter(format=format), reference.filter(format=format), name)
        for format in formats(scores)
        if format in formats(reference)
    ]


def _of_format(ours: pl.DataFrame, theirs: pl.DataFrame, name: str) -> Beside:
    common = [s for s in subjects_of(theirs) if s in set(subjects_of(ours))]
    if common:
        ours, theirs = on_subjects(ours, common), on_subjects(theirs, common)
    here, there = select(ours), select(theirs)
    rows = tuple(_compared(here, there, common)) if common else ()
    return Beside(
        label=format_label(here.format),
        subjects=len(common),
        means=_means(here, there),
        same=_same(here, there, rows),
        rows=rows,
        together=select(_together(ours, theirs, name)) if common else None,
    )


def to_frame(found: Sequence[Beside]) -> pl.DataFrame:
    """All their rows: what `comparison.csv` holds."""
    names = [f.name for f in fields(Compared)]
    kinds = dict.fromkeys(names[:6], pl.String) | dict.fromkeys(names[6:], pl.Float64)
    return pl.DataFrame([asdict(row) for part in found for row in part.rows], schema=kinds)


def subjects_of(scores: pl.DataFrame) -> list[str]:
    """In the order of the table."""
    found: list[str] = scores["subject"].unique(maintain_order=True).to_list()
    return [s for s in found if s not in (MACRO, POOLED)]


def on_subjects(scores: pl.DataFrame, subjects: Sequence[str]) -> pl.DataFrame:
    """The rows of these subjects and their mean; an interval of it only where none is left out."""
    parts = []
    for rows in scores.partition_by(GROUP_COLUMNS, maintain_order=True):
        kept = rows.filter(pl.col("subject").is_in(list(subjects)))
        whole = set(subjects_of(rows)) <= set(subjects)
        if whole or kept.is_empty():
            parts.append(rows.filter(pl.col("subject") != POOLED))
        else:
            parts += [kept, _mean(kept)]
    return pl.concat(parts)


def _mean(rows: pl.DataFrame) -> pl.DataFrame:
    row = dict.fromkeys(SCORE_SCHEMA) | {c: rows[c][0] for c in GROUP_COLUMNS}
    row |= {c: mean_known(rows[c].to_list()) for c in _MEANS}
    row |= {"subject": MACRO, "n": rows["n"].sum(), "note": ""}
    return pl.DataFrame([row], schema=SCORE_SCHEMA, orient="row")


def _kind(here: Selection, there: Selection) -> str:
    """The ECE that both have."""
    return "ece" if {here.ece_kind, there.ece_kind} == {"ece"} else "ece_decision"


def _quantities(here: Selection, there: Selection, subjects: Sequence[str]) -> list[_Quantity]:
    kind = _kind(here, there)
    named = ((kind, ECE_NAMES[kind]), ("auroc", "AUROC"), ("accuracy", "Accuracy"))
    return [
        _Quantity(key, label, here.values(key, subjects), there.values(key, subjects))
        for key, label in named
    ]


def _means(here: Selection, there: Selection) -> Table:
    methods = [m for m in here.methods() if m in there.methods()]
    columns, rows = ["Method"], [[method_name(m)] for m in methods]
    for q in _quantities(here, there, [MACRO]):
        ours, theirs = mean_by_method(here, q.here[0]), mean_by_method(there, q.there[0])
        columns += [f"{q.label} here", "there", "difference"]
        for row, method in zip(rows, methods, strict=True):
            a, b = ours.get(method), theirs.get(method)
            difference = None if a is None or b is None else a - b
            row += [number(a), number(b), _signed(difference)]
    return Table(tuple(columns), tuple(map(tuple, rows)))


def checkpoint_key(model: str) -> str:
    """What names of the same checkpoint have in common: "llama2:7b", "Llama-2-7b-hf (run-a)"."""
    bare = model.rsplit(" (", 1)[0]
    known = find_known(bare)
    return (known.hub_id if known else bare).rstrip("/").rsplit("/", 1)[-1].lower()


def _compared(here: Selection, there: Selection, subjects: Sequence[str]) -> Iterator[Compared]:
    keys = {checkpoint_key(model): model for model, _ in there.models()}
    quantities = _quantities(here, there, subjects)
    for i, (model, method) in enumerate(here.columns):
        other = (keys.get(checkpoint_key(model), ""), method)
        if other in there.columns:
            j = there.columns.index(other)
            start = (here.format, model, other[0], method)
            for q in quantities:
                ours, theirs = q.here[:, i], q.there[:, j]
                for subject, a, b in zip(subjects, ours, theirs, strict=True):
                    yield Compared(*start, subject, q.key, *map(_known, (a, b, a - b)))
                yield from _compared_means(start, q.key, ours, theirs)


def _compared_means(
    start: tuple[str, str, str, str], key: str, ours: Floats, theirs: Floats
) -> Iterator[Compared]:
    """Over the subjects in which both are known; none where there is no such subject."""
    difference = ours - theirs
    found, both = mean_over_cells(difference[:, None]), ~np.isnan(difference)
    if found is not None:
        here, there = (float(part[both].mean()) for part in (ours, theirs))
        yield Compared(*start, MACRO, key, here, there, found.estimate, found.low, found.high)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _same(here: Selection, there: Selection, rows: Sequence[Compared]) -> Table | None:
    """The means, a line for each model and method."""
    kind = _kind(here, there)
    columns = ["Model", "Method"]
    for label in (ECE_NAMES[kind], "AUROC", "Accuracy"):
        columns += [f"{label} here", "there", "difference"]
    names = model_labels([model for model, _ in here.models()])
    lines: dict[tuple[str, str], dict[str, Compared]] = {}
    for row in rows:
        if row.subject == MACRO:
            lines.setdefault((row.model, row.method), {})[row.metric] = row
    made = []
    for (model, method), found in lines.items():
        line = [names[model], method_name(method)]
        for key in (kind, "auroc", "accuracy"):
            line += _with_interval(found[key]) if key in found else [UNKNOWN] * 3
        made.append(tuple(line))
    return Table(tuple(columns), tuple(made)) if made else None


def _with_interval(row: Compared) -> list[str]:
    text = _signed(row.difference)
    if row.low is not None and row.high is not None:
        text += f" ({signed(row.low)} to {signed(row.high)})"
    return [number(row.here), number(row.reference), text]


def _signed(value: float | None) -> str:
    return UNKNOWN if value is None else signed(value)


def _together(ours: pl.DataFrame, theirs: pl.DataFrame, name: str) -> pl.DataFrame:
    """Both as one table, without the numbers that the reference lacks; its models are marked."""
    unknown = [c for c in theirs.columns if theirs[c].is_null().all() and c in ours.columns]
    marked = theirs.with_columns(pl.format("{} ({})", "model", pl.lit(one_line(name))))
    both = pl.concat([ours, marked])
    return both.with_columns(pl.lit(None, dtype=SCORE_SCHEMA[c]).alias(c) for c in unknown)

"""What a paper takes from a run: vector pictures of its column's width, tables, tidy data.

heatmap.pdf, .svg     (in a narrow column: heatmap_ece, heatmap_auroc), bars.pdf, .svg
methods.tex, .md      the published layout: methods, formats across, mean and spread over models
models.tex, .md       the same for each model
subjects.tex, .md     each model's subjects, methods across
scores_long.csv, .parquet   one number a row
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from howsure import figures
from howsure.figures.labels import format_label, method_name, model_labels, subject_label
from howsure.figures.paper import SIDE_BY_SIDE
from howsure.figures.table import Column, Selection, by_category, formats, select
from howsure.report.files import file_safe, make_folder, write
from howsure.report.text import UNKNOWN, number
from howsure.report.typeset import Grid, latex, markdown
from howsure.report.views import mean_by_method
from howsure.scores import GROUP_COLUMNS, MACRO
from howsure.tables import write_csv

WIDTH = 5.5
"""Inches: the text of a NeurIPS paper. A column of ICML's is 3.25, of the ACL's 3.03."""

_ENDS = {"ece": ("ece_low", "ece_high", "ece_floor"), "auroc": ("auroc_low", "auroc_high", None)}
_METRICS = ("accuracy", "ece", "ece_decision", "auroc", "brier", "nll", "aurc")


def write_publication(
    folder: Path,
    scores: pl.DataFrame,
    *,
    width: float = WIDTH,
    categories: Mapping[str, str] | None = None,
) -> None:
    """Writes all of it to `folder`. The second format's pictures have its name as a suffix."""
    make_folder(folder)
    selections = [select(scores, name) for name in formats(scores)]
    for i, selection in enumerate(selections):
        suffix = f"_{file_safe(selection.format)}" if i else ""
        for name, figure in _pictures(scores, selection, width, categories or {}):
            write(folder / f"{name}{suffix}.pdf", figures.pdf(figure))
            write(folder / f"{name}{suffix}.svg", figures.svg(figure))
    tables = {
        "methods": [methods_table(selections)],
        "models": [models_table(selections)],
        "subjects": [t for s in selections for t in subject_tables(s, categories or {})],
    }
    for name, grids in tables.items():
        write(folder / f"{name}.tex", "\n".join(map(latex, grids)).encode())
        write(folder / f"{name}.md", "\n".join(map(markdown, grids)).encode())
    tidy = long_table(scores)
    write_csv(tidy, folder / "scores_long.csv")
    write(folder / "scores_long.parquet", _parquet(tidy))


def _pictures(
    scores: pl.DataFrame, selection: Selection, width: float, categories: Mapping[str, str]
) -> Iterator[tuple[str, Figure]]:
    def drawn(*panels: Literal["ece", "auroc"]) -> Figure:
        return figures.paper_heatmap(
            scores,
            width=width,
            panels=panels,
            format=selection.format,
            categories=categories,
        )

    if width >= SIDE_BY_SIDE:
        yield "heatmap", drawn("ece", "auroc")
    else:
        yield "heatmap_ece", drawn("ece")
        yield "heatmap_auroc", drawn("auroc")
    yield "bars", figures.paper_bars(scores, width=width, format=selection.format)


def methods_table(selections: Sequence[Selection]) -> Grid:
    """Methods down, formats across: mean of the models' means, and their standard deviation."""
    methods = list(dict.fromkeys(m for s in selections for m in s.methods()))
    columns = [_means(s) for s in selections]
    rows = [
        (method_name(m), *(_spread(values, m) for pair in columns for values in pair))
        for m in methods
    ]
    best = frozenset(
        (0, methods.index(top), 2 * f + k)
        for f, s in enumerate(selections)
        for k, values in enumerate(columns[f])
        if (top := _top(mean_by_method(s, values[1]), lowest=k == 0))
    )
    return Grid(
        "ECE and AUROC of each method: mean over models of the mean over subjects "
        f"(± standard deviation over models). {_notes(selections)}",
        ("Method",),
        tuple((format_label(s.format).capitalize(), _heads(s)) for s in selections),
        (tuple(rows),),
        best,
    )


_Values = tuple[tuple[Column, ...], np.ndarray]


def _means(selection: Selection) -> tuple[_Values, _Values]:
    """(ECE, AUROC) of the macro row, each with its columns."""
    ece, auroc = selection.ece([MACRO])[0], selection.values("auroc", [MACRO])[0]
    return (selection.columns, ece), (selection.columns, auroc)


def _spread(values: _Values, method: str) -> str:
    columns, numbers = values
    mine = numbers[[m == method for _, m in columns]]
    mine = mine[~np.isnan(mine)]
    if not mine.size:
        return UNKNOWN
    spread = f" ± {number(float(mine.std(ddof=1)))}" if mine.size > 1 else ""
    return f"{number(float(mine.mean()))}{spread}"


def _top(means: Mapping[str, float], *, lowest: bool) -> str | None:
    if len(means) < 2:
        return None
    return (min if lowest else max)(means, key=lambda m: means[m])


def _heads(selection: Selection) -> tuple[str, str]:
    return selection.ece_name, "AUROC"


def _notes(selections: Sequence[Selection]) -> str:
    return " ".join(dict.fromkeys(s.calibration_note() for s in selections))


def models_table(selections: Sequence[Selection]) -> Grid:
    """A part for each model, its methods down, formats across; the best of each in bold."""
    models = list(dict.fromkeys(m for s in selections for m, _ in s.models()))
    names, parts, best = model_labels(models), [], set[tuple[int, int, int]]()
    for p, model in enumerate(models):
        methods = list(dict.fromkeys(m for s in selections for a, m in s.columns if a == model))
        cells = np.array([[v for s in selections for v in _macro(s, model, m)] for m in methods])
        parts.append(
            tuple(
                (names[model] if i == 0 else "", method_name(m), *map(number, row))
                for i, (m, row) in enumerate(zip(methods, cells.tolist(), strict=True))
            )
        )
        best |= {(p, r, c) for r, c in _best_rows(cells)}
    return Grid(
        f"Mean over subjects, by model. {_notes(selections)}",
        ("Model", "Method"),
        tuple((format_label(s.format).capitalize(), _heads(s)) for s in selections),
        tuple(parts),
        frozenset(best),
    )


def _macro(selection: Selection, model: str, method: str) -> tuple[float, float]:
    if (model, method) not in selection.columns:
        return float("nan"), float("nan")
    j = selection.columns.index((model, method))
    return float(selection.ece([MACRO])[0, j]), float(selection.values("auroc", [MACRO])[0, j])


def _best_rows(cells: np.ndarray) -> Iterator[tuple[int, int]]:
    """(row, column) of the best: lowest in even columns (ECE), highest in odd ones (AUROC)."""
    cells = np.round(cells, 3)  # what prints alike is alike
    for c in range(cells.shape[1]):
        known = cells[:, c][~np.isnan(cells[:, c])]
        if known.size > 1:
            top = known.max() if c % 2 else known.min()
            yield from ((int(r), c) for r in np.flatnonzero(cells[:, c] == top))


def subject_tables(selection: Selection, categories: Mapping[str, str]) -> Iterator[Grid]:
    """For each model: subjects down, by category; methods across."""
    groups = by_category(selection.subjects, categories)
    names = model_labels([m for m, _ in selection.models()])
    sizes = dict(zip(selection.subjects, selection.sizes(), strict=True))
    for model, js in selection.models():
        parts = []
        for _, subjects in ((MACRO, [MACRO]), *groups):
            ece, auroc = selection.ece(subjects)[:, js], selection.values("auroc", subjects)[:, js]
            both = np.stack([ece, auroc], axis=-1).reshape(len(subjects), -1)
            parts.append(
                tuple(
                    (_row_name(s), sizes.get(s, ""), *map(number, row))
                    for s, row in zip(subjects, both.tolist(), strict=True)
                )
            )
        yield Grid(
            f"{names[model]}, {format_label(selection.format)}, by subject. "
            f"{selection.calibration_note()}",
            ("Subject", "n"),
            tuple((method_name(selection.columns[j][1]), _heads(selection)) for j in js),
            tuple(parts),
        )


def _row_name(subject: str) -> str:
    return "Mean" if subject == MACRO else subject_label(subject)


def long_table(scores: pl.DataFrame) -> pl.DataFrame:
    """One number a row: the scores table turned over; what is unknown has no row."""
    key = [*GROUP_COLUMNS, "subject", "n"]
    none = pl.lit(None, dtype=pl.Float64)
    parts = []
    for metric in _METRICS:
        ends = _ENDS.get(metric, (None, None, None))
        columns = {
            name: pl.col(end) if end else none
            for name, end in zip(("low", "high", "floor"), ends, strict=True)
        }
        value = pl.lit(metric).alias("metric"), pl.col(metric).alias("value")
        parts.append(scores.select(*key, *value, **columns).filter(pl.col("value").is_not_null()))
    return pl.concat(parts)


def _parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out, compression="zstd")
    return out.getvalue()

"""What the page's script draws, as plain values for JSON.

Numbers are whole ten-thousandths, tables are flat, row by row; null is unknown. Rows: the mean over
subjects, the mean of each category, the subjects. Columns: model x method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure import intervals, metrics
from howsure.figures import style
from howsure.figures.heatmap import ece_scale
from howsure.figures.labels import (
    BASELINES,
    calibration_label,
    format_label,
    method_colours,
    method_name,
    model_labels,
    one_line,
    subject_label,
)
from howsure.figures.layout import MEAN
from howsure.figures.table import Column, Selection, select_predictions
from howsure.report import differences
from howsure.report.paired import Resampled, resampled
from howsure.report.quantities import Quantity, quantities
from howsure.report.rows import Rows, rows_of, whole
from howsure.scores import MACRO
from howsure.types import Predictions

POINTS = 80
"""Of a risk-coverage curve, at most."""
SUREST = 20
"""Answers from which on a curve is drawn."""
RELIABILITY_NOTE = (
    "All subjects together. Points: the share of correct answers (upwards) among those with about "
    "the same stated probability (to the right), with 95% intervals; on the diagonal they agree. "
    "Grey bars: how many answers a bin holds; bins of fewer than 20 are pale."
)
RISK_NOTE = (
    "All subjects together. To the right all answers are let through, to the left only those with "
    f"the highest probability, from the {SUREST} surest on; lower is better."
)


def page_data(
    sections: Sequence[tuple[Selection, Sequence[Predictions]]], categories: Mapping[str, str]
) -> dict[str, Any]:
    """Everything of the page; each section is a format with its predictions."""
    return {
        "colours": {"blues": style.BLUES, "browns": style.BROWNS},
        "formats": [_format(*section, categories) for section in sections],
    }


def _format(
    selection: Selection, predictions: Sequence[Predictions], categories: Mapping[str, str]
) -> dict[str, Any]:
    rows = rows_of(selection, categories)
    models, methods = [m for m, _ in selection.models()], selection.methods()
    names, colours = model_labels(models), method_colours(methods)
    shown = quantities(selection)
    drawn = _resampled(shown, selection, predictions, rows)
    return {
        "label": format_label(selection.format),
        "models": [{"label": names[m]} for m in models],
        "methods": [
            {
                "label": method_name(m),
                "short": method_name(m, short=True),
                "baseline": m in BASELINES,
                "colour": colours[m],
            }
            for m in methods
        ],
        "columns": [[models.index(a), methods.index(b)] for a, b in selection.columns],
        "categories": [one_line(c) for c in rows.categories],
        "rows": _rows(rows, selection),
        "n": _counts(rows, selection),
        "quantities": [_quantity(q, selection, rows, drawn.get(q.key)) for q in shown],
        "differences": {
            q.key: differences.pairs(q, selection, rows, drawn.get(q.key)) for q in shown
        },
        "reliability": _reliability(selection, predictions),
        "reliabilityNote": RELIABILITY_NOTE,
        "risk": _risk(selection, predictions),
        "riskNote": RISK_NOTE,
    }


def _rows(rows: Rows, selection: Selection) -> list[dict[str, Any]]:
    sizes = dict(zip(selection.subjects, selection.sizes(), strict=True))
    made: list[dict[str, Any]] = [{"kind": "mean", "label": MEAN, "category": None, "n": ""}]
    for c, name in enumerate(rows.categories):
        label = f"Mean of {one_line(name)}"
        made.append({"kind": "category", "label": label, "category": c, "n": ""})
    for subject, category in zip(rows.subjects, rows.category, strict=True):
        row = {"kind": "subject", "label": subject_label(subject), "category": category}
        made.append(row | {"n": sizes[subject], "place": rows.table_place[subject]})
    return [made[i] for i in rows.order()]


def _counts(rows: Rows, selection: Selection) -> list[int | None]:
    n = selection.values("n", rows.subjects)
    groups = np.array([np.nansum(n[g], axis=0) for g in rows.groups])
    flat = np.concatenate([groups, n])[rows.order()].ravel()
    return [None if np.isnan(v) or v == 0 else int(v) for v in flat]


def _resampled(
    shown: Sequence[Quantity],
    selection: Selection,
    predictions: Sequence[Predictions],
    rows: Rows,
) -> dict[str, Resampled]:
    """By the quantity's key; empty where nothing is known of single answers."""
    if not any(len(p) for p in predictions):
        return {}
    wanted = {}
    for q in shown:
        chosen = select_predictions(predictions, selection.format, plain=q.plain)
        known = {c: p for c, p in chosen.items() if c in selection.columns}
        if known:
            wanted[q.key] = (q.metric, known)
    return resampled(wanted, rows.subjects)


def _quantity(
    q: Quantity, selection: Selection, rows: Rows, drawn: Resampled | None
) -> dict[str, Any]:
    subjects = [MACRO, *rows.subjects]
    parts = {"value": q.values(selection, subjects)}
    for end in ("low", "high", "floor"):
        extra = q.extra(end, selection, subjects)
        if extra is not None and not np.isnan(extra).all():
            parts[end] = extra
    means = {name: _category_means(table[1:], rows) for name, table in parts.items()}
    if {"low", "high"} <= parts.keys():
        means["low"], means["high"] = _category_intervals(q, selection, rows, means, drawn)
    tables = {
        name: np.concatenate([table[:1], means[name], table[1:]])[rows.order()]
        for name, table in parts.items()
    }
    return {
        "key": q.key,
        "metric": q.metric,
        "label": q.label,
        "better": q.better,
        "ends": ece_scale(parts["value"]) if q.metric in ("ece", "ece_decision") else q.ends,
        "note": "" if q.metric == "accuracy" else q.calibration(selection),
        **{name: whole(table) for name, table in tables.items()},
    }


def _category_means(table: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """(categories, columns) from (subjects, columns)."""
    out = np.full((len(rows.categories), table.shape[1]), np.nan)
    for c, members in enumerate(rows.groups[1:]):
        for j in range(table.shape[1]):
            known = table[members, j][~np.isnan(table[members, j])]
            out[c, j] = known.mean() if len(known) else np.nan
    return out


def _category_intervals(
    q: Quantity,
    selection: Selection,
    rows: Rows,
    means: Mapping[str, NDArray[np.float64]],
    drawn: Resampled | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As those of the macro row; NaN where no predictions are known."""
    low, high = (np.full_like(means["value"], np.nan) for _ in range(2))
    if drawn is None:
        return low, high
    for j, column in enumerate(selection.columns):
        if column not in drawn.columns:
            continue
        at = drawn.columns.index(column)
        for c, members in enumerate(rows.groups[1:]):
            known = [s for s in members if not np.isnan(drawn.values[s, at])]
            found = _interval(q, float(means["value"][c, j]), known, column, drawn)
            if found is not None:
                low[c, j], high[c, j] = found.low, found.high
    return low, high


def _interval(
    q: Quantity, value: float, subjects: Sequence[int], column: Column, drawn: Resampled
) -> intervals.Interval | None:
    if not subjects or np.isnan(value):
        return None
    replicates = drawn.replicates[subjects, drawn.columns.index(column)]
    if q.metric == "ece":
        return intervals.ece_interval(value, replicates.mean(axis=0))
    whole_ones = [intervals.redrawn(r) for r in replicates]
    known = [r for r in whole_ones if r is not None]
    if len(known) < len(whole_ones):
        return None
    labels = [drawn.cells[drawn.subjects[s], column].y for s in subjects]
    rarer = [int(min(y.sum(), (~y).sum())) for y in labels]
    return intervals.auroc_interval(value, known, rarer)


def _reliability(selection: Selection, predictions: Sequence[Predictions]) -> list[dict[str, Any]]:
    if not any(len(p) for p in predictions):
        return []
    sides = [select_predictions(predictions, selection.format, plain=x) for x in (False, True)]
    out = []
    for before, chosen in zip((False, True), sides, strict=True):
        for column, p in chosen.items():
            if column in selection.columns:
                both = sides[0][column].calibration != sides[1][column].calibration
                out.append(_diagram(selection.columns.index(column), before, both, p))
    return [d for d in out if d["both"] or not d["before"]]


def _diagram(column: int, before: bool, both: bool, p: Predictions) -> dict[str, Any]:
    bins = []
    for b in metrics.reliability(p.p_correct, p.is_correct):
        parts = whole(np.array([b.mean_p, b.accuracy, b.accuracy_low, b.accuracy_high]))
        bins.append([round(b.lower * metrics.BINS), b.count, *parts])
    (ece,) = whole(np.array([metrics.ece(p.p_correct, p.is_correct)]))
    made = {"column": column, "before": before, "both": both, "ece": ece, "n": len(p)}
    return made | {"calibration": calibration_label(p.calibration), "bins": bins}


def _risk(selection: Selection, predictions: Sequence[Predictions]) -> list[dict[str, Any]]:
    if not any(len(p) for p in predictions):
        return []
    out = []
    for column, p in select_predictions(predictions, selection.format, plain=True).items():
        if column in selection.columns:
            curve = metrics.risk_coverage(p.p_correct, p.is_correct)
            at = np.linspace(min(SUREST, len(p)) - 1, len(p) - 1, POINTS).astype(int)
            at = np.unique(at)
            parts = {"coverage": whole(curve.coverage[at]), "risk": whole(curve.risk[at])}
            out.append({"column": selection.columns.index(column), **parts})
    return out

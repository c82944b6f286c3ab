"""What the page says of one format: sentences and tables, made from the scores and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from howsure.figures.labels import (
    BASELINES,
    format_label,
    method_name,
    model_labels,
    one_line,
    subject_label,
)
from howsure.figures.table import Selection
from howsure.report.parts import Cell, Headline, HeadlineRow, Said, Table
from howsure.report.statements import CONTRADICTED, SUPPORTED, Statement
from howsure.report.text import UNKNOWN, count, interval, listed, number, signed
from howsure.scores import MACRO, POOLED

EXAMPLES = 6
"""Cells that are named for each reason of an exclusion."""

REASONS = {
    "single_class": "AUROC undefined: all answers are correct, or all are wrong",
    "auroc_interval_undefined": "no interval for AUROC: too few correct or too few wrong answers",
    "ece_not_published": "the source has no ECE of the plain kind, no intervals and no floor",
    "auroc_not_published": "the source has no AUROC here",
    "auroc_excluded": "subjects left out of the mean AUROC because it is undefined there",
    "ece_decision_excluded": "subjects left out of the mean ECE because the source has none there",
}


def said(made: Sequence[Statement]) -> list[tuple[str, list[Said]]]:
    """(format, its statements)."""
    kinds = {SUPPORTED: "yes", CONTRADICTED: "no"}
    groups: dict[str, list[Said]] = {}
    for s in made:
        ends = f", {signed(s.interval[0])} to {signed(s.interval[1])}" if s.interval else ""
        figures = (
            f"{s.metric} better by {signed(s.estimate)}{ends}; holds in "
            f"{100 * s.share_of_wins:.1f}% of {count(s.n, 'cell')} ({s.units}) and in {s.holds_in}"
        )
        found = Said(s.statement, s.verdict, kinds.get(s.verdict, "open"), figures, s.note)
        groups.setdefault(format_label(s.format), []).append(found)
    return list(groups.items())


def headline(selection: Selection, row: str = MACRO) -> tuple[tuple[str, ...], Headline]:
    """Column names, and for each model its rows: of the means (macro), or POOLED."""
    values = {
        name: selection.values(name, [row])[0]
        for name in ("accuracy", "auroc", "auroc_low", "auroc_high", "brier")
    }
    for name in ("ece_low", "ece_high", "ece_floor"):
        values[name] = selection.ece_extra(name, [row])[0]
    values["ece"] = selection.ece([row])[0]
    names = model_labels([model for model, _ in selection.models()])
    groups = []
    for model, columns in selection.models():
        best = {
            "ece": _best(values["ece"][columns], np.nanmin),
            "auroc": _best(values["auroc"][columns], np.nanmax),
            "brier": _best(values["brier"][columns], np.nanmin),
        }
        rows = [
            HeadlineRow(
                method_name(selection.columns[j][1]),
                selection.columns[j][1] in BASELINES,
                _headline_cells({name: float(v[j]) for name, v in values.items()}, best),
            )
            for j in columns
        ]
        groups.append((names[model], rows))
    headings = ("Accuracy", selection.ece_name, "ECE noise floor", "AUROC", "Brier")
    return _without_empty(headings, groups)


def _without_empty(columns: tuple[str, ...], groups: Headline) -> tuple[tuple[str, ...], Headline]:
    """Without the columns that hold no number at all."""
    cells = [row.cells for _, rows in groups for row in rows]
    keep = [i for i in range(len(columns)) if any(row[i].text != UNKNOWN for row in cells)]
    kept = [
        (model, [replace(row, cells=tuple(row.cells[i] for i in keep)) for row in rows])
        for model, rows in groups
    ]
    return tuple(columns[i] for i in keep), kept


def _best(values: np.ndarray, pick: Callable[[np.ndarray], float]) -> str:
    known = values[~np.isnan(values)]
    return number(float(pick(known))) if len(known) > 1 else ""


def _headline_cells(value: Mapping[str, float], best: Mapping[str, str]) -> tuple[Cell, ...]:
    def cell(name: str) -> Cell:
        text = number(value[name])
        low, high = value.get(f"{name}_low"), value.get(f"{name}_high")
        return Cell(text, interval(low, high), text == best.get(name))

    return (
        cell("accuracy"),
        cell("ece"),
        Cell(number(value["ece_floor"])),
        cell("auroc"),
        cell("brier"),
    )


def sentences(selection: Selection) -> str:
    """What one sees, in two sentences."""
    models, methods = selection.models(), selection.methods()
    tried = [m for m in methods if m not in BASELINES]
    plain = len(methods) - len(tried)
    by = [count(len(tried), "method")] if tried else []
    by += [count(plain, "plain baseline")] if plain else []
    n = selection.values("n", selection.subjects).max(axis=1)
    first = (
        f"Each answer of {count(len(models), 'model')} to {count(int(n.sum()), 'question')} on "
        f"{count(len(selection.subjects), 'subject')} was given a probability of being correct, "
        f"by {listed(by)}."
    )
    return f"{first} {_comparison(selection)}".strip()


def _comparison(selection: Selection) -> str:
    auroc = mean_by_method(selection, selection.values("auroc", [MACRO])[0])
    ece = mean_by_method(selection, selection.ece([MACRO])[0])
    floor = mean_by_method(selection, selection.ece_extra("ece_floor", [MACRO])[0])
    parts = []
    if auroc:
        top = max(auroc, key=lambda m: auroc[m])
        shown = [f"AUROC {number(auroc[top])}, 0.5 is chance"]
        shown += _others(auroc, top, max)
        parts.append((top, "tells right answers from wrong ones best", "; ".join(shown)))
    if ece:
        top = min(ece, key=lambda m: ece[m])
        above = f", its noise floor {number(floor[top])}" if top in floor else ""
        shown = [f"{selection.ece_name} {number(ece[top])}{above}", *_others(ece, top, min)]
        parts.append((top, "states the probabilities nearest to the truth", "; ".join(shown)))
    if not parts:
        return ""
    if len(selection.methods()) == 1:  # nothing to be best of
        (top, *_), figures = parts[0], "; ".join(shown for *_, shown in parts)
        said = f"{method_name(top)} has {figures}"
    else:
        said = ", and ".join(f"{method_name(top)} {text} ({shown})" for top, text, shown in parts)
    return f"On average over models and subjects, {said}."


def _others(values: Mapping[str, float], top: str, pick: Callable[..., str]) -> list[str]:
    """The best that is no baseline, where a baseline is best of all, and Zero-Shot."""
    methods = [m for m in values if m not in BASELINES]
    best = [pick(methods, key=lambda m: values[m])] if top in BASELINES and methods else []
    named = dict.fromkeys([*best, *(m for m in methods if m == "zero_shot" and m != top)])
    return [f"{method_name(m)} {number(values[m])}" for m in named]


def mean_by_method(selection: Selection, values: np.ndarray) -> dict[str, float]:
    """Mean over models of each method that every model has a value of."""
    out = {}
    for method in selection.methods():
        mine = values[[m == method for _, m in selection.columns]]
        if len(mine) == len(selection.models()) and not np.isnan(mine).any():
            out[method] = float(mine.mean())
    return out


_DETAILS = {
    "n": "n",
    "accuracy": "Accuracy",
    "ece": "ECE",
    "ece_floor": "Noise floor",
    "ece_decision": "ECE of the decision",
    "auroc": "AUROC",
    "brier": "Brier",
    "nll": "NLL",
    "aurc": "AURC",
    "note": "Note",
}


def details(scores: pl.DataFrame, format: str) -> list[tuple[str, Table]]:
    """For each model, all its rows in this format; columns that are empty everywhere left out."""
    rows = scores.filter(pl.col("format") == format)
    filled = [c for c in _DETAILS if (rows[c].cast(pl.String).fill_null("") != "").any()]
    names = model_labels(rows["model"].unique(maintain_order=True).to_list())
    columns = ("Subject", "Method", "Calibration", *(_DETAILS[c] for c in filled))
    parts = rows.partition_by("model", maintain_order=True, as_dict=True)
    return [
        (
            names[model],
            Table(columns, tuple(_detail(r, filled) for r in part.iter_rows(named=True))),
        )
        for (model,), part in parts.items()
    ]


def _detail(row: Mapping[str, object], columns: Sequence[str]) -> tuple[str, ...]:
    subject = str(row["subject"])
    label = subject if subject in (MACRO, POOLED) else subject_label(subject)
    texts = [label, method_name(str(row["method"])), one_line(str(row["calibration"]))]
    for column in columns:
        value = row[column]
        if column == "note":
            texts.append(str(value or "").replace(";", "; "))
        elif isinstance(value, int):
            texts.append(str(value))
        else:
            texts.append(_with_interval(row, column))
    return tuple(texts)


def _with_interval(row: Mapping[str, object], column: str) -> str:
    value, low, high = (row.get(f"{column}{end}") for end in ("", "_low", "_high"))
    text = number(value if isinstance(value, float) else None)
    if isinstance(low, float) and isinstance(high, float):
        text += f" ({interval(low, high)})"
    return text


def exclusions(scores: pl.DataFrame) -> list[tuple[str, int, str]]:
    """(reason, how many rows have it, which for example) of every note in the table."""
    found: dict[str, list[str]] = {}
    noted = scores.filter(pl.col("note").fill_null("") != "")
    columns = ("note", "subject", "model", "method", "format")
    for note, subject, model, method, format in noted.select(columns).iter_rows():
        label = subject if subject in (MACRO, POOLED) else subject_label(subject)
        place = f"{label} ({one_line(model)}, {method_name(method)}, {one_line(format)})"
        for part in note.split(";"):
            found.setdefault(part.split("=")[0].strip(), []).append(place)
    return [
        (REASONS.get(reason, one_line(reason)), len(places), _examples(places, scores.height))
        for reason, places in found.items()
    ]


def _examples(places: Sequence[str], rows: int) -> str:
    if len(places) == rows:
        return "every row of the table"
    distinct = list(dict.fromkeys(places))  # a cell may have rows before and after scaling
    return "; ".join(distinct[:EXAMPLES]) + ("; …" if len(distinct) > EXAMPLES else "")

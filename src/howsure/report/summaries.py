"""The page's smaller tables: by category, what may go out unread, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from howsure import metrics
from howsure.figures.labels import method_name, model_labels, one_line
from howsure.figures.table import Selection, by_category, select_predictions
from howsure.notebook import card
from howsure.report.parts import Table
from howsure.report.text import UNKNOWN, interval, number
from howsure.scores import MACRO
from howsure.types import Predictions

COVERAGES = (1.0, 0.95, 0.9, 0.8)
_COST_COLUMNS = (
    *("Stage", "Model and format", "Seconds per question", "Tokens per question"),
    *("Seconds in all", "Questions"),
)


def categories_table(selection: Selection, categories: Mapping[str, str]) -> Table | None:
    """Means over the subjects of each category and all models; None without categories."""
    if not categories:
        return None
    columns = ["Category", "Subjects", "Accuracy"]
    columns += [f"{method_name(m)}: {selection.ece_name}, AUROC" for m in selection.methods()]
    rows = []
    for heading, subjects in by_category(selection.subjects, categories):
        parts = [selection.values("accuracy", subjects), selection.ece(subjects)]
        parts.append(selection.values("auroc", subjects))
        row = [one_line(heading), str(len(subjects)), number(_mean(parts[0]))]
        for method in selection.methods():
            mine = [m == method for _, m in selection.columns]
            row.append(f"{number(_mean(parts[1][:, mine]))}, {number(_mean(parts[2][:, mine]))}")
        rows.append(tuple(row))
    return Table(tuple(columns), tuple(rows))


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def selective_table(selection: Selection, predictions: Sequence[Predictions]) -> Table | None:
    """The accuracy of the surest answers by model and method; None without predictions."""
    if not any(len(p) for p in predictions):
        return None
    chosen = select_predictions(predictions, selection.format, plain=True)
    names = model_labels([model for model, _ in chosen])
    rows = [
        (names[model], method_name(method), *(_selective(p, c) for c in COVERAGES))
        for (model, method), p in chosen.items()
    ]
    shares = ("all answers", *(f"surest {c:.0%}" for c in COVERAGES[1:]))
    return Table(("Model", "Method", *shares), tuple(rows))


def _selective(p: Predictions, coverage: float) -> str:
    """With its Wilson interval, the threshold taken as given."""
    accuracy = metrics.selective_accuracy(p.p_correct, p.is_correct, coverage)
    n = max(1, math.ceil(coverage * len(p) - 1e-9))
    return f"{number(accuracy)} ({interval(*metrics.wilson(round(accuracy * n), n))})"


def cost_tables(run_card: Mapping[str, Any]) -> list[Table]:
    """Seconds (and tokens, where the run counted them) by method and stage; [] if unknown.

    First each stage over all models, where there are several; then all of it. Answering and
    predicting are per question, over test and validation questions; fitting is the whole fit.
    `run.json` has them as `seconds.by_unit` and `tokens.by_unit`.
    """
    parts = [p for p in (run_card, *run_card.values()) if isinstance(p, Mapping)]
    costs = sorted((c for part in parts for c in _costs(part)), key=lambda c: _stage_order(c.stage))
    if not costs:
        return []
    counted = any(c.tokens is not None for c in costs)
    keep = [i for i in range(len(_COST_COLUMNS)) if counted or i != 3]

    def table(rows: Sequence[_Cost]) -> Table:
        cells = [c.cells() for c in rows]
        named = tuple(_COST_COLUMNS[i] for i in keep)
        return Table(named, tuple(tuple(row[i] for i in keep) for row in cells))

    by_stage: dict[str, list[_Cost]] = {}
    for cost in costs:
        by_stage.setdefault(cost.stage, []).append(cost)
    means = [_together(same) for same in by_stage.values()]
    return [table(costs)] if len(means) == len(costs) else [table(means), table(costs)]


@dataclass(frozen=True, slots=True)
class _Cost:
    """What one stage took; over `n` questions, 0 where that is no measure of it."""

    stage: str
    unit: str
    seconds: float
    tokens: float | None
    n: int

    def cells(self) -> tuple[str, ...]:
        return (
            self.stage,
            self.unit,
            number(self.seconds / self.n, 4) if self.n else UNKNOWN,
            number(self.tokens / self.n, 1) if self.n and self.tokens is not None else UNKNOWN,
            number(self.seconds, 1),
            f"{self.n:,}" if self.n else UNKNOWN,
        )


def _together(same: Sequence[_Cost]) -> _Cost:
    """Of one stage over its units."""
    read = [c.tokens for c in same if c.tokens is not None]
    return _Cost(
        same[0].stage,
        f"all {len(same)}" if len(same) > 1 else same[0].unit,
        sum(c.seconds for c in same),
        sum(read) if len(read) == len(same) else None,
        sum(c.n for c in same) if all(c.n for c in same) else 0,
    )


def _costs(run_card: Mapping[str, Any]) -> Iterator[_Cost]:
    seconds, tokens = (_by_unit(run_card, name) for name in ("seconds", "tokens"))
    units = run_card.get("units")
    for unit, stages in seconds.items():
        facts = units.get(unit, {}) if isinstance(units, Mapping) else {}
        for stage, value in stages.items():
            if not isinstance(value, int | float):
                continue
            used = tokens.get(unit, {}).get(stage)
            read = float(used) if isinstance(used, int | float) else None
            name, n = _stage_name(stage), _questions(stage, facts)
            yield _Cost(name, one_line(unit), float(value), read, n)


def _by_unit(run_card: Mapping[str, Any], name: str) -> Mapping[str, Mapping[str, Any]]:
    part = run_card.get(name)
    found = part.get("by_unit") if isinstance(part, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {str(unit): stages for unit, stages in found.items() if isinstance(stages, Mapping)}


def _questions(stage: str, facts: Any) -> int:
    """How many questions a stage went through; 0 where that is no measure of it."""
    answers = facts.get("answers") if isinstance(facts, Mapping) else None
    if not isinstance(answers, Mapping):
        return 0
    n = {k: v.get("answers", 0) for k, v in answers.items() if isinstance(v, Mapping)}
    verb, _, what = stage.partition(" ")
    if verb == "answer":
        return int(n.get(what, 0))
    if verb == "predict":
        return int(n.get("test", 0) + n.get("validation", 0))
    return int(n.get("training", 0)) if verb == "fit" else 0


def _stage_name(stage: str) -> str:
    verb, _, what = stage.partition(" ")
    names = {"answer": f"Answer, {what}", "predict": f"Estimate: {method_name(what)}"}
    names |= {"fit": f"Fit: {method_name(what)}", "load": "Load the model"}
    return names.get(verb, one_line(stage))


def _stage_order(name: str) -> int:
    order = ("Load", "Answer", "Fit", "Estimate")
    return next((i for i, word in enumerate(order) if name.startswith(word)), len(order))


def scores_card(title: str, scores: pl.DataFrame, lines: Sequence[str] = ()) -> str:
    """The means of a scores table, for a notebook."""
    names = ("model", "method", "calibration", "format", "n", "accuracy", "ece", "auroc", "brier")
    rows = scores.filter(pl.col("subject") == MACRO).select(names).iter_rows()
    told = [tuple(number(v) if isinstance(v, float) else str(v) for v in row) for row in rows]
    return card(title, [*lines, "Means over subjects (macro)"], names, told)

"""The answers that most contradict what was stated of them: surely wrong, and hardly right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from howsure.figures.labels import calibration_label, method_name, model_labels, subject_label
from howsure.figures.table import Selection, select_predictions
from howsure.report.parts import Surprise
from howsure.report.text import number, shortened
from howsure.report.views import mean_by_method
from howsure.scores import MACRO
from howsure.types import Predictions

EXTREMES = 12
"""About how many of the surest wrong answers are listed."""


def surprises(
    predictions: Sequence[Predictions],
    selection: Selection,
    questions: Mapping[str, str],
    *,
    correct: bool,
) -> tuple[str, list[Surprise]]:
    """The method with the best AUROC, and its surest wrong (least sure right) answers.

    As many of each model; empty where no answer's text is known.
    """
    auroc = mean_by_method(selection, selection.values("auroc", [MACRO])[0])
    if not any(len(p) for p in predictions):
        return "", []
    chosen = select_predictions(predictions, selection.format, plain=False)
    known = {c: p for c, p in chosen.items() if p.answers and c[1] in auroc}
    if not known:
        return "", []
    method = max((m for _, m in known), key=lambda m: auroc[m])
    mine = [p for (_, m), p in known.items() if m == method]
    each = max(1, EXTREMES // len(mine))
    names = model_labels([p.model for p in mine])
    found = [(p, i) for p in mine for i in _extreme(p, correct, each)]
    found.sort(key=lambda at: at[0].p_correct[at[1]] * (1 if correct else -1))
    of = f"{method_name(method)}, {calibration_label(mine[0].calibration)}"
    return of, [_surprise(p, i, names[p.model], questions) for p, i in found]


def _extreme(p: Predictions, correct: bool, k: int) -> list[int]:
    at = np.flatnonzero(p.is_correct == correct)
    order = np.argsort(p.p_correct[at] if correct else -p.p_correct[at], kind="stable")
    return [int(i) for i in at[order][:k]]


def _surprise(p: Predictions, i: int, model: str, questions: Mapping[str, str]) -> Surprise:
    return Surprise(
        p_correct=number(float(p.p_correct[i])),
        model=model,
        subject=subject_label(p.subjects[i]),
        id=shortened(p.ids[i]),
        question=shortened(questions.get(p.ids[i], "")),
        answer=shortened(p.answers[i]),
    )


def asked_about(predictions: Sequence[Predictions], questions: Mapping[str, str]) -> dict[str, str]:
    """The questions that a page of any of these predictions could show: id → text."""
    found = dict.fromkeys(
        p.ids[i]
        for p in predictions
        if p.answers
        for correct in (False, True)
        for i in _extreme(p, correct, EXTREMES)
    )
    return {name: questions[name] for name in found if name in questions}

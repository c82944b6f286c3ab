"""What a candidate costs per question: as the run measured it, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from howsure.errors import UnknownName, UsageError

Key = tuple[str, str, str]
"""(model, method, format)."""


def measured_seconds(card: Mapping[str, Any] | None) -> dict[Key, float]:
    """Seconds per question to answer it and to say how sure that is, from a run's `run.json`.

    The stages `answer test` and `predict METHOD` of `seconds.by_unit`, over the answers that
    `units` counts (predictions are made of validation answers too). Empty where a card has none.
    """
    seconds, units = _mapping(_mapping(card, "seconds"), "by_unit"), _mapping(card, "units")
    found: dict[Key, float] = {}
    for unit, stages in seconds.items():
        if not isinstance(stages, Mapping):
            continue
        counts = _mapping(units.get(unit), "answers")
        test, valid = (_number(_mapping(counts, s), "answers") for s in ("test", "validation"))
        answering = _number(stages, "answer test")
        model, _, form = str(unit).rpartition(" (")
        if not test or answering is None or not form.endswith(")"):
            continue
        for stage in stages:
            verb, _, method = str(stage).partition(" ")
            spent = _number(stages, stage)
            if verb == "predict" and spent is not None:
                each = answering / test + spent / (test + (valid or 0.0))
                found[model, method, form[:-1]] = each
    return found


def stated_costs(given: Sequence[str], models: Sequence[str]) -> dict[str, float]:
    """Model → cost per question, of `--cost MODEL=X`. Raises UnknownName, UsageError."""
    found: dict[str, float] = {}
    for text in given:
        model, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not model or not 0.0 <= value < 1e12:
            raise UsageError(f"--cost {text!r}: give MODEL=X, with X a number of at least 0")
        if model not in models:
            raise UnknownName("model", model, models, "(--cost)")
        found[model] = value
    return found


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _number(value: Any, name: str) -> float | None:
    found = value.get(name) if isinstance(value, Mapping) else None
    return float(found) if isinstance(found, int | float) else None

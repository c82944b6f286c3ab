"""Predictions and a wish → candidates ranked and told apart, each with its threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from howsure.choose.application import Application, mix
from howsure.choose.candidates import Candidate, candidates
from howsure.choose.compare import Behind, behind_the_first
from howsure.choose.costs import Key
from howsure.choose.guarantee import START, Threshold, on_average, promised, questions_needed
from howsure.choose.limits import affordable, complete, of_format
from howsure.choose.ranking import HeldOut, held_out
from howsure.intervals import Interval
from howsure.types import Predictions


@dataclass(frozen=True, slots=True)
class Ranked:
    """One model with one method, and what it does for the application."""

    model: str
    method: str
    calibration: str
    coverage: float
    """Of the held-out folds, at thresholds picked on the others; in [0, 1]."""
    coverage_interval: Interval
    accuracy: float | None
    """Of what was let through there; None where that was nothing."""
    accuracy_interval: Interval | None
    behind: Behind
    """How far behind the first, in the quantity that ranks."""
    promised: Threshold | None
    """At the level that `Choice.level` says; None where nothing can be promised yet."""
    on_average: Threshold | None
    """Keeps the target accuracy on average over samples; None without a target."""
    needed: int | None
    """About how many questions it takes to promise some threshold; None where none is in sight."""
    cost: float | None
    """Per question, in `Choice.cost_unit`; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates in their order, the best first."""

    wish: Application
    format: str
    ranked: tuple[Ranked, ...]
    subjects: tuple[str, ...]
    n: int
    """Questions that the candidates are compared on."""
    tested: int
    """Questions that thresholds are tested on: fewer than n where subjects have weights."""
    level: float
    """Of each candidate's promise: `wish.alpha` shared among all candidates, so that all promises
    hold together, whichever is taken."""
    cost_unit: str
    notes: tuple[str, ...]
    """What was left out, and why; what was assumed."""

    @property
    def first(self) -> Ranked:
        return self.ranked[0]

    @property
    def taken(self) -> Ranked | None:
        """The first of those not told apart from the first of which something is promised."""
        return next((r for r in (self.first, *self.equals) if r.promised), None)

    @property
    def equals(self) -> tuple[Ranked, ...]:
        """Those that the data can't tell from the first."""
        return tuple(r for r in self.ranked[1:] if not r.behind.told_apart)


def choose(
    predictions: Sequence[Predictions],
    wish: Application,
    *,
    categories: Mapping[str, str] | None = None,
    costs: Mapping[Key, float] | None = None,
    cost_unit: str = "s",
    format: str | None = None,
    seed: int = 0,
) -> Choice:
    """Ranks model × method for a wish, and recommends a threshold for each.

    All candidates must have been asked the same questions (by id and subject). One format is looked
    at: `format`, or the first one. `categories` (subject → category) may be named in
    `wish.subjects`; `costs` are per question, by (model, method, format). Raises UsageError for a
    wish that the predictions can't answer.
    """
    mine, form, notes = of_format(predictions, format)
    counts = Counter(s for p in mine for s in p.subjects)
    met = mix(wish.subjects, counts, categories or {})
    questions, found, left_out = candidates(mine, met, costs or {})
    found, too_dear = affordable(found, wish, cost_unit)
    found, too_few = complete(found, questions, wish)
    notes += [*left_out, *too_dear, *too_few]
    rows = questions.as_met(np.random.default_rng(seed))
    if len(rows) < len(questions):
        notes.append(
            f"thresholds are tested on {len(rows):,} of the questions, drawn so that subjects are "
            "as frequent as their weights say"
        )
    level = wish.alpha / len(found)
    ranking = _ranked(
        list(zip(found, held_out(found, questions, wish, seed=seed), strict=True)), wish
    )
    behind = behind_the_first(*_ranking([m for _, m in ranking], wish))
    ranked = tuple(
        _row(c, m, b, rows, wish, level) for (c, m), b in zip(ranking, behind, strict=True)
    )
    subjects = tuple(dict.fromkeys(questions.subjects))
    return Choice(
        wish, form, ranked, subjects, len(questions), len(rows), level, cost_unit, tuple(notes)
    )


def _ranked(
    measured: Sequence[tuple[Candidate, HeldOut]], wish: Application
) -> list[tuple[Candidate, HeldOut]]:
    """The best first; of equals, the cheaper one."""

    def key(one: tuple[Candidate, HeldOut]) -> tuple[float, float]:
        value = _ranking([one[1]], wish)[0][0]
        return (-round(value, 12), math.inf if one[0].cost is None else one[0].cost)

    return sorted(measured, key=key)


def _ranking(
    measured: Sequence[HeldOut], wish: Application
) -> tuple[list[float], list[np.ndarray]]:
    """What ranks, and its resamples: coverage at the target, or accuracy at the coverage."""
    if wish.by_coverage:
        return [m.coverage for m in measured], [m.coverages for m in measured]
    values = [m.accuracy or 0.0 for m in measured]
    pairs = zip(measured, values, strict=True)
    return values, [np.where(np.isnan(m.accuracies), v, m.accuracies) for m, v in pairs]


def _row(
    c: Candidate,
    measured: HeldOut,
    behind: Behind,
    rows: np.ndarray,
    wish: Application,
    level: float,
) -> Ranked:
    p, y, target = c.p[rows], c.y[rows], wish.target_accuracy
    needed = average = None
    if target is not None:
        start = max(START, wish.min_coverage or 0.0)
        needed = questions_needed(p, y, target=target, alpha=level, start=start)
        average = on_average(p, y, target=target)
    return Ranked(
        c.model,
        c.method,
        c.calibration,
        measured.coverage,
        measured.coverage_interval(),
        measured.accuracy,
        measured.accuracy_interval(),
        behind,
        promised(p, y, target=target, coverage=wish.min_coverage, alpha=level),
        average,
        needed,
        c.cost,
    )

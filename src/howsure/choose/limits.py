"""Which predictions and candidates come into question at all, and sentences on those that don't."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from howsure.choose.application import Application
from howsure.choose.candidates import Candidate, Questions
from howsure.errors import UsageError
from howsure.types import Predictions


def of_format(
    predictions: Sequence[Predictions], format: str | None
) -> tuple[list[Predictions], str, list[str]]:
    """The predictions of one format, its name, and a sentence where that was a decision."""
    formats = list(dict.fromkeys(p.format for p in predictions))
    if not formats:
        raise UsageError("no predictions to choose from; give a run directory")
    if format is not None and format not in formats:
        raise UsageError(f"--format is {format!r}; the predictions are of {', '.join(formats)}")
    taken = format or formats[0]
    said = []
    if format is None and len(formats) > 1:
        others = " or ".join(f"--format {f}" for f in formats if f != taken)
        said.append(f"answers are those of the format {taken!r}; {others} looks at the others")
    return [p for p in predictions if p.format == taken], taken, said


def affordable(
    found: Sequence[Candidate], wish: Application, unit: str
) -> tuple[list[Candidate], list[str]]:
    """Those within the cost limit; a cost that nobody knows is not within it."""
    if wish.max_cost is None:
        return list(found), []
    if all(c.cost is None for c in found):
        raise UsageError(
            "--max-cost is given, but no cost is known: only a run directory (run.json) has "
            "seconds; give costs per question with --cost MODEL=X"
        )
    within = [c.cost is not None and c.cost <= wish.max_cost for c in found]
    if not any(within):
        least = min(c.cost for c in found if c.cost is not None)
        raise UsageError(
            f"--max-cost is {wish.max_cost:g}, but the cheapest candidate costs {least:g} per "
            "question; raise it"
        )
    costs = [
        "an unknown amount" if c.cost is None else f"{c.cost:.3g} {unit}".strip() for c in found
    ]
    said = [
        f"{c.name}: costs {cost} per question, so it is left out"
        for c, cost, ok in zip(found, costs, within, strict=True)
        if not ok
    ]
    return list(compress(found, within)), said


def complete(
    found: Sequence[Candidate], questions: Questions, wish: Application
) -> tuple[list[Candidate], list[str]]:
    """Those with confidences for as many questions as must be let through."""
    if wish.min_coverage is None:
        return list(found), []
    share = [float(questions.weights[np.isfinite(c.p)].sum() / len(questions)) for c in found]
    enough = [s >= wish.min_coverage - 1e-9 for s in share]
    if not any(enough):
        raise UsageError(
            f"--min-coverage is {wish.min_coverage:g}, but the most complete candidate has "
            f"confidences for {max(share):.3f} of the questions; lower it"
        )
    said = [
        f"{c.name}: has a confidence for {s:.1%} of the questions only, so it is left out"
        for c, s, ok in zip(found, share, enough, strict=True)
        if not ok
    ]
    return list(compress(found, enough)), said

"""A Choice in words: sentences and a table, for the terminal and the page, and plain JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from howsure.choose.application import Application
from howsure.choose.choice import Choice, Ranked
from howsure.choose.guarantee import Threshold
from howsure.figures.labels import (
    calibration_label,
    format_label,
    method_name,
    model_labels,
    one_line,
)
from howsure.intervals import Interval
from howsure.report.parts import Extra, Table
from howsure.report.text import UNKNOWN, count, listed

NEEDED_AT_MOST = 200_000
"""More questions than that are called out of sight."""


def headline(choice: Choice) -> str:
    """What was asked of whom."""
    models = len({r.model for r in choice.ranked})
    return (
        f"{count(len(choice.ranked), 'candidate')} ({count(models, 'model')}) on "
        f"{choice.n:,} {format_label(choice.format)} of {count(len(choice.subjects), 'subject')}. "
        f"Wanted: {_wanted(choice.wish)}."
    )


def _wanted(wish: Application) -> str:
    parts = []
    if wish.target_accuracy is not None:
        parts.append(f"{_share(wish.target_accuracy)} of the answers let through are correct")
    if wish.min_coverage is not None:
        parts.append(f"at least {_share(wish.min_coverage)} of the answers are let through")
    return " and ".join(parts)


def columns(choice: Choice) -> tuple[str, ...]:
    """Headings of `cells`."""
    unit = f" ({choice.cost_unit})" if choice.cost_unit else ""
    cost = (f"Cost{unit}",) if any(r.cost is not None for r in choice.ranked) else ()
    return ("Model", "Method", "", "Lets through", "Right", *cost, "From p", "Promised")


def cells(choice: Choice, *, short: bool = False) -> list[tuple[str, ...]]:
    """A row per candidate, the best first; `short` for a terminal's width."""
    costs = any(r.cost is not None for r in choice.ranked)
    names = model_labels([r.model for r in choice.ranked])
    return [
        (
            names[r.model],
            method_name(r.method, short=short),
            "same?" if short and _verdict(choice, r) == "can't tell" else _verdict(choice, r),
            _with_ends(r.coverage, r.coverage_interval, short, choice.wish.by_coverage),
            _with_ends(r.accuracy, r.accuracy_interval, short, not choice.wish.by_coverage),
            *((UNKNOWN if r.cost is None else f"{r.cost:.2g}",) if costs else ()),
            f"{r.promised.value:.3f}" if r.promised else UNKNOWN,
            _promise(choice.wish, r.promised) if r.promised else _lacking(choice, r),
        )
        for r in choice.ranked
    ]


def explained(choice: Choice) -> str:
    """What the columns hold."""
    promised = "of what is let through so much is right, provably"
    if choice.wish.by_coverage:
        promised = "so many are let through there, and the target is proven"
    return (
        "Lets through, Right: in held-out folds, with 95% intervals; same?, can't tell: not told "
        f"apart from the first. From p, Promised: a threshold, and {promised}."
    )


def _verdict(choice: Choice, row: Ranked) -> str:
    if row is choice.first:
        return "first"
    return "lower" if row.behind.told_apart else "can't tell"


def _promise(wish: Application, found: Threshold) -> str:
    """What a threshold lets through, or how right that is: the one that isn't wished for."""
    if wish.by_coverage:
        return _share(found.coverage)
    return f"≥ {_share(found.least_accuracy)}"


def _lacking(choice: Choice, row: Ranked) -> str:
    if row.needed is None or row.needed > NEEDED_AT_MOST:
        return "no"
    return f"needs {_round(row.needed):,}" if row.needed > choice.tested else "no"


def sentences(choice: Choice) -> list[str]:
    """What to do, what is promised, what can't be told apart, and what was left out."""
    return [
        _recommendation(choice),
        *_average(choice),
        _telling_apart(choice),
        _how_measured(choice),
        *(f"{note[:1].upper()}{note[1:]}." for note in choice.notes),
    ]


def _recommendation(choice: Choice) -> str:
    taken = choice.taken
    if taken is None:
        return (
            f"Nothing can be promised of {_who(choice.first)}, the first, yet: {_why_not(choice)}."
        )
    lead = ""
    if taken is not choice.first:
        lead = (
            f"Nothing can be promised of {_who(choice.first)}, the first, yet: {_why_not(choice)}. "
            "Of those that can't be told from it: "
        )
    return lead + _promises(choice, taken)


def _promises(choice: Choice, taken: Ranked) -> str:
    found = taken.promised
    assert found is not None
    promise = [f"at least {_share(found.least_accuracy)} of what is let through is correct"]
    if found.least_coverage is not None:
        promise.append(f"at least {_share(found.least_coverage)} is let through")
    shared = (
        f" (shared among the {len(choice.ranked)} candidates, so that any of them may be taken)"
        if len(choice.ranked) > 1
        else ""
    )
    return (
        f"Take {_who(taken)}, {calibration_label(taken.calibration)}, and let through the answers "
        f"with p_correct of at least {found.value:.4f}: here {_share(found.coverage)} of them, of "
        f"which {_share(found.accuracy)} are correct. Promised, with a chance of being wrong of at "
        f"most {choice.wish.alpha:g}{shared}: {' and '.join(promise)}, for new questions drawn "
        "like these."
    )


def _who(row: Ranked) -> str:
    return f"{one_line(row.model)} with {method_name(row.method)}"


def _why_not(choice: Choice) -> str:
    first, wish = choice.first, choice.wish
    if wish.by_coverage and wish.min_coverage is not None:
        return "its answers are not right often enough, provably, where that many are let through"
    if not wish.by_coverage:
        return f"{choice.tested:,} questions are too few to prove the coverage"
    if first.needed is None or first.needed > NEEDED_AT_MOST:
        return "at no threshold are its answers clearly right often enough"
    if first.needed <= choice.tested:
        return "the answers that it is surest of hold too many wrong ones"
    return (
        f"{choice.tested:,} questions are too few; about {_round(first.needed):,} would be needed"
    )


def _average(choice: Choice) -> list[str]:
    found = (choice.taken or choice.first).on_average
    if found is None or choice.wish.min_coverage is not None:
        return []
    return [
        f"On average only (split conformal), p_correct of at least {found.value:.4f} would do, "
        f"which lets {_share(found.coverage)} through: the mean over samples like this one is the "
        "target, and about half of them fall short of it."
    ]


def _telling_apart(choice: Choice) -> str:
    if len(choice.ranked) == 1:
        return "There is nothing to compare it with."
    equals = choice.equals
    if not equals:
        return "Every other candidate is behind it by more than chance."
    names = [_who(r) for r in equals]
    most = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    shown = listed(most)
    costs = [(r.cost, name) for r, name in zip(equals, names, strict=True) if r.cost is not None]
    hint = ""
    if costs and choice.first.cost is not None and min(costs)[0] < choice.first.cost:
        hint = f" The cheapest of them is {min(costs)[1]}."
    return f"These questions can't tell from it: {shown}.{hint}"


def _how_measured(choice: Choice) -> str:
    what = "coverage at the target" if choice.wish.by_coverage else "accuracy at that coverage"
    return (
        f"Ranked by {what}, measured in 5 held-out folds at thresholds picked on the others, with "
        "95% bootstrap intervals; differences are paired by question and allow for all comparisons."
    )


def section(choice: Choice) -> Extra:
    """The section of the report's page."""
    table = Table(columns(choice), tuple(cells(choice)))
    return Extra(
        "choose",
        "Which model and method",
        (headline(choice), *sentences(choice)),
        ((explained(choice), table),),
    )


def to_json(choice: Choice) -> dict[str, Any]:
    """Plain values: `asdict`, with the verdicts written out."""
    out = asdict(choice)
    for row, ranked in zip(out["ranked"], choice.ranked, strict=True):
        row["verdict"] = _verdict(choice, ranked)
    return {**out, "sentences": [headline(choice), *sentences(choice)]}


def _share(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{100 * value:.4g}%" if value > 0.999 else f"{100 * value:.3g}%"


def _with_ends(value: float | None, ends: Interval | None, short: bool, ranks: bool) -> str:
    """With its interval; in short only that of what ranks has one."""
    if ends is None or (short and not ranks):
        return _share(value)
    digits = 0 if short else 1
    low, high = (f"{100 * end:.{digits}f}" for end in (ends.low, ends.high))
    return f"{_share(value)} ({low}–{high})"  # noqa: RUF001


def _round(n: int) -> int:
    """Two digits: it is an estimate."""
    digits = max(0, len(str(n)) - 2)
    return int(-(-n // 10**digits) * 10**digits)

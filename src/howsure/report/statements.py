"""What a run says: the general statements that a reader would draw, each tested, in plain words.

Each is a paired comparison over subjects and models (`clustered`): how much better, in the metric's
unit and positive where it speaks for the statement, with its 95% interval and the share of cells in
which it holds. An interval that holds 0 does not support the statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from howsure.figures.labels import (
    BASELINES,
    METHOD_NAMES,
    calibration_label,
    format_label,
    method_name,
    model_labels,
    one_line,
)
from howsure.figures.table import Selection, formats, select
from howsure.notebook import card as notebook_card
from howsure.report import relations
from howsure.report.clustered import Cells, Mean, difference_of_groups, mean_over_cells
from howsure.report.quantities import Quantity, quantities

SUPPORTED, NOT_SUPPORTED, CONTRADICTED = "supported", "not supported", "contradicted"
NOT_TESTABLE = "not testable"

TRAINED = tuple(m for m in METHOD_NAMES if m not in BASELINES and m != "zero_shot")
_PAIRS = (
    ("probe", "zero_shot"),
    ("lora", "zero_shot"),
    ("lora_prompt", "zero_shot"),
    ("lora_prompt", "probe"),
    ("lora_prompt", "lora"),
    ("lora", "probe"),
)


@dataclass(frozen=True)
class Statement:
    """One sentence and how far the table bears it out."""

    statement: str
    format: str
    metric: str
    """The quantity's label."""
    estimate: float
    """In the metric's unit; positive speaks for the statement."""
    interval: tuple[float, float] | None
    """95%; None where there are too few subjects."""
    share_of_wins: float
    """Of the cells, those in which the statement holds; ties are no wins."""
    n: int
    """Cells."""
    verdict: str
    holds_in: str
    """ "5 of 6 models": where the mean over subjects speaks for it."""
    units: str
    """What a cell is."""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in `statements.json`; the interval is a list or null."""
        names = ("statement", "format", "metric", "estimate", "interval", "share_of_wins", "n")
        more = ("verdict", "holds_in", "units", "note")
        return {k: getattr(self, k) for k in (*names, *more)} | {
            "interval": list(self.interval) if self.interval else None
        }


class Statements(tuple[Statement, ...]):
    """Several of them; a notebook shows them as a table."""

    __slots__ = ()

    def to_polars(self) -> pl.DataFrame:
        """A row per statement; the interval as `low` and `high`."""
        rows = [s.to_json() for s in self]
        for row in rows:
            row["low"], row["high"] = row.pop("interval") or (None, None)
        numbers = dict.fromkeys(("estimate", "low", "high", "share_of_wins"), pl.Float64)
        return pl.DataFrame(rows, schema_overrides=numbers)

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame; needs pandas."""
        return self.to_polars().to_pandas()

    def _repr_html_(self) -> str:
        rows = [(s.verdict, s.statement, _figures(s), f"{s.share_of_wins:.1%}") for s in self]
        return notebook_card("What the scores say", (), ("", "Statement", "By", "Wins"), rows)


def _figures(s: Statement) -> str:
    ends = f" ({s.interval[0]:+.3f} to {s.interval[1]:+.3f})" if s.interval else ""
    return f"{s.metric} {s.estimate:+.3f}{ends}, {s.format}"


def statements(
    scores: pl.DataFrame,
    *,
    categories: Mapping[str, str] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Statements:
    """All that the table can test, format by format. `card` may know the models' sizes."""
    found: list[Statement] = []
    for name in formats(scores):
        selection = select(scores, name)
        shown = {q.key: q for q in quantities(selection)}
        ece = shown.get("ece") or shown.get("ece_decision")
        main = [q for q in (shown.get("auroc"), ece) if q is not None]
        models = [model for model, _ in selection.models()]
        found += _trained(selection, main)
        found += _between_methods(selection, main)
        found += _baselines(selection, shown)
        found += _after_calibration(selection, shown)
        found += _larger(selection, shown, main, relations.model_sizes(models, card or {}))
        found += _tuned(selection, main, relations.tuned_pairs(models))
        found += _groups(selection, shown, categories or {})
    return Statements(found)


def _trained(selection: Selection, main: Sequence[Quantity]) -> Iterator[Statement]:
    trained = [m for m in TRAINED if m in selection.methods()]
    if "zero_shot" not in selection.methods() or not trained:
        return
    for q in main:
        ours = np.mean([_of_method(selection, q, m) for m in trained], axis=0)
        gain = q.sign * (ours - _of_method(selection, q, "zero_shot"))
        text = f"The trained methods {_better(q, many=True)} than the zero-shot classifier"
        note = f"Mean of {', '.join(map(method_name, trained))}."
        yield from _judged(selection, q, text, gain, note=note)


def _between_methods(selection: Selection, main: Sequence[Quantity]) -> Iterator[Statement]:
    for a, b in _PAIRS:
        if {a, b} <= set(selection.methods()):
            for q in main:
                gain = q.sign * (_of_method(selection, q, a) - _of_method(selection, q, b))
                text = f"{method_name(a)} {_better(q)} than {method_name(b)}"
                yield from _judged(selection, q, text, gain)


def _baselines(selection: Selection, shown: Mapping[str, Quantity]) -> Iterator[Statement]:
    """AUROC against the likelihood; the prior's is 0.5 by construction, so Brier against it."""
    for baseline, key in (("likelihood", "auroc"), ("subject_prior", "brier")):
        if baseline not in selection.methods() or key not in shown:
            continue
        q = shown[key]
        for method in (m for m in selection.methods() if m not in BASELINES):
            theirs = _of_method(selection, q, baseline)
            gain = q.sign * (_of_method(selection, q, method) - theirs)
            text = f"{method_name(method)} {_better(q)} than the baseline {method_name(baseline)}"
            yield from _judged(selection, q, text, gain)


def _after_calibration(selection: Selection, shown: Mapping[str, Quantity]) -> Iterator[Statement]:
    key = "ece" if "ece" in shown else "ece_decision"
    if not {key, f"{key}_plain"} <= shown.keys():
        return
    kinds = {part["calibration"][0] for part in selection.calibrated.values()} - {"none"}
    name = " or ".join(sorted(calibration_label(k).removeprefix("after ") for k in kinds))
    after, before = (shown[k].values(selection, selection.subjects) for k in (key, f"{key}_plain"))
    text = f"{name[:1].upper()}{name[1:]} makes the stated probabilities better calibrated"
    units = [model for model, _ in selection.columns]
    yield from _judged(
        selection, shown[key], text, before - after, units, "subject x model x method"
    )


def _larger(
    selection: Selection,
    shown: Mapping[str, Quantity],
    main: Sequence[Quantity],
    sizes: Mapping[str, int],
) -> Iterator[Statement]:
    pairs, alike = relations.larger_pairs(sizes)
    if not pairs:
        return
    note = _named(pairs, selection) + (
        "" if alike else " They differ in more than size, which may be why."
    )
    who = "The larger model"
    for q in reversed(main):
        yield from _between_models(selection, q, pairs, f"{who} {_better(q)}", note)
    if "accuracy" in shown:
        q = shown["accuracy"]
        gain = _accuracy(selection, [a for a, _ in pairs]) - _accuracy(
            selection, [b for _, b in pairs]
        )
        units = [_pair_name(p, selection) for p in pairs]
        text = f"{who} gives more correct answers"
        yield from _judged(selection, q, text, gain, units, "subject x pair of models", note)


def _tuned(
    selection: Selection, main: Sequence[Quantity], pairs: Sequence[relations.Pair]
) -> Iterator[Statement]:
    if pairs:
        text = "Chat and instruct models {} than the models that they were tuned from"
        for q in reversed(main):
            yield from _between_models(
                selection, q, pairs, text.format(_better(q, many=True)), _named(pairs, selection)
            )


def _between_models(
    selection: Selection, q: Quantity, pairs: Sequence[relations.Pair], text: str, note: str
) -> Iterator[Statement]:
    """Units: pairs of models with the same method, the baselines left out."""
    values = dict(zip(selection.columns, q.values(selection, selection.subjects).T, strict=True))
    methods = [m for m in selection.methods() if m not in BASELINES] or selection.methods()
    found = [
        (_pair_name((a, b), selection), q.sign * (values[a, m] - values[b, m]))
        for a, b in pairs
        for m in methods
        if (a, m) in values and (b, m) in values
    ]
    if found:
        names, gains = zip(*found, strict=True)
        units = "subject x pair of models x method"
        yield from _judged(selection, q, text, np.array(gains).T, names, units, note)


def _groups(
    selection: Selection, shown: Mapping[str, Quantity], categories: Mapping[str, str]
) -> Iterator[Statement]:
    """The group of subjects with the most, and that with the fewest correct answers."""
    if "accuracy" not in shown:
        return
    subjects, models = selection.subjects, [m for m, _ in selection.models()]
    groups: dict[str, list[str]] = {}
    for subject in subjects:
        if subject in categories:
            name = f"{one_line(categories[subject])} subjects"
            groups.setdefault(name, []).append(subject)
    for word, members in relations.shared_words(subjects).items():
        groups.setdefault(f"Subjects named \u201c{one_line(word)}\u201d", members)
    groups = {g: s for g, s in groups.items() if 2 <= len(s) <= len(subjects) - 2}
    if len(groups) < 2:
        return
    cells = _accuracy(selection, models)
    mean = {g: np.nanmean(cells[[s in m for s in subjects]]) for g, m in groups.items()}
    note = (
        f"Picked out of {len(groups)} groups, so the interval is at {100 - 5 / len(groups):.1f}%. "
        "A cell is counted as won against each subject outside the group."
    )
    for name, word, sign in (
        (max(mean, key=lambda g: mean[g]), "easier", 1),
        (min(mean, key=lambda g: mean[g]), "harder", -1),
    ):
        inside = np.array([s in groups[name] for s in subjects])
        found = difference_of_groups(
            sign * cells[inside], sign * cells[~inside], comparisons=len(groups)
        )
        if found:
            by_model = sign * (cells[inside].mean(axis=0) - cells[~inside].mean(axis=0))
            text = f"{name} are {word} for the models than the other subjects"
            holds = f"{int((by_model > 0).sum())} of {len(models)} models"
            yield _statement(
                selection, shown["accuracy"], text, found, holds, "subject x model", note
            )


def _judged(
    selection: Selection,
    q: Quantity,
    text: str,
    gain: Cells,
    units: Sequence[str] = (),
    cell: str = "subject x model",
    note: str = "",
) -> Iterator[Statement]:
    """At most one statement: none where no cell is known. `units` names each column of `gain`."""
    names = list(units) or [model for model, _ in selection.models()]
    found = mean_over_cells(gain, names)
    if found is None:
        return
    by_name: dict[str, list[float]] = {}
    for name, column in zip(names, gain.T, strict=True):
        by_name.setdefault(name, []).extend(column[~np.isnan(column)])
    means = [np.mean(v) for v in by_name.values() if v]
    what = "pair" if "pair" in cell else "model"
    holds = f"{sum(m > 0 for m in means)} of {len(means)} {what}{'s' if len(means) != 1 else ''}"
    yield _statement(selection, q, text, found, holds, cell, note)


def _statement(
    selection: Selection, q: Quantity, text: str, found: Mean, holds: str, units: str, note: str
) -> Statement:
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    made = Statement(
        statement=f"{text}.",
        format=selection.format,
        metric=q.label,
        estimate=found.estimate,
        interval=interval,
        share_of_wins=found.share_of_wins,
        n=found.n,
        verdict=NOT_TESTABLE,
        holds_in=holds,
        units=units,
        note=note,
    )
    return replace(made, verdict=_verdict(interval))


def _verdict(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return NOT_TESTABLE
    low, high = interval
    return SUPPORTED if low > 0.0 else CONTRADICTED if high < 0.0 else NOT_SUPPORTED


def _better(q: Quantity, *, many: bool = False) -> str:
    """The predicate that is true where the quantity is better."""
    if q.metric == "auroc":
        return f"tell{'' if many else 's'} right answers from wrong ones better"
    if q.metric == "brier":
        return f"state{'' if many else 's'} better probabilities"
    return f"{'are' if many else 'is'} better calibrated"


def _of_method(selection: Selection, q: Quantity, method: str) -> Cells:
    """(subjects, models); NaN where a model lacks the method."""
    values = q.values(selection, selection.subjects)
    place = {column: j for j, column in enumerate(selection.columns)}
    out = np.full((len(selection.subjects), len(selection.models())), np.nan)
    for i, (model, _) in enumerate(selection.models()):
        if (model, method) in place:
            out[:, i] = values[:, place[model, method]]
    return out


def _accuracy(selection: Selection, models: Sequence[str]) -> Cells:
    """(subjects, models): that of the model's first method; they grade the same answers."""
    values = selection.values("accuracy", selection.subjects)
    first = {model: js[0] for model, js in selection.models()}
    return values[:, [first[m] for m in models]]


def _pair_name(pair: relations.Pair, selection: Selection) -> str:
    names = model_labels([m for m, _ in selection.models()])
    return f"{names[pair[0]]} against {names[pair[1]]}"


def _named(pairs: Sequence[relations.Pair], selection: Selection) -> str:
    shown = [_pair_name(p, selection) for p in pairs[:6]]
    more = f" and {len(pairs) - 6} more pairs" if len(pairs) > 6 else ""
    return f"{'; '.join(shown)}{more}."


def headline(made: Sequence[Statement]) -> str:
    """ "Of 20 statements 13 are supported, 6 are not, 1 is contradicted" for the page."""
    counts = {
        v: sum(s.verdict == v for s in made) for v in (SUPPORTED, NOT_SUPPORTED, CONTRADICTED)
    }
    formats_ = ", ".join(dict.fromkeys(format_label(s.format) for s in made))
    told = [
        f"{n} {'is' if n == 1 else 'are'} {word}"
        for n, word in (
            (counts[SUPPORTED], "supported"),
            (counts[NOT_SUPPORTED], "not"),
            (counts[CONTRADICTED], "contradicted"),
        )
    ]
    return f"Of {len(made)} statements {', '.join(told)} ({formats_})."

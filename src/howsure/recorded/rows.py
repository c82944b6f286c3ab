"""A recorded table and the meaning of its columns → Predictions, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from howsure.errors import PredictionsError
from howsure.recorded.columns import SCORE_NAME, Columns, resolve
from howsure.recorded.options import chosen_probability, likeliest
from howsure.recorded.recalibrate import FOLDS, RECALIBRATIONS, recalibrated
from howsure.types import Predictions

_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
_GROUPS = ("model", "method", "calibration", "format")


@dataclass(frozen=True, slots=True)
class Scale:
    """What the confidences are. As it stands: probabilities in [0, 1]."""

    percent: bool = False
    """They are in percent, with or without the sign."""
    lower_is_surer: bool = False
    """As perplexities are; needs `recalibrate`."""
    recalibrate: str | None = None
    """platt or isotonic: turned into probabilities by cross-validation on the rows themselves."""

    def __post_init__(self) -> None:
        if self.recalibrate is not None and self.recalibrate not in RECALIBRATIONS:
            raise PredictionsError(
                f"--recalibrate is {self.recalibrate!r}; give {' or '.join(RECALIBRATIONS)}"
            )
        if self.lower_is_surer and self.recalibrate is None:
            raise PredictionsError(
                "--lower-is-surer says that the confidence is no probability; add --recalibrate "
                "isotonic, which makes one of it"
            )


@dataclass(frozen=True, slots=True)
class Recorded:
    """Predictions, and sentences on what was guessed, left out or changed on the way."""

    predictions: tuple[Predictions, ...]
    notes: tuple[str, ...] = ()


def recorded(frame: pl.DataFrame, path: Path, columns: Columns, scale: Scale) -> Recorded:
    """The predictions in a table whose rows are answers; `path` is what messages call it."""
    where = str(path)
    found, notes = resolve(frame, columns, where)
    if frame.is_empty():
        raise PredictionsError(f"{path} has a header but no rows; give at least one prediction")
    named = _named(frame, found, path)
    correct, said = _verdicts(frame, found, where)
    notes += said
    predictions: list[Predictions] = []
    for column in found.p or (found.options,):
        assert column is not None
        values, said = _confidence(frame, column, found, scale, where)
        table = named.with_columns(
            pl.lit(values).alias("p_correct"), pl.lit(correct).alias("is_correct")
        )
        if "method" not in table.columns:
            table = table.with_columns(method=pl.lit(_method(column)))
        elif len(found.p) > 1:
            table = table.with_columns(method=pl.col("method") + f" · {column}")
        table, missing = _without_missing(table, column, where)
        for group in table.partition_by(_GROUPS, maintain_order=True):
            predictions += _predictions(group, scale, column, where)
        notes += [*said, *missing]
    if scale.recalibrate:
        notes.append(_how(scale.recalibrate))
    return Recorded(tuple(predictions), tuple(f"{path.name}: {note}" for note in notes))


def also_recalibrated(found: Recorded, kind: str | None) -> Recorded:
    """With each of the predictions a second time, recalibrated; as it is for None."""
    if kind is None:
        return found
    pairs = [
        (p, replace(p, calibration=kind, p_correct=_recalibrated(p, kind)))
        for p in found.predictions
    ]
    return Recorded(tuple(p for pair in pairs for p in pair), (*found.notes, _how(kind)))


def _recalibrated(p: Predictions, kind: str) -> NDArray[np.float64]:
    return recalibrated(kind, p.p_correct, p.is_correct, p.ids)


def _how(kind: str) -> str:
    return (
        f"{kind}: probabilities made of the confidences by {FOLDS}-fold cross-validation on these "
        "answers, each by a fit that has not seen its question"
    )


def _method(column: str) -> str:
    return "recorded" if column == "p_correct" else column


def _named(frame: pl.DataFrame, found: Columns, path: Path) -> pl.DataFrame:
    """The columns of text: all of _GROUPS but perhaps the method, then id, subject, answer."""
    stem = pl.lit(path.name.split(".")[0])
    form = pl.lit("choice" if found.options else "recorded")
    parts = [_text(found.model) if found.model else stem]
    if found.variant:
        parts.append(pl.lit(f"{found.variant} ") + _text(found.variant))
    columns: dict[str, pl.Expr] = {
        "model": pl.concat_str(parts, separator=" · "),
        "calibration": _own(frame, "calibration", pl.lit("none")),
        "format": _own(frame, "format", form),
        "id": _text(found.id) if found.id else pl.int_range(1, pl.len() + 1).cast(pl.String),
        "subject": _text(found.subject) if found.subject else pl.lit("all"),
    }
    if found.method:
        columns["method"] = _text(found.method)
    answer = found.predicted or ("answer" if "answer" in frame.columns else None)
    if answer:
        columns["answer"] = _text(answer)
    table = frame.select(**columns)
    for name in table.columns:
        gaps = table[name].is_null()
        if name != "answer" and gaps.any():
            raise PredictionsError(
                f"{path}, row {int(gaps.arg_max() or 0) + 1}: no {name}; fill it in, or leave "
                "the column out"
            )
    return table


def _own(frame: pl.DataFrame, name: str, default: pl.Expr) -> pl.Expr:
    return _text(name) if name in frame.columns else default


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String)


def _verdicts(frame: pl.DataFrame, found: Columns, where: str) -> tuple[pl.Series, list[str]]:
    """(n,) booleans: as recorded, or whether the model's answer is the right one."""
    if found.correct:
        return _truth(frame[found.correct], where), []
    assert found.gold is not None
    gold = _plain(frame[found.gold])
    _refuse(gold.is_null(), frame[found.gold], where, "the right answer")
    if found.predicted is None:
        assert found.options is not None
        answers = pl.Series(likeliest(frame[found.options], where)).cast(pl.String)
    else:
        answers = _plain(frame[found.predicted])
    silent = answers.null_count()
    notes = [f"an answer counts as correct where it is the same as {found.gold!r}"]
    if silent:
        notes.append(f"{silent:,} rows without an answer count as wrong")
    return (answers == gold).fill_null(False), notes


def _plain(values: pl.Series) -> pl.Series:
    """Text without case and surrounding blanks; 2.0 is 2; empty is null."""
    text = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    text = text.str.replace(r"^(-?\d+)\.0$", "$1")
    return text.set(text == "", None)


def _truth(values: pl.Series, where: str) -> pl.Series:
    words = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    bad = ~words.is_in([*_TRUE, *_FALSE]).fill_null(False)
    _refuse(bad, values, where, "true or false")
    return words.is_in(_TRUE)


def _confidence(
    frame: pl.DataFrame, column: str, found: Columns, scale: Scale, where: str
) -> tuple[pl.Series, list[str]]:
    """(n,) float64 with nulls where there is none: in [0, 1], or any if it will be recalibrated."""
    if found.options:
        chosen = frame[found.predicted] if found.predicted else None
        return chosen_probability(frame[column], chosen, where)
    words = frame[column]
    if words.dtype == pl.String:
        words = words.str.strip_chars()
        words = words.set(words == "", None)
        if scale.percent:
            words = words.str.strip_suffix("%").str.strip_chars()
    values = words.cast(pl.Float64, strict=False)
    gaps = words.is_null()
    finite = values.is_finite().fill_null(False)
    _refuse(~finite & ~gaps, frame[column], where, "a probability in [0, 1], or empty")
    if scale.percent:
        values = values / 100.0
    if not scale.recalibrate:
        _refuse_no_probability(frame[column], values, where, scale.percent)
    said = ["the confidence is given in percent"] if scale.percent else []
    return values, said


def _refuse_no_probability(
    written: pl.Series, values: pl.Series, where: str, percent: bool
) -> None:
    """Raises for numbers that are no probabilities, by their size or their name."""
    name = written.name
    if SCORE_NAME.search(name):
        raise PredictionsError(
            f"{where}: {name!r} is by its name a likelihood or perplexity of the text, not the "
            "probability that the answer is correct; add --recalibrate isotonic (and "
            "--lower-is-surer for a perplexity), or rename the column if it is one"
        )
    outside = ~values.is_between(0.0, 1.0).fill_null(True)
    if not outside.any():
        return
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    hint = "or --recalibrate isotonic, which makes probabilities of scores"
    if not percent and low >= 0.0 and 1.0 < high <= 100.0:
        hint = "--percent if they are percentages, " + hint
    row = int(outside.arg_max() or 0)
    raise PredictionsError(
        f"{where}, row {row + 1}: {name} is {written[row]!r}; it must be a probability in [0, 1] "
        f"(the column goes from {low:g} to {high:g}); mend it, {hint}"
    )


def _without_missing(
    table: pl.DataFrame, column: str, where: str
) -> tuple[pl.DataFrame, list[str]]:
    """The rows that have a confidence, and how many had none, by model."""
    gaps = table.filter(pl.col("p_correct").is_null())
    if gaps.is_empty():
        return table, []
    if len(gaps) == len(table):
        raise PredictionsError(f"{where}: no row has a {column!r}; name another with --p-column")
    by_model = gaps.group_by("model", maintain_order=True).len().sort("len", descending=True)
    shown = "; ".join(f"{m} {n:,}" for m, n in by_model.head(8).iter_rows())
    more = "; …" if len(by_model) > 8 else ""
    return table.filter(pl.col("p_correct").is_not_null()), [
        f"{len(gaps):,} of {len(table):,} rows have no {column!r} and are left out ({shown}{more})"
    ]


def _predictions(
    rows: pl.DataFrame, scale: Scale, column: str, where: str
) -> Iterator[Predictions]:
    """One group's: as recorded where that is a probability, and recalibrated where asked for."""
    p = rows["p_correct"].to_numpy().astype(np.float64)
    y = rows["is_correct"].to_numpy().astype(np.bool_)
    answers = rows["answer"] if "answer" in rows.columns else None
    group: dict[str, Any] = dict(
        model=rows["model"][0],
        method=rows["method"][0],
        format=rows["format"][0],
        ids=tuple(rows["id"]),
        subjects=tuple(rows["subject"]),
        is_correct=y,
        answers=() if answers is None else tuple(answers.fill_null("")),
    )
    stated = bool(((p >= 0) & (p <= 1)).all()) and not SCORE_NAME.search(column)
    try:
        if not scale.recalibrate or (stated and not scale.lower_is_surer):
            yield Predictions(**group, p_correct=p, calibration=rows["calibration"][0])
        if scale.recalibrate:
            surer = -p if scale.lower_is_surer else p
            q = recalibrated(scale.recalibrate, surer, y, group["ids"])
            yield Predictions(**group, p_correct=q, calibration=scale.recalibrate)
    except PredictionsError as error:
        raise PredictionsError(f"{where}: {error}") from None


def _refuse(bad: pl.Series, values: pl.Series, where: str, wanted: str) -> None:
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PredictionsError(
            f"{where}, row {row + 1}: {values.name} is {values[row]!r}; it must be {wanted}"
        )

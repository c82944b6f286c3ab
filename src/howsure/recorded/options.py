"""One number per option of a multiple-choice question → the probability of the chosen one."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from howsure import strict_json
from howsure.errors import PredictionsError
from howsure.types import LETTERS

Floats = NDArray[np.float64]

_ROUNDING = 0.01
"""So far may probabilities that were written with few digits miss a sum of 1."""


def chosen_probability(
    lists: pl.Series, chosen: pl.Series | None, where: str
) -> tuple[pl.Series, list[str]]:
    """(n,) float64: the number of the chosen option, after a softmax unless they sum to 1.

    `chosen` is its index from 0 or its letter; without one it is the option with the highest
    number. Null where there is no list or no choice. Raises PredictionsError with the row.
    """
    options, width = _padded(lists, where)
    given = ~_everywhere(np.isnan(options))
    said = []
    if not _probabilities(options, given, lists.name, where):
        options = softmax(options)
        said.append(f"{lists.name!r} holds log-probabilities or logits; softmax over the options")
    index = _likeliest(options) if chosen is None else _index(chosen, width, where)
    known = given & (index >= 0)
    p = np.full(len(options), np.nan)
    p[known] = np.minimum(options[known, index[known]], 1.0)
    return pl.Series(lists.name, p, nan_to_null=True), said


def likeliest(lists: pl.Series, where: str) -> NDArray[np.intp]:
    """(n,): the index from 0 of the option with the highest number; -1 where there is none."""
    return _likeliest(_padded(lists, where)[0])


def softmax(logits: Floats) -> Floats:
    """Over the last axis; NaN stands for no option and stays NaN."""
    with np.errstate(invalid="ignore"):
        top = np.fmax.reduce(logits, axis=-1, keepdims=True)
        e = np.exp(logits - top)
        q: Floats = e / np.nansum(e, axis=-1, keepdims=True)
    return q


def _everywhere(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n, k) → (n,)."""
    every: NDArray[np.bool_] = np.logical_and.reduce(mask, axis=1)
    return every


def _likeliest(options: Floats) -> NDArray[np.intp]:
    empty = _everywhere(np.isnan(options))
    filled = np.where(np.isnan(options), -np.inf, options)
    return np.where(empty, -1, filled.argmax(axis=1))


def _padded(lists: pl.Series, where: str) -> tuple[Floats, NDArray[np.intp]]:
    """(n, widest) with NaN beyond each list's end, and the lists' lengths; no list: all NaN."""
    rows: list[list[float]] = []
    for number, value in enumerate(lists, start=1):
        items = _list(value)
        if items is None:
            raise PredictionsError(
                f"{where}, row {number}: {lists.name} is {value!r}; it must be a list of two or "
                "more numbers, one per option"
            )
        rows.append(items)
    width = np.array([len(r) for r in rows])
    options = np.full((len(rows), max(2, int(width.max(initial=0)))), np.nan)
    for i, items in enumerate(rows):
        options[i, : len(items)] = items
    return options, width


def _list(value: object) -> list[float] | None:
    """The numbers; empty where there are none; None for what is no list of numbers."""
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = strict_json.loads(value)
        except ValueError:
            return None
    if value is None:
        return []
    items = value.to_list() if isinstance(value, pl.Series) else value
    if not isinstance(items, list) or len(items) < 2:
        return None
    number = all(isinstance(x, int | float) and not isinstance(x, bool) for x in items)
    if not number:
        return None
    try:
        found = [float(x) for x in items]
    except OverflowError:
        return None
    return found if np.isfinite(found).all() else None


def _probabilities(options: Floats, given: NDArray[np.bool_], name: str, where: str) -> bool:
    """Whether the lists are probabilities; False for what needs a softmax."""
    with np.errstate(invalid="ignore"):
        inside = _everywhere(~((options < 0.0) | (options > 1.0)))
    if not inside[given].all():
        return False
    sums = np.nansum(options, axis=1)
    bad = given & (np.abs(sums - 1.0) > _ROUNDING)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PredictionsError(
            f"{where}, row {row + 1}: {name} sums to {sums[row]:.3f}, not 1; give the "
            "probabilities of all options, or their log-probabilities"
        )
    return True


def _index(chosen: pl.Series, width: NDArray[np.intp], where: str) -> NDArray[np.intp]:
    """(n,): index from 0; -1 where nothing was chosen."""
    out = np.full(len(chosen), -1)
    for i, value in enumerate(chosen):
        text = "" if value is None else str(value).strip().lower().removesuffix(".0")
        if not text or not width[i]:
            continue
        out[i] = LETTERS.find(text) if len(text) == 1 and text in LETTERS else _number(text)
        if not 0 <= out[i] < width[i]:
            raise PredictionsError(
                f"{where}, row {i + 1}: {chosen.name} is {value!r}; it must be the index (from 0) "
                f"or the letter of one of the {width[i]} options"
            )
    return out


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1

"""The differences of every two methods of a model, and of every two models of a method, by row.

With predictions: paired bootstrap over the questions of each subject (`paired`). Without, a single
cell has no verdict, and the mean's interval is over subjects (`clustered`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure.figures.table import Column, Selection
from howsure.report.clustered import means_by_unit
from howsure.report.paired import Resampled, interval_of_difference, mean_rows
from howsure.report.quantities import Quantity
from howsure.report.rows import Rows, whole

Floats = NDArray[np.float64]


def pairs(
    q: Quantity, selection: Selection, rows: Rows, drawn: Resampled | None
) -> dict[str, list[dict[str, Any]]]:
    """Under "methods" and "models": each pair a, b (indices), and A minus B by row and unit.

    `verdict` has a letter for each cell: b(etter) and w(orse) speak of A, n: can't tell, a space
    where there is no interval.
    """
    models, methods = [m for m, _ in selection.models()], selection.methods()
    out: dict[str, list[dict[str, Any]]] = {"methods": [], "models": []}
    for kind, compared, units in (("methods", methods, models), ("models", models, methods)):
        if kind == "methods" and q.metric == "accuracy":
            continue  # a method can't change it
        places, columns = [], []
        for a, b in combinations(range(len(compared)), 2):
            for u, unit in enumerate(units):
                pair = _columns(kind, compared[a], compared[b], unit)
                if set(pair) <= set(selection.columns):
                    places.append((a, b, u))
                    columns.append(pair)
        found = _differences(q, selection, rows, drawn, columns)
        for a, b in dict.fromkeys((a, b) for a, b, _ in places):
            mine = {u: k for k, (x, y, u) in enumerate(places) if (x, y) == (a, b)}
            parts = [_spread_over(part, mine, len(units))[rows.order()] for part in found]
            out[kind].append({"a": a, "b": b, **_encoded(q, *parts)})
    return out


def _columns(kind: str, a: str, b: str, unit: str) -> tuple[Column, Column]:
    return ((unit, a), (unit, b)) if kind == "methods" else ((a, unit), (b, unit))


def _differences(
    q: Quantity,
    selection: Selection,
    rows: Rows,
    drawn: Resampled | None,
    pairs: Sequence[tuple[Column, Column]],
) -> tuple[Floats, Floats, Floats]:
    """(value, low, high) of each pair, each (rows, pairs)."""
    table = q.values(selection, rows.subjects)
    place = {column: j for j, column in enumerate(selection.columns)}
    value = np.array([table[:, place[a]] - table[:, place[b]] for a, b in pairs]).T
    value = value.reshape(len(rows.subjects), len(pairs))
    means = [means_by_unit(value[group]) for group in rows.groups]
    out = [np.stack([mean[k] for mean in means]) for k in range(3)]
    unknown = np.full_like(value, np.nan)
    value, low, high = (
        np.concatenate([part, below])
        for part, below in zip(out, (value, unknown, unknown), strict=True)
    )
    for k, pair in enumerate(pairs):
        if drawn is not None and set(pair) <= set(drawn.columns):
            value[:, k], low[:, k], high[:, k] = _by_question(drawn, rows, pair)
    return value, low, high


def _by_question(
    drawn: Resampled, rows: Rows, pair: tuple[Column, Column]
) -> tuple[Floats, Floats, Floats]:
    value, replicates = drawn.difference(*pair)
    means, mean_replicates = mean_rows(value, replicates, rows.groups)
    value = np.concatenate([means, value])
    replicates = np.concatenate([mean_replicates, replicates])
    return value, *interval_of_difference(drawn.metric, value, replicates)


def _spread_over(part: Floats, places: Mapping[int, int], units: int) -> Floats:
    """(rows, units): NaN for a unit that lacks one of the two."""
    out = np.full((len(part), units), np.nan)
    for unit, k in places.items():
        out[:, unit] = part[:, k]
    return out


def _encoded(q: Quantity, value: Floats, low: Floats, high: Floats) -> dict[str, Any]:
    better, worse = (low > 0, high < 0) if q.sign > 0 else (high < 0, low > 0)
    letters = np.where(better, "b", np.where(worse, "w", np.where(np.isnan(low), " ", "n")))
    encoded = {"value": value, "low": low, "high": high}
    return {
        **{name: whole(part) for name, part in encoded.items()},
        "verdict": "".join(letters.ravel()),
    }

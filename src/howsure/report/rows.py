"""The rows of the page's heatmap, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from howsure.figures.table import Selection, by_category

UNIT = 10_000
"""Numbers are written in ten-thousandths, whole."""


@dataclass(frozen=True)
class Rows:
    """The rows of the page's heatmap."""

    subjects: tuple[str, ...]
    """In the order of their categories."""
    categories: tuple[str, ...]
    """Empty where there are none."""
    category: tuple[int | None, ...]
    """Of each subject: its category's index."""
    table_place: Mapping[str, int]

    @property
    def groups(self) -> list[list[int]]:
        """The subjects of the mean, then of each category."""
        every = list(range(len(self.subjects)))
        return [
            every,
            *([i for i in every if self.category[i] == c] for c in range(len(self.categories))),
        ]

    def order(self) -> list[int]:
        """Which of (mean, categories, subjects), numbered in a row, comes where: by category."""
        first = 1 + len(self.categories)
        if not self.categories:
            return list(range(first + len(self.subjects)))
        out = [0]
        for c, members in enumerate(self.groups[1:]):
            out += [1 + c, *(first + s for s in members)]
        return out


def rows_of(selection: Selection, categories: Mapping[str, str]) -> Rows:
    """The rows of a format's heatmap."""
    groups = by_category(selection.subjects, categories)
    named = groups if categories else []
    subjects = tuple(s for _, members in groups for s in members)
    place = {s: c for c, (_, members) in enumerate(named) for s in members}
    return Rows(
        subjects,
        tuple(heading for heading, _ in named),
        tuple(place.get(s) for s in subjects),
        {s: i for i, s in enumerate(selection.subjects)},
    )


def whole(values: NDArray[np.float64]) -> list[int | None]:
    """Ten-thousandths, row by row; None for NaN."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return [None if np.isnan(v) else round(float(v) * UNIT) for v in flat]

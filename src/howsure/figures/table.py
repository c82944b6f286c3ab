"""Which rows of a scores table a picture shows.

A table may hold several formats and calibrations. A picture shows one format; its ECE is taken
after calibration where there is such a row, and its AUROC before it, as Kapoor et al. (2024,
figure 3) do. A monotone calibration does not change AUROC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

from howsure.errors import PredictionsError
from howsure.figures.labels import calibration_label, method_name, method_order, one_line
from howsure.scores import MACRO, POOLED
from howsure.types import Predictions

PRIOR_NOTE = "Subject prior says the same of every answer in a subject: AUROC 0.5 by construction."

ECE_NAMES = {"ece": "ECE", "ece_decision": "ECE of the decision"}

OTHER = "Other"
"""Heading of the subjects that the categories leave out."""

_PREFERRED = ("temperature", "platt", "isotonic")

Column = tuple[str, str]
"""(model, method)."""


def formats(scores: pl.DataFrame) -> list[str]:
    """The formats of the table, open-ended first."""
    found: list[str] = scores["format"].unique(maintain_order=True).to_list()
    return sorted(found, key=lambda f: (f != "open", f != "choice"))


@dataclass(frozen=True)
class Selection:
    """One format of a scores table, one calibration per (model, method) and quantity."""

    format: str
    columns: tuple[Column, ...]
    """Grouped by model in the order of the table, methods in display order."""
    subjects: tuple[str, ...]
    ece_kind: str
    """The column that is called ECE here: "ece", or "ece_decision" where some model and method
    has only that one (the published table)."""
    calibrated: Mapping[Column, pl.DataFrame]
    """Rows after calibration, where there are such: for ECE, Brier and NLL."""
    plain: Mapping[Column, pl.DataFrame]
    """Rows before calibration, where there are such: for AUROC and AURC."""

    def values(
        self, quantity: str, subjects: Sequence[str], *, plain: bool | None = None
    ) -> NDArray[np.float64]:
        """Shape (len(subjects), len(columns)); NaN where the table has no number.

        From the rows before calibration where `plain`; None: as the picture shows the quantity.
        """
        if plain is None:
            plain = quantity.startswith(("auroc", "aurc"))
        rows = self.plain if plain else self.calibrated
        out = np.full((len(subjects), len(self.columns)), np.nan)
        for j, column in enumerate(self.columns):
            pairs = rows[column].select("subject", pl.col(quantity).cast(pl.Float64)).iter_rows()
            found = dict(pairs)
            out[:, j] = [_or_nan(found.get(s)) for s in subjects]
        return out

    @property
    def ece_name(self) -> str:
        """What the picture calls its ECE."""
        return ECE_NAMES[self.ece_kind]

    def ece(self, subjects: Sequence[str]) -> NDArray[np.float64]:
        """The ECE of this selection's kind, shape (len(subjects), len(columns))."""
        return self.values(self.ece_kind, subjects)

    def ece_extra(self, quantity: str, subjects: Sequence[str]) -> NDArray[np.float64]:
        """`ece_low`, `ece_high` or `ece_floor`; all NaN for the decision kind, which has none."""
        if self.ece_kind != "ece":
            return np.full((len(subjects), len(self.columns)), np.nan)
        return self.values(quantity, subjects)

    def at_floor(self, subjects: Sequence[str]) -> NDArray[np.bool_]:
        """Where ECE can't be told from what a perfectly calibrated estimator shows by chance.

        That is, where its interval holds the noise floor or lies below it; where it has no
        interval, where the ECE itself does.
        """
        floor, low = (self.ece_extra(f"ece_{end}", subjects) for end in ("floor", "low"))
        least = np.where(np.isnan(low), self.ece(subjects), low)
        with np.errstate(invalid="ignore"):
            return np.asarray(least <= floor)

    def sizes(self) -> list[str]:
        """The number of questions of each subject: "150", or "148-150" where columns differ."""
        n = self.values("n", self.subjects)
        return [_span(row[~np.isnan(row)]) for row in n]

    def models(self) -> list[tuple[str, list[int]]]:
        """Each model with the indices of its columns."""
        places = groupby(range(len(self.columns)), key=lambda j: self.columns[j][0])
        return [(model, list(js)) for model, js in places]

    def methods(self) -> list[str]:
        """The methods in display order."""
        return method_order([method for _, method in self.columns])

    def calibration_note(self) -> str:
        """Which calibration the picture's ECE and AUROC have, as one sentence."""
        ece, auroc = _described(self.calibrated), _described(self.plain)
        return f"ECE {ece}; AUROC {auroc}." if ece != auroc else f"Both {ece}."


def select(scores: pl.DataFrame, format: str | None = None) -> Selection:
    """The rows that a picture of `format` shows; the table's first format when None.

    Raises PredictionsError when the table has no row of a subject in that format.
    """
    have = formats(scores)
    chosen = format if format is not None else (have[0] if have else "")
    rows = scores.filter(pl.col("format") == chosen)
    subjects = rows.filter(~pl.col("subject").is_in([MACRO, POOLED]))["subject"].unique(
        maintain_order=True
    )
    if subjects.is_empty():
        raise PredictionsError(
            f"the scores table has no subject in format {chosen!r}, so there is nothing to draw; "
            f"it holds {', '.join(have) or 'no rows at all'}"
        )
    columns = tuple(_display_order(list(dict.fromkeys(rows.select("model", "method").iter_rows()))))
    parts = {(a, b): part for (a, b), part in rows.group_by("model", "method")}
    calibrated = {c: _one_calibration(parts[c], plain=False) for c in columns}
    plain = {c: _one_calibration(parts[c], plain=True) for c in columns}
    lacking = any(part["ece"].null_count() == part.height for part in calibrated.values())
    kind = "ece_decision" if lacking else "ece"
    return Selection(chosen, columns, tuple(subjects), kind, calibrated, plain)


def select_predictions(
    predictions: Sequence[Predictions], format: str | None, *, plain: bool
) -> dict[Column, Predictions]:
    """The predictions of one format, one calibration per (model, method), in display order.

    `format` is that of the first ones when None. The uncalibrated ones where `plain`, else the
    calibrated ones, where there are such. Raises PredictionsError when there are none.
    """
    if format is None and predictions:
        format = predictions[0].format
    found: dict[Column, dict[str, Predictions]] = {}
    for p in predictions:
        if p.format == format and len(p):
            found.setdefault((p.model, p.method), {})[p.calibration] = p
    if not found:
        raise PredictionsError(f"no predictions in format {format!r}, so there is nothing to draw")
    columns = _display_order(list(found))
    return {c: found[c][preferred_calibration(found[c], plain=plain)] for c in columns}


def _display_order(pairs: Sequence[Column]) -> list[Column]:
    """Grouped by model as they come, methods in display order."""
    models = dict.fromkeys(model for model, _ in pairs)
    methods = method_order([method for _, method in pairs])
    return [(a, b) for a in models for b in methods if (a, b) in set(pairs)]


def by_category(
    subjects: Sequence[str], categories: Mapping[str, str]
) -> list[tuple[str, list[str]]]:
    """The subjects under their headings, in the order of `categories`; one "" when it is empty."""
    if not categories:
        return [("", list(subjects))]
    headings = [*dict.fromkeys(categories.values()), OTHER]
    rank = {s: i for i, s in enumerate(categories)}
    ordered = sorted(subjects, key=lambda s: rank.get(s, len(rank)))
    groups: dict[str, list[str]] = {}
    for s in ordered:
        groups.setdefault(categories.get(s, OTHER), []).append(s)
    return [(h, groups[h]) for h in dict.fromkeys(headings) if h in groups]


def preferred_calibration(have: Iterable[str], *, plain: bool) -> str:
    """The uncalibrated one first when `plain`, else last; temperature before the others."""
    rank = {c: i for i, c in enumerate(_PREFERRED)}
    return min(have, key=lambda c: ((c == "none") != plain, rank.get(c, len(rank)), c))


def _one_calibration(rows: pl.DataFrame, *, plain: bool) -> pl.DataFrame:
    best = preferred_calibration(rows["calibration"].unique().to_list(), plain=plain)
    return rows.filter(pl.col("calibration") == best)


def describe_calibrations(calibration: Mapping[Column, str]) -> str:
    """ "after temperature scaling", with the exceptions named."""
    groups: dict[str, list[Column]] = {}
    for column, name in calibration.items():
        groups.setdefault(name, []).append(column)
    main = max(groups, key=lambda c: len(groups[c]))
    rest = [
        f"{calibration_label(c)} for {_names(groups[c], calibration)}" for c in groups if c != main
    ]
    return calibration_label(main) + (f" ({'; '.join(rest)})" if rest else "")


def _described(rows: Mapping[Column, pl.DataFrame]) -> str:
    return describe_calibrations({c: part["calibration"][0] for c, part in rows.items()})


def _names(some: Sequence[Column], every: Iterable[Column]) -> str:
    """The methods of `some` columns, with the models where not every model's is among them."""
    every = list(every)
    texts = []
    for method in method_order([m for _, m in some]):
        models = [a for a, m in some if m == method]
        part = len(models) < sum(m == method for _, m in every)
        of = f" of {', '.join(map(one_line, models))}" if part else ""
        texts.append(method_name(method) + of)
    return ", ".join(texts)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _span(n: NDArray[np.float64]) -> str:
    if n.size == 0:
        return ""
    low, high = int(n.min()), int(n.max())
    return str(low) if low == high else f"{low}-{high}"

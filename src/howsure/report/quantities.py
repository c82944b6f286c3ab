"""The quantities that the page can show in its heatmap, and where a table holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from howsure.figures.table import Selection, describe_calibrations
from howsure.intervals import Metric


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of every cell."""

    key: str
    metric: Metric
    """The column of the scores table, and the metric of a sample."""
    label: str
    better: Literal["lower", "higher"]
    ends: tuple[float, float]
    """Of the colour scale; fixed, so that a colour means the same in every page. That of ECE can be
    wider: `figures.heatmap.ece_scale`."""
    plain: bool
    """Before calibration, where there are such rows."""

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    def values(self, selection: Selection, subjects: Sequence[str]) -> NDArray[np.float64]:
        """Shape (len(subjects), len(columns)); NaN where the table has no number."""
        return selection.values(self.metric, subjects, plain=self.plain)

    def extra(
        self, end: Literal["low", "high", "floor"], selection: Selection, subjects: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """Ends of the interval, or the noise floor; None where tables hold none."""
        has = {"ece": ("low", "high", "floor"), "auroc": ("low", "high")}
        if end not in has.get(self.metric, ()):
            return None
        return selection.values(f"{self.metric}_{end}", subjects, plain=self.plain)

    def calibration(self, selection: Selection) -> str:
        """ "after temperature scaling"."""
        rows = selection.plain if self.plain else selection.calibrated
        return describe_calibrations({c: part["calibration"][0] for c, part in rows.items()})


_QUANTITIES = (
    Quantity("ece", "ece", "ECE", "lower", (0.0, 0.3), plain=False),
    Quantity("ece_decision", "ece_decision", "ECE of the decision", "lower", (0.0, 0.3), False),
    Quantity("auroc", "auroc", "AUROC", "higher", (0.1, 0.9), plain=True),
    Quantity("brier", "brier", "Brier score", "lower", (0.0, 0.4), plain=False),
    Quantity("aurc", "aurc", "AURC", "lower", (0.0, 0.8), plain=True),
    Quantity("accuracy", "accuracy", "Accuracy", "higher", (0.0, 1.0), plain=True),
)
_BEFORE = (
    Quantity("ece_plain", "ece", "ECE before calibration", "lower", (0.0, 0.3), plain=True),
    Quantity(
        "ece_decision_plain",
        "ece_decision",
        "ECE of the decision before calibration",
        "lower",
        (0.0, 0.3),
        plain=True,
    ),
)


def quantities(selection: Selection) -> list[Quantity]:
    """Those that the table has a number of; ECE before calibration only where both are there."""
    both = any(
        part["calibration"][0] != selection.plain[c]["calibration"][0]
        for c, part in selection.calibrated.items()
    )
    possible = (*_QUANTITIES, *(_BEFORE if both else ()))
    return [q for q in possible if not np.isnan(q.values(selection, selection.subjects)).all()]

"""A pair of panels per model, ECE above AUROC, with a bar per method: the mean over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from howsure.figures import style
from howsure.figures.labels import (
    BASELINES,
    format_label,
    method_colours,
    method_name,
    model_labels,
    wrap,
)
from howsure.figures.table import PRIOR_NOTE, Selection, select
from howsure.scores import MACRO

PER_ROW = 6
"""Models side by side; more go below."""
TOP = 0.58
LEFT = 0.74
PANEL_HEIGHT = 1.75
BETWEEN = 0.2
GAP = 0.16
TEXT = 7.0
FLOOR_DASH = (0, (2, 1.2))


@dataclass(frozen=True)
class Means:
    """One quantity of all columns, each of shape (columns,), NaN = unknown."""

    label: str
    base: float
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    floor: NDArray[np.float64]

    def limits(self) -> tuple[float, float]:
        """One axis for all models: ECE from 0, AUROC around chance."""
        known = np.concatenate([self.value, self.low, self.high, self.floor])
        known = known[~np.isnan(known)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.5, 0.5)
        if self.base == 0.0:
            return 0.0, max(0.1, high * 1.16)
        return min(0.48, low - 0.05), max(0.6, high + 0.06)


def bars(scores: pl.DataFrame, *, format: str | None = None, title: str | None = None) -> Figure:
    """ECE and AUROC of each model and method, as means over subjects with 95% intervals.

    `format` is the table's first (open-ended before multiple choice) when None. Raises
    PredictionsError when there is nothing to draw.
    """
    selection = select(scores, format)
    with style.styled():
        return _draw(selection, title or f"Mean over subjects: {format_label(selection.format)}")


def _ece(selection: Selection) -> Means:
    ends = [selection.ece_extra(f"ece_{end}", [MACRO])[0] for end in ("low", "high", "floor")]
    return Means(f"{selection.ece_name}\nlower is better", 0.0, selection.ece([MACRO])[0], *ends)


def _auroc(selection: Selection) -> Means:
    value, low, high = (
        selection.values(name, [MACRO])[0] for name in ("auroc", "auroc_low", "auroc_high")
    )
    return Means("AUROC\nhigher is better", 0.5, value, low, high, np.full_like(value, np.nan))


def _draw(selection: Selection, title: str) -> Figure:
    models, methods = selection.models(), selection.methods()
    across = min(PER_ROW, len(models))
    panel = max(1.55, 0.26 * len(methods) + 0.2, 4.4 / across)
    width = LEFT + across * (panel + GAP) + 0.1
    names, bold = model_labels([model for model, _ in models]), style.measure(8, "bold")
    headings = ["\n".join(wrap(names[model], panel, bold, lines=3)) for model, _ in models]
    head = max(style.text_height(heading, 8) for heading in headings) + 0.08
    ticks = max(style.measure(TEXT)(method_name(m, short=True)) for m in methods)
    block = head + 2 * PANEL_HEIGHT + BETWEEN + ticks + 0.3
    caption = style.paragraph(_caption(selection), width - 2 * style.SIDE)
    below = TOP + -(-len(models) // across) * block
    figure = style.new_figure(width, below + style.text_height(caption) + style.SIDE)
    style.title(figure, title)
    quantities = (_ece(selection), _auroc(selection))
    for i, ((_, columns), heading) in enumerate(zip(models, headings, strict=True)):
        row, place = divmod(i, across)
        for k, means in enumerate(quantities):
            top = TOP + row * block + head + k * (PANEL_HEIGHT + BETWEEN)
            left = LEFT + place * (panel + GAP)
            axes = style.plot_axes(figure, left, top, panel, PANEL_HEIGHT)
            _panel(axes, means, columns, [selection.columns[j][1] for j in columns])
            axes.tick_params(labelleft=place == 0, labelbottom=k == 1, bottom=k == 1)
            axes.set_ylabel(means.label if place == 0 else "", size=TEXT + 0.5)
            if k == 0:
                axes.set_title(heading, size=8, weight="bold", pad=4, linespacing=1.15)
    style.caption(figure, caption, below)
    return figure


def _panel(axes: Axes, means: Means, columns: Sequence[int], methods: Sequence[str]) -> None:
    """Bars from the base, whiskers where the table has an interval, the floor, the values."""
    at, colours = np.arange(len(columns)), method_colours(methods)
    value, low, high = means.value[columns], means.low[columns], means.high[columns]
    height = np.nan_to_num(value - means.base)
    axes.bar(at, height, width=0.78, bottom=means.base, color=[colours[m] for m in methods])
    axes.vlines(at, low, high, colors=style.INK, lw=0.9, gid="interval", zorder=5)
    if means.base > 0.0:
        axes.axhline(means.base, color=style.INK, lw=0.8, gid="chance")
    floor = means.floor[columns]
    axes.hlines(
        floor, at - 0.45, at + 0.45, colors=style.INK, lw=1.1, ls=FLOOR_DASH, gid="floor", zorder=4
    )
    for x, v, lo, hi in zip(at, value, low, high, strict=True):
        _number(axes, int(x), means.base, v, lo, hi)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(*means.limits())
    names = [method_name(m, short=True) for m in methods]
    axes.set_xticks(at, names, rotation=90, fontsize=TEXT)


def _number(axes: Axes, x: int, base: float, value: float, low: float, high: float) -> None:
    """The value beyond the end of its bar and whisker; "none" where there is no value."""
    up = not value < base
    ends = [v for v in (value, high if up else low, base) if not np.isnan(v)]
    axes.annotate(
        "none" if np.isnan(value) else f"{value:.2f}".removeprefix("0"),
        (x, max(ends) if up else min(ends)),
        (0, 1.5 if up else -1.5),
        textcoords="offset points",
        ha="center",
        va="bottom" if up else "top",
        size=6.5,
        color=style.MUTED if np.isnan(value) else style.INK,
    )


def _caption(selection: Selection) -> str:
    texts = [selection.calibration_note(), "Bars: mean over subjects (macro)."]
    if not np.isnan(selection.values("auroc_low", [MACRO])).all():
        texts.append("Thin lines: 95% bootstrap intervals over questions.")
    if not np.isnan(selection.ece_extra("ece_floor", [MACRO])).all():
        texts.append(
            "Dashed: ECE noise floor, what perfectly calibrated estimators with the same "
            "probabilities and n show on average by chance."
        )
    texts.append("AUROC bars start at chance, 0.5.")
    if any(m in BASELINES for m in selection.methods()):
        texts.append("Grey: plain baselines.")
    if "subject_prior" in selection.methods():
        texts.append(PRIOR_NOTE)
    return " ".join(texts)

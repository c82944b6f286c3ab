"""Heatmap and bars as vector pictures of the width of a paper's column, in small print.

What the large pictures say in captions and numbers is left to the paper's own caption and tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from howsure.errors import UsageError
from howsure.figures import style
from howsure.figures.heatmap import AUROC_SCALE, ece_scale
from howsure.figures.labels import (
    method_colours,
    method_name,
    model_labels,
    one_line,
    subject_label,
    wrap,
)
from howsure.figures.table import Selection, by_category, select
from howsure.scores import MACRO

SIDE_BY_SIDE = 4.5
"""Columns at least this wide (inches) have room for two panels side by side."""
NARROWEST, WIDEST = 2.5, 20.0
TEXT = 5.5
ROW = 0.083
HEADING = 0.12
GAP = 0.025
"""Between two models."""
BAR = 0.07
"""Height of the colour bar."""
EDGE = 0.02
BETWEEN = 0.1
"""Between two panels."""
PANEL = 1.25
"""Height of a panel of bars."""


def paper_heatmap(
    scores: pl.DataFrame,
    *,
    width: float,
    panels: Sequence[Literal["ece", "auroc"]] = ("ece", "auroc"),
    format: str | None = None,
    categories: Mapping[str, str] | None = None,
) -> Figure:
    """Subjects x (model x method): coloured cells without numbers, panels side by side.

    `width` is in inches; in one below SIDE_BY_SIDE only one panel has room. Raises UsageError for
    a width that no column has, or that the columns of the table don't fit.
    """
    selection = _selected(scores, format, width)
    groups = by_category(selection.subjects, categories or {})
    plan = _Plan(selection, tuple((h, tuple(s)) for h, s in groups), width, len(panels))
    with style.styled():
        return _draw_heatmap(plan, panels)


def paper_bars(scores: pl.DataFrame, *, width: float, format: str | None = None) -> Figure:
    """Means over subjects, ECE and AUROC: a group of bars per model, `width` inches."""
    selection = _selected(scores, format, width)
    with style.styled():
        return _draw_bars(selection, width)


def check_width(width: float) -> None:
    """Raises UsageError unless it is that of a paper's column, in inches."""
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(
            f"a column {width:g} inches wide is no column; give {NARROWEST:g} to {WIDEST:g} inches"
        )


def _selected(scores: pl.DataFrame, format: str | None, width: float) -> Selection:
    check_width(width)
    return select(scores, format)


@dataclass(frozen=True)
class _Plan:
    """Where rows and columns lie, in inches."""

    selection: Selection
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    width: float
    panels: int

    @cached_property
    def label(self) -> float:
        """Width of the subjects' names."""
        inches, bold = style.measure(TEXT), style.measure(TEXT, "bold")
        names = [inches(subject_label(s)) for _, group in self.groups for s in group]
        return max(*names, *(bold(one_line(h)) for h, _ in self.groups), bold("Mean")) + 0.04

    @cached_property
    def panel(self) -> float:
        """Width of a panel's cells."""
        room = self.width - self.label - 2 * EDGE
        panel = (room - (self.panels - 1) * BETWEEN) / self.panels
        if panel / len(self.selection.columns) < 0.02:
            raise UsageError(
                f"{len(self.selection.columns)} columns and their names don't fit {self.width:g} "
                "inches; give a larger --width, or a table with fewer models or methods"
            )
        return panel

    @cached_property
    def lefts(self) -> NDArray[np.float64]:
        """Left edge of each column within its panel."""
        models = self.selection.models()
        cell = self.cell
        shift = np.concatenate([np.full(len(js), i * GAP) for i, (_, js) in enumerate(models)])
        return np.asarray(np.arange(len(shift)) * cell + shift)

    @cached_property
    def cell(self) -> float:
        gaps = (len(self.selection.models()) - 1) * GAP
        return (self.panel - gaps) / len(self.selection.columns)

    @cached_property
    def rows(self) -> tuple[tuple[str, float], ...]:
        """(subject or MACRO, its upper edge)."""
        out, y = [(MACRO, 0.0)], ROW
        for heading, group in self.groups:
            y += HEADING if heading else 0.05
            out += [(s, y + i * ROW) for i, s in enumerate(group)]
            y += len(group) * ROW
        return tuple(out)

    @property
    def height(self) -> float:
        return self.rows[-1][1] + ROW

    @cached_property
    def head(self) -> float:
        """Height of the models' and methods' names, with the panel's title."""
        methods = max(style.measure(TEXT - 0.5)(_short(m)) for m in self.selection.methods())
        return 0.13 + max(n.count("\n") + 1 for n in self.names) * 0.09 + methods + 0.03

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The models', broken to the width of their columns."""
        models = self.selection.models()
        labels, inches = model_labels([m for m, _ in models]), style.measure(TEXT - 0.5)
        return tuple(
            "\n".join(wrap(labels[m], len(js) * self.cell, inches, lines=4)) for m, js in models
        )


def _short(method: str) -> str:
    return method_name(method, short=True)


def _draw_heatmap(plan: _Plan, panels: Sequence[str]) -> Figure:
    top = EDGE + plan.head
    figure = style.new_figure(plan.width, top + plan.height + 0.34)
    subjects = [s for s, _ in plan.rows]
    _subjects(style.inch_axes(figure, EDGE, top, plan.label, plan.height), plan)
    for i, panel in enumerate(panels):
        left = EDGE + plan.label + i * (plan.panel + BETWEEN)
        axes = style.inch_axes(figure, left, top, plan.panel, plan.height)
        if panel == "ece":
            name, values = plan.selection.ece_name, plan.selection.ece(subjects)
            scale = ScalarMappable(Normalize(*ece_scale(values)), style.lower_is_better())
        else:
            name, values = "AUROC", plan.selection.values("auroc", subjects)
            scale = ScalarMappable(Normalize(*AUROC_SCALE), style.higher_is_better())
        _panel(axes, plan, values, scale)
        _heads(axes, plan, name)
        place = (left, top + plan.height + 0.06, min(plan.panel, 1.3), BAR)
        bar = figure.add_axes(style.box(figure, *place))
        figure.colorbar(scale, cax=bar, orientation="horizontal")
        bar.tick_params(labelsize=TEXT - 0.5, length=1.5, pad=1)
    return figure


def _panel(axes: Axes, plan: _Plan, values: NDArray[np.float64], scale: ScalarMappable) -> None:
    """Each cell a rectangle; what is empty is hatched."""
    tops = np.array([y for _, y in plan.rows])
    x, y = np.meshgrid(plan.lefts, tops)
    w, h = plan.cell, ROW
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)])
    boxes = np.stack([x, y], axis=-1)[..., None, :] + corners
    known = ~np.isnan(values)
    filled = PolyCollection(
        list(boxes[known]),
        facecolors=scale.to_rgba(values[known]),
        edgecolors="white",
        linewidths=0.15,
        gid="cells",
    )
    axes.add_collection(filled, autolim=False)
    if not known.all():
        empty = PolyCollection(
            list(boxes[~known]),
            facecolors=style.EMPTY,
            edgecolors=style.EMPTY_HATCH,
            hatch="////////",
            linewidths=0,
            gid="empty",
        )
        axes.add_collection(empty, autolim=False)


def _heads(axes: Axes, plan: _Plan, name: str) -> None:
    axes.text(0, -plan.head + 0.09, name, size=TEXT + 1, weight="bold", va="baseline")
    small: dict[str, Any] = {"size": TEXT - 0.5, "ha": "center", "va": "bottom"}
    for left, (_, method) in zip(plan.lefts, plan.selection.columns, strict=True):
        axes.text(left + plan.cell / 2, -0.02, _short(method), rotation=90, **small)
    y = -plan.head + 0.13 + max(n.count("\n") + 1 for n in plan.names) * 0.09
    for text, (_, js) in zip(plan.names, plan.selection.models(), strict=True):
        left, right = plan.lefts[js[0]], plan.lefts[js[-1]] + plan.cell
        axes.plot([left, right], [y, y], color=style.MUTED, lw=0.4, clip_on=False)
        axes.text((left + right) / 2, y - 0.015, text, linespacing=1.05, **small)


def _subjects(axes: Axes, plan: _Plan) -> None:
    right: dict[str, Any] = {"size": TEXT, "ha": "right", "va": "center_baseline"}
    x = plan.label - 0.03
    for subject, top in plan.rows:
        text = "Mean" if subject == MACRO else subject_label(subject)
        weight = "bold" if subject == MACRO else "normal"
        axes.text(x, top + ROW / 2, text, weight=weight, **right)
    first = 1
    for heading, group in plan.groups:
        top = plan.rows[first][1] - 0.05
        axes.text(x, top, one_line(heading), weight="bold", **right)
        first += len(group)


def _draw_bars(selection: Selection, width: float) -> Figure:
    beside = width >= SIDE_BY_SIDE
    legend, foot = 0.2 + 0.11 * ((len(selection.methods()) - 1) // 4), 0.42
    left, between = 0.36, 0.42
    block = PANEL + foot
    figure = style.new_figure(width, legend + (block if beside else 2 * block))
    panel = (width - left - between - 0.05) / 2 if beside else width - left - 0.05
    ends = [selection.ece_extra(f"ece_{end}", [MACRO])[0] for end in ("low", "high")]
    auroc = [selection.values(c, [MACRO])[0] for c in ("auroc", "auroc_low", "auroc_high")]
    parts = ((selection.ece_name, 0.0, selection.ece([MACRO])[0], *ends), ("AUROC", 0.5, *auroc))
    for i, (name, base, value, low, high) in enumerate(parts):
        x = left + i * (panel + between) if beside else left
        y = legend if beside else legend + i * block
        axes = style.plot_axes(figure, x, y, panel, PANEL)
        _groups(axes, selection, base, value, low, high)
        axes.set_ylabel(name, size=TEXT + 0.5, labelpad=2)
        axes.tick_params(labelsize=TEXT, length=1.5, pad=1.5)
    colours = method_colours(selection.methods())
    handles = [Patch(color=colours[m], label=method_name(m)) for m in selection.methods()]
    figure.legend(
        handles=handles,
        loc="upper center",
        ncols=4,
        fontsize=TEXT,
        frameon=False,
        handlelength=1.0,
        columnspacing=1.0,
        borderaxespad=0.1,
    )
    return figure


def _groups(
    axes: Axes,
    selection: Selection,
    base: float,
    value: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    colours, models = method_colours(selection.methods()), selection.models()
    most = max(len(js) for _, js in models)
    step = 0.84 / most
    ticks: list[float] = []
    for i, (_, js) in enumerate(models):
        at = i + (np.arange(len(js)) - (len(js) - 1) / 2) * step
        shades = [colours[selection.columns[j][1]] for j in js]
        axes.bar(at, np.nan_to_num(value[js] - base), width=0.94 * step, bottom=base, color=shades)
        axes.vlines(at, low[js], high[js], colors=style.INK, lw=0.5)
        ticks.append(float(i))
    if base:
        axes.axhline(base, color=style.INK, lw=0.5)
    known = np.concatenate([v[~np.isnan(v)] for v in (value, low, high)])
    bottom = min(base, float(known.min()) - 0.01) if known.size else base
    axes.set_ylim(bottom if base else 0.0, float(known.max()) + 0.02 if known.size else base + 0.1)
    axes.set_xlim(-0.55, len(models) - 0.45)
    axes.set_xticks(ticks, _wrapped(models, axes), fontsize=TEXT - 0.5, linespacing=1.0)


def _wrapped(models: Sequence[tuple[str, list[int]]], axes: Axes) -> list[str]:
    figure = axes.get_figure(root=True)
    assert figure is not None
    room = 0.92 * axes.get_position().width * figure.get_size_inches()[0] / (len(models) + 0.1)
    labels, inches = model_labels([m for m, _ in models]), style.measure(TEXT - 0.5)
    return ["\n".join(wrap(labels[m], room, inches, lines=4)) for m, _ in models]

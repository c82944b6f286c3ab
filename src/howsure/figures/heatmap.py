"""The picture that the project exists for: subjects x (model x method), ECE and AUROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from howsure.figures import style
from howsure.figures.labels import (
    BASELINES,
    format_label,
    method_name,
    one_line,
    subject_label,
)
from howsure.figures.layout import CELL_HEIGHT, MEAN, PANEL_TITLE, TEXT, Layout
from howsure.figures.table import PRIOR_NOTE, Selection, by_category, select
from howsure.scores import MACRO

ECE_SCALE = (0.0, 0.3)
AUROC_SCALE = (0.1, 0.9)
"""The scales' ends are fixed, so that a colour means the same in every picture."""
WIDE = 3.0
"""So many times wider is the scale of ECE where more than a quarter of the cells are beyond it."""

NUMBER = 5.8
"""Size in points of the numbers in the cells."""
SIDE_BY_SIDE = 14.6
"""Two panels wider than this together (inches) are put one above the other."""
TOP = 0.62
FOOT = 0.74
"""Height of the colour bar below a panel, with its label."""
BETWEEN = 0.3
"""Between two panels that lie one above the other."""

NOTES = (
    "Number in each cell: its value (.12 = 0.12). n: questions of the subject. "
    "Hatched grey: no value, because the table has none or because it is undefined there "
    "(AUROC needs both right and wrong answers)."
)
FLOOR_NOTE = (
    "Dot: not distinguishable from perfect at this n; the 95% interval of the ECE holds its noise "
    "floor, what a perfectly calibrated estimator with the same probabilities shows by chance."
)
DECISION_NOTE = (
    'ECE here is that of the decision "correct or not" (confidence max(p, 1-p)), the only one '
    "that every model and method of the table has; it comes without a noise floor."
)


@dataclass(frozen=True)
class Panel:
    """One quantity over all cells: values of shape (rows, columns), NaN = empty."""

    name: str
    title: str
    good_end: str
    values: NDArray[np.float64]
    dots: NDArray[np.bool_]
    scale: ScalarMappable

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Shape (rows, columns): where there is no value."""
        return np.isnan(self.values)


def heatmap(
    scores: pl.DataFrame,
    *,
    format: str | None = None,
    categories: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Subjects (rows) x model x method (columns), a panel for ECE and one for AUROC.

    `format` is the table's first (open-ended before multiple choice) when None; `categories`
    (subject → heading) group the rows. Raises PredictionsError when there is nothing to draw.
    """
    selection = select(scores, format)
    groups = by_category(selection.subjects, categories or {})
    layout = Layout(selection, tuple((h, tuple(g)) for h, g in groups))
    named = f"Calibration and discrimination by subject: {format_label(selection.format)}"
    with style.styled():
        return _draw(layout, (_ece_panel(layout), _auroc_panel(layout)), title or named)


def ece_scale(values: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the colour scale for these values (NaN where there is none)."""
    low, high = ECE_SCALE
    beyond = values[~np.isnan(values)] > high
    return (low, WIDE * high) if len(beyond) and beyond.mean() > 0.25 else ECE_SCALE


def _ece_panel(layout: Layout) -> Panel:
    values = layout.selection.ece(layout.rows)
    return Panel(
        name="ece",
        title=layout.selection.ece_name,
        good_end="lower is better",
        values=values,
        dots=layout.selection.at_floor(layout.rows),
        scale=ScalarMappable(Normalize(*ece_scale(values)), style.lower_is_better()),
    )


def _auroc_panel(layout: Layout) -> Panel:
    values = layout.selection.values("auroc", layout.rows)
    return Panel(
        name="auroc",
        title="AUROC",
        good_end="higher is better, 0.5 = chance",
        values=values,
        dots=np.zeros(values.shape, dtype=np.bool_),
        scale=ScalarMappable(Normalize(*AUROC_SCALE), style.higher_is_better()),
    )


def _draw(layout: Layout, panels: Sequence[Panel], title: str) -> Figure:
    """Side by side with the subjects between them, or one above the other."""
    side = 2 * layout.width <= SIDE_BY_SIDE
    block, label = layout.header + layout.height + FOOT, layout.label_width
    across = max((2 if side else 1) * layout.width + label, 6.0)
    if side:
        places = [(style.SIDE, TOP), (style.SIDE + layout.width + label, TOP)]
        names = [(style.SIDE + layout.width, TOP)]
    else:
        tops = (TOP, TOP + block + BETWEEN)
        places = [(style.SIDE + label, top) for top in tops]
        names = [(style.SIDE, top) for top in tops]
    caption = style.paragraph(_caption(layout.selection), across)
    below = places[-1][1] + block + 0.1
    height = below + style.text_height(caption) + style.SIDE
    figure = style.new_figure(across + 2 * style.SIDE, height)
    style.title(figure, title)
    for panel, (left, top) in zip(panels, places, strict=True):
        _draw_panel(figure, layout, panel, left, top)
    for left, top in names:
        axes = style.inch_axes(figure, left, top + layout.header, label, layout.height)
        axes.set_label("subjects")
        _subject_labels(axes, layout, centred=side)
    style.caption(figure, caption, below)
    return figure


def _draw_panel(figure: Figure, layout: Layout, panel: Panel, left: float, top: float) -> None:
    top += layout.header
    axes = style.inch_axes(figure, left, top, layout.width, layout.height)
    axes.set_label(panel.name)
    _cells(axes, layout, panel)
    _numbers(axes, layout, panel)
    _panel_title(axes, layout, panel)
    _column_labels(axes, layout)
    wide = min(layout.width, 3.6)
    bar = figure.add_axes(style.box(figure, left, top + layout.height + 0.13, wide, 0.11))
    bar.set_label(f"{panel.name}-scale")
    figure.colorbar(panel.scale, cax=bar, orientation="horizontal", extend=_extend(panel))
    bar.tick_params(labelsize=TEXT - 0.5, length=2, pad=1.5)
    bar.set_xlabel(f"{panel.title}: {panel.good_end}\n(dark blue = good)", size=TEXT, labelpad=2)


def _extend(panel: Panel) -> str:
    """Which ends of the scale are exceeded, in the words of matplotlib's colour bar."""
    low, high = panel.scale.get_clim()
    known = panel.values[~panel.empty]
    under, over = bool((known < low).any()), bool((known > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (under, over), "both"
    )


def _cells(axes: Axes, layout: Layout, panel: Panel) -> None:
    """One artist for all filled cells, one for the empty ones, one for the dots."""
    half = (layout.cell_width / 2 - 0.004, CELL_HEIGHT / 2 - 0.004)
    filled = _rectangles(axes, half, layout.centres[~panel.empty])
    filled.set(array=panel.values[~panel.empty], gid=f"{panel.name}-cells", linewidth=0)
    filled.set(cmap=panel.scale.get_cmap(), norm=panel.scale.norm)
    if panel.empty.any():
        hatched = _rectangles(axes, half, layout.centres[panel.empty])
        hatched.set(facecolor=style.EMPTY, edgecolor=style.EMPTY_HATCH, linewidth=0)
        hatched.set(hatch="//////", gid=f"{panel.name}-empty")
    if panel.dots.any():
        x, y = (layout.centres[panel.dots] + (half[0] - 0.026, -half[1] + 0.026)).T
        inks = style.ink_on(panel.scale.to_rgba(panel.values[panel.dots]))
        axes.scatter(x, y, s=3.2, c=inks, linewidths=0, clip_on=False, gid=f"{panel.name}-floor")


def _rectangles(
    axes: Axes, half: tuple[float, float], centres: NDArray[np.float64]
) -> PolyCollection:
    """Equal rectangles around `centres` (n, 2), in inches: one path, drawn n times."""
    w, h = half
    figure = axes.figure
    assert figure is not None
    out = PolyCollection(
        [[(-w, -h), (w, -h), (w, h), (-w, h)]],
        offsets=centres,
        offset_transform=axes.transData,
        clip_on=False,
    )
    out.set_transform(figure.dpi_scale_trans)
    axes.add_collection(out, autolim=False)
    return out


def _numbers(axes: Axes, layout: Layout, panel: Panel) -> None:
    values, places = panel.values[~panel.empty], layout.centres[~panel.empty]
    inks = style.ink_on(panel.scale.to_rgba(values))
    for value, (x, y), ink in zip(values, places, inks, strict=True):
        text = f"{value:.2f}".removeprefix("0")
        axes.text(x, y, text, size=NUMBER, color=ink, ha="center", va="center_baseline")


def _panel_title(axes: Axes, layout: Layout, panel: Panel) -> None:
    x, y = style.measure(9.5, "bold")(panel.title) + 0.1, -layout.header
    axes.text(0, y, panel.title, size=9.5, weight="bold", va="baseline")
    axes.text(x, y, panel.good_end, size=8, color=style.MUTED, va="baseline")


def _column_labels(axes: Axes, layout: Layout) -> None:
    """The methods' names upright, the models' names above a line over their columns."""
    for j, (_, method) in enumerate(layout.selection.columns):
        muted = layout.is_baseline(j)
        axes.text(
            layout.lefts[j] + layout.cell_width / 2,
            -0.05,
            method_name(method, short=True),
            size=TEXT,
            rotation=90,
            ha="center",
            va="bottom",
            color=style.MUTED if muted else style.INK,
            style="italic" if muted else "normal",
        )
    low = -layout.header + PANEL_TITLE + layout.models_height
    for lines, (_, js) in zip(layout.model_lines, layout.selection.models(), strict=True):
        left, right = layout.lefts[js[0]], layout.lefts[js[-1]] + layout.cell_width
        axes.plot([left, right], [low - 0.02] * 2, color=style.MUTED, lw=0.6, clip_on=False)
        x, y = (left + right) / 2, low - 0.05
        axes.text(x, y, lines, size=TEXT, weight="bold", ha="center", va="bottom", linespacing=1.15)


def _subject_labels(axes: Axes, layout: Layout, *, centred: bool) -> None:
    """The subjects' names and n, below the headings of their categories."""
    right = layout.label_width - 0.09
    edge = right - layout.n_width - 0.09
    x, ha = (edge / 2, "center") if centred else (edge, "right")
    y = layout.tops + CELL_HEIGHT / 2
    axes.text(x, y[0], MEAN, size=TEXT, weight="bold", ha=ha, va="center_baseline")
    sizes = dict(zip(layout.selection.subjects, layout.selection.sizes(), strict=True))
    small: dict[str, Any] = {"size": TEXT - 0.5, "ha": "right", "color": style.MUTED}
    axes.text(right, layout.tops[1] - 0.045, "n", va="bottom", **small)
    for i, row in enumerate(layout.rows):
        if row != MACRO:
            axes.text(x, y[i], subject_label(row), size=TEXT, ha=ha, va="center_baseline")
            axes.text(right, y[i], sizes[row], va="center_baseline", **small)
    first = 1
    for heading, group in layout.groups:
        top = layout.tops[first] - 0.045
        axes.text(x, top, one_line(heading), size=TEXT, weight="bold", ha=ha, va="bottom")
        first += len(group)


def _caption(selection: Selection) -> str:
    texts = [selection.calibration_note(), NOTES]
    texts.append(DECISION_NOTE if selection.ece_kind == "ece_decision" else FLOOR_NOTE)
    baselines = [method_name(m) for m in selection.methods() if m in BASELINES]
    if baselines:
        texts.append(f"In italics: plain baselines ({', '.join(baselines)}).")
    if "subject_prior" in selection.methods():
        texts.append(PRIOR_NOTE)
    return " ".join(texts)

"""Reliability diagrams: the stated probability against the share that was correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from howsure import metrics
from howsure.figures import style
from howsure.figures.labels import (
    BASELINES,
    format_label,
    method_colours,
    method_name,
    method_order,
    model_labels,
    wrap,
)
from howsure.figures.table import Column, describe_calibrations, select_predictions
from howsure.metrics import ReliabilityBin
from howsure.types import Predictions

SIDE = 1.3
"""Of a panel, in inches."""
GAP = 0.12
LEFT = 0.95
TOP = 0.78
TEXT = 7.0
COUNTS = "#dedede"
COUNT_SHARE = 0.22
"""Height of the tallest count bar, as a share of the panel's."""
MANY = 20
"""Answers from which on a bin is drawn in full colour."""


def reliability(
    predictions: Sequence[Predictions], *, format: str | None = None, title: str | None = None
) -> Figure:
    """Stated probability against the share that was correct: a row per model, a column per method.

    Vertical lines are 95% Wilson intervals; grey bars show how many answers each bin holds. The
    calibrated predictions are drawn where there are such. Raises PredictionsError when there is
    nothing to draw.
    """
    panels = select_predictions(predictions, format, plain=False)
    name = format_label(next(iter(panels.values())).format)
    with style.styled():
        return _draw(panels, title or f"Reliability: {name}")


def _draw(panels: Mapping[Column, Predictions], title: str) -> Figure:
    models = list(dict.fromkeys(model for model, _ in panels))
    methods = method_order([method for _, method in panels])
    step = SIDE + GAP
    width = max(LEFT + len(methods) * step + 0.1, 5.6)
    below = TOP + len(models) * step + 0.42
    caption = style.paragraph(_caption(panels), width - 2 * style.SIDE)
    figure = style.new_figure(width, below + style.text_height(caption) + style.SIDE)
    style.title(figure, title)
    for (model, method), prediction in panels.items():
        row, place = models.index(model), methods.index(method)
        axes = style.plot_axes(figure, LEFT + place * step, TOP + row * step, SIDE, SIDE)
        _panel(axes, prediction)
        axes.tick_params(
            labelleft=not any((model, m) in panels for m in methods[:place]),
            labelbottom=not any((m, method) in panels for m in models[row + 1 :]),
        )
        if not any((m, method) in panels for m in models[:row]):
            axes.set_title(method_name(method, short=True), size=8, weight="bold", pad=4)
    _labels(figure, models, len(methods) * step, below)
    style.caption(figure, caption, below)
    return figure


def _labels(figure: Figure, models: Sequence[str], across: float, below: float) -> None:
    """The models' names and what the axes mean, around the panels."""
    width, height = figure.get_size_inches()
    names, bold = model_labels(models), style.measure(8, "bold")
    for row, model in enumerate(models):
        middle = TOP + row * (SIDE + GAP) + SIDE / 2
        figure.text(
            0.32 / width,
            1 - middle / height,
            "\n".join(wrap(names[model], SIDE, bold, lines=3)),
            size=8,
            weight="bold",
            rotation=90,
            ha="center",
            va="center",
            linespacing=1.15,
        )
    middle = TOP + (len(models) * (SIDE + GAP) - GAP) / 2
    x, y = 0.66 / width, 1 - middle / height
    figure.text(x, y, "share correct", size=TEXT + 0.5, rotation=90, ha="center", va="center")
    x, y = (LEFT + across / 2) / width, 1 - (below - 0.1) / height
    figure.text(x, y, "stated probability of being correct", size=TEXT + 0.5, ha="center")


def _panel(axes: Axes, prediction: Predictions) -> None:
    bins = metrics.reliability(prediction.p_correct, prediction.is_correct)
    colour = method_colours([prediction.method])[prediction.method]
    colour = style.INK if prediction.method in BASELINES else colour
    most = max(b.count for b in bins)
    axes.bar(
        [b.lower for b in bins],
        [COUNT_SHARE * b.count / most for b in bins],
        width=[b.upper - b.lower for b in bins],
        align="edge",
        color=COUNTS,
        edgecolor="white",
        linewidth=0.5,
    )
    axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.7, ls=(0, (3, 2)))
    _points(axes, [b for b in bins if b.count < MANY], colour, gid="few")
    _points(axes, [b for b in bins if b.count >= MANY], colour, gid="many")
    ece = metrics.ece(prediction.p_correct, prediction.is_correct)
    axes.text(
        0.03,
        0.97,
        f"ECE {ece:.2f}\nn {len(prediction)}",
        size=6.5,
        va="top",
        transform=axes.transAxes,
        linespacing=1.2,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0},
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _points(axes: Axes, bins: Sequence[ReliabilityBin], colour: str, *, gid: str) -> None:
    """Bins of many answers joined by a line; bins of few pale and alone."""
    x = np.array([b.mean_p for b in bins])
    low, high = [b.accuracy_low for b in bins], [b.accuracy_high for b in bins]
    alpha, line = (1.0, 0.9) if gid == "many" else (0.35, 0.0)
    axes.vlines(x, low, high, colors=colour, lw=1.1, alpha=alpha, gid=f"{gid}-interval")
    y = [b.accuracy for b in bins]
    axes.plot(x, y, color=colour, marker="o", ms=2.6, lw=line, alpha=alpha, gid=gid, clip_on=False)


def _caption(panels: Mapping[Column, Predictions]) -> str:
    which = describe_calibrations({c: p.calibration for c, p in panels.items()})
    return (
        f"All subjects together, {which}. Points: the share of correct answers (upwards) among "
        "those with about the same stated probability; on the dashed diagonal the two agree. "
        f"Vertical lines: 95% intervals; bins of fewer than {MANY} answers are pale. Grey bars: "
        "how many of the answers each bin holds, the fullest bin of a panel as the tallest bar."
    )

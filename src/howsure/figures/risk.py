"""Risk-coverage curves: how many of the answers are wrong when only the surest are let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from howsure import metrics
from howsure.figures import style
from howsure.figures.labels import (
    format_label,
    method_colours,
    method_name,
    method_order,
    model_labels,
    wrap,
)
from howsure.figures.table import Column, describe_calibrations, select_predictions
from howsure.types import Predictions

PER_ROW = 3
WIDTH = 2.75
HEIGHT = 2.0
GAP = 0.5
BLOCK = HEIGHT + 0.62
LEFT = 0.55
TEXT = 7.5
LEGEND_ENTRY = 1.25
"""Inches that an entry of the legend takes."""
POINTS = 300
"""Of a curve, at most."""
SUREST = 20
"""Answers from which on a curve is drawn; before, a single wrong answer is a jump."""
RANDOM = (0, (3, 2))
PERFECT = (0, (1, 1.5))


def risk_coverage(
    predictions: Sequence[Predictions], *, format: str | None = None, title: str | None = None
) -> Figure:
    """The share of wrong answers among the surest ones, a panel per model, a curve per method.

    The uncalibrated predictions are drawn where there are such. Raises PredictionsError when there
    is nothing to draw.
    """
    panels = select_predictions(predictions, format, plain=True)
    name = format_label(next(iter(panels.values())).format)
    with style.styled():
        return _draw(panels, title or f"Wrong answers among the surest: {name}")


def _draw(panels: Mapping[Column, Predictions], title: str) -> Figure:
    models = list(dict.fromkeys(model for model, _ in panels))
    methods = method_order([method for _, method in panels])
    names, bold = model_labels(models), style.measure(8, "bold")
    across = min(PER_ROW, len(models))
    width = max(style.SIDE + across * (WIDTH + GAP) + 0.1, 6.2)
    per_line = int(width / LEGEND_ENTRY)
    top = 0.72 + 0.2 * -(-(len(methods) + 2) // per_line)
    below = top + -(-len(models) // across) * BLOCK - 0.1
    caption = style.paragraph(_caption(panels), width - 2 * style.SIDE)
    figure = style.new_figure(width, below + style.text_height(caption) + style.SIDE)
    style.title(figure, title)
    _legend(figure, methods, per_line)
    for i, model in enumerate(models):
        row, place = divmod(i, across)
        left = LEFT + place * (WIDTH + GAP)
        axes = style.plot_axes(figure, left, top + row * BLOCK, WIDTH, HEIGHT)
        _panel(axes, {method: p for (name, method), p in panels.items() if name == model})
        heading = wrap(names[model], WIDTH, bold, lines=1)[0]
        axes.set_title(heading, size=8, weight="bold", pad=4)
        axes.set_ylabel("share wrong" if place == 0 else "", size=TEXT)
        if i >= len(models) - across:
            axes.set_xlabel("share of answers let through, surest first", size=TEXT)
    style.caption(figure, caption, below)
    return figure


def _panel(axes: Axes, predictions: Mapping[str, Predictions]) -> None:
    colours = method_colours(list(predictions))
    wrong = float(1.0 - next(iter(predictions.values())).is_correct.mean())
    axes.axhline(wrong, color=style.MUTED, lw=0.8, ls=RANDOM, gid="random")
    share = np.linspace(0.005, 1.0, 200)
    best = np.maximum(0.0, share - (1.0 - wrong)) / share
    axes.plot(share, best, color=style.MUTED, lw=0.8, ls=PERFECT, gid="perfect")
    highest = wrong
    for method, prediction in predictions.items():
        curve = metrics.risk_coverage(prediction.p_correct, prediction.is_correct)
        first, last = min(SUREST, len(prediction)) - 1, len(prediction) - 1
        at = np.unique(np.linspace(first, last, POINTS).astype(int))
        x, y = curve.coverage[at], curve.risk[at]
        axes.plot(x, y, color=colours[method], lw=1.3, gid=f"risk-{method}")
        highest = max(highest, float(y.max()))
    axes.set(xlim=(0, 1), ylim=(0, min(1.0, max(0.05, 1.06 * highest))))


def _legend(figure: Figure, methods: Sequence[str], per_line: int) -> None:
    width, height = figure.get_size_inches()
    colours = method_colours(methods)
    handles = [Line2D([], [], color=colours[m], lw=1.6, label=method_name(m)) for m in methods]
    for label, dash in (("Random order", RANDOM), ("Perfect order", PERFECT)):
        handles.append(Line2D([], [], color=style.MUTED, lw=0.9, ls=dash, label=label))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((style.SIDE - 0.1) / width, 1 - 0.42 / height),
        ncols=per_line,
        frameon=False,
        fontsize=TEXT,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.4,
    )


def _caption(panels: Mapping[Column, Predictions]) -> str:
    which = describe_calibrations({c: p.calibration for c, p in panels.items()})
    return (
        f"All subjects together, {which}; a monotone calibration does not change these curves. "
        "To the right all answers are let through, to the left only those with the highest "
        f"probability; lower is better. Drawn from the {SUREST} surest answers on."
    )

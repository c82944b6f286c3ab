"""How every picture is set: fonts, colours, sizes. Figures are made without pyplot."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from howsure.figures.labels import one_line

INK = "#1c1c1c"
MUTED = "#6b6b6b"
RULE = "#c9c9c9"
EMPTY = "#ececec"
EMPTY_HATCH = "#8a8a8a"
SIDE = 0.2
"""Margin of a picture in inches."""
CAPTION = 7.0
"""Size of a caption's text in points."""
LINE_HEIGHT = 1.35
"""Of text, in multiples of its size."""

BLUES = ("#08306b", "#1c5a9e", "#4a93c9", "#a3cbe3", "#f4f1e6")
"""From the good end to the pale one; luminance rises steadily, so it also reads in grey."""
BROWNS = ("#f4f1e6", "#f1c27d", "#cf8033", "#7f3b08")

SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    # A model called "$x" must stand as it is.
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Within it, artists take the settings above whatever the user's matplotlibrc says."""
    # The backend is no setting of a picture, and rc_context does not put it back.
    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with matplotlib.rc_context(cast(dict[Any, Any], defaults) | SETTINGS), any_letters():
        yield


@contextmanager
def any_letters() -> Iterator[None]:
    """Within it, a letter that the font lacks (in a model's name, say) shows as a box, silently."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        yield


class Picture(Figure):
    """A figure that a notebook shows, though it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        with any_letters():
            self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """A white figure of `width` x `height` inches, drawn by Agg."""
    figure = Picture(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def title(figure: Figure, text: str) -> None:
    """The picture's title, in its upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(SIDE / width, 1 - SIDE / height, one_line(text), size=11, weight="bold", va="top")


def caption(figure: Figure, text: str, top: float) -> None:
    """(Broken) text below the picture, `top` inches from the upper edge."""
    width, height = figure.get_size_inches()
    figure.text(
        SIDE / width,
        1 - top / height,
        text,
        size=CAPTION,
        va="top",
        linespacing=LINE_HEIGHT,
        gid="caption",
    )


def inch_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Bare axes whose data coordinates are inches from their upper left corner, y downwards.

    `left` and `top` are inches from the figure's upper left corner.
    """
    axes = figure.add_axes(box(figure, left, top, width, height))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    return axes


def plot_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Ordinary axes, without the upper and right border, placed in inches from the upper left."""
    axes = figure.add_axes(box(figure, left, top, width, height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, length=2.5, pad=2)
    return axes


def box(
    figure: Figure, left: float, top: float, width: float, height: float
) -> tuple[float, float, float, float]:
    w, h = figure.get_size_inches()
    return (left / w, 1.0 - (top + height) / h, width / w, height / h)


@functools.cache
def measure(size: float, weight: str = "normal") -> Callable[[str], float]:
    """A function text → width in inches at `size` points, with the room that hinting takes."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    return lambda text: _width(text, font)


def _width(text: str, font: FontProperties) -> float:
    if not text:
        return 0.0
    width: float = TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]
    return 1.04 * width / 72.0


def paragraph(text: str, width: float, size: float = CAPTION) -> str:
    """`text` with line breaks, so that no line is wider than `width` inches at `size` points."""
    inches = measure(size)
    lines: list[str] = []
    for block in text.split("\n"):
        line = ""
        for word in block.split():
            longer = f"{line} {word}".strip()
            if line and inches(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def text_height(text: str, size: float = CAPTION) -> float:
    """The height in inches of (already broken) text at `size` points."""
    return (text.count("\n") + 1) * size * LINE_HEIGHT / 72.0


def lower_is_better() -> Colormap:
    """Dark blue at 0 to pale: for ECE."""
    return LinearSegmentedColormap.from_list("howsure_lower", BLUES)


def higher_is_better() -> Colormap:
    """Brown below the middle, pale in the middle, dark blue above it: for AUROC around 0.5."""
    colours = (*reversed(BROWNS), *tuple(reversed(BLUES))[1:])
    at = [i / 6 for i in range(4)] + [0.5 + i / 8 for i in range(1, 5)]
    return LinearSegmentedColormap.from_list("howsure_higher", list(zip(at, colours, strict=True)))


def ink_on(colours: Iterable[Sequence[float]]) -> list[str]:
    """For each background (r, g, b, ...) in [0, 1]: white or dark ink, whichever reads better."""
    light = (0.2126 * c[0] ** 2.2 + 0.7152 * c[1] ** 2.2 + 0.0722 * c[2] ** 2.2 for c in colours)
    return [INK if y > 0.2 else "white" for y in light]

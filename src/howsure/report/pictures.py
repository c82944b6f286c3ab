"""The still pictures: files in `figures/`, and inlined in the page for print and without script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from howsure import figures
from howsure.figures.table import Selection
from howsure.report.files import write
from howsure.report.text import count
from howsure.types import Predictions


@dataclass(frozen=True)
class Picture:
    """An image inlined in the page; width and height in CSS pixels."""

    name: str
    source: str
    width: int
    height: int
    alt: str


def still_pictures(
    folder: Path,
    scores: pl.DataFrame,
    selection: Selection,
    categories: Mapping[str, str],
    suffix: str,
) -> list[Picture]:
    """The heatmap (PNG and SVG) and the bars (PNG), written to `folder`."""
    what = (
        f"{count(len(selection.models()), 'model')}, {count(len(selection.methods()), 'method')} "
        f"and {count(len(selection.subjects), 'subject')}"
    )
    heatmap = figures.heatmap(scores, format=selection.format, categories=categories)
    vector = figures.svg(heatmap)
    write(folder / f"heatmap{suffix}.png", figures.png(heatmap))
    write(folder / f"heatmap{suffix}.svg", vector)
    bars = figures.bars(scores, format=selection.format)
    write(folder / f"bars{suffix}.png", figures.png(bars))
    return [
        _picture(
            "Heatmap: subjects, models and methods",
            heatmap,
            ("svg+xml", vector),
            f"ECE and AUROC of {what} as two grids of coloured, numbered cells; the same numbers "
            "are in the table of every subject below.",
        ),
        _picture(
            "Means over subjects",
            bars,
            ("svg+xml", figures.svg(bars)),
            f"Bars of the mean ECE and AUROC of {what}; the same numbers are in the table by "
            "model and method above.",
        ),
    ]


def curves(
    folder: Path, predictions: Sequence[Predictions], selection: Selection, suffix: str
) -> list[Picture]:
    """The reliability diagrams and risk-coverage curves, written to `folder`, if they are known."""
    if not any(len(p) for p in predictions):
        return []
    reliability = figures.reliability(predictions, format=selection.format)
    risk = figures.risk_coverage(predictions, format=selection.format)
    drawn = [(figure, figures.png(figure)) for figure in (reliability, risk)]
    for name, (_, data) in zip(("reliability", "risk_coverage"), drawn, strict=True):
        write(folder / f"{name}{suffix}.png", data)
    return [
        _picture(
            "Reliability",
            reliability,
            ("png", drawn[0][1]),
            "Reliability diagrams, a row per model and a column per method: the stated probability "
            "to the right, the share that was correct upwards.",
        ),
        _picture(
            "Wrong answers among the surest",
            risk,
            ("png", drawn[1][1]),
            "Risk-coverage curves, a panel per model and a line per method: the share of answers "
            "let through to the right, the share of wrong ones among them upwards.",
        ),
    ]


def _picture(name: str, figure: Figure, image: tuple[str, bytes], alt: str) -> Picture:
    kind, data = image
    width, height = (round(96 * float(inches)) for inches in figure.get_size_inches())
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(name, source, width, height, alt)

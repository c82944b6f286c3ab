"""A scores table → `scores.csv`, `figures/` and `report.html` in one folder."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from howsure import figures
from howsure.errors import UsageError
from howsure.figures.labels import format_label, one_line
from howsure.figures.table import Selection, formats, select
from howsure.report import page, views
from howsure.report.data import page_data
from howsure.report.parts import Extra, Surprising
from howsure.report.statements import headline, statements
from howsure.report.summaries import categories_table, cost_table, selective_table
from howsure.report.surprises import asked_about
from howsure.report.surprises import surprises as surprising
from howsure.report.text import card_sections, count, prompts
from howsure.scores import POOLED, write_scores
from howsure.types import Predictions

QUESTIONS = "questions.json"
"""The texts of the questions that the page shows, for whoever draws it again."""


@dataclass(frozen=True)
class Picture:
    """An image inlined in the page; width and height in CSS pixels."""

    name: str
    source: str
    width: int
    height: int
    alt: str


def write_report(
    directory: Path,
    scores: pl.DataFrame,
    predictions: Sequence[Predictions] | None = None,
    *,
    title: str = "How sure is it?",
    run_card: Mapping[str, Any] | None = None,
    categories: Mapping[str, str] | None = None,
    questions: Mapping[str, str] | None = None,
    reference: tuple[str, pl.DataFrame] | None = None,
    notes: Sequence[str] = (),
    extra: Sequence[Extra] = (),
) -> Path:
    """Writes `scores.csv`, `statements.json`, `figures/` and `report.html`; returns its path.

    `scores` has SCORE_COLUMNS. `predictions` add the reliability and risk-coverage pictures of
    their formats, and, where they hold answers, the most surprising ones. `run_card` (settings,
    versions, seconds; mappings may be nested) is shown as it is; `categories` (subject → heading)
    group the subjects; `questions` are texts by id; `reference` is a (name, scores table) to
    compare with; `notes` are shown below the title, `extra` sections after what the run says. The
    first format (open-ended before multiple
    choice) has the plain file names, others a suffix: `figures/heatmap_choice.png`.

    Everything in the page is escaped, and nothing in it is fetched or run. Raises PredictionsError
    for a table with nothing to draw, UsageError where the folder can't be written to.
    """
    selections = [select(scores, name) for name in formats(scores) or [""]]
    _make(directory / "figures")
    write_scores(scores, directory / "scores.csv")
    said = statements(scores, categories=categories, card=run_card)
    _write(directory / "statements.json", _json([s.to_json() for s in said]))
    shown = asked_about(predictions or (), questions or {})
    if shown:
        _write(directory / QUESTIONS, _json(shown))
    sections, of_format = [], []
    for i, selection in enumerate(selections):
        suffix = f"_{_file_safe(selection.format)}" if i else ""
        pictures = _pictures(directory / "figures", scores, selection, categories or {}, suffix)
        mine = [p for p in predictions or () if p.format == selection.format]
        of_format.append((selection, mine))
        pictures += _curves(directory / "figures", mine, selection, suffix)
        sections.append(
            _section(i, scores, selection, mine, pictures, questions or {}, categories or {})
        )
    made = page.render(
        page_data(of_format, categories or {}),
        title=one_line(title),
        notes=[one_line(note) for note in notes],
        sections=sections,
        said=views.said(said),
        said_headline=headline(said) if said else "",
        extra=extra,
        against=_against(scores, reference),
        exclusions=views.exclusions(scores),
        cost=cost_table(run_card or {}),
        card=card_sections(run_card or {}),
        prompts=prompts(run_card or {}),
    )
    return _write(directory / "report.html", made)


def _pictures(
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
    _write(folder / f"heatmap{suffix}.png", figures.png(heatmap))
    _write(folder / f"heatmap{suffix}.svg", vector)
    bars = figures.bars(scores, format=selection.format)
    _write(folder / f"bars{suffix}.png", figures.png(bars))
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


def _curves(
    folder: Path, predictions: Sequence[Predictions], selection: Selection, suffix: str
) -> list[Picture]:
    """The reliability diagrams and risk-coverage curves, written to `folder`, if they are known."""
    if not any(len(p) for p in predictions):
        return []
    reliability = figures.reliability(predictions, format=selection.format)
    risk = figures.risk_coverage(predictions, format=selection.format)
    drawn = [(figure, figures.png(figure)) for figure in (reliability, risk)]
    for name, (_, data) in zip(("reliability", "risk_coverage"), drawn, strict=True):
        _write(folder / f"{name}{suffix}.png", data)
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


def _section(
    index: int,
    scores: pl.DataFrame,
    selection: Selection,
    predictions: Sequence[Predictions],
    pictures: Sequence[Picture],
    questions: Mapping[str, str],
    categories: Mapping[str, str],
) -> dict[str, Any]:
    """What the template needs of one format."""
    surprises = {
        correct: Surprising(*surprising(predictions, selection, questions, correct=correct))
        for correct in (False, True)
    }
    known = any(s.method for s in surprises.values())
    return {
        "anchor": f"format-{index}",
        "label": format_label(selection.format),
        "sentences": views.sentences(selection),
        "calibrations": selection.calibration_note(),
        "means": views.headline(selection),
        "pooled": views.headline(selection, POOLED),
        "pictures": pictures,
        "categories": categories_table(selection, categories),
        "selective": selective_table(selection, predictions),
        "wrong": surprises[False] if known else None,
        "right": surprises[True] if known else None,
        "details": views.details(scores, selection.format),
    }


def _against(
    scores: pl.DataFrame, reference: tuple[str, pl.DataFrame] | None
) -> dict[str, object] | None:
    if reference is None:
        return None
    name, table = reference
    return {"name": one_line(name), "table": views.against(scores, table)}


def _json(value: object) -> bytes:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")


def _file_safe(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:40]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _write(path: Path, data: bytes) -> Path:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(f"can't write {path}: {reason}; give a folder that is writable")

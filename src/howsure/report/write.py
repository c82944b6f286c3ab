"""A scores table → `scores.csv`, `figures/` and `report.html` in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from howsure.figures.labels import format_label, one_line
from howsure.figures.table import Selection, formats, select
from howsure.report import page, views
from howsure.report.beside import beside, to_frame
from howsure.report.data import page_data
from howsure.report.files import as_json, file_safe, make_folder, write
from howsure.report.parts import Extra, Surprising
from howsure.report.pictures import Picture, curves, still_pictures
from howsure.report.statements import headline, statements
from howsure.report.summaries import categories_table, cost_tables, selective_table
from howsure.report.surprises import asked_about
from howsure.report.surprises import surprises as surprising
from howsure.report.text import card_sections, prompts
from howsure.scores import POOLED, write_scores
from howsure.tables import write_csv
from howsure.types import Predictions

QUESTIONS = "questions.json"
"""The texts of the questions that the page shows, for whoever draws it again."""


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
    compare with, number by number also in `comparison.csv`; `notes` are shown below the title,
    `extra` sections after what the run says. The first format (open-ended before multiple choice)
    has the plain file names, others a suffix: `figures/heatmap_choice.png`.

    Everything in the page is escaped, and nothing in it is fetched or run. Raises PredictionsError
    for a table with nothing to draw, UsageError where the folder can't be written to.
    """
    selections = [select(scores, name) for name in formats(scores) or [""]]
    made, card, headings = predictions or (), run_card or {}, categories or {}
    make_folder(directory / "figures")
    write_scores(scores, directory / "scores.csv")
    said = statements(scores, categories=categories, card=run_card)
    write(directory / "statements.json", as_json([s.to_json() for s in said]))
    shown = asked_about(made, questions or {})
    if shown:
        write(directory / QUESTIONS, as_json(shown))
    compared = beside(scores, reference[1], reference[0]) if reference else []
    if reference:
        write_csv(to_frame(compared), directory / "comparison.csv")
    sections = []
    explored = [(s, [p for p in made if p.format == s.format]) for s in selections]
    for i, (selection, mine) in enumerate(explored):
        suffix = f"_{file_safe(selection.format)}" if i else ""
        pictures = still_pictures(directory / "figures", scores, selection, headings, suffix)
        pictures += curves(directory / "figures", mine, selection, suffix)
        sections.append(_section(i, scores, selection, mine, pictures, shown, headings))
    explored += [(c.together, []) for c in compared if c.together]
    return write(
        directory / "report.html",
        page.render(
            page_data(explored, headings),
            title=one_line(title),
            notes=[one_line(note) for note in notes],
            sections=sections,
            said=views.said(said),
            said_headline=headline(said) if said else "",
            extra=extra,
            reference=one_line(reference[0]) if reference else "",
            compared=compared,
            exclusions=views.exclusions(scores),
            costs=cost_tables(card),
            card=card_sections(card),
            prompts=prompts(card),
        ),
    )


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

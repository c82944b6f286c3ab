"""Values show themselves in a notebook, and become polars and pandas tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from injections import INJECTIONS
from polars.testing import assert_frame_equal
from synthetic import make_predictions, make_scores
from test_report import Page, make_run

import howsure
from howsure.notebook import card
from howsure.run import RunResult
from howsure.scores import PREDICTION_COLUMNS
from howsure.workers import Failure


def parsed(html: str) -> Page:
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= {
        *("div", "strong", "table", "thead", "tbody", "tr", "th", "td")
    }
    return page


def test_predictions_are_a_table(tmp_path: Path) -> None:
    made = make_predictions()
    folder = make_run(tmp_path / "run", made, None)
    on_disk = pl.read_parquet(folder / "predictions.parquet")
    assert_frame_equal(pl.concat(p.to_polars() for p in made), on_disk)
    assert tuple(made[0].to_polars().columns) == PREDICTION_COLUMNS
    frame = made[0].to_pandas()
    assert isinstance(frame, pd.DataFrame) and frame["p_correct"].tolist() == list(
        made[0].p_correct
    )


def test_predictions_show_themselves() -> None:
    (p,) = make_predictions(models=("a",), methods=("probe",), calibrations=("none",))
    text = parsed(p._repr_html_()).text
    assert "probe on a (open, calibration none)" in text
    assert f"90 answers on 3 subjects, {p.is_correct.mean():.3f} correct" in text
    assert text.count("us_history/") == 8 and "…" in text


def test_a_run_directory_shows_itself(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", make_predictions(), {"seed": 1})
    run = howsure.read_source(folder)
    text = parsed(run._repr_html_()).text
    macro = run.scores.filter(subject="macro")
    assert all(f"{v:.3f}" in text for v in macro["auroc"])
    assert run.to_polars() is run.scores
    assert run.to_pandas().shape == run.scores.shape
    assert run.heatmap()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_run_result_shows_itself(tmp_path: Path) -> None:
    scores = make_scores()
    done = RunResult(tmp_path, tmp_path / "report.html", scores, (Failure("too few <b>", 1, ""),))
    text = parsed(done._repr_html_()).text
    assert "Not done: too few <b>" in text and "report.html" in text
    assert done.to_polars() is scores and len(done.to_pandas()) == scores.height


def test_statements_show_themselves(tmp_path: Path) -> None:
    said = howsure.statements(make_scores())
    table = said.to_polars()
    assert table.height == len(said) > 3
    assert table["statement"].to_list() == [s.statement for s in said]
    assert table["low"].to_list() == [s.interval[0] if s.interval else None for s in said]
    assert len(said.to_pandas()) == len(said)
    text = parsed(said._repr_html_()).text
    assert all(s.statement in text and s.verdict in text for s in said)
    folder = make_run(tmp_path / "run", make_predictions(), None)
    assert json.dumps([s.to_json() for s in howsure.read_source(folder).statements()])


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_stays_text(text: str) -> None:
    page = parsed(card(text, [text], [text], [[text]]))
    plain = text.replace("\x00", "\ufffd")
    assert page.text.count(text) == 4 or page.text.count(plain) == 4

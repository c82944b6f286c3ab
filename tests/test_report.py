"""The page is read back with a parser: what it says, what it must not hold, what lies beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from synthetic import make_predictions, make_scores, set_cell

from howsure.errors import HowsureError, PredictionsError, UsageError
from howsure.figures.table import select
from howsure.report import Extra, Table, report_paths, surprises, views, write_report
from howsure.report.inputs import combine, known_categories, read_source
from howsure.report.summaries import categories_table, cost_tables, selective_table
from howsure.report.text import UNKNOWN, card_sections, interval, listed, number, prompts
from howsure.scores import read_scores, write_predictions, write_scores
from howsure.types import Predictions

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "reference" / "kapoor2024_mmlu.csv"
HOSTILE = "</td><script>alert('&1')</script><img src=\"//evil.example/x\" onerror=alert(1)>"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether all that was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictions() -> list[Predictions]:
    return make_predictions(formats=("choice", "open"))


@pytest.fixture(scope="module")
def scores(predictions: list[Predictions]) -> pl.DataFrame:
    return make_scores(predictions)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    scores: pl.DataFrame,
    predictions: list[Predictions],
) -> Path:
    """A report with everything in it."""
    out = tmp_path_factory.mktemp("report") / "deep" / "folder"
    card = {
        "recipe": "quick",
        "seconds": {"answer": 12.25, "fit": 3},
        "spec": {"lora": {"rank": 8, "tied": False}, "models": ["a", "b"]},
    }
    path = write_report(
        out,
        scores,
        predictions,
        title="A title of my own",
        run_card=card,
        categories={"addition": "Sums", "clock": "Time"},
        questions={"clock/0": "What time is it?"},
    )
    assert path == out / "report.html"
    return out


def test_writes_all_its_files(folder: Path, scores: pl.DataFrame) -> None:
    names = {"heatmap.png", "heatmap.svg", "bars.png", "reliability.png", "risk_coverage.png"}
    names |= {re.sub(r"\.", "_choice.", name) for name in names}
    assert {p.name for p in (folder / "figures").iterdir()} == names
    assert {p.name for p in folder.iterdir()} == {
        *("report.html", "scores.csv", "statements.json", "questions.json", "figures"),
    }
    assert_frame_equal(read_scores(folder / "scores.csv"), scores)


def test_the_first_format_has_the_plain_names(folder: Path) -> None:
    plain = (folder / "figures" / "heatmap.svg").read_text(encoding="utf-8")
    other = (folder / "figures" / "heatmap_choice.svg").read_text(encoding="utf-8")
    assert "open-ended questions" in plain
    assert "multiple-choice questions" in other


def test_says_what_there_is(folder: Path) -> None:
    page = read_page(folder / "report.html")
    for words in (
        "A title of my own",
        "Each answer of 2 models to 90 questions on 3 subjects was given a probability of being "
        "correct, by 2 methods and 1 plain baseline.",
        "tells right answers from wrong ones best (AUROC 0.",
        "ECE noise floor",
        "Wrong, though held to be right",
        "Right, though held to be wrong",
        "All rows of scores.csv for open-ended questions",
        "lora.rank",
        "12.25",
        "What the numbers mean",
    ):
        assert words in page.text, words
    headings = re.findall(r"<h2[^>]*>([^<]*)", page.html)
    assert headings[:2] == ["Open-ended questions", "Multiple-choice questions"]


def test_headline_shows_the_macro_rows(folder: Path, scores: pl.DataFrame) -> None:
    text = read_page(folder / "report.html").text
    rows = scores.filter(pl.col("subject") == "macro", pl.col("format") == "open")
    for row in rows.iter_rows(named=True):
        if row["calibration"] == "temperature":
            assert number(row["ece"]) + interval(row["ece_low"], row["ece_high"]) in text
            assert number(row["ece_floor"]) in text
            assert number(row["brier"]) in text
        else:
            assert number(row["auroc"]) + interval(row["auroc_low"], row["auroc_high"]) in text


def test_best_of_each_model_is_marked(scores: pl.DataFrame) -> None:
    here = {"subject": "macro", "format": "open", "model": "model-a"}
    table = set_cell(scores, {**here, "method": "zero_shot"}, "auroc", 0.9876)
    columns, groups = views.headline(select(table, "open"))
    assert columns == ("Accuracy", "ECE", "ECE noise floor", "AUROC", "Brier")
    model, rows = groups[0]
    assert model == "model-a"
    assert [row.method for row in rows if row.cells[3].best] == ["Zero-Shot Classifier"]
    assert [row.baseline for row in rows] == [False, False, True]
    lowest = min(rows, key=lambda row: row.cells[1].text)
    assert [row for row in rows if row.cells[1].best] == [lowest]


def test_every_row_is_in_the_full_tables(folder: Path, scores: pl.DataFrame) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    full = re.findall(r'<table class="full">.*?</table>', html, re.DOTALL)
    assert len(full) == 4
    assert sum(table.count('<th scope="row">') for table in full) == scores.height


def test_nothing_is_fetched_or_run(folder: Path) -> None:
    page = read_page(folder / "report.html")
    (policy,) = (
        m["content"] or ""
        for m in page.all("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    (style,) = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'"
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert page.all("script") == [{"type": "application/json", "id": "data"}, {}]
    assert not set("<>&") & set(data) and data.isascii()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(", script
    )
    assert not {"link", "iframe", "object", "form", "svg", "base"} & {t for t, _ in page.tags}
    for _, attrs in page.tags:
        assert not any(name == "style" or name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            if name in attrs:
                assert (attrs[name] or "").startswith(("data:image/", "#"))
    rest = re.sub(r'src="data:image/[^"]*"', "", page.html)
    rest = rest.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert "http:" not in rest
    assert "https:" not in rest
    assert "url(" not in rest
    assert "@import" not in rest


def test_can_be_read_by_everyone(folder: Path) -> None:
    page = read_page(folder / "report.html")
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(img["alt"] or "") > 40 and img["width"] for img in page.all("img"))
    assert len(page.all("img")) == 8
    assert all(th.get("scope") in ("row", "col", "rowgroup") for th in page.all("th"))
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= anchors
    scrolling = [a for _, a in page.tags if (a.get("class") or "").startswith("scroll")]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)
    assert "prefers-color-scheme:dark" in page.html
    assert "@media print" in page.html
    assert any(m.get("name") == "viewport" for m in page.all("meta"))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    made = make_predictions(
        models=("m", HOSTILE), subjects=("a", HOSTILE), methods=("lora", HOSTILE)
    )
    hostile = [replace(p, answers=tuple(HOSTILE for _ in p.ids)) for p in made]
    table = make_scores(hostile).with_columns(pl.lit(HOSTILE).alias("note"))
    path = write_report(
        tmp_path,
        table,
        hostile,
        title=HOSTILE,
        run_card={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}, "\udcff": "\udcff"},
        categories={HOSTILE: HOSTILE},
        questions=dict.fromkeys(made[0].ids, HOSTILE),
        reference=(HOSTILE, table),
        notes=(HOSTILE,),
    )
    page = read_page(path)
    assert page.all("script") == [{"type": "application/json", "id": "data"}, {}]
    assert all((img["src"] or "").startswith("data:image/") for img in page.all("img"))
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert page.text.count("alert('&1')") > 20
    assert "<script" not in (tmp_path / "figures" / "heatmap.svg").read_text(encoding="utf-8")


def test_surprises_are_the_extremes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surprises, "EXTREMES", 2)
    one = Predictions(
        model="m",
        method="probe",
        format="open",
        calibration="none",
        ids=tuple("abcdef"),
        subjects=("s",) * 6,
        p_correct=np.array([0.2, 0.99, 0.6, 0.9, 0.01, 0.5]),
        is_correct=np.array([False, False, False, True, True, True]),
        answers=("meek", "bold", "dim", "sure", "shy", "half"),
    )
    path = write_report(tmp_path, make_scores([one]), [one], questions={"b": "Which?"})
    cells = re.findall(
        r'<th scope="row">([\d.]+)</th><td>m</td>.*?<bdi>([^<]*)</bdi></td><td>(\w)<',
        read_page(path).html,
    )
    wrong = [("0.990", "bold", "b"), ("0.600", "dim", "c")]
    assert cells == [*wrong, ("0.010", "shy", "e"), ("0.500", "half", "f")]
    assert "Which?" in path.read_text(encoding="utf-8")


def test_without_predictions(tmp_path: Path, scores: pl.DataFrame) -> None:
    page = read_page(write_report(tmp_path, scores.filter(pl.col("format") == "choice")))
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        "heatmap.png",
        "heatmap.svg",
        "bars.png",
    }
    assert "held to be right" not in page.text
    assert "How it was run" not in page.text


def test_what_is_missing_is_named(scores: pl.DataFrame) -> None:
    where = {"model": "model-b", "method": "lora_prompt", "subject": "clock", "format": "open"}
    table = set_cell(scores, where, "note", "single_class;strange")
    table = set_cell(table, {**where, "subject": "macro"}, "note", "auroc_excluded=1")
    clock, macro = (f"{name} (model-b, LoRA + Prompt, open)" for name in ("Clock", "macro"))
    # Two rows each, uncalibrated and calibrated, named once.
    assert views.exclusions(table) == [
        ("AUROC undefined: all answers are correct, or all are wrong", 2, clock),
        ("strange", 2, clock),
        (views.REASONS["auroc_excluded"], 2, macro),
    ]
    assert views.exclusions(scores) == []
    everywhere = views.exclusions(scores.with_columns(pl.lit("single_class").alias("note")))
    assert everywhere[0][1:] == (scores.height, "every row of the table")


def test_a_table_with_nothing_to_draw(tmp_path: Path, scores: pl.DataFrame) -> None:
    with pytest.raises(PredictionsError, match="nothing to draw"):
        write_report(tmp_path / "out", scores.clear())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, scores: pl.DataFrame) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(UsageError, match=r"can't write .*file.*give a folder that is writable"):
        write_report(tmp_path / "file", scores)


# report_paths ----------------------------------------------------------------------------------


def make_run(
    folder: Path, predictions: list[Predictions], card: Mapping[str, object] | None
) -> Path:
    folder.mkdir(parents=True)
    write_scores(make_scores(predictions), folder / "scores.csv")
    write_predictions(predictions, folder / "predictions.parquet")
    if card is not None:
        (folder / "run.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "first", make_predictions(), {"spec": {"seed": 7}})


def test_a_run_directory(run: Path, tmp_path: Path) -> None:
    path = report_paths([run], tmp_path / "out")
    page = read_page(path)
    assert "How sure is it? · first" in page.text
    assert "seed" in page.text
    assert (tmp_path / "out" / "figures" / "reliability.png").exists()
    assert (tmp_path / "out" / "scores.csv").read_bytes() == (run / "scores.csv").read_bytes()


def test_a_run_directory_can_be_drawn_anew_in_place(run: Path) -> None:
    before = (run / "scores.csv").read_bytes()
    assert report_paths([run], run) == run / "report.html"
    assert (run / "scores.csv").read_bytes() == before


def test_a_run_is_not_overwritten_by_another_table(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "second", make_predictions(seed=1), None)
    for paths in ([other], [run, other]):
        with pytest.raises(UsageError, match="Give another folder with --output"):
            report_paths(paths, run)


def test_same_names_from_two_sources_are_told_apart(run: Path, tmp_path: Path) -> None:
    more = make_predictions(models=("model-b", "model-c"), seed=1)
    other = make_run(tmp_path / "other" / "first", more, None)
    table, predictions = combine([read_source(run), read_source(other)])
    models = table["model"].unique(maintain_order=True).to_list()
    here, there = "model-b (runs/first)", "model-b (other/first)"
    assert models == ["model-a", here, there, "model-c"]
    assert {p.model for p in predictions} == set(models)
    assert table.height == 2 * make_scores().height


def test_different_methods_of_a_model_come_together(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", make_predictions(methods=("probe",)), None)
    table, _ = combine([read_source(run), read_source(other)])
    assert set(table["model"]) == {"model-a", "model-b"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", r"there is no .*nowhere; give a run directory"),
        ("empty", r"empty has no scores\.csv, so it is no \(finished\) run directory"),
        ("some.parquet", r"predictions are scored by `howsure score`"),
        ("some.csv", r"some\.csv is no scores table"),
        ("card", r"can't read .*run\.json.*delete it"),
        ("list", r"holds no JSON object"),
    ],
)
def test_bad_paths_are_one_clear_line(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "some.parquet").write_bytes(b"PAR1")
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    for folder, text in (("card", "{"), ("list", "[]")):
        made = make_run(tmp_path / folder, make_predictions(n=2, subjects=("s",)), None)
        (made / "run.json").write_text(text)
    with pytest.raises(HowsureError, match=words) as error:
        report_paths([tmp_path / name], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_no_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        report_paths([], tmp_path)


def test_the_published_table(tmp_path: Path) -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published table is not beside this checkout")
    small = tmp_path / "small.csv"
    lines = PUBLISHED.read_text().splitlines()
    some = [x for x in lines[1:] if re.search(r"/Mistral.*,(anatomy|marketing),test,", x)]
    small.write_text("\n".join([lines[0], *some]))
    page = read_page(report_paths([small], tmp_path / "out"))
    assert "ECE of the decision" in page.text
    assert "Brier" not in re.findall(r'<table class="means".*?</thead>', page.html, re.DOTALL)[0]
    assert "the source has no ECE of the plain kind" in page.text
    assert "every row of the table" in page.text
    drawn = (tmp_path / "out" / "figures" / "heatmap.svg").read_text(encoding="utf-8")
    assert ">STEM<" in drawn
    assert (tmp_path / "out" / "figures" / "heatmap_choice.svg").exists()


def test_known_categories(scores: pl.DataFrame) -> None:
    assert known_categories(scores)["addition"] == "Arithmetic"
    assert known_categories(make_scores(make_predictions(subjects=("x", "y")))) == {}


# words -----------------------------------------------------------------------------------------


def test_words_and_numbers() -> None:
    assert number(None) == number(float("nan")) == "–"  # noqa: RUF001
    assert number(0.12345) == "0.123"
    assert interval(0.1, None) == ""
    assert interval(0.1, 0.25) == "0.100 to 0.250"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_card_sections() -> None:
    sections = card_sections(
        {"a": None, "b": {"c": {"d": 0.1, "e": [1, True]}}, "f": {}, "g": "x" * 2000}
    )
    assert [heading for heading, _ in sections] == ["", "b"]
    assert sections[0][1][0] == ("a", "–")  # noqa: RUF001
    assert len(sections[0][1][1][1]) == 600
    assert sections[1][1] == [("c.d", "0.1"), ("c.e", "1, yes")]


# summaries -------------------------------------------------------------------------------------

CARD = {
    "seconds": {"by_unit": {"m (open)": {"answer test": 5.0, "fit probe": 30, "predict probe": 2}}},
    "tokens": {"by_unit": {"m (open)": {"answer test": 1000}}},
    "units": {
        "m (open)": {
            "answers": {
                "training": {"answers": 300},
                "validation": {"answers": 30},
                "test": {"answers": 20},
            },
            "prompt": "Question: why?\nAnswer: so\n\nIs it?",
        }
    },
}


def test_what_it_cost() -> None:
    (table,) = cost_tables(CARD)
    assert table.rows == (
        ("Answer, test", "m (open)", "0.2500", "50.0", "5.0", "20"),
        ("Fit: Probe", "m (open)", "0.1000", UNKNOWN, "30.0", "300"),
        ("Estimate: Probe", "m (open)", "0.0400", UNKNOWN, "2.0", "50"),
    )
    without = {k: v for k, v in CARD.items() if k != "tokens"}
    means, nested = cost_tables({"run a": without, "run b": without})
    assert "Tokens per question" not in nested.columns and len(nested.rows) == 6
    assert means.rows[0] == ("Answer, test", "all 2", "0.2500", "10.0", "40")
    assert cost_tables({"seconds": {"answer": 1}, "units": 3}) == []


def test_prompts_are_shown_whole(tmp_path: Path, scores: pl.DataFrame) -> None:
    assert prompts({"run a": CARD}) == [("m (open)", "Question: why?\nAnswer: so\n\nIs it?")]
    page = read_page(write_report(tmp_path, scores, run_card=CARD))
    assert "Question: why?\nAnswer: so\n\nIs it?" in page.text
    assert page.text.count("Is it?") == 1


def test_accuracy_of_the_surest() -> None:
    p = make_predictions(models=("m",), methods=("probe",), calibrations=("none",), n=40)
    scores = make_scores(p)
    table = selective_table(select(scores), p)
    assert table is not None
    assert table.columns[2:] == ("all answers", "surest 95%", "surest 90%", "surest 80%")
    surest = np.sort(p[0].p_correct)[-96]
    wanted = p[0].is_correct[p[0].p_correct >= surest].mean()
    assert table.rows[0][5].startswith(f"{wanted:.3f} (")
    assert selective_table(select(scores), []) is None


def test_by_category(scores: pl.DataFrame) -> None:
    selection = select(scores, "open")
    table = categories_table(selection, {"addition": "Sums", "clock": "Sums"})
    assert table is not None
    assert [row[:2] for row in table.rows] == [("Sums", "2"), ("Other", "1")]
    assert table.rows[1][2] == number(float(selection.values("accuracy", ["us_history"]).mean()))
    assert categories_table(selection, {}) is None


def test_a_section_of_someone_elses_is_escaped(tmp_path: Path, scores: pl.DataFrame) -> None:
    extra = Extra("choice", HOSTILE, (HOSTILE,), ((HOSTILE, Table((HOSTILE,), ((HOSTILE,),))),))
    page = read_page(write_report(tmp_path, scores, extra=[extra]))
    assert page.text.count("alert('&1')") == 6
    assert {"id": "choice"} in page.all("section")


def test_questions_travel_to_a_report_drawn_again(tmp_path: Path) -> None:
    made = make_predictions()
    folder = make_run(tmp_path / "run", made, None)
    texts = {name: f"What is {name}?" for name in made[0].ids}
    write_report(folder, read_scores(folder / "scores.csv"), made, questions=texts)
    kept = json.loads((folder / "questions.json").read_text())
    assert 0 < len(kept) < len(texts)
    again = read_page(report_paths([folder], tmp_path / "out"))
    first = read_page(folder / "report.html")
    asked = re.findall(r"What is \S+\?", first.text)
    assert asked and re.findall(r"What is \S+\?", again.text) == asked

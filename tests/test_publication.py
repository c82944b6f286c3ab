"""What a paper takes: pictures of the right width in vectors, tables in which text stays text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from injections import INJECTIONS
from markdown_it import MarkdownIt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from polars.testing import assert_frame_equal
from synthetic import SIX_METHODS, SIX_MODELS, make_predictions, make_scores, set_cell
from test_report import PUBLISHED

from howsure import figures
from howsure.cli import main
from howsure.errors import UsageError
from howsure.figures import style
from howsure.figures.heatmap import ECE_SCALE
from howsure.figures.labels import one_line
from howsure.figures.table import formats, select
from howsure.report import publication, write_publication
from howsure.report.typeset import Grid, latex, latex_text, markdown, markdown_text
from howsure.scores import read_scores, write_scores

HERE = {"model": "model-b", "method": "lora_prompt", "subject": "clock"}


@pytest.fixture(scope="module")
def scores() -> pl.DataFrame:
    made = make_scores(make_predictions(formats=("open", "choice")))
    return set_cell(made, HERE, "auroc", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, scores: pl.DataFrame) -> Path:
    out = tmp_path_factory.mktemp("paper")
    write_publication(out, scores, categories={"clock": "Time", "addition": "Sums"})
    return out


def test_writes_all_its_files(folder: Path) -> None:
    names = [f"{n}{f}" for n in ("heatmap", "bars") for f in ("", "_choice")]
    pictures = {f"{name}.{kind}" for name in names for kind in ("pdf", "svg")}
    tables = {f"{n}.{k}" for n in ("methods", "models", "subjects") for k in ("tex", "md")}
    tidy = {"scores_long.csv", "scores_long.parquet"}
    assert {p.name for p in folder.iterdir()} == pictures | tables | tidy


@pytest.mark.parametrize("name", ["heatmap.pdf", "bars.pdf"])
def test_pdfs_are_vectors_as_wide_as_the_column(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data)
    assert float(box[0]) == pytest.approx(5.5 * 72, abs=0.01)
    assert b"/Subtype /Type3" not in data and b"/Type0" in data
    sizes = re.findall(rb"/Width (\d+)", data)  # the colour bar's gradient is all that may be one
    assert all(int(w) <= 256 for w in sizes)


def test_svgs_hold_text_as_text(folder: Path) -> None:
    text = (folder / "heatmap.svg").read_text()
    assert 'width="396pt"' in text
    assert ">Us history<" in text and ">LoRA+Prompt<" in text and ">Time<" in text
    assert "<script" not in text


def test_narrow_columns_have_a_picture_for_each_panel(tmp_path: Path, scores: pl.DataFrame) -> None:
    write_publication(tmp_path, scores, width=3.25)
    assert {"heatmap_ece.pdf", "heatmap_auroc_choice.svg"} <= {p.name for p in tmp_path.iterdir()}
    assert not (tmp_path / "heatmap.pdf").exists()


def test_cells_have_the_tables_colours(scores: pl.DataFrame) -> None:
    figure = figures.paper_heatmap(scores, width=5.5, format="open")
    first = next(c for a in figure.axes for c in a.collections if c.get_gid() == "cells")
    selection = select(scores, "open")
    values = selection.ece(["macro", *selection.subjects]).ravel()
    scale = ScalarMappable(Normalize(*ECE_SCALE), style.lower_is_better())
    np.testing.assert_allclose(first.get_facecolors(), scale.to_rgba(values))


def test_what_has_no_value_is_hatched(scores: pl.DataFrame) -> None:
    figure = figures.paper_heatmap(scores, width=5.5, format="open")
    empty = [c for a in figure.axes for c in a.collections if c.get_gid() == "empty"]
    assert [len(c.get_paths()) for c in empty] == [1]


def test_widths_that_no_column_has(scores: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match=r"a column 1 inches wide is no column; give 2\.5 to 20"):
        figures.paper_heatmap(scores, width=1)
    wide = make_scores(make_predictions(models=SIX_MODELS, methods=SIX_METHODS, n=4))
    many = pl.concat(
        wide.with_columns(pl.format("{}-{}", "model", pl.lit(i)).alias("model")) for i in range(6)
    )
    with pytest.raises(UsageError, match=r"216 columns and their names don't fit 5\.5 inches"):
        figures.paper_heatmap(many, width=5.5)


# tables ------------------------------------------------------------------------------------------


def test_methods_table_is_the_mean_over_models(scores: pl.DataFrame) -> None:
    grid = publication.methods_table([select(scores, f) for f in formats(scores)])
    assert [h for h, _ in grid.groups] == ["Open-ended questions", "Multiple-choice questions"]
    row = next(r for r in grid.parts[0] if r[0] == "LoRA + Prompt")
    macro = scores.filter(subject="macro", method="lora_prompt", format="choice")
    ece = macro.filter(calibration="temperature")["ece"]
    auroc = macro.filter(calibration="none")["auroc"]
    assert row[3] == f"{ece.mean():.3f} ± {ece.std():.3f}"
    assert row[4] == f"{auroc.mean():.3f} ± {auroc.std():.3f}"


def test_models_table_marks_the_best_of_each_model(scores: pl.DataFrame) -> None:
    grid = publication.models_table([select(scores, f) for f in formats(scores)])
    assert [part[0][0] for part in grid.parts] == ["model-a", "model-b"]
    for p, part in enumerate(grid.parts):
        for c in range(4):
            column = [float(row[2 + c]) for row in part]
            top = max(column) if c % 2 else min(column)
            assert {r for r, v in enumerate(column) if v == top} == {
                r for (q, r, d) in grid.best if (q, d) == (p, c)
            }


def test_subject_tables(scores: pl.DataFrame) -> None:
    grids = list(publication.subject_tables(select(scores, "open"), {"clock": "Time"}))
    assert len(grids) == 2 and grids[0].caption.startswith("model-a, open-ended questions")
    assert [row[0] for part in grids[1].parts for row in part] == [
        *("Mean", "Clock", "Us history", "Addition"),
    ]
    clock = grids[1].parts[1][0]
    assert clock[1] == "30" and clock[5] == "–"  # noqa: RUF001


def test_the_published_methods_table(tmp_path: Path) -> None:
    """The means that the paper's figure 3 shows, from the published table by subject."""
    if not PUBLISHED.exists():
        pytest.skip("the published table is not beside this checkout")
    scores = read_scores(PUBLISHED)
    grid = publication.methods_table([select(scores, f) for f in formats(scores)])
    table = {row[0]: row[1:] for row in grid.parts[0]}
    assert table["Zero-Shot Classifier"][1].startswith("0.568")
    assert table["LoRA + Prompt"][1].startswith("0.716")
    assert table["Probe"][3].startswith("0.716")


@pytest.mark.parametrize("text", [*INJECTIONS, "a_b", "50% & more", "#1", "| x |", "[x](http://y)"])
def test_markdown_text_is_text(text: str) -> None:
    """Parsed by another's parser, with HTML allowed, it is the same text again and nothing else."""
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    grid = Grid("Caption", ("A",), (("", ("B",)),), (((text, text),),))
    tokens = parser.parse(markdown(grid))
    cells = [t for t in tokens if t.type == "inline"][3:]
    assert len(cells) == 2
    for cell in cells:
        assert {c.type for c in cell.children or ()} <= {"text", "text_special"}
        assert "".join(c.content for c in cell.children or ()) == one_line(text)
    assert not re.search(r"https?://|www\.", markdown_text(text))


@pytest.mark.parametrize("text", INJECTIONS)
def test_latex_text_has_no_command(text: str) -> None:
    made = latex_text(text)
    left = re.sub(r"\\text[a-z]+\{\}|\\[{}$&#_%]|\$[-]\$|\$\\pm\$", "", made)
    assert not set(left) & set("\\{}$&#^_~%")
    assert "\n" not in made


def test_latex_compiles(tmp_path: Path) -> None:
    """Where there is a TeX."""
    tex = shutil.which("pdflatex")
    if tex is None:
        pytest.skip("needs pdflatex")
    plain = [s for s in map(one_line, INJECTIONS) if s.isascii()]
    grid = Grid("50% & more_", ("A",), (("G", ("B", "C")),), (tuple((s, s, "0.1") for s in plain),))
    start = r"\documentclass{article}\usepackage{booktabs,textcomp}\usepackage[T1]{fontenc}"
    (tmp_path / "a.tex").write_text(rf"{start}\begin{{document}}{latex(grid)}\end{{document}}")
    made = subprocess.run([tex, "-halt-on-error", "a.tex"], cwd=tmp_path, capture_output=True)
    assert made.returncode == 0, made.stdout[-800:]


# tidy data ---------------------------------------------------------------------------------------


def test_every_number_is_a_row(folder: Path, scores: pl.DataFrame) -> None:
    tidy = pl.read_parquet(folder / "scores_long.parquet")
    known = sum(scores.height - scores[m].null_count() for m in publication._METRICS)
    assert tidy.height == known
    where = {"model": "model-a", "method": "zero_shot", "format": "open", "subject": "macro"}
    one = tidy.filter(**where, calibration="none", metric="ece").row(0, named=True)
    row = scores.filter(**where, calibration="none").row(0, named=True)
    assert [one[k] for k in ("value", "low", "high", "floor")] == [
        row[k] for k in ("ece", "ece_low", "ece_high", "ece_floor")
    ]
    assert_frame_equal(pl.read_csv(folder / "scores_long.csv", schema=tidy.schema), tidy)


# the command line --------------------------------------------------------------------------------


def test_the_option(
    tmp_path: Path, scores: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(scores.filter(format="open"), tmp_path / "scores.csv")
    arguments = ["report", str(tmp_path / "scores.csv"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--width", "3"])
    assert "--width is that of pictures for a paper; add --publication" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--publication", "--width", "3"])
    assert (tmp_path / "out" / "publication" / "heatmap_ece.pdf").exists()

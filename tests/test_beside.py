"""Beside a reference: which models are the same, and differences that are known beforehand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from synthetic import make_predictions, make_scores
from test_report import PUBLISHED, read_page

from howsure.errors import PredictionsError
from howsure.figures.table import select
from howsure.report import report_paths, write_report
from howsure.report.beside import beside, checkpoint_key, on_subjects, to_frame
from howsure.scores import read_scores, write_scores


@pytest.fixture(scope="module")
def here() -> pl.DataFrame:
    return make_scores()


@pytest.fixture(scope="module")
def there(here: pl.DataFrame) -> pl.DataFrame:
    """A little worse everywhere: AUROC by 0.1, ECE by 0.02."""
    shifted = [(pl.col("auroc") - 0.1).clip(0, 1), (pl.col("ece") + 0.02), pl.col("accuracy")]
    return here.with_columns(*shifted)


def test_a_constant_difference_is_found_with_no_doubt(here, there) -> None:
    (found,) = beside(here, there, "theirs.csv")
    assert found.subjects == 3
    rows = to_frame([found])
    macro = rows.filter(subject="macro")
    assert macro.height == 2 * 3 * 3
    wanted = {"auroc": 0.1, "ece": -0.02, "accuracy": 0.0}
    for metric, difference, low, high in macro.select(
        "metric", "difference", "low", "high"
    ).iter_rows():
        assert difference == pytest.approx(wanted[metric])
        assert low == pytest.approx(wanted[metric]) and high == pytest.approx(wanted[metric])
    one = rows.filter(model="model-a", method="lora_prompt", subject="clock", metric="auroc")
    assert one["here"].item() - one["reference"].item() == pytest.approx(0.1)


def test_the_tables_show_the_means(here, there) -> None:
    (found,) = beside(here, there, "theirs.csv")
    assert found.means.columns[:4] == ("Method", "ECE here", "there", "difference")
    selection = select(here)
    auroc = selection.values("auroc", ["macro"])[0]
    mine = [j for j, (_, m) in enumerate(selection.columns) if m == "lora_prompt"]
    row = next(r for r in found.means.rows if r[0] == "LoRA + Prompt")
    assert row[4] == f"{auroc[mine].mean():.3f}" and row[6] == "+0.100"
    assert found.same is not None
    assert found.same.rows[0][:2] == ("model-a", "Zero-Shot Classifier")
    assert found.same.rows[0][7] == "+0.100 (+0.100 to +0.100)"


def test_only_common_subjects_count(here, there) -> None:
    part = there.filter(~pl.col("subject").is_in(["clock", "pooled"]))
    (found,) = beside(here, part, "theirs.csv")
    assert found.subjects == 2
    assert set(to_frame([found])["subject"]) == {"us_history", "addition", "macro"}
    group = {"model": "model-a", "method": "lora_prompt", "calibration": "none"}
    kept = on_subjects(here, ["us_history", "addition"]).filter(**group)
    assert kept["subject"].to_list() == ["us_history", "addition", "macro"]
    assert kept["auroc"][2] == pytest.approx(kept["auroc"][:2].mean())
    assert kept["auroc_low"][2] is None and kept["n"][2] == 60


def test_nothing_in_common(here, tmp_path: Path) -> None:
    other = make_scores(make_predictions(subjects=("law", "logic")))
    (found,) = beside(here, other, "other")
    assert found.rows == () and found.same is None and found.together is None
    page = read_page(write_report(tmp_path / "a", here, reference=("other", other)))
    assert "No subject is in both" in page.text
    assert (tmp_path / "a" / "comparison.csv").read_text().count("\n") == 1
    choice = make_scores(make_predictions(formats=("choice",)))
    page = read_page(write_report(tmp_path / "b", here, reference=("choice", choice)))
    assert "none of the formats here" in page.text


def test_the_same_checkpoint_under_its_names() -> None:
    names = ("llama2:7b", "meta-llama/Llama-2-7b-hf", "Llama-2-7b-hf (run-a)", "x/llama-2-7b-hf/")
    assert {checkpoint_key(n) for n in names} == {"llama-2-7b-hf"}
    assert checkpoint_key("llama2:7b-chat") != checkpoint_key("llama2:7b")


def test_several_runs_and_the_published_numbers(tmp_path: Path) -> None:
    """Two tables made of the published one, with known differences, beside it."""
    if not PUBLISHED.exists():
        pytest.skip("the published table is not beside this checkout")
    small = tmp_path / "kapoor2024.csv"
    lines = PUBLISHED.read_text().splitlines()
    few = [x for x in lines[1:] if re.search(r",(anatomy|marketing|virology|sociology),test,", x)]
    small.write_text("\n".join([lines[0], *few]))
    published = read_scores(small)
    for name, gain in (("first", 0.03), ("second", 0.05)):
        table = published.with_columns((pl.col("auroc") + gain).clip(0, 1))
        write_scores(table, tmp_path / f"{name}.csv")
    paths = [tmp_path / "first.csv", tmp_path / "second.csv"]
    page = report_paths(paths, tmp_path / "out", reference=small)
    rows = pl.read_csv(tmp_path / "out" / "comparison.csv").filter(subject="macro", metric="auroc")
    assert rows.height == 2 * 6 * 4 * 2
    gains = {m: d for m, d in rows.select("model", "difference").iter_rows()}
    for model, gain in gains.items():
        assert gain == pytest.approx(0.03 if "first" in model else 0.05, abs=2e-3)
    html = page.read_text()
    data = json.loads(re.findall(r'id="data">(.*?)</script>', html)[0])
    assert len(data["formats"]) == 4
    labels = [m["label"] for m in data["formats"][2]["models"]]
    assert len(labels) == 18 and "Llama-2-7b-hf (kapoor2024.csv)" in labels
    shown = [q["key"] for q in data["formats"][2]["quantities"]]
    assert shown == ["ece_decision", "auroc", "accuracy", "ece_decision_plain"]
    assert 'id="explore-3"' in html and 'id="explore-4"' not in html


def test_a_reference_that_is_none(tmp_path: Path, here) -> None:
    write_scores(here, tmp_path / "scores.csv")
    with pytest.raises(PredictionsError, match=r"there is no .*absent\.csv"):
        report_paths([tmp_path / "scores.csv"], tmp_path / "o", reference=tmp_path / "absent.csv")

"""What the run says: against the published table, against cases worked by hand, against chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import make_predictions, make_scores

from howsure.report import relations, write_report
from howsure.report.clustered import difference_of_groups, mean_over_cells, means_by_unit
from howsure.report.statements import headline, statements
from howsure.scores import read_scores

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "reference" / "kapoor2024_mmlu.csv"


@pytest.fixture(scope="module")
def published() -> list[dict[str, object]]:
    if not PUBLISHED.exists():
        pytest.skip("the published table is not beside this checkout")
    return [s.to_json() for s in statements(read_scores(PUBLISHED))]


@pytest.mark.parametrize(
    ("better", "worse", "format", "share", "verdict"),
    [  # shares counted by a pivot of the published file's test rows, without temperature scaling
        ("LoRA + Prompt", "Probe", "choice", 0.404, "not supported"),
        ("LoRA + Prompt", "Probe", "open", 0.863, "supported"),
        ("Probe", "Zero-Shot Classifier", "choice", 0.956, "supported"),
        ("Probe", "Zero-Shot Classifier", "open", 0.833, "supported"),
        ("LoRA", "Probe", "open", 0.281, "contradicted"),
    ],
)
def test_what_the_published_table_says(published, better, worse, format, share, verdict) -> None:
    text = f"{better} tells right answers from wrong ones better than {worse}."
    (found,) = (s for s in published if s["statement"] == text and s["format"] == format)
    assert found["share_of_wins"] == pytest.approx(share, abs=5e-4)
    assert found["n"] == 57 * 6
    assert found["verdict"] == verdict
    low, high = found["interval"]
    assert low < found["estimate"] < high
    assert verdict == "supported" if low > 0 else "contradicted" if high < 0 else "not supported"


def test_sizes_and_tuning_are_read_from_the_published_names(published) -> None:
    larger = [s for s in published if s["statement"].startswith("The larger model")]
    assert {s["metric"] for s in larger} == {"ECE of the decision", "AUROC", "Accuracy"}
    assert all(s["holds_in"].endswith("of 2 pairs") for s in larger)
    assert "Llama-2-13b-hf against Llama-2-7b-hf" in larger[0]["note"]
    (accuracy,) = (s for s in larger if s["metric"] == "Accuracy" and s["format"] == "choice")
    assert accuracy["verdict"] == "supported"
    tuned = [s for s in published if s["statement"].startswith("Chat and instruct")]
    assert "Mistral-7B-Instruct-v0.2 against Mistral-7B-v0.1" in tuned[0]["note"]


def test_history_is_among_the_groups(published) -> None:
    easiest = [s for s in published if "history" in s["statement"]]
    assert len(easiest) == 2 and all(s["estimate"] > 0 for s in easiest)


def test_statements_json_is_what_the_page_says(tmp_path: Path) -> None:
    predictions = make_predictions(methods=("zero_shot", "probe", "likelihood"), n=12)
    page = write_report(tmp_path, make_scores(predictions), predictions)
    rows = json.loads((tmp_path / "statements.json").read_text())
    wanted = {"statement", "estimate", "interval", "share_of_wins", "n", "verdict"}
    assert rows and all(wanted <= row.keys() for row in rows)
    html = page.read_text(encoding="utf-8")
    for row in rows:
        assert f"<strong>{row['statement']}</strong>" in html
    assert any("baseline Answer likelihood" in row["statement"] for row in rows)
    assert html.count('class="verdict"') == len(rows)


def test_one_model_one_method_says_nothing() -> None:
    assert statements(make_scores(make_predictions(models=("m",), methods=("mine",))))
    plain = make_predictions(models=("m",), methods=("mine",), calibrations=("none",))
    assert not statements(make_scores(plain))


def test_too_few_subjects_are_not_testable() -> None:
    two = make_predictions(methods=("zero_shot", "probe"), subjects=("a", "b"))
    said = statements(make_scores(two))
    assert {s.verdict for s in said} == {"not testable"}
    assert {s.interval for s in said} == {None}
    assert headline(said).startswith(f"Of {len(said)} statements 0 are supported")


def test_a_mean_worked_by_hand() -> None:
    cells = np.array([[0.1, 0.3], [-0.2, np.nan], [0.0, 0.1], [0.1, 0.2]])
    found = mean_over_cells(cells, ["m", "n"])
    assert found is not None
    assert found.estimate == pytest.approx(0.6 / 7)
    assert found.n == 7 and found.share_of_wins == pytest.approx(5 / 7)
    assert found.low < found.estimate < found.high
    constant = mean_over_cells(np.full((5, 2), 0.25), ["m", "n"])
    assert (constant.low, constant.high) == pytest.approx((0.25, 0.25))
    assert mean_over_cells(np.full((4, 2), np.nan), ["m", "n"]) is None


def test_an_effect_of_one_model_alone_is_not_supported() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(0.0, 0.01, (40, 6))
    cells[:, 0] += 0.3
    over_models = mean_over_cells(cells, list("abcdef"))
    over_subjects_only = mean_over_cells(cells, ["same"] * 6)
    assert over_models.low < 0 < over_subjects_only.low


@pytest.mark.parametrize("subjects", [6, 30])
def test_intervals_cover_the_mean(subjects: int) -> None:
    """95% nominal, effects of subject and model. Five models are few: 88% of other models' mean."""
    rng = np.random.default_rng(subjects)
    hits, units = 0, 0
    for _ in range(200):
        effect = rng.normal(0, 1, (subjects, 1)) + rng.normal(0, 1, (subjects, 5))
        found = mean_over_cells(effect + rng.normal(0, 1, (1, 5)), list("abcde"))
        hits += found.low <= 0.0 <= found.high
        _, low, high = means_by_unit(effect)
        units += int(((low <= 0) & (high >= 0)).sum())
    assert hits >= 168
    assert 0.92 <= units / 1000 <= 0.985


def test_groups_of_subjects_cover_and_widen_with_the_number_of_groups() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        cells = rng.normal(0, 1, (20, 1)) + rng.normal(0, 0.1, (20, 3))
        found = difference_of_groups(cells[:3], cells[3:])
        hits += found.low <= 0.0 <= found.high
    assert 275 <= hits <= 298
    wider = difference_of_groups(cells[:3], cells[3:], comparisons=10)
    assert wider.low < found.low and wider.high > found.high
    assert difference_of_groups(cells[:3], cells[:0]) is None


def test_sizes() -> None:
    models = ("a/Llama-2-13b-hf", "mixtral-8x7b", "tiny (one)", "phi-1.5b", "nosize")
    sizes = relations.model_sizes(models, {"models": {"tiny": {"parameters": 5}}})
    assert sizes == {"a/Llama-2-13b-hf": 13 * 10**9, "tiny (one)": 5, "phi-1.5b": 1_500_000_000}
    nested = relations.model_sizes(["m"], {"run a": {"models": {"m": {"parameters": 7}}}})
    assert nested == {"m": 7}


def test_pairs_of_models() -> None:
    sizes = {"x-7b-chat": 7, "x-13b-chat": 13, "y-1b": 1, "x-7.5b-chat": 8}
    pairs, alike = relations.larger_pairs(sizes)
    assert alike and ("x-13b-chat", "x-7b-chat") in pairs
    assert ("x-7.5b-chat", "x-7b-chat") not in pairs  # as good as equal
    pairs, alike = relations.larger_pairs({"big-one": 10, "other": 1})
    assert pairs == [("big-one", "other")] and not alike
    assert relations.tuned_pairs(["z-v0.1", "z-instruct-v0.2", "w-chat"]) == [
        ("z-instruct-v0.2", "z-v0.1")
    ]


def test_words_that_subjects_share() -> None:
    subjects = [
        *("high_school_history", "us_history", "world_history", "prehistory"),
        *("high_school_law", "high_school_art", "logic", "ethics"),
    ]
    assert relations.shared_words(subjects) == {
        "high school": ["high_school_history", "high_school_law", "high_school_art"],
        "history": ["high_school_history", "us_history", "world_history"],
    }


def test_equal_tables_say_the_same_whatever_their_order() -> None:
    table = make_scores(make_predictions(methods=("zero_shot", "probe", "lora")))
    again = pl.concat(
        [part for _, part in sorted(table.group_by("model", "method"), key=lambda x: x[0][1])]
    )
    ours, theirs = (
        {s.statement: (s.estimate, s.share_of_wins, s.verdict) for s in statements(t)}
        for t in (table, again)
    )
    assert ours.keys() == theirs.keys()
    for text, (estimate, share, verdict) in ours.items():
        assert theirs[text] == (pytest.approx(estimate), share, verdict)

"""The numbers that the page's script draws: against the table, and against paired_difference."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_predictions, make_scores

from howsure import intervals, metrics
from howsure.figures.table import select
from howsure.intervals import draw_counts, paired_difference, resampled
from howsure.report import page
from howsure.report.data import page_data
from howsure.report.paired import interval_of_difference, mean_rows
from howsure.report.paired import resampled as resampled_together

CATEGORIES = {"addition": "Sums", "us_history": "Sums", "clock": "Time"}
SUBJECTS = ("us_history", "addition", "clock")


def resampled_cells(metric, columns, subjects, resamples):
    return resampled_together({"x": (metric, columns)}, subjects, resamples=resamples)["x"]


@pytest.fixture(scope="module")
def predictions():
    return make_predictions(n=40)


@pytest.fixture(scope="module")
def data(predictions):
    scores = make_scores(predictions)
    return page_data([(select(scores), predictions)], CATEGORIES)["formats"][0]


def test_values_are_the_tables(data, predictions) -> None:
    scores = make_scores(predictions)
    assert [r["kind"] for r in data["rows"]] == [
        *("mean", "category", "subject", "subject", "category", "subject")
    ]
    assert [r["label"] for r in data["rows"][1:3]] == ["Mean of Sums", "Addition"]
    ece = next(q for q in data["quantities"] if q["key"] == "ece")
    table = scores.rows_by_key(("model", "method", "calibration", "subject"), named=True)
    width = len(data["columns"])
    for j, (m, k) in enumerate(data["columns"]):
        key = (("model-a", "model-b")[m], ("zero_shot", "lora_prompt", "likelihood")[k])
        for r, subject in ((0, "macro"), (2, "addition"), (5, "clock")):
            (row,) = table[(*key, "temperature", subject)]
            for name, column in (("value", "ece"), ("low", "ece_low"), ("floor", "ece_floor")):
                assert ece[name][r * width + j] == round(row[column] * 10_000)
        means = [ece["value"][r * width + j] for r in (1, 2, 3)]
        assert means[0] == pytest.approx(np.mean(means[1:]), abs=1)
        assert ece["low"][width + j] <= means[0] <= ece["high"][width + j]


def test_before_calibration_is_a_quantity_of_its_own(data) -> None:
    keys = [q["key"] for q in data["quantities"]]
    assert keys == [
        *("ece", "ece_decision", "auroc", "brier", "aurc", "accuracy"),
        *("ece_plain", "ece_decision_plain"),
    ]
    assert {q["key"]: q["note"] for q in data["quantities"]}["ece_plain"] == "without scaling"


def test_accuracy_has_no_difference_of_methods(data) -> None:
    accuracy = data["differences"]["accuracy"]
    assert accuracy["methods"] == [] and len(accuracy["models"]) == 1


@pytest.mark.parametrize("metric", ["ece", "ece_decision", "auroc", "brier", "aurc", "accuracy"])
def test_differences_are_those_of_paired_difference(predictions, metric) -> None:
    a, b = (p for p in predictions[:6] if p.calibration == "none" and p.method != "likelihood")
    columns = {("m", "a"): a, ("m", "b"): b}
    drawn = resampled_cells(metric, columns, SUBJECTS, resamples=400)
    value, replicates = drawn.difference(("m", "a"), ("m", "b"))
    low, high = interval_of_difference(metric, value, replicates)
    for s, subject in enumerate(SUBJECTS):
        here = np.array(a.subjects) == subject
        pair = [(p.p_correct[here], p.is_correct[here]) for p in (a, b)]
        direct = paired_difference(metric, *pair, seed=1, resamples=400)
        assert value[s] == pytest.approx(direct.value)
        width = direct.high - direct.low
        assert low[s] == pytest.approx(direct.low, abs=0.15 * width + 1e-9)
        assert high[s] == pytest.approx(direct.high, abs=0.15 * width + 1e-9)
    mean, spread = mean_rows(value, replicates, [[0, 1, 2], []])
    assert mean[0] == pytest.approx(value.mean()) and np.isnan(mean[1])
    pairs = [(p.p_correct, p.is_correct) for p in (a, b)]
    macro = paired_difference(metric, *pairs, seed=1, groups=a.subjects, resamples=400)
    low, high = interval_of_difference(metric, mean, spread)
    width = macro.high - macro.low
    assert (low[0], high[0]) == pytest.approx((macro.low, macro.high), abs=0.15 * width + 1e-9)


def test_only_common_questions_are_compared(predictions) -> None:
    a, b = predictions[0], predictions[2]
    keep = [i for i in range(len(b)) if i % 3]
    fewer = replace(
        b,
        ids=tuple(b.ids[i] for i in keep),
        subjects=tuple(b.subjects[i] for i in keep),
        p_correct=b.p_correct[keep],
        is_correct=b.is_correct[keep],
        answers=(),
    )
    drawn = resampled_cells("brier", {("m", "a"): a, ("m", "b"): fewer}, SUBJECTS, resamples=50)
    value, replicates = drawn.difference(("m", "a"), ("m", "b"))
    here = [i for i in keep if a.subjects[i] == "addition"]
    terms = [(p.p_correct[here] - p.is_correct[here]) ** 2 for p in (a, b)]
    assert value[1] == pytest.approx(float((terms[0] - terms[1]).mean()))
    assert not np.isnan(replicates).any()
    turned = drawn.difference(("m", "b"), ("m", "a"))
    assert (turned[0] == -value).all() and (turned[1] == -replicates).all()
    strange = replace(fewer, ids=tuple(f"other {name}" for name in fewer.ids))
    columns = {("m", "a"): a, ("m", "b"): strange}
    value, replicates = resampled_cells("brier", columns, SUBJECTS, resamples=50).difference(
        *columns
    )
    assert np.isnan(value).all() and np.isnan(replicates).all()


def test_together_or_alone_the_numbers_are_the_same(predictions) -> None:
    columns = {(p.model, p.method): p for p in predictions[:6]}
    wanted = {m: (m, columns) for m in ("ece", "auroc", "aurc")}
    together = resampled_together(wanted, SUBJECTS, resamples=30)
    for metric, drawn in together.items():
        alone = resampled_cells(metric, columns, SUBJECTS, resamples=30)
        assert (drawn.values == alone.values).all()
        assert (drawn.replicates == alone.replicates).all()


def test_order_of_questions_does_not_matter(predictions) -> None:
    a = predictions[0]
    order = np.random.default_rng(0).permutation(len(a))
    mixed = replace(
        a,
        ids=tuple(a.ids[i] for i in order),
        subjects=tuple(a.subjects[i] for i in order),
        p_correct=a.p_correct[order],
        is_correct=a.is_correct[order],
        answers=(),
    )
    both = {("m", "a"): a, ("m", "b"): mixed}
    value, replicates = resampled_cells("aurc", both, SUBJECTS, resamples=20).difference(*both)
    np.testing.assert_allclose(value, 0.0, atol=1e-12)
    np.testing.assert_allclose(replicates, 0.0, atol=1e-6)


def test_resampled_aurc_is_that_of_the_drawn_questions() -> None:
    rng = np.random.default_rng(5)
    p = np.round(rng.random(30), 1)  # many ties
    y = rng.random(30) < p
    (counts,) = draw_counts(30, resamples=25, seed=3)
    fast = resampled("aurc", p, y, counts)
    for k in range(25):
        drawn = np.repeat(np.arange(30), counts[:, k].astype(int))
        assert fast[k] == pytest.approx(metrics.aurc(p[drawn], y[drawn]), abs=1e-5)
    assert intervals.value("aurc", p, y) == metrics.aurc(p, y)


def test_without_predictions_only_means_have_verdicts(predictions) -> None:
    scores = make_scores(predictions)
    data = page_data([(select(scores), [])], CATEGORIES)["formats"][0]
    (pair, *_) = data["differences"]["brier"]["methods"]
    rows = [pair["verdict"][i : i + 2].strip() for i in range(0, 12, 2)]
    kinds = [r["kind"] for r in data["rows"]]
    assert [bool(v) for v in rows] == [k == "mean" for k in kinds]  # two subjects are too few
    assert data["reliability"] == data["risk"] == []


def test_data_cannot_leave_their_block() -> None:
    hostile = "</script><!--<script>alert(1)\u2028\u2029&amp;]]>\ud800"
    text = page.inert_json({"a": hostile})
    assert not set("<>&\u2028\u2029") & set(text) and text.isascii()
    assert json.loads(text) == {"a": hostile}


def test_every_part_of_the_script_is_in_the_page() -> None:
    from importlib.resources import files

    names = {f.name for f in files("howsure.report").joinpath("script").iterdir()}
    assert names == {f"{name}.js" for name in page.SCRIPTS}
    script = page.assembled_script()
    assert "</script" not in script and "<!--" not in script

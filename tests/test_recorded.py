"""Files of confidences from elsewhere: columns of any name, scales that are no probability."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relplot.metrics import binnedECE
from sklearn.metrics import roc_auc_score
from test_cli import howsure  # noqa: F401 (fixture)

from howsure.calibrate import fit_calibrator
from howsure.errors import PredictionsError, UsageError
from howsure.recorded import Columns, Scale, read_recorded
from howsure.recorded.folder import claim
from howsure.recorded.options import softmax
from howsure.recorded.recalibrate import FOLDS, folds, recalibrated
from howsure.scores import score


@pytest.fixture
def table(tmp_path):
    """Writes rows as a JSONL file, and gives its path."""

    def write(rows, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write


def rows_of(n, **columns):
    return [{k: v(i) if callable(v) else v for k, v in columns.items()} for i in range(n)]


# columns ------------------------------------------------------------------------------------------


def test_columns_are_guessed_by_name_and_the_guess_is_said(table):
    rows = rows_of(4, Confidence=lambda i: i / 4, correct=lambda i: i > 1, topic="t", qid=str)
    found = read_recorded(table(rows))
    (p,) = found.predictions
    assert p.p_correct.tolist() == [0, 0.25, 0.5, 0.75] and p.subjects == ("t",) * 4
    assert p.method == "Confidence" and p.ids == ("0", "1", "2", "3")
    (note,) = found.notes
    for part in ("'Confidence' (--p-column)", "'correct' (--correct-column)", "'topic'", "'qid'"):
        assert part in note


def test_our_own_columns_are_no_guess(table):
    rows = rows_of(3, p_correct=0.5, confidence=0.1, is_correct=True, correct=False)
    found = read_recorded(table(rows))
    assert found.notes == () and found.predictions[0].p_correct.tolist() == [0.5] * 3
    assert found.predictions[0].method == "recorded" and found.predictions[0].is_correct.all()


def test_named_columns_win(table):
    rows = rows_of(4, confidence=0.1, mine=0.7, right=1, correct=0, who="a", item=str, way="w")
    columns = Columns(
        p=("mine",), correct="right", model="who", id="item", method="way", subject="who"
    )
    (p,) = read_recorded(table(rows), columns).predictions
    assert p.p_correct.tolist() == [0.7] * 4 and p.is_correct.all()
    assert (p.model, p.method, p.subjects[0]) == ("a", "w", "a")


def test_several_confidences_are_several_methods(table):
    rows = rows_of(4, a=0.1, b=0.7, correct=lambda i: i > 1)
    found = read_recorded(table(rows), Columns(p=("a", "b"))).predictions
    assert [(p.method, p.p_correct[0]) for p in found] == [("a", 0.1), ("b", 0.7)]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"conf": 0.5, "prob": 0.5, "correct": 1}, "'conf' and 'prob' could all be the confidence"),
        ({"conf": 0.5, "correct": 1, "acc": 1}, "--correct-column"),
        ({"conf": 0.5, "correct": 1, "topic": "a", "domain": "b"}, "--subject-column"),
        ({"conf": 0.5, "pred": "a"}, "has no column 'is_correct'"),
        ({"correct": 1}, "--p-column or --options-column"),
        ({"conf": "high", "correct": 1}, "row 1: conf is 'high'"),
        ({"conf": 85, "correct": 1}, "--percent if they are percentages"),
        ({"conf": -3.2, "correct": 1}, "--recalibrate isotonic"),
        ({"conf": 0.5, "correct": "B"}, "row 1: correct is 'B'; it must be true or false"),
        ({"conf": 0.5, "correct": 1, "id": "x"}, "the id 'x' occurs twice"),
        ({"probs": [0.5, 0.2], "correct": 1}, "row 1: probs sums to 0.700, not 1"),
        ({"probs": [1.0], "correct": 1}, "row 1: probs is '[1.0]'; it must be a list of two"),
        ({"probs": [0.4, 0.6], "pred": "C", "correct": 1}, "row 1: pred is 'C'"),
        ({"probs": ["a", "b"], "correct": 1}, "a list of two or more numbers"),
    ],
)
def test_what_is_not_clear_is_refused_in_one_line(table, columns, words):
    with pytest.raises(PredictionsError) as refused:
        read_recorded(table([columns, columns]))
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert "mine.jsonl" in str(refused.value)


def test_a_named_column_that_is_not_there(table):
    path = table(rows_of(2, conf=0.5, correct=1))
    with pytest.raises(UsageError, match=r"unknown column 'cnf'; did you mean 'conf'\?.*--p-col"):
        read_recorded(path, Columns(p=("cnf",)))


def test_parquet_keeps_its_types(tmp_path):
    frame = pl.DataFrame({"conf": [0.1, None, 0.3], "correct": [True, False, False]})
    frame.write_parquet(tmp_path / "mine.parquet")
    found = read_recorded(tmp_path / "mine.parquet")
    assert found.predictions[0].p_correct.tolist() == [0.1, 0.3]
    assert found.predictions[0].ids == ("1", "3")  # the row's number
    lists = pl.DataFrame({"probs": [[0.25, 0.75], [0.5, 0.5]], "gold": [1, 1]})
    lists.write_parquet(tmp_path / "lists.parquet")
    (p,) = read_recorded(tmp_path / "lists.parquet").predictions
    assert p.p_correct.tolist() == [0.75, 0.5] and p.is_correct.tolist() == [True, False]


def test_missing_confidences_are_counted_by_model_and_never_filled(table):
    rows = rows_of(
        10, conf=lambda i: None if i < 3 else 0.5, correct=True, model=lambda i: "ab"[i % 2]
    )
    found = read_recorded(table(rows))
    assert sum(len(p) for p in found.predictions) == 7
    assert "3 of 10 rows have no 'conf' and are left out (a 2; b 1)" in found.notes[-1]


def test_correctness_from_the_two_answers(table):
    rows = [
        {"conf": 0.5, "pred": " b", "gold": "B"},
        {"conf": 0.5, "pred": "2.0", "gold": 2},
        {"conf": 0.5, "pred": None, "gold": "a"},
        {"conf": 0.5, "pred": "a", "gold": "b"},
    ]
    found = read_recorded(table(rows))
    assert found.predictions[0].is_correct.tolist() == [True, True, False, False]
    assert "1 rows without an answer count as wrong" in " ".join(found.notes)


def test_options_give_the_probability_of_the_chosen_one(table):
    rows = [
        {"probs": [0.1, 0.9], "pred": "A", "gold": "B"},
        {"probs": [0.2, 0.3, 0.5], "pred": 2, "gold": 2},
        {"probs": [0.4, 0.6], "pred": None, "gold": 1},
    ]
    found = read_recorded(table(rows))
    (p,) = found.predictions
    assert p.p_correct.tolist() == [0.1, 0.5] and p.is_correct.tolist() == [False, True]
    assert p.format == "choice" and "1 of 3 rows have no 'probs'" in " ".join(found.notes)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_is_that_of_scipy(logits):
    from scipy.special import softmax as oracle

    np.testing.assert_allclose(softmax(np.array(logits)), oracle(np.array(logits), axis=1), 1e-12)


def test_log_probabilities_go_through_a_softmax(table):
    rows = [{"logprobs": [-1.0, -3.0], "correct": True}, {"logprobs": [-9.0, -8.0], "correct": 0}]
    found = read_recorded(table(rows))
    expected = [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))]
    np.testing.assert_allclose(found.predictions[0].p_correct, expected)
    assert "softmax over the options" in " ".join(found.notes)


def test_prompts_of_one_question_are_models_of_their_own(table):
    rows = [
        {"id": q, "prompt": k, "conf": 0.5, "correct": 1, "model": "m"}
        for q in "ab"
        for k in (0, 1)
    ]
    found = read_recorded(table(rows))
    assert [p.model for p in found.predictions] == ["m · prompt 0", "m · prompt 1"]
    assert all(p.ids == ("a", "b") for p in found.predictions)
    assert "--variant-column" in found.notes[-1]
    named = read_recorded(table(rows), Columns(variant="prompt")).predictions
    assert [p.model for p in named] == [p.model for p in found.predictions]


def test_two_files_must_not_hold_the_same_group(table):
    rows = rows_of(3, p_correct=0.5, is_correct=1, model="m")
    with pytest.raises(PredictionsError, match="two of the files hold m, recorded"):
        read_recorded([table(rows, "a.jsonl"), table(rows, "b.jsonl")])


# scales -------------------------------------------------------------------------------------------


def test_percentages_only_when_said(table):
    rows = rows_of(4, conf=lambda i: f"{20 * i}%" if i else 5, correct=lambda i: i > 1)
    found = read_recorded(table(rows), Columns(), Scale(percent=True))
    np.testing.assert_allclose(found.predictions[0].p_correct, [0.05, 0.2, 0.4, 0.6])
    assert "in percent" in " ".join(found.notes)


def noisy(n=400, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return z, rng.random(n) < 1 / (1 + np.exp(-2 * z))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_recalibrated_scores_are_probabilities_fitted_without_their_fold(kind):
    z, y = noisy()
    ids = [f"q{i}" for i in range(len(z))]
    p = recalibrated(kind, 50 + 10 * z, y, ids)
    assert ((p >= 0) & (p <= 1)).all()
    assert roc_auc_score(y, p) > roc_auc_score(y, z) - 0.03
    fold = folds(ids)
    here = fold == 2
    changed = y.copy()
    changed[here] = ~changed[here]  # its own labels don't reach a fold
    assert (recalibrated(kind, 50 + 10 * z, changed, ids)[here] == p[here]).all()
    if kind == "platt":  # logistic regression on the score itself
        scale = (50 + 10 * z).std()
        x = 1 / (1 + np.exp(-(z - z.mean()) * 10 / scale))
        np.testing.assert_allclose(fit_calibrator("platt", x[~here], y[~here])(x[here]), p[here])


@given(st.lists(st.text(max_size=3), min_size=1, max_size=60))
def test_folds_keep_equal_ids_together_and_are_even(ids):
    fold = folds(ids)
    by_id = defaultdict(set)
    for text, k in zip(ids, fold, strict=True):
        by_id[text].add(k)
    assert all(len(k) == 1 for k in by_id.values())
    sizes = np.bincount([next(iter(k)) for k in by_id.values()], minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 1
    assert (folds(ids[::-1])[::-1] == fold).all()


def test_what_is_no_probability_by_name_needs_recalibration(table):
    z, y = noisy()
    path = table([{"logit_perplexity": -v, "correct": bool(c)} for v, c in zip(z, y, strict=True)])
    columns = Columns(p=("logit_perplexity",))
    with pytest.raises(PredictionsError, match="likelihood or perplexity of the text"):
        read_recorded(path, columns)
    scale = Scale(recalibrate="isotonic", lower_is_surer=True)
    found = read_recorded(path, columns, scale)
    (p,) = found.predictions
    assert p.calibration == "isotonic" and "cross-validation" in found.notes[-1]
    assert roc_auc_score(y, p.p_correct) > 0.75


def test_probabilities_are_shown_beside_the_recalibrated(table):
    z, y = noisy()
    p = 1 / (1 + np.exp(-z))
    path = table([{"conf": float(v), "correct": bool(c)} for v, c in zip(p, y, strict=True)])
    found = read_recorded(path, scale=Scale(recalibrate="platt")).predictions
    assert [f.calibration for f in found] == ["none", "platt"]


def test_scales_that_make_no_sense(table):
    with pytest.raises(PredictionsError, match="add --recalibrate"):
        Scale(lower_is_surer=True)
    with pytest.raises(PredictionsError, match="platt or isotonic"):
        Scale(recalibrate="temperature")
    few = table(rows_of(3, conf=50, correct=1))
    with pytest.raises(PredictionsError, match="at least 5 questions"):
        read_recorded(few, scale=Scale(recalibrate="platt"))
    sure = table(rows_of(30, conf=50, correct=1))
    with pytest.raises(PredictionsError, match="30 right and 0 wrong"):
        read_recorded(sure, scale=Scale(recalibrate="platt"))


# real files ---------------------------------------------------------------------------------------


def naive_ece(p, y):
    """The definition, bin by bin, in decimal numbers."""
    bins = defaultdict(list)
    for value, right in zip(p, y, strict=True):
        bins[min(9, int(Decimal(repr(value)) * 10))].append((value, right))
    return sum(abs(sum(r - v for v, r in rows)) for rows in bins.values()) / len(p)


def ece_of_libraries():
    """(p, y) → ECE: relplot's, and netcal's where it is installed (it is no dependency)."""
    found = [binnedECE]
    with suppress(ImportError):
        from netcal.metrics import ECE

        found.append(ECE(bins=10).measure)
    return found


def check_against_oracles(path: Path, confidence, groups: int, missing: int):
    """Every row of the table, against libraries and the definition on the file's own rows."""
    found = read_recorded(path)
    assert len(found.predictions) == groups
    table = score(found.predictions, resamples=2).filter(pl.col("subject") != "macro")
    by_cell = defaultdict(list)
    lacking = 0
    with gzip.open(path, "rt") as file:
        for row in map(json.loads, file):
            model, p = confidence(row)
            if p is None:
                lacking += 1
                continue
            for subject in (row["subject"], "pooled"):
                by_cell[model, subject].append((p, row["correct"]))
    assert lacking == missing and len(table) == len(by_cell)
    oracles = ece_of_libraries()
    for row in table.iter_rows(named=True):
        p, y = zip(*by_cell[row["model"], row["subject"]], strict=True)
        assert row["n"] == len(p)
        assert abs(row["ece"] - naive_ece(p, y)) < 1e-9
        # Their edges are not exact: a hair above them an edge is in the bin that it belongs to.
        inside = np.minimum(np.array(p) + 1e-12, 1.0 - 1e-12)
        for oracle in oracles:
            assert abs(row["ece"] - oracle(inside, np.array(y, dtype=int))) < 1e-9
        assert abs(row["auroc"] - roc_auc_score(y, p)) < 1e-9
    return found


def test_verbal_confidences_of_eight_real_models(shared_data):
    path = shared_data / "predictions" / "mmlu_pro_verbal_confidence.jsonl.gz"
    found = check_against_oracles(
        path, lambda r: (r["model"], r["verbal_numerical"]), groups=8, missing=1785
    )
    assert "1,785 of 96,256 rows" in " ".join(found.notes)
    assert len(set(found.predictions[0].subjects)) == 14


def test_option_probabilities_under_ten_prompts(shared_data):
    path = shared_data / "predictions" / "conformal_llama13b_mmlu.jsonl.gz"
    found = check_against_oracles(
        path,
        lambda r: (f"LLaMA-13B · prompt {r['prompt']}", r["probs"][r["pred"]]),
        groups=10,
        missing=0,
    )
    assert len({p.ids for p in found.predictions}) == 1  # the same questions under every prompt


# lm-evaluation-harness ----------------------------------------------------------------------------

HARNESS = Path(__file__).parent / "data" / "lm_eval"


@pytest.fixture
def log(tmp_path):
    """A log of the harness, changed by a function of its lines; gives the new file's path."""
    (source,) = HARNESS.glob("models__tiny-llama-s/samples_quiz_addition_*")

    def write(change=lambda rows: rows, name="samples_quiz_addition_2026-01-02T03-04-05.678.jsonl"):
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        path = tmp_path / "owner__model" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, change(rows))))
        return path

    return write


def test_harness_logs_of_two_models():
    found = read_recorded(HARNESS)
    assert [p.model for p in found.predictions] == ["models/tiny-llama-l", "models/tiny-llama-s"]
    for p in found.predictions:
        assert (p.method, p.format, len(p)) == ("likelihood", "choice", 24)
        assert set(p.subjects) == {"addition", "clock"} and p.ids[0] == "quiz_addition/0"
        assert (p.p_correct > 0.25).all()  # the likeliest of four
    said = " ".join(found.notes)
    assert "as recorded; mean 0.6667, as in the results file" in said
    assert "quiz_division" in said and "no log-likelihoods of options; left out" in said


def test_harness_probabilities_are_the_softmax_of_the_question_s_own_options():
    (path,) = HARNESS.glob("models__tiny-llama-s/samples_quiz_clock_*")  # with acc_mutual_info
    (p,) = read_recorded(path).predictions
    for i, row in enumerate(map(json.loads, path.read_text().splitlines())):
        scores = np.array([float(s) for s, _ in row["filtered_resps"][:4]])
        q = np.exp(scores - np.logaddexp.reduce(scores))
        assert len(row["filtered_resps"]) == 8
        assert p.p_correct[i] == pytest.approx(q.max(), rel=1e-12)
        assert p.answers[i] == row["doc"]["choices"][q.argmax()]
        assert p.is_correct[i] == (p.answers[i] == row["doc"]["answer"]) == row["acc"]


def test_harness_repeats_are_left_out_and_counted(log):
    found = read_recorded(log(lambda rows: [*rows, *rows[:3]]))
    assert len(found.predictions[0]) == 12 and "3 repeated questions" in " ".join(found.notes)
    assert found.predictions[0].model == "owner/model"


def test_harness_other_filters_are_the_same_answers(log):
    found = read_recorded(log(lambda rows: [*rows, *({**r, "filter": "b"} for r in rows)]))
    assert len(found.predictions[0]) == 12 and "repeated" not in " ".join(found.notes)


def test_harness_of_two_runs_the_newer_counts(log):
    log(lambda rows: rows[:4], "samples_quiz_addition_2026-05-02T03-04-05.678.jsonl")
    found = read_recorded(log().parent)
    assert len(found.predictions[0]) == 4 and "1 older logs" in " ".join(found.notes)


def test_harness_grades_that_do_not_follow_from_the_log_are_refused(log):
    def turned(rows):
        return [{**r, "acc": 1.0 - r["acc"]} if k == 2 else r for k, r in enumerate(rows)]

    with pytest.raises(PredictionsError, match=r"line 3: .*that doesn't fit together"):
        read_recorded(log(turned))


def test_harness_targets_that_are_numbers_among_numbers(log):
    """The target "2" of options 1, 2, 3, 4: an index here, a text there; the grades tell."""

    def numbered(target):
        def change(rows):
            texts = ["1", "2", "3", "4"]
            requests = {
                f"gen_args_{k}": {"arg_0": "Q", "arg_1": f" {t}"} for k, t in enumerate(texts)
            }
            return [{**r, "arguments": requests, "target": target(int(r["target"]))} for r in rows]

        return change

    correct = read_recorded(log()).predictions[0].is_correct.tolist()
    for target in (lambda k: str(k), lambda k: str(k + 1), lambda k: f"[{k}, {k}]"):
        assert read_recorded(log(numbered(target))).predictions[0].is_correct.tolist() == correct


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [], "holds no samples"),
        (lambda rows: [{"a": 1}], "line 1: no 'doc_id'"),
        (lambda rows: [{**rows[0], "target": "9"}], "target is 9"),
        (lambda rows: [{**r, "filtered_resps": ["x"]} for r in rows], "no log-likelihoods"),
        (
            lambda rows: [{**rows[0], "filtered_resps": [["nan", "False"]] * 4}],
            "they must be finite",
        ),
    ],
)
def test_harness_logs_that_cannot_be_used(log, change, words):
    with pytest.raises(PredictionsError, match=words):
        read_recorded(log(change))


def test_harness_logs_can_be_recalibrated_and_have_no_columns_to_name(log):
    found = read_recorded(log(), scale=Scale(recalibrate="isotonic"))
    assert [p.calibration for p in found.predictions] == ["none", "isotonic"]
    with pytest.raises(UsageError, match="leave out all options but"):
        read_recorded(log(), Columns(p=("x",)))


def test_folders_without_logs(tmp_path):
    with pytest.raises(PredictionsError, match="holds no logs of an evaluation"):
        read_recorded(tmp_path)
    (tmp_path / "predictions.parquet").touch()
    with pytest.raises(PredictionsError, match="howsure report"):
        read_recorded(tmp_path)


# the folder ---------------------------------------------------------------------------------------


def test_the_same_files_may_be_scored_again_and_others_not(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    claim(tmp_path / "out", [first, second])
    (tmp_path / "out" / "scores.csv").touch()
    claim(tmp_path / "out", [first, second])
    with pytest.raises(UsageError, match=r"holds scores\.csv, but not of these files"):
        claim(tmp_path / "out", [first])
    (tmp_path / "out" / "run.json").touch()
    with pytest.raises(UsageError, match=r"holds run\.json"):
        claim(tmp_path / "out", [first, second])


def test_a_report_drawn_again_says_the_same_of_the_files(tmp_path, table, howsure):  # noqa: F811
    rows = rows_of(40, conf=lambda i: None if i < 3 else i / 40, correct=lambda i: i % 3 > 0)
    said = "3 of 40 rows have no &#39;conf&#39; and are left out"
    howsure("score", table(rows), "--output", tmp_path / "out")
    assert said in (tmp_path / "out" / "report.html").read_text()
    howsure("report", tmp_path / "out", "--output", tmp_path / "out")
    assert said in (tmp_path / "out" / "report.html").read_text()

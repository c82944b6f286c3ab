"""How far a grader agrees with people: the figures, the file of pairs, a run that tells them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_server import reply, serving
from test_judges import SPEC

from howsure import api
from howsure.agreement import LabelledPair, agreement, cohen_kappa, read_pairs, verdicts
from howsure.errors import QuestionError, UsageError
from howsure.intervals import RESAMPLES
from howsure.run import RunFailed, RunSpec, run

VERDICTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def labelled(*rows):
    """Pairs from (reference, answer, label)."""
    return tuple(LabelledPair("?", (r,), a, y) for r, a, y in rows)


def said_of(human, grader, **more):
    pairs = tuple(LabelledPair("?", ("r",), "a", bool(h)) for h in human)
    return agreement(pairs, [None if g is None else bool(g) for g in grader], **more)


@settings(deadline=None)  # the oracle is slow to import
@given(VERDICTS)
def test_kappa_is_that_of_scikit_learn(rows):
    from sklearn.metrics import cohen_kappa_score

    a, b = (np.array(column) for column in zip(*rows, strict=True))
    ours = cohen_kappa(a, b)
    if len({*a, *b}) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


def test_a_table_worked_by_hand():
    """Right for both 45, right for people only 15, for the grader only 25, for neither 15: people
    say right 60, the grader 70 of 100; chance 0.42 + 0.12 = 0.54; kappa 0.06 / 0.46."""
    human = [1] * 60 + [0] * 40
    grader = [1] * 45 + [0] * 15 + [1] * 25 + [0] * 15
    found = said_of(human, grader)
    assert found.kappa == pytest.approx(0.06 / 0.46)
    assert (found.accuracy.count, found.accuracy.n) == (60, 100)
    assert (found.false_accept.count, found.false_accept.n) == (25, 40)
    assert (found.false_reject.count, found.false_reject.n) == (15, 60)
    assert found.ungraded == 0 and found.kappa_low < found.kappa < found.kappa_high


def test_what_has_no_verdict_is_in_no_figure():
    found = said_of([1, 1, 0, 0, 1, 0], [1, 0, 0, 1, None, None])
    assert (found.pairs, found.ungraded, found.accuracy.n) == (6, 2, 4)
    assert found.false_accept.n == found.false_reject.n == 2
    assert "on 2 it gave no verdict" in found.in_words("judge:x")


def test_nothing_is_made_up_where_nothing_is_known():
    none = said_of([1, 0], [None, None])
    assert none.kappa is None and none.accuracy.value is None and none.false_accept.value is None
    assert "no verdict on any" in none.in_words("g")
    alike = said_of([1, 1, 0], [1, 1, None])
    assert alike.kappa is None and alike.false_accept.value is None
    assert "undefined" in alike.in_words("g")
    json.dumps(none.to_json(), allow_nan=False)


def test_the_interval_of_kappa_covers():
    """The kappa of 2,000 pairs is in the interval of 100 of them about as often as it says."""
    rng = np.random.default_rng(0)
    right, agrees = rng.random((200, 100)) < 0.6, rng.random((200, 100)) < 0.85
    p = 0.6 * 0.85 + 0.4 * 0.15
    chance = 0.6 * p + 0.4 * (1 - p)
    truth = (0.85 - chance) / (1 - chance)
    inside = 0
    for h, same in zip(right, agrees, strict=True):
        found = said_of(h, h == same)
        inside += found.kappa_low <= truth <= found.kappa_high
    assert RESAMPLES == 1000 and 180 <= inside <= 199


def test_the_match_takes_any_of_the_references():
    pairs = (
        LabelledPair("?", ("Paris", "City of Light"), "the city of light.", True),
        LabelledPair("?", ("Paris",), "London", False),
        LabelledPair("?", ("Paris",), "", False),
    )
    assert verdicts(None, pairs) == [True, False, False]


def test_a_judge_is_asked_about_each_reference():
    """Right where it says so of one; unknown where one is and none is right."""

    def judge(pairs, on_progress=None):
        return [{"a": True, "b": False, "?": None}[p.reference] for p in pairs]

    pairs = tuple(
        LabelledPair("q", refs, "x", True) for refs in (("b", "a"), ("b", "?"), ("b",), ("?", "a"))
    )
    assert verdicts(judge, pairs) == [True, None, False, True]


ROW = {"question": "q", "reference": "r", "answer": "a", "is_correct": True}


def write(path, rows):
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return path


def test_all_three_kinds_of_file_say_the_same(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"question": "q, 1", "references": ["r", 's "t"'], "answer": "", "is_correct": True},
        {"question": "q2", "references": ["u"], "answer": "line\nbreak", "is_correct": False},
    ]
    wanted = tuple(
        LabelledPair(r["question"], tuple(r["references"]), r["answer"], r["is_correct"])
        for r in rows
    )
    assert read_pairs(write(tmp_path / "p.jsonl", rows)) == wanted
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert read_pairs(tmp_path / "p.parquet") == wanted
    (tmp_path / "p.csv").write_text(
        'question,references,answer,is_correct\n"q, 1","[""r"", ""s \\""t\\""""]",,yes\n'
        'q2,"[""u""]","line\nbreak",0\n'
    )
    assert read_pairs(tmp_path / "p.csv") == wanted


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([ROW], "p.jsonl: people hold all 1 answers for right"),
        ([], "holds no labelled pairs"),
        ([ROW, {**ROW, "is_correct": 0.5}], "line 2: 'is_correct' is '0.5'"),
        ([ROW, {**ROW, "is_correct": None}], "line 2: 'is_correct' is 'None'"),
        ([{**ROW, "answer": 7}], "line 1: 'answer' is '7'"),
        ([{**ROW, "reference": " "}], "line 1: 'reference' is empty"),
        ([{**ROW, "references": ["x"]}], "give one of them"),
        ([{"question": "q"}], "line 1: it lacks 'answer'"),
        ([[1]], "line 1: not a JSON object"),
    ],
)
def test_rows_that_are_no_labelled_pairs(rows, says, tmp_path):
    with pytest.raises(QuestionError) as caught:
        read_pairs(write(tmp_path / "p.jsonl", rows))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def labels(tmp_path):
    """Four pairs on which `knows` is right three times."""
    rows = [("4", "4", 1), ("4", "5", 0), ("4", "four", 1), ("4", "it is 4, not 5", 0)]
    return write(
        tmp_path / "labels.jsonl",
        [{"question": "2+2?", "reference": r, "answer": a, "is_correct": y} for r, a, y in rows],
    )


def knows(number, body):
    text = body["messages"][1]["content"]
    right = any(f'Submitted answer: "{a}' in text for a in ("4", "four", "it is 4"))
    return 200, reply("yes" if right else "no")


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_run_says_how_far_its_grader_agrees(at_once, tmp_path):
    with serving(knows) as (url, seen):
        spec = RunSpec(output=tmp_path / "run", grader=f"openai:judge@{url}", **SPEC)
        limits = api.Limits(pause=0.01)
        file = labels(tmp_path)
        result = run(spec, at_once=at_once, limits=limits, grader_check=file)
        asked = len(seen.bodies)
        run(spec, at_once=at_once, limits=limits, grader_check=file)
        assert len(seen.bodies) == asked, "verdicts are kept"
    card = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    found = card["grader_check"]
    assert (found["pairs"], found["accuracy"]["count"], found["ungraded"]) == (4, 3, 0)
    assert found["kappa"] == pytest.approx(0.5)
    assert (found["false_accept"]["count"], found["false_accept"]["n"]) == (1, 2)
    page = result.report.read_text(encoding="utf-8")
    assert "agrees with people on 3 of 4 labelled pairs (75%" in page and "grader_check" in page


def test_a_match_is_measured_too(tmp_path):
    spec = RunSpec(output=tmp_path / "run", **SPEC)
    run(spec, at_once=1, grader_check=labels(tmp_path))
    card = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert card["grader_check"]["grader"] == "match"
    assert card["grader_check"]["false_reject"]["count"] == 1  # "four"


def test_a_grader_that_cannot_be_asked_ends_the_run_at_once(tmp_path):
    with serving(lambda n, b: (404, b"{}")) as (url, _):
        spec = RunSpec(output=tmp_path / "run", grader=f"openai:judge@{url}", **SPEC)
        with pytest.raises(RunFailed, match="server") as caught:
            run(spec, at_once=1, grader_check=labels(tmp_path))
    assert caught.value.exit_code == 1
    assert not list((tmp_path / "run" / ".store").glob("answers"))


def test_choices_need_no_grader(tmp_path):
    spec = RunSpec(output=tmp_path / "run", **{**SPEC, "formats": ("choice",)})
    with pytest.raises(UsageError, match="choices are graded exactly"):
        run(spec, at_once=1, grader_check=labels(tmp_path))
    assert not (tmp_path / "run").exists()

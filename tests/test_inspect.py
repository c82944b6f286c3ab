"""Logs of the real inspect, made here by itself. It is no dependency of the tests: where it isn't
installed (`pip install inspect_ai`), only what is said of that is tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from test_cli import howsure, refused  # noqa: F401 (fixtures)

from howsure.errors import PredictionsError, UsageError
from howsure.recorded import Columns, Scale, read_recorded

needs_inspect = pytest.mark.skipif(
    find_spec("inspect_ai") is None, reason="inspect_ai is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # of their library, running an evaluation
if find_spec("inspect_ai") is not None:
    from inspect_ai.scorer import choice, match
    from inspect_logs import both, letter, log_softmax, run, verbal

RNG = np.random.default_rng


def replies_of(n, seed=0):
    """Replies with letters and log-probabilities, and those by letter."""
    rows = [log_softmax(row) for row in RNG(seed).normal(0, 1.5, (n, 4))]
    listed = [dict(zip("ABCD", row, strict=True)) for row in rows]
    return [letter(max(row, key=row.get), row) for row in listed], listed


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch, refused):  # noqa: F811
    (tmp_path / "a.eval").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    assert "pip install 'howsure[inspect]'" in refused("score", tmp_path / "a.eval")
    assert "pip install 'howsure[inspect]'" in refused("score", tmp_path)


def test_json_that_is_no_log_is_not_taken_for_one(tmp_path):
    (tmp_path / "a.json").write_text('{"version": "1", "eval": 3}')
    with pytest.raises(PredictionsError, match="not a kind of file that is read"):
        read_recorded(tmp_path / "a.json")
    with pytest.raises(PredictionsError, match="holds no logs of an evaluation"):
        read_recorded(tmp_path)


@needs_inspect
@pytest.mark.parametrize("format", ["eval", "json"])
def test_letters_give_the_softmax_over_the_options(tmp_path, format):
    replies, listed = replies_of(12)
    found = read_recorded(run(tmp_path, replies, choice(), format=format))
    (p,) = found.predictions
    assert (p.model, p.method, p.format, len(p)) == ("replay/m", "likelihood", "choice", 12)
    assert p.ids[0] == "quiz/q0" and set(p.subjects) == {"quiz"}
    assert len(set(p.p_correct)) == 12
    for i, name in enumerate(p.ids):
        k = int(name.removeprefix("quiz/q"))
        best = max(listed[k], key=listed[k].get)
        assert p.p_correct[i] == pytest.approx(np.exp(listed[k][best]), rel=1e-12)
        assert p.answers[i] == best and p.is_correct[i] == (best == "ABCD"[k % 4])
    assert "12 samples graded by 'choice'; accuracy" in found.notes[0]
    assert found.notes[0].endswith(", as recorded") and "by its log-probabilities" in found.notes[1]


@needs_inspect
def test_what_hangs_on_letters_that_are_not_listed(tmp_path):
    """Three of four listed: the fourth is at most as probable as the least of them."""
    sure = {"A": np.log(0.98), "B": np.log(0.0101), "x": np.log(0.0001)}
    unsure = {"A": np.log(0.5), "B": np.log(0.3), "x": np.log(0.1)}
    replies = [letter("A", sure), letter("A", unsure), letter("A", {"A": -0.1}, before="Well")]
    found = read_recorded(run(tmp_path, replies, choice()))
    (p,) = found.predictions
    assert p.p_correct == pytest.approx([0.98 / 0.9901]) and p.ids == ("quiz/q0",)
    assert "2 of 3 rows have no 'p_correct' and are left out" in " ".join(found.notes)


@needs_inspect
def test_the_letters_that_were_shown_count_where_options_were_shuffled(tmp_path):
    replies, listed = replies_of(8)
    found = read_recorded(run(tmp_path, replies, choice(), shuffle=3))
    np.testing.assert_allclose(
        found.predictions[0].p_correct, [np.exp(max(row.values())) for row in listed]
    )


@needs_inspect
def test_a_recorded_confidence_with_every_kind_of_grade(tmp_path):
    grades = [
        ("C", 85),
        ("I", "40%"),
        ("P", 50),
        ("N", 10),
        (True, 99),
        (float("nan"), 30),
        (0, None),
    ]
    log = run(
        tmp_path,
        replies_of(len(grades))[0],
        verbal(grades),
        choices=0,
        metadata={"Subject": "history"},
    )
    found = read_recorded(log, scale=Scale(percent=True))
    (p,) = found.predictions
    assert p.p_correct.tolist() == [0.85, 0.4, 0.1, 0.99]
    assert p.is_correct.tolist() == [True, False, False, True]
    assert (p.method, p.format, p.subjects[0]) == ("confidence", "open", "history")
    said = " ".join(found.notes)
    assert "1 have no verdict and are left out; 1 have partial credit" in said
    assert "accuracy 0.4167, as recorded" in said and "1 of 5 rows have no 'confidence'" in said
    with pytest.raises(PredictionsError, match=r"row 2: confidence is '40%'"):
        read_recorded(log)


@needs_inspect
def test_a_scorer_that_gives_verdict_and_confidence_as_two_values(tmp_path):
    values = [("C", 0.9), ("I", 0.2), ("C", 0.6)]
    found = read_recorded(run(tmp_path, replies_of(3)[0], both(values), choices=0))
    assert found.predictions[0].p_correct.tolist() == [0.9, 0.2, 0.6]
    assert found.predictions[0].is_correct.tolist() == [True, False, True]
    assert "accuracy 0.6667, as recorded" in " ".join(found.notes)


@needs_inspect
def test_epochs_are_models_of_their_own_and_the_accuracy_is_their_mean(tmp_path):
    values = [("C" if k % 3 else "I", k / 9) for k in range(9)]
    found = read_recorded(run(tmp_path, replies_of(18)[0], verbal(values), choices=0, epochs=2))
    assert [p.model for p in found.predictions] == ["replay/m · epoch 1", "replay/m · epoch 2"]
    assert all(len(p) == 9 for p in found.predictions)
    assert "accuracy 0.6667, as recorded" in " ".join(found.notes)


@needs_inspect
def test_a_folder_of_models_and_tasks_where_the_newest_counts(tmp_path):
    for model in ("a", "b"):
        for name in ("mmlu_law", "mmlu_logic"):
            run(tmp_path, replies_of(4)[0], choice(), model=model, name=name)
    run(tmp_path / "again", replies_of(6, seed=1)[0], choice(), model="a", name="mmlu_law")
    broken = [*replies_of(1)[0], RuntimeError("the server is away")]
    run(tmp_path / "broken", broken, choice(), model="b", name="mmlu_law", fails=True)
    found = read_recorded(tmp_path)
    sizes = {p.model: len(p) for p in found.predictions}
    assert sizes == {"replay/a": 10, "replay/b": 8} and len(found.predictions) == 2
    assert set(found.predictions[0].subjects) == {"law", "logic"}
    assert "2 older or unfinished logs" in " ".join(found.notes)


@needs_inspect
def test_a_log_whose_accuracy_is_not_that_of_its_samples_is_refused(tmp_path):
    path = run(tmp_path, replies_of(6)[0], choice(), format="json")
    log = json.loads(path.read_text())
    value = log["samples"][2]["scores"]["choice"]["value"]
    log["samples"][2]["scores"]["choice"]["value"] = "I" if value == "C" else "C"
    path.write_text(json.dumps(log))
    with pytest.raises(PredictionsError, match=r"recorded accuracy of 'choice' is .* samples give"):
        read_recorded(path)
    log["samples"][2]["scores"]["choice"]["value"] = value
    log["samples"].append(log["samples"][0])
    path.write_text(json.dumps(log))
    assert "1 repeated samples are left out" in " ".join(read_recorded(path).notes)
    log["eval"]["task_args"] = {"hard": True}
    path.with_name("other.json").write_text(json.dumps(log))
    with pytest.raises(PredictionsError, match="different arguments of the task"):
        read_recorded(tmp_path)


@needs_inspect
def test_invalidated_samples_are_left_out(tmp_path):
    from inspect_ai.log import ProvenanceData, invalidate_samples, read_eval_log, write_eval_log

    path = run(tmp_path, replies_of(6)[0], choice())
    log = read_eval_log(str(path))
    marked = invalidate_samples(log, [log.samples[1].uuid], ProvenanceData(author="me"))
    write_eval_log(marked, str(path))
    found = read_recorded(path)
    assert len(found.predictions[0]) == 5 and log.samples[1].id == "q1"
    assert "quiz/q1" not in found.predictions[0].ids
    assert "1 samples were invalidated" in " ".join(found.notes)


@needs_inspect
def test_what_is_missing_or_not_clear_is_refused_in_one_line(tmp_path):
    from inspect_ai.model import ModelOutput

    plain = [ModelOutput.from_content("replay", "ANSWER: A")] * 2
    cases = [
        (run(tmp_path, plain, choice()), Columns(), "has no confidences"),
        (
            run(tmp_path, replies_of(2)[0], [choice(), match()]),
            Columns(),
            "'choice' and 'match' could all be the verdict; say which with --correct-column",
        ),
        (run(tmp_path, replies_of(2)[0], choice()), Columns(p=("conf",)), "unknown confidence"),
        (run(tmp_path, replies_of(2)[0], choice()), Columns(correct="match"), "unknown score"),
        (run(tmp_path, replies_of(2)[0], choice()), Columns(gold="x"), "leave out the rest"),
        (
            run(tmp_path, replies_of(2)[0], verbal([(0.3, 0.2), (0.7, 0.1)]), choices=0),
            Columns(),
            "no score that says right or wrong",
        ),
    ]
    for path, columns, words in cases:
        with pytest.raises(UsageError) as refusal:
            read_recorded(path, columns)
        assert words in str(refusal.value) and "\n" not in str(refusal.value)
    two = run(tmp_path, replies_of(2)[0], [choice(), match()])
    assert len(read_recorded(two, Columns(correct="choice")).predictions[0]) == 2
    with pytest.raises(UsageError, match="whose scale is known"):
        read_recorded(two, Columns(correct="choice"), Scale(percent=True))


@needs_inspect
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", b"\xff" * 300])
def test_what_is_no_log_inside(tmp_path, data):
    (tmp_path / "a.eval").write_bytes(data)
    with pytest.raises(PredictionsError, match="can't be read as a log of inspect"):
        read_recorded(tmp_path / "a.eval")


@needs_inspect
def test_numbers_that_are_none_are_no_confidence_and_no_verdict(tmp_path):
    path = run(tmp_path, replies_of(6)[0], choice(), format="json")
    log = json.loads(path.read_text())
    del log["results"]
    for sample, value in zip(log["samples"][:3], (1e6, float("nan"), float("inf")), strict=True):
        sample["output"]["choices"][0]["logprobs"]["content"][1]["logprob"] = value
    path.write_text(json.dumps(log))
    found = read_recorded(path)
    assert len(found.predictions[0]) == 3 and "3 of 6 rows have no" in " ".join(found.notes)
    assert "no accuracy is recorded" in found.notes[0]
    log["samples"][0]["scores"]["choice"]["value"] = 10**400
    path.write_text(json.dumps(log))
    with pytest.raises(PredictionsError):
        read_recorded(path)


@needs_inspect
def test_reading_a_log_starts_nothing_and_calls_nobody(tmp_path):
    path = run(tmp_path, replies_of(3)[0], choice(), model="[link=http://127.0.0.1]<script>")
    code = f"""
import sys
from pathlib import Path
import inspect_ai.log, trio  # what importing does is not what a log can ask for
seen = []
watched = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec",
           "os.posix_spawn", "os.fork", "pickle.find_class")
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
from howsure.recorded import read_recorded
found = read_recorded(Path({str(path)!r}))
print(len(found.predictions[0]), seen)
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split("\n")[0] == "3 []"

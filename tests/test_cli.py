"""The command line: what it promises, and one clear line for everything that is wrong."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, make_model, make_tokenizer
from test_plan import rows
from test_run import broken_copy

from howsure import cli
from howsure.calibrate import CALIBRATIONS
from howsure.methods import METHODS
from howsure.recorded import read_recorded
from howsure.scores import read_predictions, read_scores
from howsure.spec import CHOOSE_BY, DEVICES, DTYPES, FORMATS, recipe_names


@pytest.fixture
def howsure(capsys):
    """Runs the command line here: (exit code, standard output, standard error)."""

    def call(*arguments):
        capsys.readouterr()  # what fixtures said
        with pytest.raises(SystemExit) as left:
            cli.main([str(a) for a in arguments])
        out = capsys.readouterr()
        return left.value.code, out.out, out.err

    return call


@pytest.fixture
def refused(howsure):
    """The one line of a command that must be refused with exit code 2."""

    def call(*arguments, code=2):
        exit_code, out, err = howsure(*arguments)
        lines = [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d  ", line)]
        assert len(lines) == 1, err
        assert lines[0].startswith("howsure: error: ") and exit_code == code, lines[0]
        assert out == ""
        return lines[0].removeprefix("howsure: error: ")

    return call


@pytest.fixture
def questions(tmp_path):
    """A file of sixty good questions."""
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(60))))
    return path


@pytest.fixture
def model(checkpoint):
    return checkpoint("llama")


# help -------------------------------------------------------------------------------------------


def test_help_names_every_choice(howsure):
    code, out, _ = howsure("run", "--help")
    shown = " ".join(out.split())
    assert code == 0
    for name in (*METHODS, *recipe_names()):
        assert name in shown
    for names in (CALIBRATIONS, DEVICES, DTYPES):
        assert "|".join(names) in shown
    assert set(FORMATS) == {"choice", "open"} and "choice|open" in shown
    assert set(CHOOSE_BY) == {"letter", "text"} and "letter|text" in shown


def test_the_options_are_those_of_the_contract(howsure):
    _, out, _ = howsure("run", "--help")
    assert set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)) == {
        *("--grader", "--grader-check", "--api-concurrency", "--api-deadline"),
        *("--executor", "--workers", "--threads", "--ray-address", "--trainers"),
        *("--model", "--questions", "--train-questions", "--data-dir", "--method", "--subject"),
        *("--format", "--choose-by", "--shots", "--limit", "--train-size", "--calibrate"),
        *("--seed", "--device", "--dtype", "--output", "--debug"),
        *("--revision", "--adapter", "--quantize", "--attention", "--device-map", "--engine"),
        *("--trust-remote-code", "--chat", "--shuffle-shots", "--long-prompts"),
        *("--status", "--cache", "--recompute", "--dry-run"),
        *("--query-adapter", "--graded-answers"),
    }


def test_help_and_version(howsure):
    code, out, _ = howsure("--help")
    assert code == 0 and all(name in out for name in ("run", "report", "score"))
    code, out, _ = howsure("--version")
    assert code == 0 and re.fullmatch(r"howsure \d+\.\d+\.\d+\n", out)


def test_as_a_module():
    command = [sys.executable, "-m", "howsure", "run", "--nonsense"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert made.returncode == 2 and made.stdout == ""
    assert made.stderr.startswith("howsure: error: No such option: --nonsense")
    assert made.stderr.count("\n") == 1


# bad usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["run", "nosuch"], "unknown recipe 'nosuch'"),
        (["run", "quickstart", "kapoor2024"], "unexpected extra argument"),
        (["run", "--modle", "x"], "No such option: --modle"),
        (["run", "--model"], "'--model' requires an argument"),
        (["run", "--limit", "many"], "--limit"),
        (["run", "--limit", "0"], "--limit 0: it must be at least 1"),
        (["run", "--shots", "-1"], "--shots -1"),
        (["run", "--trainers", "0"], "--trainers 0: it must be at least 1"),
        (["run", "--trainers", "2", "--method", "probe"], "--trainers 2 has no effect"),
        (["run", "--method", "prob"], "did you mean 'probe'"),
        (["run", "--format", "closed"], "unknown format 'closed'"),
        (["run", "--format", "open", "--choose-by", "text"], "--choose-by text has no effect"),
        (["run", "--choose-by", "dice"], "unknown way to choose 'dice'"),
        (["run", "--calibrate", "hot"], "unknown calibration 'hot'"),
        (["run", "--device", "tpu"], "unknown device 'tpu'"),
        (["run", "--dtype", "float8"], "unknown dtype 'float8'"),
        (["run", "--model", "./nosuch"], "model folder './nosuch' does not exist"),
        (["run", "--model", "nosuch/"], "nosuch"),
        (["run", "--model", "tiny-lama-s"], "unknown model 'tiny-lama-s'"),
        (["report"], "Missing argument 'PATH...'"),
        (["report", "nosuch"], "there is no nosuch"),
        (["score", "nosuch.csv"], "there is no file nosuch.csv"),
        (["score", "pyproject.toml"], "not a kind of file that is read"),
    ],
)
def test_bad_usage(refused, arguments, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(refused, model, questions, tmp_path):
    asked = ("run", "--model", model, "--questions", questions, "--device", "cuda")
    assert "no CUDA device" in refused(*asked, "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--subject", "sumz"], "unknown subject 'sumz'; did you mean 'sums'"),
        (["--shots", "2"], "has no dev split to take examples from"),
        (["--data-dir", "."], "--data-dir . has no effect"),
        (["--train-questions", "nosuch"], "unknown question set 'nosuch'"),
        (["--train-questions", "no/such.jsonl"], "there is no such file or folder"),
        (
            ["--method", "likelihood", "--calibrate", "none", "--train-size", "5"],
            "--train-size has no effect",
        ),
    ],
)
def test_bad_usage_of_good_questions(refused, model, questions, arguments, words, tmp_path):
    out = tmp_path / "out"
    line = refused("run", "--model", model, "--questions", questions, *arguments, "--output", out)
    assert words in line and not out.exists()


GOOD = {"id": "a", "subject": "s", "question": "Q?", "choices": ["x", "y"], "answer": 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no questions"),
        ("\n\n", "no questions"),
        (json.dumps(GOOD) + "\n{not json", "line 2"),
        (json.dumps({**GOOD, "answer": None}), "line 1"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "answer"}), "answer"),
        (json.dumps({**GOOD, "choices": ["x", "x"]}), "twice"),
        (json.dumps({**GOOD, "answer": 2}), "line 1"),
        (json.dumps({**GOOD, "question": " "}), "line 1"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), "unique"),
        ("\ufeff" + json.dumps(GOOD), None),
    ],
)
def test_bad_question_files(refused, howsure, model, text, words, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    asked = ["run", "--model", model, "--questions", path, "--output", tmp_path / "out"]
    if words is None:  # a byte order mark is no error; one question is too few, though
        assert "question set 'bad': of its 1 questions" in refused(*asked)
        return
    line = refused(*asked)
    assert words in line and "bad.jsonl" in line


def test_unusable_checkpoints(refused, tmp_path, questions, model):
    empty = tmp_path / "empty"
    empty.mkdir()
    pickled = shutil.copytree(model, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    bare = shutil.copytree(model, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    asked = ("run", "--questions", questions, "--output", tmp_path / "out", "--model")
    assert "has no config.json" in refused(*asked, empty)
    assert "only pickled weights (pytorch_model.bin)" in refused(*asked, pickled)
    assert "has no weights" in refused(*asked, bare)
    assert not (tmp_path / "out").exists()


def test_a_cut_off_checkpoint(refused, tmp_path, questions, model):
    asked = ("run", "--questions", questions, "--output", tmp_path / "out", "--model")
    line = refused(*asked, broken_copy(model, tmp_path / "cut"))
    assert "cut (choice)" in line and "can't be loaded" in line


def test_options_that_are_not_one_token(refused, tmp_path, questions):
    folder = tmp_path / "split-tokens"
    make_model("llama").save_pretrained(folder)
    make_tokenizer(merges=()).save_pretrained(folder)
    asked = ("run", "--questions", questions, "--model", folder, "--calibrate", "none")
    line = refused(*asked, "--method", "zero_shot", "--output", tmp_path / "out")
    assert "token" in line and "split-tokens" in line


def test_outputs_that_cannot_be_used(refused, tmp_path, questions, model):
    asked = ("run", "--model", model, "--questions", questions, "--method", "likelihood")
    (tmp_path / "file").write_text("")
    assert "not writable" in refused(*asked, "--output", tmp_path / "file" / "below")
    assert "not writable" in refused(*asked, "--output", tmp_path / "file")
    assert "but no run; give an empty or a new folder" in refused(*asked, "--output", tmp_path)


def test_too_few_training_answers(refused, tmp_path, model):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(map(json.dumps, rows(30))))
    asked = ("run", "--model", model, "--questions", few, "--format", "choice", "--method", "probe")
    line = refused(*asked, "--calibrate", "none", "--output", tmp_path / "out", code=1)
    assert "random-llama (choice), probe" in line and "too few (at least 20)" in line


def test_training_answers_of_one_class(refused, tmp_path, model):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(70, choices=False))))
    asked = ("run", "--model", model, "--questions", path, "--method", "probe")
    line = refused(*asked, "--output", tmp_path / "out", code=1)
    assert "training answers are wrong; both kinds are needed" in line


def test_debug_shows_where(howsure, tmp_path):
    code, _, err = howsure("run", "--questions", tmp_path / "no.jsonl", "--debug")
    assert code == 2 and err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("howsure: error: ")


def test_without_the_libraries_for_models(tmp_path, questions, model):
    """Scores and reports need no torch; what does says how to get it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from howsure.cli import main\n"
        f"main(['run', '--model', {str(model)!r}, '--questions', {str(questions)!r}, "
        f"'--output', {str(tmp_path / 'out')!r}])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert made.returncode == 1 and made.stderr.count("\n") == 1
    assert "the library 'torch' is not installed; pip install 'howsure[lm]'" in made.stderr


# work -------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_summary_and_the_report(howsure, tmp_path, questions, model):
    out = tmp_path / "out"
    asked = ("run", "--model", model, "--questions", questions, "--format", "choice")
    code, said, err = howsure(
        *(*asked, "--choose-by", "text", "--method", "zero_shot", "--method", "likelihood"),
        *("--calibrate", "platt", "--subject", "sums", "--seed", "3", "--output", out),
    )
    assert code == 0, err
    lines = said.splitlines()
    assert lines[-1] == str(out / "report.html") and Path(lines[-1]).is_file()
    assert any(line.startswith("Zero-Shot Classifier  ") for line in lines)
    assert "Platt" in said and "AUROC" in said
    card = json.loads((out / "run.json").read_text())
    assert card["status"] == "complete" and card["spec"]["seed"] == 3
    assert set(read_scores(out / "scores.csv")["subject"]) == {"sums", "macro", "pooled"}
    assert {p.calibration for p in read_predictions(out / "predictions.parquet")} == {
        *("none", "platt")
    }
    code, again, _ = howsure("report", out)  # draws the same folder anew
    assert code == 0 and again.strip() == str(out / "report.html")
    code, _, _ = howsure("report", out / "scores.csv", "--output", tmp_path / "drawn")
    assert code == 0 and (tmp_path / "drawn" / "figures" / "heatmap.svg").is_file()


@pytest.mark.slow  # two processes, each of which imports torch
def test_a_run_that_lacks_a_part_says_so_and_exits_with_1(howsure, tmp_path, questions, model):
    cut = broken_copy(model, tmp_path / "cut")
    code, said, err = howsure(
        *("run", "--model", model, "--model", cut, "--questions", questions),
        *("--method", "likelihood", "--calibrate", "none", "--output", tmp_path / "out"),
    )
    assert code == 1 and said.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    last = err.splitlines()[-1]
    assert last.startswith("howsure: error: cut (choice): ") and "random-llama" not in last


@pytest.mark.slow
def test_ctrl_c_stops_a_run(tmp_path, questions, model):
    asked = ["--model", model, "--questions", questions, "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "howsure", "run", "--format", "choice", *map(str, asked)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while " load: " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    *_, kept, stopped = said.splitlines()
    assert process.returncode == 130 and stopped == "howsure: stopped"
    assert kept.endswith("out; the same command goes on from there")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "stopped"


@pytest.mark.slow  # test_report draws it too; this is the whole way through the command
def test_the_published_table(howsure, tmp_path, shared_data):
    table = shared_data.parent / "reference" / "kapoor2024_mmlu.csv"
    code, said, err = howsure("report", table, "--output", tmp_path)
    assert code == 0, err
    assert said.strip() == str(tmp_path / "report.html")
    assert {"scores.csv", "report.html", "figures"} <= {p.name for p in tmp_path.iterdir()}


# recorded confidences -----------------------------------------------------------------------------

RECORDED = [
    {"p_correct": 0.9, "is_correct": True, "subject": "a", "answer": "x"},
    {"p_correct": 0.2, "is_correct": False, "subject": "a", "answer": "y"},
    {"p_correct": 1, "is_correct": 0, "subject": "b", "answer": "z"},
]


def as_csv(made):
    names = list(made[0])
    lines = [",".join(str(row[n]) for n in names) for row in made]
    return "\n".join([",".join(names), *lines]) + "\n"


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz", "mine.jsonl", "mine.jsonl.gz"])
def test_score_reads_csv_and_jsonl(howsure, tmp_path, name):
    text = as_csv(RECORDED) if ".csv" in name else "\n".join(map(json.dumps, RECORDED))
    data = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(data)
    code, said, err = howsure("score", tmp_path / name, "--output", tmp_path / "out")
    assert code == 0, err
    assert said.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    (held,) = read_predictions(tmp_path / "out" / "predictions.parquet")
    assert (held.model, held.method, held.calibration) == ("mine", "recorded", "none")
    assert held.ids == ("1", "2", "3") and held.subjects == ("a", "a", "b")
    assert held.p_correct.tolist() == [0.9, 0.2, 1.0]
    assert held.is_correct.tolist() == [True, False, False]
    assert held.answers == ("x", "y", "z")


def test_score_reads_its_own_predictions(tmp_path, howsure):
    path = tmp_path / "mine.csv"
    many = [{**r, "model": m, "format": "open"} for m in ("one", "two") for r in RECORDED]
    path.write_text(as_csv([{**r, "id": i} for i, r in enumerate(many)]))
    assert howsure("score", path, "--output", tmp_path / "out")[0] == 0
    first = read_recorded(path).predictions
    again = read_recorded(tmp_path / "out" / "predictions.parquet").predictions
    assert [p.model for p in first] == ["one", "two"]
    assert [(p.ids, p.p_correct.tolist(), p.answers) for p in first] == [
        (p.ids, p.p_correct.tolist(), p.answers) for p in again
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.csv", "p,is_correct\n0.5,1\n", "has no column 'p_correct'; it has: p, is_correct"),
        ("x.csv", "p_correct,is_correct\n", "no rows"),
        ("x.csv", "p_correct,is_correct\n1.5,1\n", "row 1: p_correct is '1.5'"),
        ("x.csv", "p_correct,is_correct\n0.5,1\nnan,1\n", "row 2: p_correct is 'nan'"),
        ("x.csv", "p_correct,is_correct\n,1\n,1\n", "no row has a 'p_correct'"),
        ("x.csv", "p_correct,is_correct\n0.5,1\n0.5,\n", "row 2: is_correct is None"),
        ("x.csv", "p_correct,is_correct\n0.5,maybe\n", "row 1: is_correct is 'maybe'"),
        ("x.csv", "p_correct,is_correct,id\n0.5,1,a\n0.5,0,a\n", "'a' occurs twice"),
        ("x.csv", "p_correct,is_correct,subject\n0.5,1,a\n0.5,0,\n", "row 2: no subject"),
        ("x.csv", "", "can't be read"),
        ("x.jsonl", '{"p_correct": 0.5, "is_correct": true}\nnot json', "line 2: not JSON"),
        ("x.jsonl", "[1]", "line 1: not a JSON object"),
        ("x.jsonl", '{"p_correct": 0.5}', "has no column 'is_correct'"),
        ("x.jsonl", "", "has no column 'p_correct'"),
        ("x.jsonl.gz", "plain", "can't be read"),
        ("x.parquet", "plain", "can't be read"),
        ("x.txt", "plain", "not a kind of file"),
    ],
)
def test_score_refuses(refused, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    line = refused("score", tmp_path / name, "--output", tmp_path / "out")
    assert words in line and name in line and not (tmp_path / "out").exists()

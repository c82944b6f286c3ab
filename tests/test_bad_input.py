"""Everything that users hand in, done wrong: one clear line each, and nothing is touched.

The cases are data, in `bad_input/KIND.toml`:

    name     what is wrong
    command  arguments, relative to a new folder; "{model}" is a good checkpoint. An estimator that
             is loaded as the library does it is `["load-estimator", FOLDER]`
    start    the good thing that the case breaks: run, model, adapter, probe, prior
    remove   files of it that are taken away
    links    name -> target of symbolic links
    files    name -> text, or a table: text with `times` between `before` and `after`, in an
             `encoding`; bytes in `hex`; `gzip`
    code     exit code: 2 for what can't be done as asked, 1 where the work failed
    sealed   whether the manifest of an estimator is made anew after that; default yes, so that
             what is wrong inside is seen
    leaves   folders that are made on the way; where it isn't given, nothing may be
    says     the message, or what of it is ours and not a library's
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from conftest import make_model, make_tokenizer

from howsure import cli, manifest, methods
from howsure.errors import BundleError
from howsure.lm.model import LanguageModel

FOLDER = Path(__file__).parent / "bad_input"
CASES = [
    pytest.param(case, id=f"{path.stem}-{case['name'].replace(' ', '-')}")
    for path in sorted(FOLDER.glob("*.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
]
QUESTIONS = [
    {"id": i, "subject": "s", "question": f"{i} + 1?", "choices": [str(i), str(i + 1)], "answer": 1}
    for i in range(60)
]
PREDICTIONS = [
    {"p_correct": (i % 10) / 10, "is_correct": i % 3 > 0, "subject": "ab"[i % 2], "model": "m"}
    for i in range(40)
]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with one good thing of each kind."""
    root = tmp_path_factory.mktemp("good")
    make_model("llama").save_pretrained(root / "model")
    make_tokenizer().save_pretrained(root / "model")
    lm = LanguageModel(make_model("llama"), make_tokenizer(), name="random-llama")
    name = lm.adapters.add(methods.default_spec("lora").adapter, seed=0)
    lm.adapters.save(name, root / "adapter")
    lm.adapters.remove(name)
    save_estimators(root, lm)
    rows = root / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, PREDICTIONS)))
    with pytest.raises(SystemExit) as left:
        cli.main(["score", str(rows), "--output", str(root / "scored")])
    assert left.value.code == 0
    (root / "run").mkdir()
    for made in ("run.json", "scores.csv", "predictions.parquet"):
        if (root / "scored" / made).exists():
            shutil.copy(root / "scored" / made, root / "run")
    return root


def save_estimators(root, lm):
    from howsure.methods.head import new_head
    from howsure.methods.probe import Probe, ProbeEstimator
    from howsure.methods.subject_prior import SubjectPrior, SubjectPriorEstimator
    from howsure.methods.training import Fitted

    spec = Probe()
    head = new_head(lm.hidden_size, spec.widths, 0)
    fitted = Fitted(1, ((1, 0.5),))
    methods.save(ProbeEstimator(lm, spec, head, fitted), lm, root / "probe")
    prior = SubjectPriorEstimator(SubjectPrior(), 0.5, {"a": 0.25})
    methods.save(prior, lm, root / "prior")


@pytest.fixture(scope="module")
def lm():
    return LanguageModel(make_model("llama"), make_tokenizer(), name="random-llama")


def content(given):
    """The bytes of a file of a case."""
    if isinstance(given, str):
        return given.encode()
    if "hex" in given:
        data = bytes.fromhex(given["hex"])
    else:
        text = given.get("before", "") + given["text"] * given.get("times", 1)
        data = (text + given.get("after", "")).encode(given.get("encoding", "utf-8"))
    return gzip.compress(data, mtime=0) if given.get("gzip") else data


def set_up(case, good, folder):
    """The case's files, in the folder."""
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    if start := case.get("start"):
        shutil.copytree(good / start, folder / start)
    for name in case.get("remove", ()):
        (folder / name).unlink()
    for name, given in case.get("files", {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(given))
    if start in ("prior", "probe") and case.get("sealed", True) and (folder / start).is_dir():
        kept = [p for p in (folder / start).iterdir() if p.is_file() and p.name != manifest.NAME]
        manifest.seal(folder / start / manifest.NAME, sorted(kept))
    for name, target in case.get("links", {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)


def state(folder):
    """Everything below the folder: contents, and when they were written."""
    return {
        str(p.relative_to(folder)): (
            p.lstat().st_mtime_ns,
            hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else os.path.islink(p),
        )
        for p in sorted(folder.rglob("*"))
    }


def refusal(command, lm, capsys):
    """(exit code, standard output, standard error) of a command that must fail."""
    capsys.readouterr()
    if command[0] == "load-estimator":
        with pytest.raises(BundleError) as refused:
            methods.load(Path(command[1]), lm)
        return refused.value.exit_code, "", f"howsure: error: {refused.value}\n"
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    out = capsys.readouterr()
    return left.value.code, out.out, out.err


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, good, lm, tmp_path, monkeypatch, capsys):
    set_up(case, good, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = state(tmp_path)
    command = [word.replace("{model}", str(good / "model")) for word in case["command"]]
    code, out, err = refusal(command, lm, capsys)
    said = [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d  ", line)]
    line = "\n".join(said).replace(str(good / "model"), "{model}")
    assert line.startswith("howsure: error: ") and "\n" not in line and "Traceback" not in line
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line), "it controls the terminal"
    assert len(line) < 2000 and out == ""
    assert case["says"] in line and code == case["code"], line
    for name in case.get("leaves", ()):
        shutil.rmtree(tmp_path / name)
    assert state(tmp_path) == before


def test_there_are_enough_and_each_is_told_apart():
    names = [param.id for param in CASES]
    assert len(names) >= 200 and len(set(names)) == len(names)

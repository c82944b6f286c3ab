"""A run that is stopped anywhere goes on, repeats nothing, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_architecture import MODULES, group, imports
from test_plan import rows
from test_run import Recorder, one_model

from howsure import stages, status, store, unit
from howsure.errors import StoreError, UsageError
from howsure.lm import LoadOptions, load
from howsure.plan import prepare
from howsure.run import run
from howsure.shards import Shards
from howsure.types import Question
from howsure.unit import Unit, blocks

STAGES = ("answers", "grades", "readings", "estimators", "predictions")
METHODS = ("zero_shot", "probe", "lora", "likelihood")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, checkpoint):
    """One uninterrupted run: its spec."""
    folder = tmp_path_factory.mktemp("whole")
    spec = one_model(folder, checkpoint("llama"), rows(120), methods=METHODS)
    run(spec, show=Recorder(), at_once=1)
    return spec


@pytest.fixture
def copied(whole, tmp_path):
    """That run, in a folder of its own."""
    shutil.copytree(whole.output, tmp_path / "out")
    card = store.read_json(tmp_path / "out" / "run.json")
    card["spec"]["output"] = str(tmp_path / "out")
    store.write_json(tmp_path / "out" / "run.json", card)
    return replace(whole, output=tmp_path / "out")


def tables(spec):
    return [(spec.output / name).read_bytes() for name in ("predictions.parquet", "scores.csv")]


def shards(spec, stage):
    return sorted(p for p in (spec.output / ".store" / stage).glob("*/*") if p.name[0] != ".")


def made(spec):
    return json.loads((spec.output / "run.json").read_text())["shards"]


def test_a_finished_run_is_not_done_again(whole, copied):
    show = Recorder()
    run(copied, show=show, at_once=1)
    jobs = 3 + len(METHODS) + 2 * len(METHODS)
    assert made(copied) == {"made": 0, "reused": jobs} and made(whole)["made"] == jobs
    assert show.shards == (jobs, jobs) and tables(copied) == tables(whole)
    assert "load" not in {e[1] for e in show.events if e[0] is not None}


@pytest.mark.parametrize("stage", STAGES)
def test_a_shard_that_is_gone_is_made_again_and_nothing_else(whole, copied, stage):
    shutil.rmtree(shards(copied, stage)[0])
    run(copied, show=Recorder(), at_once=1)
    assert made(copied)["made"] == 1 and tables(copied) == tables(whole)


@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_shard_is_named_and_made_again_or_refused(whole, copied, stage, capsys):
    files = (p for folder in shards(copied, stage) for p in sorted(folder.iterdir()))
    victim = next(p for p in files if p.name != "manifest.json")
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    with pytest.raises(UsageError, match=f"{stage} shard .* is damaged .*{victim.name}"):
        run(copied, show=Recorder(), at_once=1, recompute=False)
    run(copied, show=Recorder(), at_once=1)
    assert made(copied)["made"] == 1 and tables(copied) == tables(whole)
    assert f"{stage} shard {victim.parent}" in capsys.readouterr().err
    notes = json.loads((copied.output / "run.json").read_text())["notes"]
    assert any(f"{victim.name} is not as it was written); it was made again" in n for n in notes)


class Stopping(Recorder):
    """Stops the run after so many events."""

    def __init__(self, after, error):
        super().__init__()
        self.after, self.error = after, error

    def update(self, *event):
        super().update(*event)
        if len(self.events) == self.after:
            raise self.error


def test_a_run_stopped_anywhere_ends_in_the_same_bytes(whole, tmp_path):
    """Stopped again and again, until it isn't any more."""
    spec = replace(whole, output=tmp_path / "out")
    stops = 0
    for after in (2, 3, 5, 4, 9, 6, 7, 12, 8, 1000):
        try:
            run(spec, show=Stopping(after, KeyboardInterrupt()), at_once=1)
        except KeyboardInterrupt:
            stops += 1
            card = json.loads((spec.output / "run.json").read_text())
            assert card["status"] == "stopped"
            lines = "\n".join(status.status(spec.output))
            assert "stopped" in lines and "the same command goes on" in lines
    assert stops >= 4 and tables(spec) == tables(whole)
    assert not list((spec.output / ".store").rglob(".tmp-*"))
    for stage in STAGES:
        names = [p.name for p in shards(spec, stage)]
        assert names == [p.name for p in shards(whole, stage)]


class Counting(Recorder):
    """Stage → the tokens that the model had read when it was last heard of."""

    def __init__(self):
        super().__init__()
        self.lm, self.read = None, {}

    def load(self, *args, **how):
        self.lm = load(*args, **how)
        return self.lm

    def update(self, unit, stage, done, total):
        if self.lm is not None and stage:
            self.read[stage] = self.lm.tokens_read


def test_no_token_is_read_twice(whole, tmp_path, monkeypatch):
    """What zero-shot and probe want is read with the answers, and only then."""
    spec = replace(whole, output=tmp_path / "out", methods=("zero_shot", "probe"))
    counting = Counting()
    monkeypatch.setattr(stages, "load", counting.load)
    run(spec, show=counting, at_once=1)
    answered = max(n for stage, n in counting.read.items() if stage.startswith("answer"))
    later = {s: n for s, n in counting.read.items() if s.startswith(("fit", "predict"))}
    assert len(later) == 4 and set(later.values()) == {answered} and answered > 0
    spent = json.loads((spec.output / "run.json").read_text())["seconds"]
    spent = spent["by_unit"]["random-llama (choice)"]
    assert spent["predict zero_shot"] > 0 and spent["fit probe"] > 0

    monkeypatch.undo()
    without = replace(spec, output=tmp_path / "without")
    monkeypatch.setattr(Unit, "wants", lambda self, block: ())
    run(without, show=Recorder(), at_once=1)
    near = [pl.read_parquet(s.output / "predictions.parquet") for s in (spec, without)]
    np.testing.assert_allclose(*(t["p_correct"].to_numpy() for t in near), atol=1e-5)


def test_runs_share_what_they_make_in_a_cache(whole, tmp_path):
    first, again, other = (replace(whole, output=tmp_path / n) for n in ("first", "again", "other"))
    for spec in (first, again, replace(other, seed=1, methods=("probe", "likelihood"))):
        run(spec, show=Recorder(), at_once=1, cache=tmp_path / "cache")
        assert not (spec.output / ".store").exists()
    assert made(again)["made"] == 0 and tables(again) == tables(first) == tables(whole)
    # Another seed: other training, the same likelihoods; answers are shared but for the split.
    assert 0 < made(other)["reused"] < made(other)["made"] + made(other)["reused"]


def test_a_full_disk_stops_the_run_in_one_line(whole, tmp_path, monkeypatch):
    spec, real, calls = replace(whole, output=tmp_path / "out"), Shards.make, Counter()

    def make(self, stage, key, write, **rest):
        calls[stage] += 1
        if stage == "estimators" and calls[stage] == 2:

            def write(folder):
                raise OSError(28, "No space left on device")

        return real(self, stage, key, write, **rest)

    monkeypatch.setattr(Shards, "make", make)
    with pytest.raises(StoreError, match=r"can't write below .*No space left on device; free some"):
        run(spec, show=Recorder(), at_once=1)
    assert json.loads((spec.output / "run.json").read_text())["status"] == "stopped"
    monkeypatch.undo()
    run(spec, show=Recorder(), at_once=1)
    assert made(spec)["reused"] == 3 + 1 + 2 and tables(spec) == tables(whole)


def test_the_status_of_a_run(whole, tmp_path):
    head, *lines = status.status(whole.output)
    assert head == f"{whole.output}: complete"
    assert f"  {len(METHODS)} of {len(METHODS)} estimators fitted" in lines
    with pytest.raises(UsageError, match="holds no run"):
        status.status(tmp_path)
    card = store.read_json(whole.output / "run.json")
    store.write_json(tmp_path / "run.json", card | {"status": "running"})
    assert status.status(tmp_path)[0].endswith("killed while it was running")


# keys -------------------------------------------------------------------------------------------


@pytest.fixture
def one(whole, checkpoint):
    path = checkpoint("llama")
    plan = prepare(whole)
    identity = unit.identity_of(path, "cpu", "float32", LoadOptions())
    return Unit("random-llama", str(path), "choice", whole, plan, identity)


CHANGES = {
    "a question's text": lambda u: changed_test(u, text="Another?"),
    "a question's id": lambda u: changed_test(u, id="another"),
    "the order of the choices": lambda u: changed_test(u, choices=u.plan.test[0].choices[::-1]),
    "an example": lambda u: replace(
        u, plan=replace(u.plan, examples={u.plan.test[0].subject: u.plan.valid[:1]})
    ),
    "the format": lambda u: replace(u, format="open"),
    "the way to choose": lambda u: replace(u, plan=replace(u.plan, choose_by="letter")),
    "a weight": lambda u: replace(u, identity={**u.identity, "fingerprint": "0" * 64}),
    "the dtype": lambda u: replace(u, identity={**u.identity, "dtype": "bfloat16"}),
    "the quantisation": lambda u: replace(u, identity={**u.identity, "quantize": "8bit"}),
    "asking by template": lambda u: replace(u, spec=replace(u.spec, chat="off")),
    "the order of examples": lambda u: replace(u, spec=replace(u.spec, shuffle_shots=True)),
    "that it is a base model": lambda u: replace(u, name="llama2:7b"),
    "a library": lambda u: replace(u, identity={**u.identity, "versions": {"torch": "3.0"}}),
}


def changed_test(u, **changes):
    first, *rest = u.plan.test
    return replace(u, plan=replace(u.plan, test=(replace(first, **changes), *rest)))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_an_answer_changes_its_key(one, change):
    (block,) = one.blocks("test")
    assert CHANGES[change](one).answers_key(block) != one.answers_key(block)


def test_names_paths_and_references_are_in_no_answers_key(one, checkpoint, tmp_path):
    (block,) = one.blocks("test")
    moved = shutil.copytree(checkpoint("llama"), tmp_path / "renamed")
    (moved / "README.md").write_text("no part of the model")
    os.utime(moved / "config.json", (0, 0))
    identity = unit.identity_of(moved, "cpu", "float32", LoadOptions())
    other = replace(one, name="renamed", model=str(moved), identity=identity)
    other = replace(other, spec=replace(one.spec, output=tmp_path, seed=7, calibrate="none"))
    first = one.plan.test[0]
    wrong = next(c for c in first.choices if c != first.reference)
    other = changed_test(other, reference=wrong)
    assert other.answers_key(block) == one.answers_key(block)
    answers = Shards(tmp_path).make("answers", "0" * 64, lambda folder: None, since=0.0)
    assert other.grades_key(block, answers) != one.grades_key(block, answers)


def test_a_chat_template_is_part_of_the_model(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint("llama"), tmp_path / "copy")
    before = unit.identity_of(copy, "cpu", "float32", LoadOptions())
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert unit.identity_of(copy, "cpu", "float32", LoadOptions()) != before


def test_other_code_has_other_keys(one, monkeypatch):
    (block,) = one.blocks("test")
    before = one.answers_key(block)
    monkeypatch.setattr(unit, "code", lambda sources: "other")
    assert one.answers_key(block) != before


def test_the_sources_of_each_stage_are_there():
    root = Path(unit.__file__).parent
    for name in (*unit.GRADING, *unit._ESTIMATING):
        assert (root / name).exists(), name


@pytest.mark.parametrize(
    ("entry", "sources"),
    [("answers", unit.GRADING), ("judges", unit.GRADING), ("methods", unit._ESTIMATING)],
)
def test_all_that_a_stage_imports_is_in_its_keys(entry, sources):
    """Every module of ours that it reaches, but those that only show values or refuse files."""
    uninfluential = {"notebook", "strict_json"}
    known = {s.removesuffix(".py") for s in sources} | uninfluential
    seen: set[str] = set()
    to_see = [entry]
    while to_see:
        place = to_see.pop()
        if place not in seen:
            seen.add(place)
            files = [p for p in MODULES if group(p) == place]
            names = (n.split(".") for p in files for n in imports(p))
            to_see += [n[1] for n in names if n[0] == "howsure" and n[1] != "__version__"]
    assert seen <= known


def test_settings_yet_to_be_invented_are_in_the_keys(one, monkeypatch):
    (block,) = one.blocks("test")
    before = one.answers_key(block)
    told = {**one.spec.to_json(), "temperature": 0.7}
    monkeypatch.setattr(type(one.spec), "to_json", lambda self: told)
    assert one.answers_key(block) != before


# blocks -----------------------------------------------------------------------------------------


def asked(*sizes):
    return [
        Question(f"{s}/{i}", f"subject {s}", "?", "yes", ())
        for s, size in enumerate(sizes)
        for i in range(size)
    ]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), []),
        ((3,), [(0, 3)]),
        ((10,), [(0, 10)]),
        ((25,), [(0, 10), (10, 20), (20, 25)]),
        ((6, 6, 6), [(0, 6), (6, 12), (12, 18)]),  # each ends with its subject
        ((3, 3, 3, 3), [(0, 9), (9, 12)]),
        ((4, 30), [(0, 10), (10, 20), (20, 30), (30, 34)]),  # a cut at 4 would leave little
        ((10, 10), [(0, 10), (10, 20)]),
    ],
)
def test_blocks_end_with_a_subject_where_they_can(sizes, expected):
    assert list(blocks(asked(*sizes), most=10)) == expected


def test_blocks_change_nothing(whole, tmp_path, monkeypatch):
    """In blocks of a few questions there are the same answers and nearly the same numbers."""
    monkeypatch.setattr(unit.Unit, "blocks", small_blocks)
    spec = replace(whole, output=tmp_path / "out", methods=("zero_shot", "likelihood"))
    result = run(spec, show=Recorder(), at_once=1)
    assert made(spec)["made"] > 20
    from howsure.scores import read_predictions

    theirs = {
        (p.method, p.calibration): p for p in read_predictions(whole.output / "predictions.parquet")
    }
    for p in read_predictions(result.directory / "predictions.parquet"):
        q = theirs[p.method, p.calibration]
        assert (p.ids, p.answers) == (q.ids, q.answers)
        assert p.p_correct == pytest.approx(q.p_correct, abs=1e-5)


def small_blocks(self, split):
    return [unit.Block(split, *ends) for ends in blocks(self._all(split), most=10)]

"""One estimator trained by several processes: the same numbers as by one, and nobody left over."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import team_work
import torch
from bench.crash import workers_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from test_methods import TRAIN, VALID
from test_plan import rows
from test_run import Recorder, one_model

from howsure import methods, placement, trainers, unit
from howsure.errors import UsageError
from howsure.lm import LoadOptions
from howsure.methods import training
from howsure.methods.team import SOLO, Joined, share
from howsure.methods.training import Schedule
from howsure.placement import Wanted, find_placement
from howsure.run import run
from howsure.shards import is_alive
from howsure.spec import RunSpec
from howsure.tables import read_predictions
from howsure.workers import Failed, Failure, attempt

REPOSITORY = Path(__file__).resolve().parents[1]


def together(work, job, size=2, report=lambda *event: None, device="cpu"):
    return trainers.together(work, job, report, size, device)


def team_of(size, **settings):
    return [Joined(rank, size, None, **settings) for rank in range(size)]


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_even_and_miss_nothing(n, size):
    parts = [share(np.arange(n), member) for member in team_of(size)]
    assert sorted(i for part in parts for i in part) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert list(share(list(range(n)), SOLO)) == list(range(n))


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 6))
def test_members_in_step_read_equally_often(n, size, piece):
    batch = np.arange(n)
    read = [list(training._pieces(batch, piece, m)) for m in team_of(size, in_step=True)]
    assert len({len(passes) for passes in read}) == 1
    assert all(1 <= len(part) <= piece for passes in read for part, _ in passes)
    weights = np.zeros(n)
    for passes in read:
        for part, weight in passes:
            weights[part] += weight / len(part)
    np.testing.assert_allclose(weights, 1 / n)


def test_a_member_needs_only_the_examples_that_it_comes_to():
    lengths, schedule = [1] * 40, Schedule(steps=9, batch_size=4)
    parts = [training.visited(lengths, schedule, seed=1, team=m) for m in team_of(3)]
    every = sorted(i for part in parts for i in part)
    assert len(every) == 36 == len(set(every)) and max(map(len, parts)) == 18
    alone, in_step = SOLO, team_of(3, in_step=True)[1]
    for member in (alone, in_step):
        assert list(training.visited(lengths, schedule, seed=1, team=member)) == list(range(40))


# the same numbers -------------------------------------------------------------------------------


def check_fits(checkpoint, tmp_path, size, device="cpu", atol=1e-5):
    """Both methods, in batches of four and a last one of two: a third member has an empty share.
    The parameters differ by rounding from those of one process, and not at all between members;
    whether each has the whole model, or a part of its layers' weights."""
    schedule = {"steps": 8, "batch_size": 4, "learning_rate": 1e-3, "evaluations": 2}
    settings = {"adapter": {"dropout": 0.0}, "schedule": schedule}
    again = {**settings, "schedule": schedule | {"gradient_checkpointing": True}}
    specs = (methods.spec_from("lora", settings), methods.spec_from("lora_prompt", again))
    folder = tmp_path / "alone"
    job = team_work.Fit(folder, checkpoint("llama"), device, False, specs, TRAIN[:22], VALID)
    alone = team_work.fit(job, lambda *event: None, SOLO)
    jobs = [
        replace(job, folder=tmp_path / "whole"),
        replace(job, folder=tmp_path / "divided", divided=True),
    ]
    fitted = together(team_work.fits, jobs, size, device=device)
    for one, made in zip(jobs, fitted, strict=True):
        for (ours, our_way), (theirs, their_way) in zip(made, alone, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=atol)
            np.testing.assert_allclose(our_way.curve, their_way.curve, atol=atol)
            assert our_way.best_step == their_way.best_step
        for file in ("lora/head", "lora/adapter_model", "lora_prompt/adapter_model"):
            mine = [one.folder / str(rank) / f"{file}.safetensors" for rank in range(size)]
            assert len({path.read_bytes() for path in mine}) == 1, file
            ours = load_file(mine[0])
            theirs = load_file(folder / "0" / f"{file}.safetensors")
            assert ours.keys() == theirs.keys()
            for key in theirs:
                np.testing.assert_allclose(ours[key], theirs[key], atol=atol, err_msg=key)


def test_three_fit_what_one_fits(checkpoint, tmp_path):
    check_fits(checkpoint, tmp_path, 3)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_fit_what_one_fits(checkpoint, tmp_path):
    check_fits(checkpoint, tmp_path, 2, "cuda", 1e-3)


def test_short_memory_of_one_and_a_stop_change_nothing(tmp_path):
    """Gradients add up to those of one process also where the memory of one member is too short for
    its share; a training that was stopped goes on to the same bits, dropout and all."""
    jobs = [
        team_work.Toy(tmp_path),
        team_work.Toy(tmp_path, fits=1),
        team_work.Toy(tmp_path, dropout=0.3),
        team_work.Toy(tmp_path, dropout=0.3, stop=9),
    ]
    reports = []
    plain, short, whole, stopped = together(
        team_work.toys, jobs, 2, lambda *event: reports.append(event)
    )
    assert (tmp_path / "0.npy").read_bytes() == (tmp_path / "1.npy").read_bytes()
    alone = team_work.toy(jobs[0], lambda *event: None, SOLO)
    for weights, fitted, steps in (plain, short):
        np.testing.assert_allclose(weights, alone[0], rtol=1e-9)
        np.testing.assert_allclose(fitted.curve, alone[1].curve, rtol=1e-9)
        assert steps == list(range(1, 21))
    assert stopped[2] == [*range(1, 10), *range(9, 21)], "it went on from its checkpoint"
    assert stopped[0].tobytes() == whole[0].tobytes() and stopped[1] == whole[1]
    assert not np.allclose(whole[0], plain[0], rtol=1e-3), "dropout is on"
    assert reports[0] == ("train", 1, 20) and reports[-1] == ("train", 20, 20)


# what goes wrong --------------------------------------------------------------------------------


def test_a_member_that_dies_or_fails_ends_the_team():
    begin = time.monotonic()
    with pytest.raises(Failed, match=r"a trainer died \(SIGKILL\)") as caught:
        together(team_work.fail, "die")
    assert caught.value.failure.died
    failure = attempt(lambda *_: together(team_work.fail, "refuse"), "", lambda *event: None)
    assert isinstance(failure, Failure) and failure.message == "it can't be done"
    assert (failure.exit_code, failure.died) == (1, False) and "team_work.py" in failure.trace
    assert multiprocessing.active_children() == [] and time.monotonic() - begin < 60


def test_members_end_with_whoever_began_them(tmp_path):
    """A worker that is killed can't end them."""
    code = (
        "import sys, team_work; from pathlib import Path; from howsure import trainers\n"
        "trainers.together(team_work.sleep, Path(sys.argv[1]), lambda *e: None, 2, 'cpu')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    worker = subprocess.Popen(command, cwd=REPOSITORY / "tests")
    files = [tmp_path / "0", tmp_path / "1"]
    until = time.monotonic() + 60
    while not all(f.exists() and f.read_text() for f in files) and time.monotonic() < until:
        time.sleep(0.05)
    members = [int(f.read_text()) for f in files]
    assert all(map(is_alive, members))
    worker.kill()
    worker.wait()
    until = time.monotonic() + 20
    while any(map(running, members)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(running, members))


def running(pid):
    """Whether a process is there, and no mere entry in the table of processes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# runs -------------------------------------------------------------------------------------------

SETTINGS = {
    "lora": {
        "valid_size": 8,
        "adapter": {"dropout": 0.0},
        "schedule": {"steps": 3, "batch_size": 4, "evaluations": 1},
    }
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, checkpoint):
    """A run of two trainers that nobody stopped: its spec."""
    spec = one_model(
        tmp_path_factory.mktemp("whole"),
        checkpoint("llama"),
        rows(120),
        methods=("lora",),
        calibrate="none",
        settings=SETTINGS,
        trainers=2,
    )
    run(spec, show=Recorder())
    return spec


def test_a_run_of_two_trainers_is_made_once(whole):
    """Its second start makes nothing; its estimator is not taken for that of one process."""
    tables = [whole.output / name for name in ("predictions.parquet", "scores.csv")]
    before = [table.read_bytes() for table in tables]
    card = json.loads((whole.output / "run.json").read_text())
    assert card["spec"]["trainers"] == 2 and card["shards"]["made"] == 5
    assert (whole.output / "estimators").is_dir()
    run(whole, show=Recorder())
    card = json.loads((whole.output / "run.json").read_text())
    assert card["shards"] == {"made": 0, "reused": 5}
    assert [table.read_bytes() for table in tables] == before


def test_only_keys_of_teams_name_their_size(checkpoint, tmp_path):
    spec = one_model(tmp_path, checkpoint("llama"), rows(60), methods=("probe", "lora"))
    two = replace(spec, trainers=2)
    plan, identity = placement_plan(spec)
    made = [unit.Unit("m", "m", "choice", s, plan, identity) for s in (spec, two)]
    (block, *_) = made[0].blocks("test")
    assert made[0].answers_key(block) == made[1].answers_key(block)
    keys = [[u.estimator_key(m, (), ()) for m in ("probe", "lora")] for u in made]
    assert keys[0][0] == keys[1][0] and keys[0][1] != keys[1][1]
    assert [u.trainers("lora") for u in made] == [1, 2] and made[1].trainers("probe") == 1


def placement_plan(spec):
    from howsure.plan import prepare

    return prepare(spec), {"fingerprint": "f"}


@pytest.mark.parametrize(
    ("gpus", "size", "device_map", "expected"),
    [
        ("0 1 2 3 4 5 6 7", 2, "none", ("0,1", "2,3", "4,5", "6,7")),
        ("0 1 2 3 4 5 6 7", 1, "none", tuple("01234567")),
        ("2 3 5", 2, "none", ()),  # one worker, which sees all of them
        ("0 1", 1, "auto", ()),
        ("0 1 2 3", 2, "auto", ("0,1", "2,3")),
    ],
)
def test_a_worker_has_as_many_gpus_as_it_has_trainers(
    gpus, size, device_map, expected, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(placement, "pick_device", lambda device: "cuda")
    monkeypatch.setattr(placement, "visible_gpus", lambda: tuple(gpus.split()))
    spec = one_model(tmp_path, checkpoint("llama"), rows(60), methods=("lora",), trainers=size)
    spec = replace(spec, load=LoadOptions(device_map=device_map))
    plan, identity = placement_plan(spec)
    units = [unit.Unit(str(i), "m", "choice", spec, plan, identity, size=1) for i in range(9)]
    found = find_placement(spec, units, Wanted(), None, tmp_path)
    assert found.gpus == expected and found.gpus_each == size
    assert found.workers == (len(expected) or 1)
    on_ray = find_placement(replace(spec), units, Wanted("ray"), None, tmp_path)
    assert on_ray.gpus_each == size
    if size > 1:
        monkeypatch.setattr(placement, "visible_gpus", lambda: ("0",))
        with pytest.raises(UsageError, match="--trainers 2 needs 2 GPUs, and 1 can be seen here"):
            find_placement(spec, units, Wanted(), None, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainers": 0}, "--trainers 0: it must be at least 1"),
        ({"trainers": 2, "methods": ("probe",)}, "--trainers 2 has no effect: neither lora nor"),
        ({"trainers": 2, "methods": ("lora_prompt",), "query_adapter": "x"}, "has no effect"),
        (
            {"trainers": 2, "load": LoadOptions(device_map="auto", quantize="4bit")},
            "--trainers 2 with --device-map auto divides",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        RunSpec(output=tmp_path, **settings)


@pytest.mark.slow
def test_a_run_whose_trainers_are_killed_ends_in_the_same_bytes(checkpoint, tmp_path):
    """A trainer, then the run itself, each in the middle of a fit: the first is begun again by
    itself, both go on from a checkpoint."""
    questions = tmp_path / "mine.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows(120))))

    def begun(output):
        code = "import sys, team_work; team_work.main(*sys.argv[1:])"
        folders = map(str, (questions, checkpoint("llama"), tmp_path / output))
        command = [sys.executable, "-c", code, *folders]
        return subprocess.Popen(command, cwd=REPOSITORY / "tests", stderr=subprocess.DEVNULL)

    def in_the_middle(process, output):
        until = time.monotonic() + 120
        while not list((tmp_path / output).glob(".store/checkpoints/*")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        trainers_there = list(workers_of(process.pid))
        assert len(trainers_there) == 2
        return trainers_there

    assert begun("whole").wait(timeout=300) == 0
    for victim in ("trainer", "run"):
        process = begun(victim)
        members = in_the_middle(process, victim)
        os.kill(members[1] if victim == "trainer" else process.pid, signal.SIGKILL)
        if victim == "run":
            process.wait()
            until = time.monotonic() + 20
            while any(map(running, members)) and time.monotonic() < until:
                time.sleep(0.05)
            assert not any(map(running, members))
            assert list((tmp_path / victim).glob(".store/checkpoints/*"))
            process = begun(victim)
        assert process.wait(timeout=300) == 0
        for table in ("predictions.parquet", "scores.csv"):
            ours, theirs = (tmp_path / side / table for side in (victim, "whole"))
            assert ours.read_bytes() == theirs.read_bytes(), (victim, table)
        made = json.loads((tmp_path / victim / "run.json").read_text())["shards"]
        assert sum(made.values()) == 5


@pytest.mark.slow
def test_a_model_that_is_spread_is_divided_among_trainers(whole, tmp_path):
    """The same tables as where each trainer has all of it, but for rounding; made once, by a worker
    process whose own processes they are."""
    spec = replace(whole, output=tmp_path / "out", load=LoadOptions(device_map="auto"))
    run(spec, show=Recorder(), executor="processes")
    ours, theirs = (read_predictions(s.output / "predictions.parquet") for s in (spec, whole))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.p_correct, other.p_correct, atol=1e-5)
    run(spec, show=Recorder())
    assert json.loads((spec.output / "run.json").read_text())["shards"] == {"made": 0, "reused": 5}

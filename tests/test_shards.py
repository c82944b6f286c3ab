"""The store: whole or not at all, found by content, and never silently damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import fields, replace
from random import Random

import numpy as np
import pytest

from howsure import records, shards
from howsure.errors import StoreError, UsageError
from howsure.shards import Shards, key_of
from howsure.types import Answer, GradedAnswer, Ungraded

ANSWERS = [
    Answer(
        question_id=f"q{i}",
        subject="größe",
        prompt=f"Few shots\n\nQ{i}?\nAnswer:",
        text=" \ud7ff\n" if i else "",
        model="owner/model",
        format="choice",
        prefix="Few shots\n\n",
        choose_by="letter",
        choice=i,
        likelihood=None if i == 2 else 0.1 + 0.2 * i,
        option_mass=1 / 3,
        note="nonfinite_logits" if i == 2 else "",
    )
    for i in range(4)
]


def write_table(folder):
    records.write_answers(folder / "table.parquet", ANSWERS)


@pytest.fixture
def store(tmp_path):
    return Shards(tmp_path / "store")


@pytest.fixture
def made(store):
    return store.make("answers", "ab" * 32, write_table, since=time.perf_counter())


def test_a_shard_is_found_as_it_was_made(store, made):
    assert store.find("answers", "ab" * 32) == made
    assert store.open(made) == made.folder and made.seconds >= 0
    assert {p.name for p in made.folder.iterdir()} == {"table.parquet", "manifest.json"}
    assert store.find("answers", "cd" * 32) is None and store.find("grades", "ab" * 32) is None
    assert [p.name for p in made.folder.parent.iterdir()] == ["ab" * 32]  # nothing beside it


def test_whoever_comes_second_takes_what_is_there(store, made):
    def write(folder):
        (folder / "other").write_text("later")

    assert store.make("answers", "ab" * 32, write, since=0.0) == made


def test_the_digest_is_that_of_the_contents(store, made):
    again = store.make("answers", "cd" * 32, write_table, since=-5.0)
    assert again.digest == made.digest and again.seconds > made.seconds


def test_keys_are_those_of_contents():
    content = {"a": [1, "x", None], "b": {"c": 0.5}}
    same = json.loads(json.dumps({"b": {"c": 0.5}, "a": (1, "x", None)}))
    assert key_of("answers", content) == key_of("answers", same)
    others = [
        *({**content, "a": [1, "x"]}, {**content, "b": {"c": 0.25}}, {**content, "d": 1}),
        {**content, "a": ["1", "x", None]},
    ]
    assert len({key_of("answers", c) for c in (content, *others)}) == 5
    assert key_of("grades", content) != key_of("answers", content)
    with pytest.raises(TypeError):
        key_of("answers", {"path": object()})
    with pytest.raises(ValueError, match="JSON"):
        key_of("answers", {"x": float("nan")})


@pytest.mark.parametrize("name", ["table.parquet", "manifest.json"])
def test_every_flipped_bit_is_found(store, made, name):
    path = made.folder / name
    whole, rng = path.read_bytes(), Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        at = rng.randrange(len(whole))
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        found = shards._opened(made.folder, "answers", "ab" * 32)
        # What reads as the same JSON has the same meaning: an "E" for an "e" in a number.
        assert isinstance(found, shards.Damage) or found == made, (at, damaged[at])
    path.write_bytes(whole)
    assert store.find("answers", "ab" * 32) == made


@pytest.mark.parametrize("harm", ["cut", "empty", "lost", "manifest lost", "moved"])
def test_damage_is_named_and_taken_away(store, made, harm):
    table, key, told = made.folder / "table.parquet", "ab" * 32, []
    if harm == "cut":
        table.write_bytes(table.read_bytes()[:-1])
    elif harm == "empty":
        table.write_bytes(b"")
    elif harm == "lost":
        table.unlink()
    elif harm == "manifest lost":
        (made.folder / "manifest.json").unlink()
    else:
        key = "ab" + "c" * 62
        made.folder.rename(made.folder.with_name(key))
        made = replace(made, key=key, folder=made.folder.with_name(key))
    with pytest.raises(StoreError, match="run the same command again"):
        store.open(made)
    with pytest.raises(UsageError, match=f"answers shard .*{key}.* is damaged .*--no-recompute"):
        replace(store, recompute=False).find("answers", key)
    assert made.folder.is_dir()
    assert store.find("answers", key, told.append) is None and not made.folder.exists()
    assert len(told) == 1 and str(made.folder) in str(told[0])
    assert store.make("answers", key, write_table, since=0.0) == store.find("answers", key)


def test_a_full_disk_is_one_line_and_leaves_nothing(store, made):
    def write(folder):
        write_table(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"can't write below .*No space left.* free some") as error:
        store.make("answers", "ab" + "0" * 62, write, since=0.0)
    assert error.value.fatal and "\n" not in str(error.value)
    assert [p.name for p in made.folder.parent.iterdir()] == ["ab" * 32]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_file_system_that_is_full(store):
    def write(folder):
        (folder / "table").write_bytes(b"x")
        with open("/dev/full", "wb") as file:
            file.write(b"x")

    with pytest.raises(StoreError, match="No space left"):
        store.make("answers", "ab" * 32, write, since=0.0)
    assert store.find("answers", "ab" * 32) is None


def test_what_the_dead_left_is_swept_and_the_living_keep_theirs(store, made):
    mine = shards._beside(made.folder)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    for folder in (mine, theirs):
        folder.mkdir()
    state = store.unfinished("ab" * 32).path
    state.parent.mkdir()
    left = [state.with_name(folder.name) for folder in (mine, theirs)]
    for file in left:
        file.write_bytes(b"half")
    store.sweep()
    assert [file.exists() for file in left] == [True, False]
    assert mine.exists() and not theirs.exists() and store.find("answers", "ab" * 32) == made


# tables -----------------------------------------------------------------------------------------


def test_answers_come_back_under_the_name_of_whoever_reads(tmp_path):
    path = tmp_path / "table.parquet"
    records.write_answers(path, ANSWERS)
    assert records.read_answers(path, "renamed") == [replace(a, model="renamed") for a in ANSWERS]
    assert b"owner/model" not in path.read_bytes()


def test_the_same_answers_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        records.write_answers(tmp_path / name, ANSWERS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_answers_share_is_held_once(tmp_path):
    """A subject's examples are most of its prompts: with a copy each, memory follows them."""
    path, many = tmp_path / "table.parquet", [replace(a, query=" Right?") for a in ANSWERS]
    records.write_answers(path, [*many, replace(ANSWERS[0], prefix="")])
    *back, other = records.read_answers(path, "m")
    for name in ("subject", "prefix", "query", "lead"):
        assert len({id(getattr(a, name)) for a in back}) == 1
    assert other.prefix == "" and other.query is None and other.prompt == ANSWERS[0].prompt


def test_verdicts_are_had_without_the_prompts(tmp_path):
    prefix = "x" * 1_000_000
    answers = [replace(a, prefix=prefix, prompt=f"{prefix} {i}?") for i, a in enumerate(ANSWERS)]
    graded = [GradedAnswer(a, i % 2 == 0, "exact") for i, a in enumerate(answers)]
    graded[1] = Ungraded(answers[1], "judge:x", "neither yes nor no")
    records.write_answers(tmp_path / "a", answers)
    records.write_grades(tmp_path / "g", graded)
    records.read_verdicts(tmp_path / "a", tmp_path / "g")  # what is imported counts for nothing
    tracemalloc.start()
    verdicts, excluded = records.read_verdicts(tmp_path / "a", tmp_path / "g")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdicts == [records.Verdict.of(g) for g in (graded[0], graded[3])]
    assert [(v.question_id, v.is_correct) for v in verdicts] == [("q0", True), ("q3", False)]
    assert excluded == {"q1": "neither yes nor no", "q2": "nonfinite_logits"}
    assert most < len(prefix)
    records.write_grades(tmp_path / "g", graded[::-1])
    with pytest.raises(StoreError, match="other answers"):
        records.read_verdicts(tmp_path / "a", tmp_path / "g")
    with pytest.raises(StoreError, match="columns"):
        records.read_verdicts(tmp_path / "g", tmp_path / "g")


def test_every_field_has_a_column():
    assert set(records._ANSWER) == {f.name for f in fields(Answer)} - {"model"}
    graded = {f.name for kind in (GradedAnswer, Ungraded) for f in fields(kind)}
    assert set(records._GRADE) == graded - {"answer"}


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_readings_come_back_to_the_bit_and_belong_to_their_answers(tmp_path, rows):
    values = np.random.default_rng(0).standard_normal((rows, 7)).astype(np.float32)
    if rows > 2:
        values[1, 2:5] = np.nan, np.inf, -0.0
    path, ids = tmp_path / "r.parquet", [f"q{i}" for i in range(rows)]
    records.write_readings(path, ids, values)
    back = records.read_readings(path, ids)
    assert back.shape == values.shape and back.tobytes() == values.tobytes()
    with pytest.raises(StoreError, match="other questions"):
        records.read_readings(path, [*ids, "another"])


def test_grades_and_probabilities_belong_to_their_answers(tmp_path):
    graded = [GradedAnswer(a, i % 2 == 0, "exact") for i, a in enumerate(ANSWERS)]
    graded[1] = Ungraded(ANSWERS[1], "judge:x", "neither yes nor no")
    records.write_grades(tmp_path / "grades", graded)
    assert records.read_grades(tmp_path / "grades", ANSWERS) == graded
    with pytest.raises(StoreError, match="other answers"):
        records.read_grades(tmp_path / "grades", ANSWERS[::-1])
    p = np.array([0.0, 1 / 3, np.nan, 1.0])
    ids = [a.question_id for a in ANSWERS]
    records.write_probabilities(tmp_path / "p", ids, p)
    np.testing.assert_array_equal(records.read_probabilities(tmp_path / "p", ids), p)
    with pytest.raises(StoreError, match="other questions"):
        records.read_probabilities(tmp_path / "p", ids[::-1])
    with pytest.raises(StoreError, match="columns"):
        records.read_probabilities(tmp_path / "grades", ids)


# trainings that are not at their end ------------------------------------------------------------


def test_the_state_of_a_training_is_the_last_one_saved(store):
    unfinished = store.unfinished("ab" * 32)
    assert unfinished.load() is None
    for data in (b"one", b"another " * 1000, b""):
        unfinished.save(data)
        assert store.unfinished("ab" * 32).load() == data
    assert [p.name for p in unfinished.path.parent.iterdir()] == ["ab" * 32]
    assert store.unfinished("cd" * 32).load() is None
    for _ in range(2):
        unfinished.remove()
        assert unfinished.load() is None


@pytest.mark.parametrize("harm", ["flip", "truncate", "append", "empty", "folder"])
def test_a_damaged_state_is_named_and_never_used(store, harm, caplog):
    unfinished = store.unfinished("ab" * 32)
    unfinished.save(bytes(range(256)))
    data = bytearray(unfinished.path.read_bytes())
    if harm == "flip":
        data[100] ^= 1
    changed = {"truncate": data[:-1], "append": data + b"0", "empty": b""}.get(harm, data)
    unfinished.path.write_bytes(changed)
    if harm == "folder":
        unfinished.path.unlink()
        unfinished.path.mkdir()
        with pytest.raises(StoreError, match="can't write below"):
            unfinished.load()
        return
    with pytest.raises(UsageError, match=r"is damaged .*without --no-recompute"):
        replace(store, recompute=False).unfinished("ab" * 32).load()
    assert unfinished.load() is None
    assert f"{unfinished.path}, is damaged (it is not as it was written)" in caplog.text
    assert not unfinished.path.exists()


def test_a_state_that_can_not_be_saved_is_one_line_and_leaves_the_last(store, monkeypatch):
    unfinished = store.unfinished("ab" * 32)
    unfinished.save(b"before")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device; free some") as raised:
        unfinished.save(b"after")
    assert raised.value.fatal and unfinished.load() == b"before"
    assert len(list(unfinished.path.parent.iterdir())) == 1

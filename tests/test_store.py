"""The run directory: writing is whole or not at all, and runs are never mixed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howsure import manifest, store
from howsure.errors import PredictionsError, UsageError

SPEC = {"models": ["a"], "seed": 0, "methods": ["probe"]}


def test_a_new_folder_is_made(tmp_path):
    directory = store.open_directory(tmp_path / "runs" / "first", SPEC)
    assert directory.path.is_dir() and list(directory.path.iterdir()) == []
    assert directory.estimator("owner/model", "open", "probe") == (
        directory.path / "estimators" / "open" / "owner--model" / "probe"
    )


def test_the_run_of_the_same_spec_is_replaced(tmp_path):
    directory = store.open_directory(tmp_path, SPEC)
    store.write_json(directory.card, {"spec": SPEC})
    assert store.open_directory(tmp_path, dict(SPEC)) == directory


def test_the_run_of_another_spec_is_kept(tmp_path):
    store.write_json(store.open_directory(tmp_path, SPEC).card, {"spec": SPEC})
    with pytest.raises(UsageError, match="differ in seed, limit\\)") as caught:
        store.open_directory(tmp_path, {**SPEC, "seed": 1, "limit": 3})
    assert "--output" in str(caught.value)


def test_a_folder_of_something_else_is_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds 'thesis.tex' but no run"):
        store.open_directory(tmp_path, SPEC)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\ufffe"])
def test_a_broken_card_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="utf-16")
    with pytest.raises(UsageError, match=r"run\.json") as caught:
        store.open_directory(tmp_path, SPEC)
    assert "\n" not in str(caught.value)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not writable") as caught:
        store.ensure_writable(tmp_path / "file" / "below")
    assert "--output" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="not writable"):
        store.ensure_writable(tmp_path)


def test_writing_is_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "run.json"
    store.write_json(path, {"old": True})
    store.write_json(path, {"é": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_json(path, {"bad": float("nan")})
    with pytest.raises(UsageError, match="can't write"):
        store.write_bytes(tmp_path / "deep", b"a folder is in the way")
    assert store.read_json(path) == {"é": [1, None]}
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["run.json"]


def test_a_crash_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    store.write_text(path, "old")

    with pytest.raises(TypeError):
        store.write_bytes(path, object())  # the temporary file is open by then
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["run.json"]


@given(st.text(min_size=1, max_size=40))
def test_file_names_stay_in_their_folder(name):
    made = store.file_name(name)
    assert made and "/" not in made and not made.startswith(".")
    assert Path("x", made).resolve().parent == Path("x").resolve()


def test_the_tables_of_a_run_are_those_that_it_wrote(tmp_path):
    directory = store.RunDirectory(tmp_path)
    for path in (directory.card, directory.scores):
        path.write_text("{}")
    directory.check()  # not sealed yet
    directory.seal()
    directory.check()
    directory.scores.write_text("{ }")
    with pytest.raises(PredictionsError, match=r"has changed since its run: scores\.csv is not as"):
        directory.check()
    directory.scores.write_text("{}")
    directory.check()
    directory.card.unlink()
    with pytest.raises(PredictionsError, match=r"run\.json: No such file"):
        directory.check()


def test_a_folder_is_replaced_whole_with_a_manifest(tmp_path):
    place = tmp_path / "bundle"
    for text in (b"one", b"two"):
        (tmp_path / "source").write_bytes(text)
        store.replace_folder(place, {"a": tmp_path / "source", "b": b"plain"})
        assert {p.name for p in place.iterdir()} == {"a", "b", manifest.NAME}
        assert set(manifest.check(place / manifest.NAME)["files"]) == {"a", "b"}
        assert (place / "a").read_bytes() == text

"""One process at a time on a run; whoever died does not keep the others out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import pytest

from howsure import lock
from howsure.errors import UsageError

HOLD = """
    import sys, time
    from pathlib import Path
    from howsure import lock
    with lock.held(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path, holder):
    assert lock.is_held(tmp_path)
    with (
        pytest.raises(UsageError, match=f"process {holder.pid} on .*--output"),
        lock.held(tmp_path),
    ):
        raise AssertionError


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    left = lock.owner(tmp_path)
    assert left is not None and left.pid == holder.pid and not lock.is_held(tmp_path)
    with lock.held(tmp_path):
        mine = lock.owner(tmp_path)
        assert mine is not None and mine.pid == os.getpid() and mine.is_alive_here()
    assert lock.owner(tmp_path) is None


def test_it_is_given_back_whatever_happens(tmp_path):
    with pytest.raises(KeyboardInterrupt), lock.held(tmp_path):
        raise KeyboardInterrupt
    assert lock.owner(tmp_path) is None
    with lock.held(tmp_path):
        pass


def test_another_process_of_the_same_number_is_not_the_owner():
    me = lock.Owner.me()
    assert me.is_alive_here() and not replace(me, started="1").is_alive_here()
    assert not replace(me, host="elsewhere").is_alive_here()


def test_without_locks_of_the_file_system_the_owner_counts(tmp_path, holder, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(UsageError, match=f"process {holder.pid}"), lock.held(tmp_path):
        raise AssertionError
    holder.kill()
    holder.wait()
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("lives", [True, False])
def test_an_owner_on_another_machine_is_watched(tmp_path, monkeypatch, lives):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "_SILENCE", 0.5)
    other = replace(lock.Owner.me(), host="elsewhere")
    path = tmp_path / lock.LOCK
    path.write_text(json.dumps(asdict(other)))
    said = []
    if lives:
        refused = pytest.raises(UsageError, match="on elsewhere")
        with lock._beating(path), refused, lock.held(tmp_path, said.append):
            raise AssertionError
    else:
        with lock.held(tmp_path, said.append):
            assert lock.owner(tmp_path).is_alive_here()
    assert "sign of life" in said[0]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 1}'])
def test_a_lock_cut_off_while_it_was_written(tmp_path, text):
    (tmp_path / lock.LOCK).write_text(text)
    assert lock.owner(tmp_path) is None
    with lock.held(tmp_path):
        pass

"""Runs that are killed, and files that are damaged: `bench.crash` and `bench.corrupt` in short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench.crash import again_and_lost

REPOSITORY = Path(__file__).resolve().parents[1]


def last_line(*arguments):
    """What a program of the benchmarks says at its end."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_nothing_is_lost_when_a_run_is_killed(workers):
    found = last_line("bench.crash", "--kills", "2", "--workers", str(workers))
    assert found["kills"] >= 2
    assert (found["lost"], found["duplicated"]) == (0, 0)
    assert found["differing_bytes"] == {"predictions.parquet": 0, "scores.csv": 0}
    assert found["most_a_kill"] <= workers, "each worker's job, and nothing else, is begun again"


def test_a_kill_answers_for_the_jobs_of_the_workers_it_took():
    def event(what, key, pid):
        return {"what": what, "key": key, "pid": pid}

    both = [
        event("begin", "a", 1),
        event("begin", "b", 2),
        {"what": "kill", "key": "", "pids": [1]},
    ]
    again = [event("begin", "a", 3), {"what": "kill", "key": "", "pids": None}]
    assert again_and_lost([*both, event("end", "b", 2), event("begin", "a", 3)]) == ([1], 0)
    assert again_and_lost([*both, *again, event("begin", "a", 4)]) == ([1, 1], 0)
    assert again_and_lost([*both, *again, event("begin", "b", 4)]) == ([1, 1], 0)
    assert again_and_lost([*both, event("end", "b", 2), event("begin", "b", 3)])[1] == 1


@pytest.mark.slow
def test_no_damage_is_taken_for_what_was_written():
    found = last_line("bench.corrupt", "--flips", "100")
    assert found["tried"] > 1000 and found["kinds"] > 40
    assert found["refused"] + found["right"] == found["tried"]
    assert found["silently_wrong"] == 0 and found["wrong_in"] == []

"""A run that is killed goes on: the short form of `python -m bench.crash --kills 200`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_when_a_run_is_killed(workers):
    command = [sys.executable, "-m", "bench.crash", "--kills", "2", "--workers", str(workers)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] >= 2
    assert (found["lost"], found["duplicated"]) == (0, 0)
    assert found["differing_bytes"] == {"predictions.parquet": 0, "scores.csv": 0}
    assert found["most_a_kill"] <= workers, "each worker's job, and nothing else, is begun again"

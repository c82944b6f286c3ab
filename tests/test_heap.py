"""What a run holds beside its model does not grow: nothing comes late, what is freed goes back."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from howsure import heap
from howsure.placement import Placement
from howsure.run import _as_a_worker

LATE = """
import sys
from pathlib import Path
from howsure import heap, records

heap.settle()
heap.load_arrow()
before = set(sys.modules)
records.write_grades(Path("table"), [])
assert records.read_grades(Path("table"), []) == []
print(sorted(m for m in set(sys.modules) - before if m.split(".")[0] in ("pyarrow", "pandas")))
"""


def test_a_worker_loads_no_library_after_its_first_table(tmp_path):
    command = [sys.executable, "-c", LATE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only there memory is given back")
def test_what_was_freed_goes_back():
    pieces = [bytes(2000) for _ in range(50_000)]
    held = _resident_mib()
    pinned = pieces[-1:]  # the end of the heap is in use, so that it can't shrink by itself
    del pieces
    heap.give_back()
    assert _resident_mib() < held - 50 and len(pinned) == 1


@pytest.mark.parametrize(
    ("executor", "gpus", "expected"),
    [("process", 0, ("false", 1)), ("process", 1, ("kept", 1)), ("processes", 0, ("kept", 2))],
)
def test_the_work_of_a_process_on_a_cpu_tokenises_in_one_thread(
    monkeypatch, tmp_path, executor, gpus, expected
):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "kept")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        placed = Placement(executor, 1, 1, (), gpus, 0, 1, tmp_path)
        with _as_a_worker(placed):
            assert (os.environ["TOKENIZERS_PARALLELISM"], torch.get_num_threads()) == expected
        assert (os.environ["TOKENIZERS_PARALLELISM"], torch.get_num_threads()) == ("kept", 2)
    finally:
        torch.set_num_threads(threads)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20

"""Whether memory grows with the number of questions: whole runs, each in a process of its own.

    python -m bench.memory --mmlu FOLDER

A small random model answers MMLU questions with five examples and is asked whether it is right,
once with about a thousand of them and once with all. The last line is one JSON object: the peak
until the last answer and estimate is there, above what the process held when the model had been
loaded and the questions read, in MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event, Thread

from transformers import AutoTokenizer

import howsure
from bench import body
from howsure.progress import Display
from howsure.run import RunSpec, run

_EVERY = 0.05
"""Seconds between two looks at the memory."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mmlu", type=Path, required=True, help="folder of the MMLU questions")
    parser.add_argument("--limits", type=int, nargs="+", default=[18, 0], help="a subject; 0: all")
    parser.add_argument("--subject", action="append", help="only these subjects")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        subjects = tuple(given.subject or ())
        print(json.dumps(one_run(given.one, given.mmlu, given.limits[0], subjects)))
        return
    embedded = Path(howsure.__file__).parent / "embedded" / "tiny-llama-s"
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        body.make(folder, AutoTokenizer.from_pretrained(embedded), hidden=64, layers=2)
        for limit in given.limits:
            command = [sys.executable, "-W", "ignore", "-m", "bench.memory", "--one", str(folder)]
            command += ["--mmlu", str(given.mmlu), "--limits", str(limit)]
            command += [f"--subject={subject}" for subject in given.subject or ()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr.strip().splitlines()[-1])
            found = json.loads(done.stdout.strip().splitlines()[-1])
            figures[str(limit or "all")] = found
            print(limit or "all", found, flush=True)
    print(json.dumps(figures))


def one_run(model: Path, mmlu: Path, limit: int, subjects: tuple[str, ...]) -> dict[str, float]:
    """A whole run in this process, and what it held."""
    with tempfile.TemporaryDirectory() as output:
        watch = _Watch()
        spec = RunSpec(
            output=Path(output) / "run",
            models=(str(model),),
            questions="mmlu",
            data_dir=mmlu,
            formats=("choice",),
            methods=("zero_shot",),
            calibrate="none",
            limit=limit or None,
            subjects=subjects,
        )
        run(spec, at_once=1, show=watch)
        return {
            "loaded_mib": round(watch.loaded, 1),
            "peak_mib": round(watch.most, 1),
            "above_mib": round(watch.most - watch.loaded, 1),
        }


class _Watch(Display):
    """Sees how far the run is: looks at the memory from the loaded model to the scores."""

    def __init__(self) -> None:
        self.loaded = self.most = 0.0
        self._over = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        if stage == "load" and done and not self.loaded:
            self.loaded = _resident_mib()
            self._thread.start()

    def reused(self, jobs: int, of: int) -> None:
        """Nothing is: each run has a store of its own."""

    def say(self, text: str) -> None:
        if text == "scoring":
            self.finish()

    def finish(self) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            self.most = max(self.most, _resident_mib())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()

"""The run that `bench.crash` kills: small, with all stages, and with a log of its jobs.

    python -m bench.killed OUTPUT WORKERS [RAY_ADDRESS]

Exit code 0 when all of it is done.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from howsure import run as running
from howsure.methods import checkpoint
from howsure.spec import RunSpec
from howsure.stages import AnyJob, Made, Worker, find
from howsure.unit import Block, Split, Unit, blocks
from howsure.workers import Report

_SETTINGS = {"schedule": {"steps": 60, "evaluations": 4, "batch_size": 8, "learning_rate": 1e-3}}
_BLOCK = 24
"""Questions at most in a shard, so that a small run has many."""
_BETWEEN = 0.3
"""Seconds at least between two checkpoints, for the same reason."""


def log_of(output: Path) -> Path:
    """A line for each job that began or ended, beside the run's folder."""
    return output.with_name(output.name + ".log")


def main(output: Path, workers: int, address: str | None = None) -> int:
    setattr(running, "Worker", Logged)  # noqa: B010 (it is a name that mypy holds for a type)
    setattr(Unit, "blocks", _small_blocks)  # noqa: B010
    done = running.run(
        RunSpec(
            output=output,
            models=("tiny-llama-s",),
            formats=("open", "choice"),
            subjects=("addition", "alphabet"),
            limit=40,
            train_size=72,
            settings=dict.fromkeys(("probe", "lora", "lora_prompt"), _SETTINGS),
        ),
        show=Silent(),
        at_once=workers,
        executor="ray" if address else "auto",
        threads_each=1,
        ray_address=address,
    )
    return 0 if done.is_complete else 3


class Logged(Worker):
    """Says when a job begins and when it has ended."""

    def __call__(self, job: AnyJob, report: Report) -> Made:
        setattr(checkpoint, "_LEAST", _BETWEEN)  # noqa: B010
        if find(self.units[job.unit], job, self.store) is None:
            self._log("begin", job)
        made = super().__call__(job, report)
        self._log("end", job)
        return made

    def _log(self, what: str, job: AnyJob) -> None:
        event = {"what": what, "key": job.key, "stage": job.stage, "pid": os.getpid()}
        with log_of(self.store.root.parent).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")  # one write, which a kill can't part


class Silent:
    """A display that shows nothing."""

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        pass

    def reused(self, jobs: int, of: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def _small_blocks(self: Unit, split: Split) -> list[Block]:
    return [Block(split, *ends) for ends in blocks(self._all(split), _BLOCK)]


if __name__ == "__main__":
    from bench import killed  # so that workers find `Logged` under this name

    raise SystemExit(killed.main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))

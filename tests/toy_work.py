"""Tasks for worker processes, cheap to import: what a worker does with each is in its name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howsure.errors import ModelError


@dataclass(frozen=True)
class Toy:
    """A job: what to do, and where it stands among the tasks."""

    index: int
    kind: str
    value: Any
    home: str = "anywhere"


class Tasks:
    """Independent tasks, as a grid of the scheduler's."""

    def __init__(self, tasks, on_event=lambda *event: None):
        self.tasks = [Toy(i, *task) for i, task in enumerate(tasks)]
        self.on_event = on_event
        self.made = {}

    def start(self):
        return self.tasks

    def find(self, job):
        return None

    def wants(self, job):
        return True

    def after(self, job, made, *, reused):
        assert job.index not in self.made, "done twice"
        self.made[job.index] = made
        self.on_event(job.index, "", 1, 1)
        return []

    def failed(self, job, failure):
        self.after(job, failure, reused=False)

    def dropped(self, job):
        raise AssertionError("nothing is dropped here")

    def progress(self, job, stage, done, total):
        self.on_event(job.index, stage, done, total)

    def results(self):
        return [self.made[i] for i in range(len(self.tasks))]


def approve(job, report):
    """Work that takes any job."""
    return [True, None]


def do(job, report):
    kind, value = job.kind, job.value
    report("work", 0, 2)
    if kind == "refuse":
        raise ModelError(f"no model {value}")
    if kind == "crash":
        raise ZeroDivisionError("first line\nsecond line")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "die once" and not Path(value).exists():
        Path(value).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(7)
    if kind == "sleep":
        time.sleep(value)
    report("work", 2, 2)
    return value * 2, os.getpid(), os.environ.get("OMP_NUM_THREADS")

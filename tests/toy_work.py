"""Tasks for worker processes, cheap to import: what a worker does with each is in its name."""

from __future__ import annotations

import os
import signal
import time

from howsure.errors import ModelError


def do(task, report):
    kind, value = task
    report("work", 0, 2)
    if kind == "refuse":
        raise ModelError(f"no model {value}")
    if kind == "crash":
        raise ZeroDivisionError("first line\nsecond line")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(7)
    if kind == "sleep":
        time.sleep(value)
    report("work", 2, 2)
    return value * 2, os.getpid(), os.environ.get("OMP_NUM_THREADS")

"""Processes that do one job together: begun for it, watched, and ended with it.

Whichever dies takes the others with it, and the job counts as one whose worker died.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

from howsure.errors import UsageError
from howsure.lm.precision import pick_device, thread_count, visible_gpus
from howsure.methods.team import Team, join
from howsure.workers import (
    Done,
    Failed,
    Failure,
    Report,
    attempt,
    environment,
    how_it_died,
    limited,
    threads_environment,
)

Work = Callable[[Any, Report, Team], Any]

_GRACE = 5.0
"""Seconds in which the others say what they know, once one has failed."""


@dataclass(slots=True)
class _Member:
    process: BaseProcess
    connection: Connection


def check_gpus(size: int, gpus: Sequence[str]) -> None:
    """Raises UsageError where there is no GPU for each member."""
    if len(gpus) < size:
        raise UsageError(
            f"--trainers {size} needs {size} GPUs, and {len(gpus)} can be seen here; give a "
            "smaller number, or --device cpu"
        )


def together(work: Work, job: Any, report: Report, size: int, device: str) -> Any:
    """What number 0 of so many makes of the job.

    Each has a GPU of its own, or its part of this process's threads. `work`, `job` and the result
    must be picklable. Raises workers.Failed with what went wrong, UsageError for too few GPUs.
    """
    device = pick_device(device)
    environments = [threads_environment(max(1, thread_count() // size))] * size
    if device == "cuda":
        gpus = visible_gpus()
        check_gpus(size, gpus)
        environments = [
            own | {"CUDA_VISIBLE_DEVICES": gpu}
            for own, gpu in zip(environments, gpus, strict=False)
        ]
    with tempfile.TemporaryDirectory(prefix="howsure-team-") as folder, ExitStack() as stack:
        members = []
        for rank, own in enumerate(environments):
            given = (work, job, rank, size, Path(folder) / "meeting", device)
            members.append(_begun(given, own))
            stack.callback(_end, members[-1])
        return _watched(members, report)


def _begun(given: tuple[Any, ...], own: Mapping[str, str]) -> _Member:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_part, args=(theirs, *given), daemon=True)
    with environment(own):
        process.start()
    theirs.close()  # so that ours ends when the member does
    return _Member(process, ours)


def _end(member: _Member) -> None:
    member.process.kill()  # nothing is lost: what is there was written whole
    member.process.join()
    member.connection.close()


def _watched(members: Sequence[_Member], report: Report) -> Any:
    """Passes reports on until all have ended; once one has failed, or number 0 has a result, the
    others have a while to say what they know."""
    there = {m.connection: m for m in members}
    said: list[tuple[_Member, Any]] = []
    until = float("inf")
    while there and time.monotonic() < until:
        ready = wait(list(there), _GRACE)
        for connection in ready:
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):  # a death counts before all that others say of it
                raise Failed(how_it_died(there[connection].process, "a trainer")) from None
            if isinstance(message, Done):
                member = there.pop(connection)
                said.append((member, message.value))
                if member is members[0] or isinstance(message.value, Failure):
                    until = min(until, time.monotonic() + _GRACE)
            else:
                report(*message)
    failures = [value for _, value in said if isinstance(value, Failure)]
    if failures:  # that others can't be reached any more is why, never the cause
        raise Failed(next((f for f in failures if not f.died), failures[0]))
    return next(value for member, value in said if member is members[0])


def _take_part(
    connection: Connection, work: Work, job: Any, rank: int, size: int, meeting: Path, device: str
) -> None:
    """A member's life: it joins, does the job, and says what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who can end us
    Thread(target=_end_with_parent, daemon=True).start()

    def send(*event: object) -> None:
        if rank == 0:
            connection.send(event)

    def share(job: Any, report: Report) -> Any:
        made = work(job, report, join(rank, size, meeting, device))
        return made if rank == 0 else None

    connection.send(Done(attempt(share, job, limited(send))))


def _end_with_parent() -> None:
    """Whoever began us may be killed while we are waiting for each other."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""Workers on a Ray cluster: actors on any of its machines that load a model once and keep it.

What they make goes into the store, which lies in a folder that all machines see. Ray carries jobs,
reports and keys, never a shard.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic

from howsure.errors import HowsureError, UsageError
from howsure.workers import (
    Done,
    Ended,
    Failure,
    Job,
    Result,
    Work,
    attempt,
    limited,
    threads_environment,
)

_PATIENCE = 60.0
"""Seconds without any worker after which the log says what is waited for."""

_log = logging.getLogger("howsure")


@dataclass(frozen=True, slots=True)
class Actors:
    """What is asked of a cluster."""

    folder: Path
    """Of the store, which all its machines must see."""
    count: int | None
    """None: as many as there is room for."""
    threads: int
    """Of each; as many processors are its own."""
    memory: int
    """Bytes that each needs."""
    gpus: int = 0
    """That each has to itself."""
    address: str | None = None
    """None: `RAY_ADDRESS`, the cluster that runs here, or a new one."""


class ClusterError(HowsureError):
    """A cluster that can't be reached, or whose machines can't do the work."""


@dataclass(eq=False)
class _Worker(Generic[Job]):
    actor: Any
    ready: Any = None
    """What the actor answers once it is there; None when it has answered."""
    stream: Any = None
    """Reports on the job it is at, and at last the result."""
    home: str | None = None
    job: Job | None = None
    since: float = field(default_factory=time.monotonic)


class OnRay(Generic[Job, Result]):
    """Actors of a Ray cluster that do jobs.

    An actor that dies, by itself or with its machine, begins anew wherever there is room, however
    often; how often one job may end so is the scheduler's business. An autoscaling cluster grows
    until all the actors have a place; those that have one work meanwhile. Raises UsageError when
    Ray isn't installed, ClusterError when the cluster can't be reached or doesn't see the store.
    """

    def __init__(self, work: Work[Job, Result], wanted: Actors) -> None:
        self._ray = _ray()
        self._connect(wanted.address)
        self._wanted = wanted
        self._sign = wanted.folder / f".seen-{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._sign.write_bytes(b"")
        self._work = self._ray.put(work)
        count = wanted.count or self._room()
        self._workers = [self._begun(_Worker(self._new())) for _ in range(count)]
        self._said = time.monotonic()

    @property
    def busy(self) -> int:
        return sum(w.job is not None for w in self._workers)

    def idle(self) -> Sequence[str | None]:
        return [w.home for w in self._workers if w.job is None and w.ready is None]

    def start(self, home: str | None, job: Job) -> None:
        idle = [w for w in self._workers if w.job is None and w.ready is None]
        worker = next(w for w in idle if w.home == home)
        worker.job, worker.home = job, job.home
        worker.stream = worker.actor.run.remote(job)

    def wait(self, on_report: Any) -> Ended[Job, Result]:
        awaited = {w.stream or w.ready: w for w in self._workers if w.stream or w.ready}
        ready, _ = self._ray.wait(list(awaited), timeout=1.0, fetch_local=False)
        ended: list[tuple[Job, Result | Failure]] = []
        for one in ready:
            worker = awaited[one]
            if worker.stream is None:
                self._arrived(worker)
            elif (value := self._heard(worker, on_report)) is not None:
                assert worker.job is not None
                ended.append((worker.job, value))
                worker.job = worker.stream = None
        self._say_what_is_missing()
        return ended

    def close(self) -> None:
        for worker in self._workers:
            with suppress(Exception):
                self._ray.kill(worker.actor)  # nothing is lost: what is there was written whole
        with suppress(OSError):
            self._sign.unlink(missing_ok=True)
        self._ray.shutdown()

    # how ------------------------------------------------------------------------------------------

    def _connect(self, address: str | None) -> None:
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # its kinds are many, and not documented
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ClusterError(
                f"can't reach the Ray cluster {address or 'of this machine'}: {first[:300]}; "
                "see `ray status`, and give its address with --ray-address"
            ) from error

    def _new(self) -> Any:
        """An actor that begins anew whenever it dies. Its answers to `ready` outlive that too."""
        wanted = self._wanted
        options: dict[str, Any] = {"max_restarts": -1, "memory": wanted.memory}
        options |= {"num_gpus": wanted.gpus} if wanted.gpus else {"num_cpus": wanted.threads}
        environment = threads_environment(wanted.threads)
        actor = self._ray.remote(**options)(_Actor)
        return actor.options(runtime_env={"env_vars": environment}).remote(self._work, self._sign)

    def _begun(self, worker: _Worker[Job]) -> _Worker[Job]:
        worker.ready = worker.actor.ready.options(max_task_retries=-1).remote()
        worker.home, worker.since = None, time.monotonic()
        return worker

    def _room(self) -> int:
        """How many actors fit into what the cluster has now; at least one, for it may grow."""
        there = self._ray.cluster_resources()
        wanted = self._wanted
        kind, each = ("GPU", wanted.gpus) if wanted.gpus else ("CPU", wanted.threads)
        by_memory = there.get("memory", 0) // max(1, self._wanted.memory)
        return max(1, int(min(there.get(kind, 0) // each, by_memory)))

    def _arrived(self, worker: _Worker[Job]) -> None:
        try:
            trouble = self._ray.get(worker.ready)
        except self._ray.exceptions.RayActorError as error:
            if time.monotonic() - worker.since < 1.0:  # it can't even begin
                raise ClusterError(f"no worker can begin: {_first_line(error)}") from error
            worker.actor = self._new()
            self._begun(worker)
            return
        if trouble:
            raise UsageError(trouble)
        worker.ready = None

    def _heard(self, worker: _Worker[Job], on_report: Any) -> Result | Failure | None:
        """The job's result, if this was it; else a report is passed on."""
        try:
            message = self._ray.get(next(worker.stream))
        except self._ray.exceptions.RayActorError as error:
            self._begun(worker)
            return Failure(f"its worker died ({_first_line(error)})", 1, died=True)
        except (StopIteration, self._ray.exceptions.RayError) as error:
            return Failure(f"its worker gave no result ({_first_line(error)})", 1, died=True)
        if isinstance(message, Done):
            return message.value
        on_report(worker.job, *message)
        return None

    def _say_what_is_missing(self) -> None:
        there = [w for w in self._workers if w.ready is None]
        if there or time.monotonic() - self._said < _PATIENCE:
            return
        self._said = time.monotonic()
        gpus = self._wanted.gpus
        wanted = f"{gpus} GPU" if gpus else f"{self._wanted.threads} CPU"
        _log.warning(
            "waiting for a place in the cluster: a worker needs %s and %.1f GB of memory; see "
            "`ray status`",
            wanted,
            self._wanted.memory / 1e9,
        )


class _Actor(Generic[Job, Result]):
    """What lives on the cluster: one worker."""

    def __init__(self, work: Work[Job, Result], sign: Path) -> None:
        self._work, self._sign = work, sign

    def ready(self) -> str:
        """Why it can't work; "" when it can."""
        if self._sign.exists():
            return ""
        return (
            f"machine {socket.gethostname()} does not see {self._sign.parent}; put --output, or "
            "--cache, into a folder that all machines of the cluster share"
        )

    def run(self, job: Job) -> Iterator[Any]:
        """Reports, and at last the result, as they come."""
        heard: SimpleQueue[Any] = SimpleQueue()

        def work() -> None:
            report = limited(lambda *event: heard.put(event))
            heard.put(Done(attempt(self._work, job, report)))

        Thread(target=work, daemon=True).start()
        while True:
            message = heard.get()
            yield message
            if isinstance(message, Done):
                return


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _ray() -> Any:
    # Both are read when Ray is imported: nothing is reported to its makers, and workers without a
    # GPU of their own find the variables about GPUs as they are, without a warning of that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--executor ray needs Ray; install it with: pip install 'howsure[ray]'"
        ) from None
    return ray

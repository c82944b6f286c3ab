"""Where jobs are carried out on one machine: in this process, or in several worker processes.

A job that raises, or whose worker dies, does not take the others with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, Protocol, TypeVar

from howsure.errors import HowsureError


class AnyJob(Protocol):
    """What workers know of a job."""

    @property
    def home(self) -> str:
        """What must be loaded for it; a worker keeps what it loaded last."""
        ...


Job = TypeVar("Job", bound=AnyJob)
Result = TypeVar("Result")

Report = Callable[[str, int, int], None]
"""(stage, done, total): how far a job is."""

_EVERY = 0.1
"""Seconds between two reports of one stage."""

ONE_TOKENIZER = {"TOKENIZERS_PARALLELISM": "false"}
"""Each of a tokenizer's threads has a heap of its own, which holds on to pieces of what it freed:
memory would grow with the number of questions."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as values that cross process boundaries."""

    message: str
    """One line."""
    exit_code: int
    trace: str = ""
    fatal: bool = False
    """Nothing else can go on either: the disk is full."""
    died: bool = False
    """The worker died of it, or beside it; another may succeed."""

    @staticmethod
    def of(error: Exception) -> Failure:
        """The user's line for a HowsureError; for anything else, its type and first line."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, HowsureError):
            line = " ".join(str(error).split("\n"))
            fatal, died = (getattr(error, name, False) for name in ("fatal", "died"))
            return Failure(line, error.exit_code, trace, fatal=fatal, died=died)
        first = next(iter(str(error).strip().splitlines()), "")
        kind = type(error).__name__
        return Failure(f"unexpected {kind}: {first} (--debug shows where)", 1, trace)


class Failed(Exception):
    """Work that failed in another process: `failure` is what was told there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


Work = Callable[[Job, Report], Result]
Ended = Sequence[tuple[Job, Result | Failure]]


class Executor(Protocol[Job, Result]):  # type: ignore[misc]
    """Where jobs are carried out; the scheduler hands them out, one to a worker."""

    @property
    def busy(self) -> int:
        """How many jobs are at work."""
        ...

    def idle(self) -> Sequence[str | None]:
        """The home of each worker that could begin a job now; None for one without any yet."""
        ...

    def start(self, home: str | None, job: Job) -> None:
        """Gives the job to an idle worker of that home, which becomes one of the job's home."""
        ...

    def wait(self, on_report: Callable[[Job, str, int, int], None]) -> Ended[Job, Result]:
        """The jobs that have ended, once something is known: perhaps none, only reports."""
        ...

    def close(self) -> None:
        """Ends all workers, whatever they are at."""
        ...


class InProcess(Generic[Job, Result]):
    """One job after the other, in this process."""

    def __init__(self, work: Work[Job, Result]) -> None:
        self._work = work
        self._next: Job | None = None
        self._home: str | None = None

    @property
    def busy(self) -> int:
        return int(self._next is not None)

    def idle(self) -> Sequence[str | None]:
        return [] if self.busy else [self._home]

    def start(self, home: str | None, job: Job) -> None:
        self._next, self._home = job, job.home

    def wait(self, on_report: Callable[[Job, str, int, int], None]) -> Ended[Job, Result]:
        job, self._next = self._next, None
        if job is None:
            return []
        report = limited(lambda *event: on_report(job, *event))
        return [(job, attempt(self._work, job, report))]

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(slots=True)
class _Worker(Generic[Job]):
    process: BaseProcess
    connection: Connection
    environment: Mapping[str, str]
    home: str | None = None
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """A worker's last word on a job."""

    value: Result | Failure


class Processes(Generic[Job, Result]):
    """Spawned processes of this machine, one for each of the environments; begun when needed.

    `work` and its jobs and results must be picklable. `threads` is how many each process may use.
    """

    def __init__(
        self,
        work: Work[Job, Result],
        environments: Sequence[Mapping[str, str]],
        threads: int | None = None,
    ) -> None:
        self._work = work
        self._threads = threads
        self._free = list(environments)[::-1]
        self._workers: list[_Worker[Job]] = []

    @property
    def busy(self) -> int:
        return sum(w.job is not None for w in self._workers)

    def idle(self) -> Sequence[str | None]:
        return [*(w.home for w in self._workers if w.job is None), *(None for _ in self._free)]

    def start(self, home: str | None, job: Job) -> None:
        mine = (w for w in self._workers if w.job is None and w.home == home)
        worker = next(mine, None) or self._new()
        worker.job, worker.home = job, job.home
        with suppress(OSError):  # it has died; its end of the pipe says so in `wait`
            worker.connection.send(job)

    def wait(self, on_report: Callable[[Job, str, int, int], None]) -> Ended[Job, Result]:
        ended: list[tuple[Job, Result | Failure]] = []
        ready = wait([w.connection for w in self._workers if w.job is not None])
        for worker in list(self._workers):
            if worker.connection not in ready or worker.job is None:
                continue
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                message = Done(self._died(worker))
            if isinstance(message, Done):
                ended.append((worker.job, message.value))
                worker.job = None
            else:
                on_report(worker.job, *message)
        return ended

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()  # by which one that has nothing to do ends itself
            if worker.job is not None:
                worker.process.terminate()  # nothing is lost: what is there was written whole
        for worker in self._workers:
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()

    def _new(self) -> _Worker[Job]:
        own = self._free.pop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # Not a daemon: those may have no processes of their own, which a team of trainers needs.
        process = context.Process(target=_serve, args=(theirs, self._work))
        with environment({**threads_environment(self._threads), **own}):
            process.start()
        theirs.close()  # so that ours ends when the worker does
        worker: _Worker[Job] = _Worker(process, ours, own)
        self._workers.append(worker)
        return worker

    def _died(self, worker: _Worker[Job]) -> Failure:
        worker.connection.close()
        self._workers.remove(worker)
        self._free.append(worker.environment)
        return how_it_died(worker.process, "its worker process")


def how_it_died(process: BaseProcess, what: str) -> Failure:
    """Of a process that ended without a word."""
    process.join(timeout=5)
    code = process.exitcode
    how = f"exit code {code}"
    if code is not None and code < 0:
        how = signal.Signals(-code).name
    killed = "; the system may have run out of memory" if code == -signal.SIGKILL else ""
    return Failure(f"{what} died ({how}){killed}", 1, died=True)


def _serve(connection: Connection, work: Work[Job, Result]) -> None:
    """A worker's life: jobs come in, reports and results go out, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us

    def send(*event: object) -> None:
        connection.send(event)

    while True:
        try:
            job = connection.recv()
            connection.send(Done(attempt(work, job, limited(send))))
        except (EOFError, BrokenPipeError):
            return  # whoever gave the jobs is gone


def attempt(work: Work[Job, Result], job: Job, report: Report) -> Result | Failure:
    """The result, or the failure as a value."""
    try:
        return work(job, report)
    except BrokenPipeError:
        raise SystemExit(1) from None  # whoever was reported to is gone
    except Failed as error:
        return error.failure
    except Exception as error:
        return Failure.of(error)


def limited(send: Callable[[str, int, int], None]) -> Report:
    """Passes reports on, of each stage at most one every `_EVERY` seconds, and its ends."""
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(stage, 0.0) >= _EVERY:
            last[stage] = now
            send(stage, done, total)

    return report


def threads_environment(threads: int | None) -> dict[str, str]:
    """What a worker must find before it imports anything: how many threads are its own."""
    if threads is None:
        return {}
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {**dict.fromkeys(names, str(threads)), **ONE_TOKENIZER}


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Within, processes that are begun find these variables."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

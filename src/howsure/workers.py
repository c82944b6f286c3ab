"""Tasks in worker processes: one failing, or dying, does not take the others with it."""

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
from typing import Generic, TypeVar

from howsure.errors import HowsureError

Task = TypeVar("Task")
Result = TypeVar("Result")

Report = Callable[[str, int, int], None]
"""(stage, done, total): how far a task is."""

OnEvent = Callable[[int, str, int, int], None]
"""(index of the task, stage, done, total); the stage "" says that the task has ended."""

_EVERY = 0.1
"""Seconds between two reports of one stage."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as values that cross process boundaries."""

    message: str
    """One line."""
    exit_code: int
    trace: str = ""

    @staticmethod
    def of(error: Exception) -> Failure:
        """The user's line for a HowsureError; for anything else, its type and first line."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, HowsureError):
            return Failure(" ".join(str(error).split("\n")), error.exit_code, trace)
        first = next(iter(str(error).strip().splitlines()), "")
        kind = type(error).__name__
        return Failure(f"unexpected {kind}: {first} (--debug shows where)", 1, trace)


def carry_out(
    tasks: Sequence[Task],
    work: Callable[[Task, Report], Result],
    *,
    workers: int,
    threads: int | None = None,
    on_event: OnEvent,
) -> list[Result | Failure]:
    """`work` of each task, in their order; a Failure for each that raised or whose process died.

    With one worker everything happens in this process; with more, in as many spawned processes of
    `threads` threads each, which live on from task to task. `work` and its tasks and results must
    then be picklable. Workers end with this call, whatever ends it.
    """
    if workers <= 1:
        return _one_by_one(tasks, work, on_event)
    pool = _Pool(work, threads)
    results: dict[int, Result | Failure] = {}
    waiting = list(enumerate(tasks))[::-1]
    try:
        while waiting or pool.busy:
            while waiting and len(pool.busy) < workers:
                pool.start(*waiting.pop())
            for index, message in pool.messages():
                if isinstance(message, _Done):
                    results[index] = message.value
                    on_event(index, "", 1, 1)
                else:
                    on_event(index, *message)
    finally:
        pool.close()
    return [results[i] for i in range(len(tasks))]


def _one_by_one(
    tasks: Sequence[Task], work: Callable[[Task, Report], Result], on_event: OnEvent
) -> list[Result | Failure]:
    results = []
    for index, task in enumerate(tasks):
        results.append(_attempt(work, task, _reporter(index, on_event)))
        on_event(index, "", 1, 1)
    return results


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    value: Result | Failure


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection


class _Pool(Generic[Task, Result]):
    """Idle and busy worker processes; a busy one belongs to the task of its index."""

    def __init__(self, work: Callable[[Task, Report], Result], threads: int | None) -> None:
        self._work = work
        self._threads = threads
        self._idle: list[_Worker] = []
        self.busy: dict[int, _Worker] = {}

    def start(self, index: int, task: Task) -> None:
        worker = self._idle.pop() if self._idle else self._new()
        self.busy[index] = worker
        with suppress(OSError):  # it has died; its end of the pipe says so in `messages`
            worker.connection.send((index, task))

    def messages(self) -> Iterator[tuple[int, _Done[Result] | tuple[str, int, int]]]:
        """What the busy workers have to say, after waiting for at least one of them."""
        ready = wait([w.connection for w in self.busy.values()])
        for index, worker in list(self.busy.items()):
            if worker.connection not in ready:
                continue
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                message = _Done(self._died(worker))
                del self.busy[index]
                yield index, message
                continue
            if isinstance(message, _Done):
                self._idle.append(self.busy.pop(index))
            yield index, message

    def close(self) -> None:
        """Ends all workers: idle ones leave by themselves, busy ones are told to stop."""
        for worker in self._idle:
            worker.connection.close()
        for worker in self.busy.values():
            worker.process.terminate()
        for worker in (*self._idle, *self.busy.values()):
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()

    def _new(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        with _environment(self._threads):
            process.start()
        theirs.close()  # so that ours ends when the worker does
        return _Worker(process, ours)

    def _died(self, worker: _Worker) -> Failure:
        worker.process.join(timeout=5)
        worker.connection.close()
        code = worker.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        killed = "; the system may have run out of memory" if code == -signal.SIGKILL else ""
        return Failure(f"its worker process died ({how}){killed}", 1)


def _serve(connection: Connection, work: Callable[[Task, Report], Result]) -> None:
    """A worker's life: tasks come in, reports and results go out, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    while True:
        try:
            index, task = connection.recv()
        except EOFError:
            return

        def send(_: int, stage: str, done: int, total: int) -> None:
            connection.send((stage, done, total))

        connection.send(_Done(_attempt(work, task, _reporter(index, send))))


def _attempt(
    work: Callable[[Task, Report], Result], task: Task, report: Report
) -> Result | Failure:
    try:
        return work(task, report)
    except BrokenPipeError:
        raise SystemExit(1) from None  # whoever was reported to is gone
    except Exception as error:
        return Failure.of(error)


def _reporter(index: int, on_event: OnEvent) -> Report:
    """Passes reports on, of each stage at most one every `_EVERY` seconds, and its ends."""
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(stage, 0.0) >= _EVERY:
            last[stage] = now
            on_event(index, stage, done, total)

    return report


@contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """What a worker must find before it imports anything: how many threads are its own."""
    wanted: Mapping[str, str] = (
        {}
        if threads is None
        else {
            **dict.fromkeys(
                ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
            ),
            "POLARS_MAX_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
    )
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

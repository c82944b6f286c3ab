"""The queue: which job goes to which worker, what follows, and what is given up.

It knows nothing of models or questions: jobs come from a `Grid`, an `Executor` carries them out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from howsure.errors import StoreError
from howsure.workers import AnyJob, Executor, Failure

ATTEMPTS = 3
"""How often a job is begun whose worker dies of it, before it counts as failed."""


J = TypeVar("J", bound=AnyJob)
R = TypeVar("R")


class Jobs(Protocol[J, R]):
    """Where jobs come from, and where what they made goes."""

    def start(self) -> list[J]: ...

    def find(self, job: J) -> R | None:
        """What the job would make, where it is there already."""
        ...

    def wants(self, job: J) -> bool:
        """Whether the job still makes sense after what has failed."""
        ...

    def after(self, job: J, made: R, *, reused: bool) -> list[J]:
        """What can be done now; it comes before what is waiting already."""
        ...

    def failed(self, job: J, failure: Failure) -> None: ...

    def dropped(self, job: J) -> None: ...

    def progress(self, job: J, stage: str, done: int, total: int) -> None: ...


def carry_out(
    jobs: Jobs[J, R],
    hire: Callable[[], Executor[J, R]],
    *,
    attempts: int = ATTEMPTS,
    on_ready: Callable[[int], None] = lambda waiting: None,
) -> None:
    """All jobs, and all that follow from them; workers are hired only if something is to be done.

    `on_ready` is told how many jobs wait once everything that is there already has been found.
    Raises StoreError when a job reports that nothing can be written any more; what the other
    workers have finished is kept.
    """
    queue: _Queue[J] = _Queue()
    _add(jobs, queue, jobs.start())
    on_ready(len(queue))
    if not queue:
        return
    executor = hire()
    tries: Counter[int] = Counter()
    try:
        while True:
            _hand_out(jobs, queue, executor)
            if not executor.busy and not queue:
                return
            for job, value in executor.wait(jobs.progress):
                _ended(jobs, queue, job, value, tries, attempts)
    finally:
        executor.close()


def _hand_out(jobs: Jobs[J, R], queue: _Queue[J], executor: Executor[J, R]) -> None:
    for home in executor.idle():
        while (job := queue.take(home)) is not None:
            if jobs.wants(job):
                executor.start(home, job)
                break
            queue.left(job)
            jobs.dropped(job)


def _ended(
    jobs: Jobs[J, R],
    queue: _Queue[J],
    job: J,
    value: R | Failure,
    tries: Counter[int],
    attempts: int,
) -> None:
    queue.left(job)
    if not isinstance(value, Failure):
        _add(jobs, queue, jobs.after(job, value, reused=False))
        return
    if value.fatal:
        raise StoreError(value.message, fatal=True)
    tries[id(job)] += 1
    if value.died and tries[id(job)] < attempts:
        queue.put([job])
    else:
        jobs.failed(job, value)


def _add(jobs: Jobs[J, R], queue: _Queue[J], new: Sequence[J]) -> None:
    """Queues the jobs that are not done yet; of the others, what follows from them."""
    waiting: list[J] = []
    stack = deque(new)
    while stack:
        job = stack.popleft()
        made = jobs.find(job) if jobs.wants(job) else None
        if made is None:
            waiting.append(job)
        else:
            stack.extendleft(reversed(jobs.after(job, made, reused=True)))
    queue.put(waiting)


class _Queue(Generic[J]):
    """Waiting jobs by home. New ones come first, so that what is begun is ended before more is."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[J]] = {}
        self._at_work: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, jobs: Iterable[J]) -> None:
        by_home: dict[str, list[J]] = {}
        for job in jobs:
            by_home.setdefault(job.home, []).append(job)
        for home, mine in by_home.items():
            self._waiting.setdefault(home, deque()).extendleft(reversed(mine))

    def take(self, home: str | None) -> J | None:
        """The next job for a worker that has `home` loaded.

        One of its home if there is any; else one whose home no worker is at; else of the home with
        the most jobs waiting for each worker that is at it.
        """
        if home is None or not self._waiting.get(home):
            there = [(h, q) for h, q in self._waiting.items() if q]
            if not there:
                return None
            free = [h for h, _ in there if not self._at_work[h]]
            home = free[0] if free else max(there, key=lambda x: len(x[1]) / self._at_work[x[0]])[0]
        self._at_work[home] += 1
        return self._waiting[home].popleft()

    def left(self, job: J) -> None:
        """A worker is done with the job."""
        self._at_work[job.home] -= 1

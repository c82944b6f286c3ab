"""What it costs to spread work over workers, and whether the queue keeps 64 of them busy.

    python -m bench.scale

First the executors: the same small jobs in this process, through two local processes and through
two actors of a Ray cluster (where Ray is installed), in turn; and jobs that do nothing, for what a
job costs by itself. Then a simulation: the real scheduler, 64 workers that sleep instead of
computing, 100 models with about 100 shards each (answers, then fits, then predictions), of which
one in a hundred fails: half of those with an error, half by the death of their worker. The last
line is one JSON object: ratios of the executors' time to that of this process, [median, least,
most]; seconds a job costs; the simulation's efficiency (seconds slept for a purpose / seconds of
all workers), shards lost, failed and begun again.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from random import Random
from threading import Timer
from typing import Any

import numpy as np

from howsure import scheduler
from howsure.workers import Executor, Failure, InProcess, Processes, Report

WORKERS = 64
"""Share of the simulated shards that fail."""
LOADING = (0.0, 0.3)
"""Seconds that a simulated model takes to load: in one simulation, and in another."""
BANDWIDTH = (0.0, 50.0, 10.0)
"""Of the plan's storage, in GB/s; 0: no time is lost on loading."""
FAILING = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="of each executor; default 3")
    parser.add_argument("--jobs", type=int, default=40, help="of each executor; default 40")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation; default 0")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = executors(Path(scratch), given.jobs, given.repeats)
    simulated = {f"loading {loading} s": simulate(given.seed, loading) for loading in LOADING}
    planned = {f"{bandwidth} GB/s": plan(given.seed, bandwidth) for bandwidth in BANDWIDTH}
    print(json.dumps({**figures, "simulation": simulated, "plan": planned}))


# executors ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Small:
    """A job: so many products of two matrices."""

    products: int
    home: str = "anywhere"


def multiply(job: Small, report: Report) -> int:
    a = np.full((256, 256), 1e-3, dtype=np.float32)
    for _ in range(job.products):
        a = a @ a
    return job.products


@dataclass
class Flat:
    """Jobs that hang on nothing; the times at which the first and the last of them ended."""

    jobs: Sequence[Small]
    ended: list[float] = field(default_factory=list)

    def start(self) -> list[Small]:
        return list(self.jobs)

    def find(self, job: Small) -> int | None:
        return None

    def wants(self, job: Small) -> bool:
        return True

    def after(self, job: Small, made: int, *, reused: bool) -> list[Small]:
        self.ended.append(time.perf_counter())
        return []

    def failed(self, job: Small, failure: Failure) -> None:
        raise SystemExit(failure.message)

    def dropped(self, job: Small) -> None:
        raise SystemExit("a job was dropped")

    def progress(self, job: Small, stage: str, done: int, total: int) -> None:
        """Not shown."""


def executors(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Seconds of the same jobs by each executor, its workers at work already."""
    hires: dict[str, Callable[[], Executor[Small, int]]] = {
        "process": lambda: InProcess(multiply),
        "two processes": lambda: Processes(multiply, [{}, {}], threads=1),
    }
    if importlib.util.find_spec("ray") is not None:
        from howsure.cluster import Actors, OnRay

        asked = Actors(folder, count=2, threads=1, memory=1)
        hires["two actors"] = lambda: OnRay(multiply, asked)
    products = _products(0.2)
    found: dict[str, dict[str, list[float]]] = {
        name: {"start": [], "work": [], "empty": []} for name in hires
    }
    for turn in range(repeats):
        for name in list(hires) if turn % 2 == 0 else list(hires)[::-1]:
            for kind, seconds in timed(hires[name], count, products):
                found[name][kind].append(seconds)
        print(f"turn {turn + 1} of {repeats}", {k: v["work"][-1] for k, v in found.items()})
    alone = found["process"]["work"]
    ratios = {
        f"{name} vs one process": _spread([b / a for a, b in zip(alone, t["work"], strict=True)])
        for name, t in found.items()
        if name != "process"
    }
    return {
        "ratios": ratios,
        "seconds_to_begin": {n: _spread(t["start"]) for n, t in found.items()},
        "milliseconds_a_job": {n: _spread([1e3 * s for s in t["empty"]]) for n, t in found.items()},
    }


def timed(
    hire: Callable[[], Executor[Small, int]], count: int, products: int
) -> Iterator[tuple[str, float]]:
    """(kind, seconds): until the workers are there, for the jobs, and for an empty job."""
    begin = time.perf_counter()
    executor = hire()

    def carry_out(jobs: Sequence[Small]) -> Flat:
        flat = Flat(jobs)
        scheduler.carry_out(flat, lambda: _Kept(executor))
        return flat

    try:
        first = carry_out([Small(0, f"home {i}") for i in range(2)])
        yield "start", first.ended[-1] - begin
        empty = 20 * count
        for kind, jobs in (
            ("work", [Small(products)] * count),
            ("empty", [Small(0)] * empty),
        ):
            begin = time.perf_counter()
            done = carry_out([Small(j.products) for j in jobs])
            seconds = done.ended[-1] - begin
            yield kind, seconds if kind == "work" else seconds / empty
    finally:
        executor.close()


class _Kept(Executor[Any, Any]):
    """An executor whose workers outlive the jobs of one queue."""

    def __init__(self, inner: Executor[Any, Any]) -> None:
        self._inner = inner

    @property
    def busy(self) -> int:
        return self._inner.busy

    def idle(self) -> Sequence[str | None]:
        return self._inner.idle()

    def start(self, home: str | None, job: Any) -> None:
        self._inner.start(home, job)

    def wait(self, on_report: Any) -> Any:
        return self._inner.wait(on_report)

    def close(self) -> None:
        """Not yet."""


def _products(seconds: float) -> int:
    """How many products take so long in this process."""
    begin = time.perf_counter()
    multiply(Small(300), lambda *event: None)
    return max(1, round(300 * seconds / (time.perf_counter() - begin)))


def _spread(values: Sequence[float]) -> list[float]:
    return [round(v, 3) for v in (statistics.median(values), min(values), max(values))]


# the simulation -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Sleep:
    """A shard that is slept for instead of computed."""

    home: str
    stage: str
    seconds: float
    loading: float
    """Seconds that its model takes to load."""
    fate: str
    """"fails", or "dies": its worker does, the first time; or ""."""


@dataclass(frozen=True, slots=True)
class Model:
    """How long the shards of a model take: seconds of each."""

    name: str
    answers: Sequence[float]
    fits: Sequence[float]
    predicts: Sequence[Sequence[float]]
    """Of each fit."""
    loading: float


class Shards:
    """Models whose shards hang on each other as those of a run do; `failing` is a share of them."""

    def __init__(self, rng: Random, models: Sequence[Model], failing: float) -> None:
        self._rng, self._failing = rng, failing
        self._models = {m.name: m for m in models}
        self._answered: Counter[str] = Counter()
        self._fits: dict[Sleep, Sequence[float]] = {}
        self.foreseen: list[Sleep] = []
        self.made: Counter[Sleep] = Counter()
        self.failed_for_good: Counter[Sleep] = Counter()

    def start(self) -> list[Sleep]:
        return [self._new(m, "answer", s) for m in self._models.values() for s in m.answers]

    def _new(self, model: Model, stage: str, seconds: float) -> Sleep:
        fate = ""
        if self._rng.random() < self._failing:
            # What others hang on isn't given up here, so that all that is foreseen can be counted.
            fate = self._rng.choice(("fails", "dies")) if stage == "predict" else "dies"
        self.foreseen.append(Sleep(model.name, stage, seconds, model.loading, fate))
        return self.foreseen[-1]

    def find(self, job: Sleep) -> float | None:
        return None

    def wants(self, job: Sleep) -> bool:
        return True

    def after(self, job: Sleep, made: float, *, reused: bool) -> list[Sleep]:
        """Fits once all of a model's answers are there, then what each says of the answers."""
        self.made[job] += 1
        model = self._models[job.home]
        if job.stage == "answer":
            self._answered[job.home] += 1
            if self._answered[job.home] < len(model.answers):
                return []
            fits = [self._new(model, "fit", s) for s in model.fits]
            self._fits |= dict(zip(fits, model.predicts, strict=True))
            return fits
        return [self._new(model, "predict", s) for s in self._fits.get(job, ())]

    def failed(self, job: Sleep, failure: Failure) -> None:
        self.failed_for_good[job] += 1

    def dropped(self, job: Sleep) -> None:
        raise SystemExit("a shard was dropped")

    def progress(self, job: Sleep, stage: str, done: int, total: int) -> None:
        """Not shown."""


class Sleepers:
    """Workers that sleep: threads, each with a model that it had to load.

    With `virtual` nobody sleeps: the clock jumps to when the next of them is done.
    """

    def __init__(self, count: int, *, virtual: bool = False) -> None:
        self._homes: list[str | None] = [None] * count
        self._jobs: list[Sleep | None] = [None] * count
        self._ended: SimpleQueue[int] = SimpleQueue()
        self._virtual, self._due = virtual, list[tuple[float, int]]()
        self._died: set[Sleep] = set()
        self.now = 0.0
        """Of the virtual clock, in seconds."""
        self.loads = self.begun_again = 0

    @property
    def busy(self) -> int:
        return sum(job is not None for job in self._jobs)

    def idle(self) -> Sequence[str | None]:
        return [h for h, job in zip(self._homes, self._jobs, strict=True) if job is None]

    def start(self, home: str | None, job: Sleep) -> None:
        i = next(i for i, h in enumerate(self._homes) if h == home and self._jobs[i] is None)
        self.loads += home != job.home
        self._homes[i], self._jobs[i] = job.home, job
        seconds = job.seconds * (0.5 if self._dies(job) else 1.0)
        seconds += 0.0 if home == job.home else job.loading
        if self._virtual:
            heapq.heappush(self._due, (self.now + seconds, i))
        else:
            Timer(seconds, self._ended.put, (i,)).start()

    def wait(self, on_report: Callable[..., None]) -> list[tuple[Sleep, float | Failure]]:
        if self._virtual:
            self.now, i = heapq.heappop(self._due)
            return [self._over(i)]
        out = [self._over(self._ended.get())]
        while not self._ended.empty():
            out.append(self._over(self._ended.get()))
        return out

    def close(self) -> None:
        """There is nothing to end."""

    def _dies(self, job: Sleep) -> bool:
        return job.fate == "dies" and job not in self._died

    def _over(self, i: int) -> tuple[Sleep, float | Failure]:
        job, self._jobs[i] = self._jobs[i], None
        assert job is not None
        if self._dies(job):
            self._died.add(job)
            self._homes[i] = None
            self.begun_again += 1
            return job, Failure("its worker died", 1, died=True)
        if job.fate == "fails":
            return job, Failure("it can't be done", 1)
        return job, job.seconds


def simulate(seed: int, loading: float) -> dict[str, Any]:
    """The real scheduler with workers that sleep; what became of the shards."""
    rng = Random(seed)

    def drawn(mean: float, count: int) -> list[float]:
        return [mean * rng.uniform(0.5, 1.5) for _ in range(count)]

    models = [
        Model(f"model {i}", drawn(0.4, 28), drawn(0.8, 8), [drawn(0.2, 8)] * 8, loading)
        for i in range(100)
    ]
    return _carried_out(Shards(rng, models, FAILING), Sleepers(WORKERS))


def plan(seed: int, bandwidth: float) -> dict[str, Any]:
    """100 models in one format with eight methods on 64 H100, as in `docs/scale.md`.

    60 models of 7 billion weights and 40 of 13, by the figures of `howsure run kapoor2024
    --dry-run`; four of the methods train an adapter. `bandwidth` is what the storage gives all
    workers together, in GB/s: what one gets of it decides how long a model takes to load.
    """
    models = []
    for i in range(100):
        seconds, size = (1.95, 26.0) if i < 40 else (1.0, 13.5)  # as `Grid` does: largest first
        answers = [18.0 / 20] * 20 + [10.0 / 2] * 2 + [78.0 / 17] * 17
        fits = [0.1, 0.1, 0.1, 5.0, *[120.0] * 4]
        predicts = [[0.1] * 19] * 4 + [[4.5] * 19] * 4
        models.append(
            Model(
                f"model {i}",
                [seconds * s for s in answers],
                [seconds * s for s in fits],
                [[seconds * s for s in each] for each in predicts],
                size / (bandwidth / WORKERS) if bandwidth else 0.0,
            )
        )
    return _carried_out(Shards(Random(seed), models, FAILING), Sleepers(WORKERS, virtual=True))


def _carried_out(shards: Shards, sleepers: Sleepers) -> dict[str, Any]:
    begin = time.perf_counter()
    scheduler.carry_out(shards, lambda: sleepers)
    own = time.perf_counter() - begin
    seconds = sleepers.now or own
    ended = shards.made + shards.failed_for_good
    figures = {
        "shards": len(shards.foreseen),
        "workers": WORKERS,
        "efficiency": round(sum(job.seconds for job in ended) / (WORKERS * seconds), 4),
        "seconds": round(seconds, 1),
        "lost": len(set(shards.foreseen) - set(ended)),
        "done_twice": sum(n - 1 for n in ended.values()),
        "failed": len(shards.failed_for_good),
        "begun_again": sleepers.begun_again,
        "loads": sleepers.loads,
    }
    print(figures, flush=True)
    return figures


if __name__ == "__main__":
    main()

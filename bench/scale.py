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
from threading import Thread
from typing import Any

import numpy as np

from howsure import scheduler
from howsure.workers import Executor, Failure, InProcess, Processes, Report

MODELS, BLOCKS, METHODS, WORKERS = 100, 28, 8, 64
SECONDS = {"answer": 0.4, "fit": 0.8, "predict": 0.2}
"""That a simulated shard takes, give or take half of it."""
LOADING = (0.0, 0.3)
"""Seconds that a simulated model takes to load: in one simulation, and in another."""
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
    print(json.dumps({**figures, "simulation": simulated}))


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
    fate: str
    """"fails", or "dies": its worker does, the first time; or ""."""


class Shards:
    """Models whose shards hang on each other as those of a run do."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._answered: Counter[str] = Counter()
        self.foreseen: list[Sleep] = []
        self.made: Counter[Sleep] = Counter()
        self.failed_for_good: Counter[Sleep] = Counter()

    def start(self) -> list[Sleep]:
        models = [f"model {m}" for m in range(MODELS)]
        return [self._new(model, "answer") for model in models for _ in range(BLOCKS)]

    def _new(self, home: str, stage: str) -> Sleep:
        seconds = SECONDS[stage] * self._rng.uniform(0.5, 1.5)
        fate = ""
        if self._rng.random() < FAILING:
            # What others hang on isn't given up here, so that all that is foreseen can be counted.
            fate = self._rng.choice(("fails", "dies")) if stage == "predict" else "dies"
        self.foreseen.append(Sleep(home, stage, seconds, fate))
        return self.foreseen[-1]

    def find(self, job: Sleep) -> float | None:
        return None

    def wants(self, job: Sleep) -> bool:
        return True

    def after(self, job: Sleep, made: float, *, reused: bool) -> list[Sleep]:
        """Fits once all of a model's answers are there, then what each says of the answers."""
        self.made[job] += 1
        if job.stage == "answer":
            self._answered[job.home] += 1
            if self._answered[job.home] == BLOCKS:
                return [self._new(job.home, "fit") for _ in range(METHODS)]
        return [self._new(job.home, "predict") for _ in range(8)] if job.stage == "fit" else []

    def failed(self, job: Sleep, failure: Failure) -> None:
        self.failed_for_good[job] += 1

    def dropped(self, job: Sleep) -> None:
        raise SystemExit("a shard was dropped")

    def progress(self, job: Sleep, stage: str, done: int, total: int) -> None:
        """Not shown."""


class Sleepers:
    """Workers that sleep: threads, each with a model that it had to load."""

    def __init__(self, count: int, loading: float) -> None:
        self._loading = loading
        self._homes: list[str | None] = [None] * count
        self._jobs: list[Sleep | None] = [None] * count
        self._todo: list[SimpleQueue[tuple[Sleep, float] | None]] = [
            SimpleQueue() for _ in range(count)
        ]
        self._ended: SimpleQueue[tuple[int, float | Failure]] = SimpleQueue()
        self._died: set[Sleep] = set()
        self.loads = self.begun_again = 0
        for i in range(count):
            Thread(target=self._serve, args=(i,), daemon=True).start()

    @property
    def busy(self) -> int:
        return sum(job is not None for job in self._jobs)

    def idle(self) -> Sequence[str | None]:
        return [h for h, job in zip(self._homes, self._jobs, strict=True) if job is None]

    def start(self, home: str | None, job: Sleep) -> None:
        i = next(i for i, h in enumerate(self._homes) if h == home and self._jobs[i] is None)
        self.loads += home != job.home
        self._todo[i].put((job, 0.0 if home == job.home else self._loading))
        self._homes[i], self._jobs[i] = job.home, job

    def wait(self, on_report: Callable[..., None]) -> list[tuple[Sleep, float | Failure]]:
        ended = [self._ended.get()]
        while not self._ended.empty():
            ended.append(self._ended.get())
        out = []
        for i, value in ended:
            job, self._jobs[i] = self._jobs[i], None
            assert job is not None
            if isinstance(value, Failure) and value.died:
                self._homes[i] = None
                self.begun_again += 1
            out.append((job, value))
        return out

    def close(self) -> None:
        for queue in self._todo:
            queue.put(None)

    def _serve(self, i: int) -> None:
        while (given := self._todo[i].get()) is not None:
            job, loading = given
            time.sleep(loading)
            if job.fate == "dies" and job not in self._died:
                self._died.add(job)
                time.sleep(job.seconds / 2)
                self._ended.put((i, Failure("its worker died", 1, died=True)))
            elif job.fate == "fails":
                time.sleep(job.seconds)
                self._ended.put((i, Failure("it can't be done", 1)))
            else:
                time.sleep(job.seconds)
                self._ended.put((i, job.seconds))


def simulate(seed: int, loading: float) -> dict[str, Any]:
    """The real scheduler with workers that sleep; what became of the shards."""
    shards, sleepers = Shards(Random(seed)), Sleepers(WORKERS, loading)
    begin = time.perf_counter()
    scheduler.carry_out(shards, lambda: sleepers)
    seconds = time.perf_counter() - begin
    ended = shards.made + shards.failed_for_good
    useful = sum(job.seconds for job in ended)
    figures = {
        "shards": len(shards.foreseen),
        "workers": WORKERS,
        "efficiency": round(useful / (WORKERS * seconds), 4),
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

"""How a run is placed: how many workers, of how many threads each, and where they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from howsure import trainers
from howsure.errors import UnknownName, UsageError
from howsure.judges.names import local_model
from howsure.lm import loading
from howsure.lm.precision import pick_device, visible_gpus
from howsure.spec import RunSpec
from howsure.types import SPLITS
from howsure.unit import Unit
from howsure.workers import Executor, InProcess, Job, Processes, Result, Work

EXECUTORS = ("auto", "process", "processes", "ray")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of it; None: what the machine and the work suggest.

    Raises UnknownName or UsageError for what makes no sense by itself.
    """

    executor: str = "auto"
    """"process": this one; "processes": of this machine; "ray": actors of a Ray cluster."""
    workers: int | None = None
    threads: int | None = None
    """Of each worker, on a CPU. Results are equal to the last bit where it is equal."""
    ray_address: str | None = None
    """Of a running cluster; None: `RAY_ADDRESS`, the one that runs here, or a new one."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UnknownName("executor", self.executor, EXECUTORS)
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}; give at least 1")
        if self.ray_address is not None and self.executor != "ray":
            raise UsageError("--ray-address is for --executor ray; give both")
        if self.executor == "process" and (self.workers or 1) > 1:
            raise UsageError("--executor process is one worker; leave --workers out")


@dataclass(frozen=True, slots=True)
class Placement:
    """What was found of it."""

    executor: str
    workers: int | None
    """None: as many as the cluster has room for."""
    threads: int
    """Of each worker."""
    gpus: tuple[str, ...]
    """Of each worker, as CUDA_VISIBLE_DEVICES names them, if there are several workers."""
    gpus_each: int
    """How many that are; 0 on a CPU."""
    needs: int
    """Bytes of memory that a worker needs."""
    cores: int
    """Of this machine."""
    folder: Path
    """Of the store, which all workers must see."""
    ray_address: str | None = None

    @property
    def in_process(self) -> bool:
        return self.executor == "process"


def find_placement(
    spec: RunSpec, units: Sequence[Unit], wanted: Wanted, before: int | None, folder: Path
) -> Placement:
    """How many workers, of how many threads each.

    Each GPU is one worker's; where `spec.trainers` train together, so many of them are. On a CPU
    several processes of one thread get more done than one process of several threads, as long as
    each one's copy of a model fits into memory. The number of threads follows from the machine and
    the models alone, not from how many workers there are: the last bits of all results hang on it.
    `before` is that of a run that goes on.
    """
    cores = _cores()
    on_gpu = pick_device(spec.device) == "cuda"
    gpus = visible_gpus() if on_gpu else ()
    if on_gpu and wanted.executor != "ray":
        trainers.check_gpus(spec.trainers, gpus)
    if gpus and spec.load.device_map != "none" and spec.trainers == 1:
        gpus = gpus[:1]  # a model that is spread over all of them is one worker's
    gpus = tuple(
        ",".join(gpus[i : i + spec.trainers])
        for i in range(0, len(gpus) - spec.trainers + 1, spec.trainers)
    )
    # On a CPU each trainer has a copy of the model, and at least one thread.
    largest = _bytes_needed(max(u.size for u in units)) * (1 if on_gpu else spec.trainers)
    judge = local_model(spec.grader)
    largest += _bytes_needed(loading.stored_bytes(judge)) if judge else 0
    # A server is asked several things at a time by one worker.
    room = max(1, cores // spec.trainers)
    fitting = min(room, max(1, _free_memory() // largest)) if largest else 1
    threads = wanted.threads or before or max(1, cores // (len(gpus) or fitting))
    count = wanted.workers or len(gpus) or max(1, min(fitting, cores // threads))
    pieces = sum(len(u.blocks(split)) for u in units for split in SPLITS)
    count = min(count, max(len(units), pieces // 2))
    executor = wanted.executor
    if executor == "auto":
        executor = "process" if count == 1 else "processes"
    return Placement(
        executor,
        wanted.workers if executor == "ray" else 1 if executor == "process" else count,
        threads,
        gpus if len(gpus) > 1 else (),
        spec.trainers if on_gpu else 0,
        largest,
        cores,
        folder,
        wanted.ray_address,
    )


def hire(
    work: Work[Job, Result], placement: Placement, most: int | None = None
) -> Executor[Job, Result]:
    """The workers, at most so many of them. Raises UsageError where there can't be any."""
    if placement.in_process:
        return InProcess(work)
    if placement.executor == "ray":
        from howsure.cluster import Actors, OnRay

        count = min(filter(None, (placement.workers, most)), default=None)
        asked = Actors(
            placement.folder,
            count,
            placement.threads,
            placement.needs,
            placement.gpus_each,
            placement.ray_address,
        )
        return OnRay(work, asked)
    count = placement.workers or 1
    places = [{"CUDA_VISIBLE_DEVICES": gpus} for gpus in placement.gpus] or [{}] * count
    return Processes(work, places[: min(most or count, count)], placement.threads)


def _cores() -> int:
    """The cores this process may use; a container's quota (cgroup v2) counts."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def _bytes_needed(stored: int) -> int:
    """A model in float32, as much again to work with, and the libraries; 0 for none."""
    return 4 * stored + 1_000_000_000 if stored else 0


def _free_memory() -> int:
    """Bytes; a lot where the system doesn't say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 1 << 40

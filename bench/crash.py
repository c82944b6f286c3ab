"""Whether a run survives being killed at random moments: the same command again, until it is done.

    python -m bench.crash --kills 200

A small run with all stages (both formats, all methods, several blocks a split) is killed over and
over: the process, its whole group, or one worker; half of the time at a random moment, half of the
time just after a job began or ended. With `--ray` it runs on a Ray cluster of two machines that are
processes of this one, and the process, a worker or a whole machine is killed. When a run is done,
its tables are compared with those of a run that nobody killed, and another one begins, in one
process or in two. The last line is one JSON object: kills; lost: pieces that were finished and are
gone, or were begun again; duplicated: rows of the tables that are there twice; recomputed_shards:
jobs that were begun again after a kill, and most_a_kill: how many a single kill took;
differing_bytes of each table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bench import killed

_GROUP = ("model", "method", "calibration", "format")
TABLES = ("predictions.parquet", "scores.csv")
TARGETS = ("process", "group", "worker")
RAY_TARGETS = ("process", "worker", "machine")

_LONGEST = 600.0
"""Seconds after which a start counts as hanging."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="default 200")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default 0")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="default 1 2, in turn"
    )
    parser.add_argument("--ray", action="store_true", help="on a Ray cluster of two machines")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, machines(given.ray) as cluster:
        workers = [2] if cluster else given.workers
        figures = compare(Path(scratch), given.kills, workers, random.Random(given.seed), cluster)
        print(json.dumps(figures))


def compare(
    scratch: Path, kills: int, workers: Sequence[int], rng: random.Random, cluster: Any
) -> dict[str, Any]:
    """The figures, as the last line shows them."""
    whole = {n: Trial(scratch / f"whole-{n}", n, cluster) for n in dict.fromkeys(workers)}
    for trial in whole.values():
        begin = time.monotonic()
        trial.attempt()
        trial.seconds = time.monotonic() - begin
        print(f"nobody killed: {trial.workers} at once, {trial.seconds:.1f} s", flush=True)
    total: Counter[str] = Counter(kills=0, lost=0, duplicated=0, recomputed_shards=0, most_a_kill=0)
    stages: Counter[str] = Counter()
    differing = dict.fromkeys(TABLES, 0)
    cycle = 0
    while total["kills"] < kills:
        model = whole[workers[cycle % len(workers)]]
        trial = Trial(scratch / f"cycle-{cycle}", model.workers, cluster)
        while not trial.attempt(rng, model.seconds if total["kills"] < kills else None):
            total["kills"] += trial.killed
            stages[trial.at] += trial.killed
        total["kills"] += trial.killed
        stages[trial.at] += trial.killed
        total["lost"] += trial.lost
        total["duplicated"] += duplicated(trial.output)
        total["recomputed_shards"] += sum(trial.again)
        total["most_a_kill"] = max(total["most_a_kill"], *trial.again, 0)
        for name in TABLES:
            differing[name] += differing_bytes(trial.output / name, model.output / name)
        cycle += 1
        print(f"cycle {cycle}: {trial.attempts} starts, {dict(total)}, {differing}", flush=True)
    print("killed in:", dict(stages.most_common()), flush=True)
    return {**total, "cycles": cycle, "differing_bytes": differing}


@dataclass
class Trial:
    """One run, and what became of it each time it was begun."""

    output: Path
    workers: int
    cluster: Any = None
    """A Ray cluster, if it runs on one."""
    seconds: float = 0.0
    attempts: int = 0
    killed: int = 0
    """Whether the last attempt was killed: 0 or 1."""
    at: str = ""
    """The stage that was last heard of before."""
    lost: int = 0
    again: list[int] = field(default_factory=list)
    """Of each kill, how many jobs that were at work were begun again."""
    gone: int = 0
    """Shards that were in place and aren't any more."""
    _seen: set[str] = field(default_factory=set)

    def attempt(self, rng: random.Random | None = None, length: float | None = None) -> bool:
        """Begins the run, or goes on with it, and perhaps kills it; whether it came to its end."""
        self.output.parent.mkdir(exist_ok=True)
        before = self._log()
        self.killed = 0
        self.attempts += 1
        command = [sys.executable, "-W", "ignore", "-m", "bench.killed", str(self.output)]
        process = subprocess.Popen(
            [*command, str(self.workers), *([self.cluster.address] if self.cluster else [])],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if rng is not None and length is not None:
            self._kill(process, rng, length, len(before))
        _, trouble = process.communicate(timeout=_LONGEST)
        with_group(process.pid, signal.SIGKILL)  # workers that outlived their parent
        shards = set(finished(self.output))
        self.gone += len(self._seen - shards)
        self._seen = shards
        self.again, begun_again = again_and_lost(self._log())
        self.lost = begun_again + self.gone
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(trouble.decode().strip().splitlines()[-1])
        return process.returncode == 0

    def _kill(
        self, process: subprocess.Popen[bytes], rng: random.Random, length: float, lines: int
    ) -> None:
        """Waits for a moment, and kills, unless the run ends before."""
        if rng.random() < 0.5:
            due, after = time.monotonic() + rng.uniform(0.0, length), None
        else:
            due, after = time.monotonic() + _LONGEST, lines + rng.randrange(1, 12)
        while process.poll() is None and time.monotonic() < due:
            if after is not None and len(self._log()) >= after:
                due, after = time.monotonic() + rng.uniform(0.0, 0.2), None
            time.sleep(0.005)
        target = rng.choice(RAY_TARGETS if self.cluster else TARGETS)
        events = self._log()
        if process.poll() is not None:
            return
        self.at = events[-1]["stage"] if len(events) > lines else "starting"
        self.killed = 1
        found = [*actors()] if self.cluster else [*workers_of(process.pid)]
        if target == "machine":
            machine = self.cluster.list_all_nodes()[-1]
            raylet = machine.all_processes["raylet"][0].process.pid
            self._note_kill(target, [pid for pid in found if raylet in ancestors(pid)])
            self.cluster.remove_node(machine, allow_graceful=False)
            self.cluster.add_node(num_cpus=1)
            return
        if target == "worker" and found:
            one = rng.choice(found)
            self._note_kill(target, [one])
            os.kill(one, signal.SIGKILL)
            return
        self._note_kill(target, None)
        if target == "group":
            with_group(process.pid, signal.SIGKILL)
        else:
            process.kill()

    def _note_kill(self, target: str, pids: list[int] | None) -> None:
        """A line in the log: which workers the kill takes; None: all of the run."""
        line = {"what": "kill", "key": "", "stage": target, "pids": pids}
        with killed.log_of(self.output).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _log(self) -> list[dict[str, Any]]:
        try:
            lines = killed.log_of(self.output).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]


def again_and_lost(events: Sequence[Mapping[str, Any]]) -> tuple[list[int], int]:
    """Of each kill, how many jobs that its workers were at were begun again; and how many jobs were
    begun again although they had ended."""
    at_work, hit = dict[str, int](), dict[str, int]()
    ended, lost = set[str](), 0
    kills: list[int] = []
    for event in events:
        key = event["key"]
        match event["what"]:
            case "kill":
                pids = event["pids"]
                for taken in [k for k, pid in at_work.items() if pids is None or pid in pids]:
                    hit[taken] = len(kills)
                    del at_work[taken]
                kills.append(0)
            case "begin":
                lost += key in ended
                if key in hit:
                    kills[hit.pop(key)] += 1
                at_work[key] = event["pid"]
            case "end":
                ended.add(key)
                at_work.pop(key, None)
                hit.pop(key, None)
    return kills, lost


def finished(output: Path) -> Iterator[str]:
    """The shards that are in place."""
    for manifest in (output / ".store").glob("*/*/*/manifest.json"):
        if not manifest.parent.name.startswith("."):
            yield str(manifest.parent.relative_to(output))


def duplicated(output: Path) -> int:
    """Rows of both tables whose key is there more than once."""
    said = pl.read_parquet(output / TABLES[0]).select(*_GROUP, "id")
    scored = pl.read_csv(output / TABLES[1]).select(*_GROUP, "subject")
    return int(said.is_duplicated().sum() + scored.is_duplicated().sum())


def differing_bytes(one: Path, other: Path) -> int:
    """In how many bytes two files differ; what one is longer counts too."""
    a, b = one.read_bytes(), other.read_bytes()
    return abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False))


def workers_of(pid: int) -> Iterator[int]:
    """The worker processes of a run, without the one that keeps count of shared resources."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in line:
                yield child


def ancestors(pid: int) -> Iterator[int]:
    """The parents of a process, the nearest first."""
    while pid > 1:
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        except OSError:
            return
        pid = int(after_name.split()[1])
        yield pid


def actors() -> Iterator[int]:
    """The processes of a cluster's workers."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if line.read_bytes().startswith(b"ray::_Actor"):
                yield int(line.parent.name)


@contextmanager
def machines(wanted: bool) -> Iterator[Any]:
    """A Ray cluster of two machines with a processor each, and a head without any; or None."""
    if not wanted:
        yield None
        return
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)  # what they import
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def with_group(pid: int, number: int) -> None:
    """Sends a signal to all processes of a group, if there are any."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()

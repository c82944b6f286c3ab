"""How far a run is: written while it goes on, read by `howsure run --status`."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from howsure import lock, store
from howsure.errors import UsageError
from howsure.progress import Display, Estimate, duration
from howsure.store import RunDirectory

_EVERY = 1.0
"""Seconds between two writings."""

_WORDS = {
    "answer": "blocks of questions answered",
    "fit": "estimators fitted",
    "predict": "blocks of answers predicted",
}


@dataclass
class Tracker:
    """A display that keeps `.progress.json`, beside the one that it passes everything on to."""

    path: Path
    show: Display
    labels: Sequence[str]
    stages: Sequence[str]
    foreseen: Mapping[str, int]
    """Kind of job → how many there are in all."""
    done: Counter[str]
    """Kind of job → how many are done; whoever counts them goes on counting."""
    _at: dict[int, str] = field(default_factory=dict)
    _written: float = 0.0

    def __post_init__(self) -> None:
        self._estimate = Estimate(len(self.labels), self.stages)

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        self._estimate.update(unit, stage, done, total)
        if stage:
            self._at[unit] = f"{stage}: {done:,} of {total:,}"
        else:
            self._at.pop(unit, None)
        if time.monotonic() - self._written >= _EVERY:
            self.write()
        self.show.update(unit, stage, done, total)

    def reused(self, jobs: int, of: int) -> None:
        self._estimate.rebase()
        self.write()
        self.show.reused(jobs, of)

    def say(self, text: str) -> None:
        self.write(text)
        self.show.say(text)

    def finish(self) -> None:
        self.write()
        self.show.finish()

    def write(self, doing: str = "") -> None:
        """Not through to the disk: the shards tell the truth after a power cut, not this."""
        self._written = time.monotonic()
        value = {
            "at": time.strftime("%Y-%m-%d %H:%M:%S"),
            "foreseen": dict(self.foreseen),
            "done": {kind: self.done[kind] for kind in self.foreseen},
            "seconds_left": self._estimate.seconds_left(),
            "doing": [doing] if doing else [f"{self.labels[u]}  {s}" for u, s in self._at.items()],
        }
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with suppress(OSError):  # a full disk stops the run where it matters, not here
            temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path)


def status(folder: Path) -> list[str]:
    """Lines on what of a run is done, what is left, and how long that takes.

    Raises UsageError where there is no run.
    """
    directory = RunDirectory(folder)
    if not directory.card.exists():
        raise UsageError(f"{folder} holds no run (no run.json); give the folder of a run")
    card = store.read_json(directory.card)
    progress = store.read_json(directory.progress) if directory.progress.exists() else {}
    try:
        return [f"{folder}: {_state(folder, card)}", *_counts(progress), *_left(progress, card)]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise UsageError(
            f"{directory.card} or {directory.progress.name} is not as a run writes it; the run's "
            "own command goes on from its shards"
        ) from None


def _state(folder: Path, card: Mapping[str, Any]) -> str:
    said, owner = str(card.get("status")), lock.owner(folder)
    if said != store.RUNNING:
        return said
    if owner is not None and lock.is_held(folder):
        return f"running ({owner})"
    return "killed while it was running"


def _counts(progress: Mapping[str, Any]) -> list[str]:
    done, foreseen = progress.get("done", {}), progress.get("foreseen", {})
    lines = [f"  {done[k]:,} of {n:,} {_WORDS[k]}" for k, n in foreseen.items() if n]
    return [*lines, f"  as of {progress['at']}"] if lines else []


def _left(progress: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    said = card.get("status")
    failures = [f"  not done: {line}" for line in card.get("failures", [])]
    if said in (store.COMPLETE, store.PARTIAL, store.FAILED):
        return failures
    left = progress.get("seconds_left")
    time_left = f"about {duration(left)} left, at the speed so far" if left else "time left unknown"
    doing = [f"  {line}" for line in progress.get("doing", [])]
    return [f"  {time_left}", *doing, "  the same command goes on where it stopped"]

"""What is going on and how long it still takes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WEIGHTS = {
    "load": 8.0,
    "answer training": 40.0,
    "answer validation": 5.0,
    "answer test": 15.0,
    "predict zero_shot": 12.0,
    "fit probe": 19.0,
    "predict probe": 7.0,
    "fit lora": 55.0,
    "predict lora": 6.0,
    "fit lora_prompt": 95.0,
    "predict lora_prompt": 9.0,
}
"""Seconds of each stage of the quickstart on one core, nothing for the rest. Only the estimate of
the time left hangs on them."""

_LINE_EVERY = 30.0
"""Seconds between plain lines about one stage that goes on."""

_BRIEF = 1.0
"""Stages that took fewer seconds get no line of their own."""


class Display(Protocol):
    """Told of everything; `finish` comes last, whatever happened."""

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        """How far a stage of a unit is; the stage "" says that the unit has ended."""
        ...

    def reused(self, jobs: int, of: int) -> None:
        """So many of the jobs had been done before; what is told from here on is being done."""
        ...

    def say(self, text: str) -> None:
        """What is done with all units together, after the last of them."""
        ...

    def finish(self) -> None: ...


class Estimate:
    """How much of the whole is done, from the stages that are still to come."""

    def __init__(self, units: int, stages: Sequence[str]) -> None:
        self._weights = {stage: _WEIGHTS.get(stage, 0.1) for stage in stages}
        self._done: list[dict[str, float]] = [{} for _ in range(units)]
        self._ended: set[int] = set()
        self._start = time.monotonic()
        self._given = 0.0

    def rebase(self) -> None:
        """What is done so far took none of this run's time."""
        self._start, self._given = time.monotonic(), self.share()

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        if stage:
            self._done[unit][stage] = done / max(total, 1)
        else:
            self._ended.add(unit)

    @property
    def ended(self) -> int:
        return len(self._ended)

    def share(self) -> float:
        """Of all units, in [0, 1]."""
        whole = sum(self._weights.values())
        parts = [
            1.0 if i in self._ended else self._of_unit(done) / whole
            for i, done in enumerate(self._done)
        ]
        return sum(parts) / len(parts)

    def _of_unit(self, done: dict[str, float]) -> float:
        return sum(self._weights.get(stage, 0.0) * share for stage, share in done.items())

    def seconds_left(self) -> float | None:
        """At the speed so far; None as long as too little is done to tell."""
        share, spent = self.share(), time.monotonic() - self._start
        made = share - self._given
        return spent * (1 - share) / made if made > 0.02 and spent > 5 else None

    def text(self) -> str:
        left = self.seconds_left()
        return f"about {duration(left)} left" if left else ""


class Lines:
    """Plain lines with the time of day: a stage's end, and now and then how far a long one is."""

    def __init__(self, labels: Sequence[str], estimate: Estimate, out: TextIO) -> None:
        self._labels = labels
        self._estimate = estimate
        self._out = out
        self._began: dict[tuple[int, str], float] = {}
        self._said: dict[tuple[int, str], float] = {}

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        self._estimate.update(unit, stage, done, total)
        key, now = (unit, stage), time.monotonic()
        began = self._began.setdefault(key, now)
        if not stage:
            self._line(unit, f"finished ({self._estimate.ended} of {len(self._labels)})")
        elif done >= total:
            if now - began >= _BRIEF:
                self._line(unit, f"{stage}: {duration(now - began)}")
        elif now - self._said.setdefault(key, now) > _LINE_EVERY:
            self._said[key] = now
            self._line(unit, f"{stage}: {done:,} of {total:,}")

    def _line(self, unit: int, text: str) -> None:
        tail = self._estimate.text()
        self.say(f"{self._labels[unit]}  {text}" + (f"  ({tail})" if tail else ""))

    def reused(self, jobs: int, of: int) -> None:
        self._estimate.rebase()
        if jobs:
            self.say(f"{jobs:,} of {of:,} pieces of work are done already and are used again")

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=self._out, flush=True)

    def finish(self) -> None:
        """Nothing is left open."""


class Bars:
    """One bar for the whole, one for each unit at work."""

    def __init__(self, labels: Sequence[str], estimate: Estimate, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._labels = labels
        self._estimate = estimate
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=Console(file=out),
            transient=True,
        )
        self._whole = self._progress.add_task("all", total=1.0, what="starting")
        self._units: dict[int, TaskID] = {}
        self._progress.start()

    def update(self, unit: int, stage: str, done: int, total: int) -> None:
        self._estimate.update(unit, stage, done, total)
        if not stage:
            if unit in self._units:
                self._progress.remove_task(self._units.pop(unit))
        else:
            if unit not in self._units:
                self._units[unit] = self._progress.add_task(self._labels[unit], what="")
            self._progress.update(self._units[unit], completed=done, total=total, what=stage)
        self._progress.update(
            self._whole,
            completed=self._estimate.share(),
            what=f"{self._estimate.ended} of {len(self._labels)} done  {self._estimate.text()}",
        )

    def reused(self, jobs: int, of: int) -> None:
        self._estimate.rebase()

    def say(self, text: str) -> None:
        self._progress.update(self._whole, what=text)

    def finish(self) -> None:
        self._progress.stop()


def display(labels: Sequence[str], stages: Sequence[str], out: TextIO | None = None) -> Display:
    """Bars where `out` (default: standard error) is a terminal, else plain lines.

    `labels` names the units in their order, `stages` what each of them goes through.
    """
    out = out or sys.stderr
    estimate = Estimate(len(labels), stages)
    return Bars(labels, estimate, out) if out.isatty() else Lines(labels, estimate, out)


def duration(seconds: float) -> str:
    """ "0.4 s", "41 s", "12 min", "3 h 5 min"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

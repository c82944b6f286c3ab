"""What there is to do in a run, in which order, and what it comes to: the grid of its shards.

model × format → answer blocks ─┬→ fit a method → predict its blocks ┐
                                ├→ fit a method → predict its blocks ┼→ calibrated predictions
                                └→ …                                 ┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from howsure.calibrate import fit_calibrator
from howsure.errors import FitError, ModelError
from howsure.outcome import Held, UnitResult, is_correct, result
from howsure.records import Verdict
from howsure.shards import Damage, Shards
from howsure.stages import AnswerJob, AnyJob, FitJob, Made, PredictJob, find
from howsure.types import SPLITS
from howsure.unit import Block, Graded, Unit
from howsure.workers import Failure

MIN_TRAINING = 20
"""Training answers without which nothing is fitted."""


class UnitGrid:
    """One unit's part of the grid: which jobs are next, and the result at the end."""

    def __init__(self, index: int, unit: Unit, store: Shards) -> None:
        self._index, self._unit = index, unit
        self._blocks = {s: unit.blocks(s) for s in SPLITS}
        self._held = Held(unit, store, unit.spec.calibrate)
        self.failure: Failure | None = None
        """Why nothing of the unit can be done; then its jobs are not wanted any more."""

    @property
    def size(self) -> int:
        """Bytes of the model's weights."""
        return self._unit.size

    def stages(self) -> dict[str, int]:
        """Stage → its size, of all that is foreseen, in the order in which one worker does it."""
        sizes: dict[str, int] = {"load": 1}
        sizes |= {f"answer {s}": sum(map(len, b)) for s, b in self._blocks.items() if b}
        for method in self._unit.spec.methods:
            sizes[f"fit {method}"] = 1
            sizes[f"predict {method}"] = sum(map(len, self._predicted()))
        return sizes

    def jobs(self) -> Counter[str]:
        """Kind of job → how many are foreseen."""
        n, each = len(self._unit.spec.methods), len(self._predicted())
        blocks = sum(map(len, self._blocks.values()))
        return Counter(answer=blocks, fit=n, predict=n * each)

    def start(self) -> list[AnyJob]:
        return [
            AnswerJob(
                **self._common(f"answer {split}", len(block)),
                block=block,
                key=self._unit.answers_key(block),
            )
            for split in SPLITS
            for block in self._blocks[split]
        ]

    def wants(self, job: AnyJob) -> bool:
        if isinstance(job, AnswerJob):
            return self.failure is None
        return self.failure is None and job.method not in self._held.lost

    def after(self, job: AnyJob, made: Made) -> list[AnyJob]:
        """What can be done now that the job is done."""
        self._held.loading += made.loading or 0.0
        match job:
            case AnswerJob():
                answers, grades, *readings = made.shards
                self._held.graded[job.block] = Graded(job.block, answers, grades, tuple(readings))
                everything = sum(map(len, self._blocks.values()))
                return self._fits() if len(self._held.graded) == everything else []
            case FitJob():
                (self._held.fitted[job.method],) = made.shards
                return self._predicts(job.method)
            case PredictJob():
                (self._held.said[job.method, job.graded.block],) = made.shards
                return []

    def failed(self, job: AnyJob, failure: Failure) -> None:
        """A job can't be done; what hangs on it won't be wanted."""
        if isinstance(job, AnswerJob):
            self.failure = self.failure or failure
        elif job.method not in self._held.lost:
            self._held.lost[job.method] = self._held.failed(job.method, failure)

    def _fits(self) -> list[AnyJob]:
        try:
            splits = {s: self._held.usable(s) for s in SPLITS}
            for split, (answers, excluded) in splits.items():
                if excluded and not answers:
                    raise ModelError(
                        f"model {self._unit.name!r}: none of its {len(excluded)} {split} answers "
                        f"can be used ({next(iter(excluded.values()))})"
                    )
        except Exception as error:
            self.failure = Failure.of(error)
            return []
        train, valid = splits["training"][0], splits["validation"][0]
        possible = self._possible_methods(train)
        self._held.calibrate = self._possible_calibration(valid)
        graded = {s: tuple(self._held.graded[b] for b in self._blocks[s]) for s in SPLITS}
        return [
            FitJob(
                **self._common(f"fit {method}", 1),
                method=method,
                train=graded["training"],
                valid=graded["validation"],
                key=self._unit.estimator_key(method, graded["training"], graded["validation"]),
            )
            for method in possible
        ]

    def _predicts(self, method: str) -> list[AnyJob]:
        estimator = self._held.fitted[method]
        return [
            PredictJob(
                **self._common(f"predict {method}", len(block)),
                method=method,
                estimator=estimator,
                graded=self._held.graded[block],
                key=self._unit.predictions_key(estimator, self._held.graded[block].answers),
            )
            for block in self._predicted()
        ]

    def _predicted(self) -> list[Block]:
        calibrated = self._blocks["validation"] if self._held.calibrate != "none" else []
        return [*calibrated, *self._blocks["test"]]

    def _common(self, stage: str, size: int) -> dict[str, Any]:
        return {"unit": self._index, "home": self._unit.model, "stage": stage, "size": size}

    def _possible_calibration(self, valid: Sequence[Verdict]) -> str:
        """The calibration asked for; "none", and a failure, where the answers forbid it."""
        kind = self._unit.spec.calibrate
        try:
            fit_calibrator(kind, np.full(len(valid), 0.5), is_correct(valid))
        except FitError as error:
            self._held.failures.append(self._held.failed(f"{kind} calibration", Failure.of(error)))
            return "none"
        return kind

    def _possible_methods(self, train: Sequence[Verdict]) -> list[str]:
        """The methods that can be fitted; one failure says why the others can't."""
        by_gradient = {"probe", "lora", "lora_prompt"}
        n, right = len(train), sum(v.is_correct for v in train)
        why, without = "", set[str]()
        if n < MIN_TRAINING:
            why = f"{n} training answers are too few (at least {MIN_TRAINING})"
            without = by_gradient | {"subject_prior"}
        elif right in (0, n):
            kind = "right" if right else "wrong"
            why = f"all {n} training answers are {kind}; both kinds are needed"
            without = by_gradient
        lost = [m for m in self._unit.spec.trained if m in without]
        if lost:
            error = FitError(f"{why}; give more or other --train-questions")
            self._held.failures.append(self._held.failed(", ".join(lost), Failure.of(error)))
        return [m for m in self._unit.spec.methods if m not in lost]

    def result(self) -> UnitResult:
        """Once no job is left. Raises StoreError for a shard that was damaged meanwhile."""
        return result(self._held)


class Grid:
    """All units' jobs, as the scheduler asks for them; `on_event` is told how far each stage is."""

    def __init__(
        self,
        units: Sequence[Unit],
        store: Shards,
        on_event: Callable[[int, str, int, int], None],
        on_damage: Callable[[Damage], None],
    ) -> None:
        self._units, self._store = units, store
        self._on_event, self._on_damage = on_event, on_damage
        self.parts = [UnitGrid(i, unit, store) for i, unit in enumerate(units)]
        self._sizes = [part.stages() for part in self.parts]
        self._done: list[dict[str, dict[str, float]]] = [{} for _ in units]
        self._open = [0] * len(units)
        self.made: Counter[str] = Counter()
        """Kind of job → how many were done in this run."""
        self.reused: Counter[str] = Counter()
        """Kind of job → how many had been done before."""
        self.done: Counter[str] = Counter()
        """Both of them."""

    def foreseen(self) -> Counter[str]:
        """Kind of job → how many there are in all, if nothing fails."""
        return sum((part.jobs() for part in self.parts), Counter())

    def start(self) -> list[AnyJob]:
        """The largest models come first: what is begun last should not take long."""
        parts = sorted(self.parts, key=lambda part: -part.size)
        return [job for part in parts for job in self._opened(part.start())]

    def find(self, job: AnyJob) -> Made | None:
        return find(self._units[job.unit], job, self._store, self._on_damage)

    def wants(self, job: AnyJob) -> bool:
        return self.parts[job.unit].wants(job)

    def after(self, job: AnyJob, made: Made, *, reused: bool) -> list[AnyJob]:
        kind = job.stage.split()[0]
        (self.reused if reused else self.made)[kind] += 1
        self.done[kind] += 1
        self._tell(job, 1, 1)
        jobs = self._opened(self.parts[job.unit].after(job, made))
        self._closed(job)
        return jobs

    def failed(self, job: AnyJob, failure: Failure) -> None:
        self.parts[job.unit].failed(job, failure)
        self._closed(job)

    def dropped(self, job: AnyJob) -> None:
        """A job that was not wanted any more."""
        self._closed(job)

    def progress(self, job: AnyJob, stage: str, done: int, total: int) -> None:
        """Passes on how far a stage is over all its jobs; its end is told when they are done."""
        if stage != job.stage:
            self._on_event(job.unit, stage, done, total)
        elif done < total:
            self._tell(job, done, total)

    def _tell(self, job: AnyJob, done: int, total: int) -> None:
        size = self._sizes[job.unit].get(job.stage, 1)
        if job.size == size:
            self._on_event(job.unit, job.stage, done, total)
            return
        parts = self._done[job.unit].setdefault(job.stage, {})
        parts[job.key] = max(parts.get(job.key, 0.0), job.size * done / total)
        self._on_event(job.unit, job.stage, min(round(sum(parts.values())), size), size)

    def results(self) -> Iterator[UnitResult | Failure]:
        for part in self.parts:
            yield part.failure or part.result()

    def _opened(self, jobs: list[AnyJob]) -> list[AnyJob]:
        for job in jobs:
            self._open[job.unit] += 1
        return jobs

    def _closed(self, job: AnyJob) -> None:
        self._open[job.unit] -= 1
        if not self._open[job.unit]:
            self._on_event(job.unit, "", 1, 1)

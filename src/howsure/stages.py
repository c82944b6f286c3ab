"""The stages of a unit, as jobs that any worker can do: answer, fit, predict.

Each job makes shards from shards. It holds their keys and where its inputs are; questions and
settings are in the units, which a worker is given once.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from howsure import heap, methods, records, trainers
from howsure.answers import answer, grade
from howsure.api import Limits, is_server, parse
from howsure.errors import ApiError
from howsure.judges import Judge, grade_with
from howsure.judges.names import MATCH, local_model, open_judge
from howsure.lm import LoadOptions, Passage, Want, load
from howsure.methods.team import SOLO, Team, stepping
from howsure.shards import Shard, Shards
from howsure.types import Answer, Estimator, GradedAnswer, Ungraded
from howsure.unit import Block, Graded, Unit
from howsure.workers import Report

if TYPE_CHECKING:
    from howsure.lm.seam import Model

TABLE = "table.parquet"
REPLIES = "replies"
"""Where in the store the replies of servers are kept."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do for a unit."""

    unit: int
    """Its place among the run's units."""
    home: str
    """The model: a worker that has it loaded is the better one."""
    stage: str
    """As it is shown: "answer test", "fit probe"."""
    size: int
    """Its share of the stage, in questions; 1 where the stage is one job."""


@dataclass(frozen=True, slots=True)
class AnswerJob(Job):
    """Ask a block's questions, and grade the answers."""

    block: Block
    key: str


@dataclass(frozen=True, slots=True)
class FitJob(Job):
    """Fit one method's estimator."""

    method: str
    train: tuple[Graded, ...]
    valid: tuple[Graded, ...]
    key: str


@dataclass(frozen=True, slots=True)
class PredictJob(Job):
    """What an estimator says of a block's answers."""

    method: str
    estimator: Shard
    graded: Graded
    key: str


AnyJob = AnswerJob | FitJob | PredictJob


@dataclass(frozen=True, slots=True)
class Made:
    """The shards that a job made, or that were there already."""

    shards: tuple[Shard, ...]
    loading: float | None = None
    """Seconds that the model took to load, if it had to be."""


def find(unit: Unit, job: AnyJob, store: Shards, on_damage: Any = None) -> Made | None:
    """What the job would make, where all of it is there already."""
    stage = {AnswerJob: "answers", FitJob: "estimators", PredictJob: "predictions"}[type(job)]
    first = store.find(stage, job.key, on_damage)
    if first is None or not isinstance(job, AnswerJob):
        return None if first is None else Made((first,))
    second = store.find("grades", unit.grades_key(job.block, first), on_damage)
    others = _readings(unit, first, unit.wants(job.block), store, on_damage)
    there = [shard for shard in (first, second, *others) if shard is not None]
    return Made(tuple(there)) if len(there) == 2 + len(others) else None


def usable(unit: Unit, graded: Graded, store: Shards) -> list[GradedAnswer]:
    """A block's graded answers that can be used."""
    answers = records.read_answers(store.open(graded.answers) / TABLE, unit.name)
    rows = records.read_grades(store.open(graded.grades) / TABLE, answers)
    return [g for g in rows if isinstance(g, GradedAnswer) and not g.answer.note]


def _readings(
    unit: Unit,
    answers: Shard | None,
    wants: Sequence[Want],
    store: Shards,
    on_damage: Any = None,
) -> list[Shard | None]:
    """What was read along with the answers, one for each want; None where it isn't there."""
    if answers is None:
        return [None] * len(wants)
    keys = [unit.readings_key(answers, want) for want in wants]
    return [store.find("readings", key, on_damage) for key in keys]


def _read_along(answers: Sequence[Answer]) -> tuple[list[str], list[Passage]]:
    """The ids and texts of the answers that are read on from: those that can be used."""
    good = [a for a in answers if not a.note]
    return [a.question_id for a in good], [Passage.of(a) for a in good]


@dataclass
class Worker:
    """Does jobs, one after the other; keeps the model, and the estimator that it used last."""

    units: tuple[Unit, ...]
    store: Shards
    limits: Limits = field(default_factory=Limits)
    """How much is asked of a server at once, and how long."""
    _model: tuple[str, Model] | None = field(default=None, repr=False)
    _held: tuple[str, Estimator] | None = field(default=None, repr=False)
    _judge: tuple[str, Judge] | None = field(default=None, repr=False)

    def __call__(self, job: AnyJob, report: Report) -> Made:
        heap.settle()
        unit = self.units[job.unit]
        made = find(unit, job, self.store)
        if made is not None:  # by a worker that died before it could say so
            return made
        heap.load_arrow()
        if isinstance(job, FitJob) and unit.trainers(job.method) > 1:
            return self._together(unit, job, report)
        return self.do(job, report)

    def do(self, job: AnyJob, report: Report, team: Team = SOLO) -> Made:
        """Does it by itself, or as a member of a team that fits an estimator."""
        unit = self.units[job.unit]
        if not (isinstance(job, PredictJob) and self._holds(job)):
            self._release()
        # A model that outgrows a GPU is divided among the members.
        divided = team.size > 1 and unit.spec.load.device_map != "none"
        team = stepping(team) if divided else team
        lm, seconds = self._load(unit, report, divided)
        with _stage(job.stage, report) as progress:
            try:
                match job:
                    case AnswerJob():
                        return Made(self._answer(unit, lm, job, progress), seconds)
                    case FitJob():
                        return Made(self._fit(unit, lm, job, progress, team), seconds)
                    case PredictJob():
                        return Made((self._predict(unit, lm, job, progress),), seconds)
            finally:
                lm.readings.clear()
                heap.give_back()

    def _load(self, unit: Unit, report: Report, divided: bool) -> tuple[Model, float | None]:
        """The unit's model, and how long it took to load; None where it was there already."""
        if self._model is not None and self._model[0] == unit.model:
            return self._model[1], None
        begin = time.perf_counter()
        report("load", 0, 1)
        self._forget()  # before the next one is read: two may not fit
        spec = unit.spec
        lm: Model
        if is_server(unit.model):
            lm = self._served(unit)
        else:
            lm = load(
                unit.model,
                device=spec.device,
                dtype=spec.dtype,
                options=spec.load,
                divided=divided,
            )
        self._model = (unit.model, lm)
        heap.give_back()  # what was needed to load it
        report("load", 1, 1)
        return lm, round(time.perf_counter() - begin, 3)

    def _forget(self) -> None:
        """What it holds; the memory is free afterwards."""
        if self._model is not None:
            from howsure.lm.engine.memory import give_back

            self._model = None
            gc.collect()
            give_back()

    def _together(self, unit: Unit, job: FitJob, report: Report) -> Made:
        """Fresh processes do it, which have the devices to themselves meanwhile."""
        self._release()
        self._forget()
        self._judge = None
        size = unit.trainers(job.method)
        made: Made = trainers.together(self.do, job, report, size, unit.spec.device)
        return made

    def _served(self, unit: Unit) -> Model:
        """The unit's model on a server, which must tell what the methods need."""
        from howsure.lm.served import ServedModel

        lm = ServedModel(parse(unit.model), self.limits, self.store.root / REPLIES)
        lacking = [m for m in unit.spec.methods if m in methods.OF_PROBABILITIES]
        if lacking and not lm.tells_probabilities(unit.spec.chat):
            raise ApiError(
                f"server {lm.server.url}, model {lm.name!r}: it tells no log-probabilities, which "
                f"{' and '.join(lacking)} need; leave them out (--method subject_prior), or serve "
                "the model with a server that tells some (docs/api-models.md)"
            )
        return lm

    def _answer(self, unit: Unit, lm: Model, job: AnswerJob, progress: Any) -> tuple[Shard, ...]:
        """Answers first, then what hangs on them; a part that is there already is not made again.

        Readings that are missing are made by answering again, so that they are the same to the bit.
        """
        wants, begin = unit.wants(job.block), time.perf_counter()
        answered = self.store.find("answers", job.key)
        if answered is None or any(r is None for r in _readings(unit, answered, wants, self.store)):
            read = _tokens_read(lm)
            made = self._ask(unit, lm, job.block, wants, progress)
            since = begin + lm.readings.seconds
            if answered is None:
                answered = self._keep_answers(unit, lm, job.key, made, since, _since(lm, read))
            del made  # a block's prompts are the most that is held: not twice
        # Read again, so that what is graded is what later stages will read.
        held = records.read_answers(self.store.open(answered) / TABLE, unit.name)
        kept = self._keep_readings(unit, lm, answered, held, wants)
        begin = time.perf_counter()
        graded = unit.recorded(job.block) or self._grade(unit, lm, job.block, held)
        grades = self.store.make(
            "grades",
            unit.grades_key(job.block, answered),
            lambda folder: records.write_grades(folder / TABLE, graded),
            since=begin,
            about={"rows": len(graded)},
        )
        return answered, grades, *kept

    def _ask(
        self, unit: Unit, lm: Model, block: Block, wants: Sequence[Want], progress: Any
    ) -> Sequence[Answer]:
        recorded = unit.recorded(block)
        if recorded is not None:
            return [g.answer for g in recorded]
        made = answer(
            lm,
            unit.questions(block),
            format=unit.format,
            choose_by=unit.plan.choose_by,
            asking=unit.spec.asking,
            examples=unit.examples(block),
            also=wants,
            on_progress=progress,
        )
        heap.give_back()  # the plain path, which comes now, needs much at once
        lm.verify([Passage.of(a) for a in made], seed=unit.spec.seed)
        heap.give_back()
        return made

    def _keep_answers(
        self,
        unit: Unit,
        lm: Model,
        key: str,
        made: Sequence[Answer],
        since: float,
        tokens: Mapping[str, int],
    ) -> Shard:
        about = {**lm.facts, "rows": len(made), "prompting": lm.prompting(unit.spec.chat).note}
        return self.store.make(
            "answers",
            key,
            lambda folder: records.write_answers(folder / TABLE, made),
            since=since,
            about=about | dict(tokens),
        )

    def _keep_readings(
        self,
        unit: Unit,
        lm: Model,
        answered: Shard,
        held: Sequence[Answer],
        wants: Sequence[Want],
    ) -> list[Shard]:
        """What was read along with the answers; each has its share of the time that took."""
        seconds = lm.readings.seconds / max(1, len(wants))
        there = _readings(unit, answered, wants, self.store)
        return [
            shard or self._keep_reading(unit, lm, answered, held, want, seconds)
            for want, shard in zip(wants, there, strict=True)
        ]

    def _keep_reading(
        self,
        unit: Unit,
        lm: Model,
        answered: Shard,
        held: Sequence[Answer],
        want: Want,
        seconds: float,
    ) -> Shard:
        begin = time.perf_counter()
        ids, passages = _read_along(held)
        (values,) = lm.read(passages, [want])
        return self.store.make(
            "readings",
            unit.readings_key(answered, want),
            lambda folder: records.write_readings(folder / TABLE, ids, values),
            since=begin - seconds,
            about={"rows": len(ids)},
        )

    def _grade(
        self, unit: Unit, lm: Model, block: Block, answers: Sequence[Answer]
    ) -> Sequence[GradedAnswer | Ungraded]:
        questions = unit.questions(block)
        if unit.format == "choice" or unit.spec.grader == MATCH:
            return grade(questions, answers)
        return grade_with(self._judging(unit, lm), unit.graded_by, questions, answers)

    def _judging(self, unit: Unit, lm: Model) -> Judge:
        """Who judges the unit's free answers; a model that judges itself is not loaded twice."""
        spec, grader = unit.spec, unit.spec.grader
        if local_model(grader) == unit.model and spec.load == LoadOptions():
            from howsure.judges.local import LocalJudge
            from howsure.lm.model import LanguageModel

            assert isinstance(lm, LanguageModel)
            return LocalJudge(lm)
        if self._judge is None or self._judge[0] != grader:
            made = open_judge(
                grader,
                device=spec.device,
                dtype=spec.dtype,
                limits=self.limits,
                cache=self.store.root / REPLIES,
            )
            self._judge = (grader, made)
        return self._judge[1]

    def _fit(
        self, unit: Unit, lm: Model, job: FitJob, progress: Any, team: Team
    ) -> tuple[Shard, ...]:
        """The estimator's shard; nothing where another member of the team makes it."""
        spec = unit.method_spec(job.method)
        begin = time.perf_counter()
        self._recall(unit, lm, job.method, [*job.train, *job.valid])
        train, valid = (self._answers(unit, blocks) for blocks in (job.train, job.valid))
        unfinished = self.store.unfinished(job.key)
        estimator = methods.fit(
            spec,
            lm,
            train,
            valid,
            seed=unit.spec.seed,
            on_progress=progress,
            checkpoint=unfinished,
            team=team,
        )
        try:
            if team.rank != 0:
                return ()
            fitted = self.store.make(
                "estimators",
                job.key,
                lambda folder: methods.save(estimator, lm, folder),
                since=begin,
            )
        finally:
            methods.release(estimator)
        unfinished.remove()
        return (fitted,)

    def _predict(self, unit: Unit, lm: Model, job: PredictJob, progress: Any) -> Shard:
        begin, read = time.perf_counter(), _tokens_read(lm)
        self._recall(unit, lm, job.method, [job.graded])
        answers = [g.answer for g in self._answers(unit, [job.graded])]
        if not self._holds(job):
            folder = self.store.open(job.estimator)
            self._held = (job.estimator.digest, methods.load(folder, lm))
        assert self._held is not None
        p = self._held[1].p_correct(answers)
        progress(len(answers), len(answers))
        ids = [a.question_id for a in answers]
        return self.store.make(
            "predictions",
            job.key,
            lambda folder: records.write_probabilities(folder / TABLE, ids, p),
            since=begin,
            about={"rows": len(ids), **_since(lm, read)},
        )

    def _recall(self, unit: Unit, lm: Model, method: str, graded: Sequence[Graded]) -> None:
        """What the method wants of the model, as far as it was read along with the answers."""
        for one in graded:
            wanted = unit.wanted_by(method, one.block.split)
            held = zip(unit.wants(one.block), one.readings, strict=True)
            mine = [(want, shard) for want, shard in held if want in wanted]
            if not mine:
                continue
            answers = records.read_answers(self.store.open(one.answers) / TABLE, unit.name)
            ids, passages = _read_along(answers)
            for want, shard in mine:
                table = self.store.open(shard) / TABLE
                lm.readings.put(passages, want, records.read_readings(table, ids))

    def _answers(self, unit: Unit, graded: Sequence[Graded]) -> list[GradedAnswer]:
        return [g for block in graded for g in usable(unit, block, self.store)]

    def _holds(self, job: PredictJob) -> bool:
        return self._held is not None and self._held[0] == job.estimator.digest

    def _release(self) -> None:
        if self._held is not None:
            methods.release(self._held[1])
            self._held = None


def _tokens_read(lm: Model) -> int | None:
    """By the model so far; None where it is on a server."""
    read: int | None = getattr(lm, "tokens_read", None)
    return read


def _since(lm: Model, before: int | None) -> dict[str, int]:
    """What is to be kept of the tokens that were read since then; padding included."""
    now = _tokens_read(lm)
    return {} if before is None or now is None else {"tokens": now - before}


@contextmanager
def _stage(stage: str, report: Report) -> Iterator[Any]:
    report(stage, 0, 1)
    yield lambda done, total: report(stage, min(done, total - 1), total)

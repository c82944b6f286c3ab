"""One model in one format: answers → grades → estimators → calibrated predictions, on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from howsure import methods, store
from howsure.answers import answer, grade
from howsure.calibrate import fit_calibrator, to_json
from howsure.errors import FitError, ModelError
from howsure.lm import LoadOptions, load
from howsure.plan import Plan
from howsure.scores import write_predictions
from howsure.spec import RunSpec
from howsure.store import RunDirectory
from howsure.types import Answer, Estimator, Format, GradedAnswer, Predictions, Question
from howsure.workers import Failure, Report

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

MIN_TRAINING = 20
"""Training answers without which nothing is fitted."""

_BLOCK = 1024
"""Answers between two reports while predicting."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a worker gets: one model, one format, and all they need."""

    name: str
    """The model's name in all tables."""
    model: str
    """Where it is loaded from: an embedded name, a folder, or a Hub id."""
    format: Format
    spec: RunSpec
    plan: Plan
    directory: RunDirectory


@dataclass
class UnitResult:
    """What comes back; the predictions themselves are in the shard."""

    model: str
    format: Format
    shard: Path | None = None
    """None when nothing could be predicted."""
    card: dict[str, Any] = field(default_factory=dict)
    """For `run.json`: model, counts, accuracies, specs, calibrators, exclusions."""
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    """What of the unit could not be done; the rest was."""


@dataclass(frozen=True)
class _Graded:
    """The graded answers that can be used, and the ids of those that can't, with the reason."""

    answers: Sequence[GradedAnswer]
    excluded: Mapping[str, str]

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        return np.array([g.is_correct for g in self.answers], dtype=np.bool_)

    @property
    def bare(self) -> list[Answer]:
        return [g.answer for g in self.answers]

    def card(self) -> dict[str, Any]:
        n = len(self.answers)
        short = sum(g.answer.dropped_shots > 0 for g in self.answers)
        return {
            "answers": n,
            "accuracy": float(self.is_correct.mean()) if n else None,
            **({"with_fewer_shots": short} if short else {}),
        }


def carry_out(unit: Unit, report: Report) -> UnitResult:
    """Everything for one model and format; estimators and the shard are written on the way.

    A method that can't be fitted or calibrated becomes one of the result's failures and the others
    go on. Raises what concerns all of them: a model that can't be loaded, questions it can't take.
    """
    out = UnitResult(unit.name, unit.format)
    clock = _Clock(out.seconds, report)
    with clock("load"):
        lm = _load(unit.model, unit.spec.device, unit.spec.dtype, unit.spec.load)
        out.card |= {"fingerprint": lm.fingerprint, "parameters": lm.parameters}
        out.card |= {"device": str(lm.device), "dtype": str(lm.dtype).removeprefix("torch.")}
    out.card["prompting"] = lm.prompting(unit.spec.chat).note
    train, valid, test = (
        _answered(unit, lm, split, questions, clock)
        for split, questions in (
            ("training", unit.plan.train),
            ("validation", unit.plan.valid),
            ("test", unit.plan.test),
        )
    )
    out.card["answers"] = {
        "training": train.card(),
        "validation": valid.card(),
        "test": test.card(),
    }
    out.card["excluded"] = {**train.excluded, **valid.excluded, **test.excluded}
    predictions: list[Predictions] = []
    possible = _possible_methods(unit, train, out.failures)
    calibrate = _possible_calibration(unit, valid, out.failures)
    for method in possible:
        try:
            predictions += _predict(unit, method, lm, (train, valid, test), calibrate, clock, out)
        except Exception as error:
            out.failures.append(_of_unit(unit, method, error))
    if predictions:
        out.shard = unit.directory.shard(unit.name, unit.format)
        out.shard.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(predictions, out.shard)
    return out


@lru_cache(maxsize=1)
def _load(model: str, device: str, dtype: str, options: LoadOptions) -> LanguageModel:
    """The next unit is often the same model; methods leave it as they found it."""
    return load(model, device=device, dtype=dtype, options=options)


def _answered(
    unit: Unit, lm: LanguageModel, split: str, questions: Sequence[Question], clock: _Clock
) -> _Graded:
    if not questions:
        return _Graded([], {})
    with clock(f"answer {split}") as progress:
        answers = answer(
            lm,
            questions,
            format=unit.format,
            choose_by=unit.plan.choose_by,
            asking=unit.spec.asking,
            examples={}
            if split == "training" and unit.spec.train_questions
            else unit.plan.examples,
            on_progress=progress,
        )
        graded = grade(questions, answers)
    usable = [g for g in graded if not g.answer.note]
    if not usable:
        raise ModelError(
            f"model {unit.name!r}: none of its {len(graded)} answers can be used "
            f"({graded[0].answer.note})"
        )
    excluded = {g.answer.question_id: g.answer.note for g in graded if g.answer.note}
    return _Graded(usable, excluded)


def _possible_calibration(unit: Unit, valid: _Graded, failures: list[Failure]) -> str:
    """The calibration asked for; "none", and a failure, where the validation answers forbid it."""
    kind = unit.spec.calibrate
    try:
        fit_calibrator(kind, np.full(len(valid.answers), 0.5), valid.is_correct)
    except FitError as error:
        failures.append(_of_unit(unit, f"{kind} calibration", error))
        return "none"
    return kind


def _possible_methods(unit: Unit, train: _Graded, failures: list[Failure]) -> list[str]:
    """The methods that can be fitted; one failure says why the others can't."""
    by_gradient = {"probe", "lora", "lora_prompt"}
    n, right = len(train.answers), int(train.is_correct.sum())
    why, without = "", set[str]()
    if n < MIN_TRAINING:
        why, without = f"{n} training answers are too few (at least {MIN_TRAINING})", by_gradient
        without |= {"subject_prior"}
    elif right in (0, n):
        why = f"all {n} training answers are {'right' if right else 'wrong'}; both kinds are needed"
        without = by_gradient
    lost = [m for m in unit.spec.methods if m in without]
    if lost:
        error = FitError(f"{why}; give more or other --train-questions")
        failures.append(_of_unit(unit, ", ".join(lost), error))
    return [m for m in unit.spec.methods if m not in lost]


def _predict(
    unit: Unit,
    method: str,
    lm: LanguageModel,
    answers: tuple[_Graded, _Graded, _Graded],
    calibrate: str,
    clock: _Clock,
    out: UnitResult,
) -> list[Predictions]:
    """Fit, predict, calibrate, save; the uncalibrated predictions, then the calibrated ones."""
    train, valid, test = answers
    spec = methods.spec_from(method, unit.spec.settings.get(method, {}))
    with clock(f"fit {method}") as progress:
        estimator = methods.fit(
            spec, lm, train.answers, valid.answers, seed=unit.spec.seed, on_progress=progress
        )
    folder = unit.directory.estimator(unit.name, unit.format, method)
    try:
        methods.save(estimator, lm, folder)
        with clock(f"predict {method}") as progress:
            p = _in_blocks(estimator, test.bare, progress)
            p_valid = estimator.p_correct(valid.bare if calibrate != "none" else [])
    finally:
        methods.release(estimator)
    made = [predictions(unit.name, method, test.answers, p)]
    card: dict[str, Any] = {"settings": asdict(spec)}
    if calibrate != "none":
        calibrator = fit_calibrator(calibrate, p_valid, valid.is_correct)
        made.append(predictions(unit.name, method, test.answers, calibrator(p), calibrate))
        card["calibrator"] = to_json(calibrator)
        store.write_json(folder / "calibrator.json", to_json(calibrator))
    out.card.setdefault("methods", {})[method] = card
    return made


def predictions(
    model: str,
    method: str,
    graded: Sequence[GradedAnswer],
    p_correct: NDArray[np.float64],
    calibration: str = "none",
) -> Predictions:
    """What a method said, (n,) in [0, 1], of n graded answers of one model in one format."""
    formats = {g.answer.format for g in graded}
    if len(formats) != 1:
        raise FitError(f"answers in {len(formats)} formats; give those of one format")
    return Predictions(
        model=model,
        method=method,
        format=formats.pop(),
        calibration=calibration,
        ids=tuple(g.answer.question_id for g in graded),
        subjects=tuple(g.answer.subject for g in graded),
        p_correct=np.asarray(p_correct, dtype=np.float64),
        is_correct=np.array([g.is_correct for g in graded], dtype=np.bool_),
        answers=tuple(g.answer.text for g in graded),
    )


def _in_blocks(
    estimator: Estimator, answers: Sequence[Answer], progress: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """The estimator's p_correct; each answer's is its own, so that blocks change nothing."""
    parts = []
    for start in range(0, len(answers), _BLOCK):
        parts.append(estimator.p_correct(answers[start : start + _BLOCK]))
        progress(min(start + _BLOCK, len(answers)), len(answers))
    return np.concatenate(parts)


def _of_unit(unit: Unit, what: str, error: Exception) -> Failure:
    failure = Failure.of(error)
    where = f"{unit.name} ({unit.format}), {what}: "
    return Failure(where + failure.message, failure.exit_code, failure.trace)


class _Clock:
    """Seconds per stage, and its progress: `with clock("fit probe") as progress`."""

    def __init__(self, seconds: dict[str, float], report: Report) -> None:
        self._seconds = seconds
        self._report = report

    @contextmanager
    def __call__(self, stage: str) -> Iterator[Callable[[int, int], None]]:
        begin = time.perf_counter()
        self._report(stage, 0, 1)
        yield lambda done, total: self._report(stage, min(done, total - 1), total)
        self._seconds[stage] = round(time.perf_counter() - begin, 3)
        self._report(stage, 1, 1)

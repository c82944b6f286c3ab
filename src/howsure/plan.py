"""From a spec to the questions of a run: which are asked, trained on, calibrated on, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from howsure.errors import FitError, QuestionError, UsageError
from howsure.questions import (
    CATALOGUE,
    Leaked,
    QuestionSet,
    hold_out,
    mix,
    open_set,
    select,
    training_questions,
    without,
)
from howsure.spec import TRAIN_SIZE, RunSpec
from howsure.types import ChooseBy, Format, Question

DEFAULT_SHOTS = 5
VALID_SHARE = 0.15
"""Of the training questions, kept for validation where the evaluated set has none."""

FEW_VALID = 100

Questions = tuple[Question, ...]


@dataclass(frozen=True)
class Plan:
    """The questions of a run, the same for every model and format."""

    formats: tuple[Format, ...]
    choose_by: ChooseBy
    """Used in the choice format."""
    train: Questions
    """Empty where no method needs training."""
    valid: Questions
    """Empty where nothing is trained or calibrated."""
    test: Questions
    examples: Mapping[str, Questions]
    """Subject → its few-shot examples; {} without any."""
    categories: Mapping[str, str]
    card: Mapping[str, Any] = field(repr=False)
    """Where the questions come from and what was left out, for `run.json`."""
    notes: tuple[str, ...] = ()


def prepare(spec: RunSpec) -> Plan:
    """Opens and checks all question sets, before any model is loaded.

    Raises QuestionError, UnknownName or UsageError, with the remedy: a set that can't be read, a
    subject that isn't there, no training questions for a method that needs some.
    """
    notes: list[str] = []
    _check_data_dir(spec)
    evaluated = open_set(spec.questions, spec.data_dir)
    trained = bool(spec.trained)
    if spec.train_questions and not (trained or needs_validation(spec)):
        raise UsageError(
            "--train-questions has no effect: none of the methods is trained, and nothing is "
            "calibrated; leave it out"
        )
    if needs_validation(spec) and not spec.train_questions and _splits(evaluated) == {"test"}:
        evaluated = hold_out(evaluated)
    test = _of_subjects(evaluated, "test", spec)
    valid = _validation(evaluated, spec) if needs_validation(spec) else []
    asks_training = trained and not spec.graded_answers
    held = asks_training or (needs_validation(spec) and not valid)
    if spec.train_size is not None and not (held or trained):
        raise UsageError("--train-size has no effect: nothing is trained; leave it out")
    # All that the set can be evaluated on, not only what is asked now: an estimator is kept.
    asked = [*evaluated.load("test"), *valid]
    train, train_card = _training(evaluated, spec, asked, notes) if held else ([], {})
    if needs_validation(spec) and not valid:
        train, valid = _split_off(train, spec.seed)
        notes.append(
            f"{evaluated.name} has no validation questions here: {len(valid)} of the training "
            "questions are kept for validation"
        )
    if needs_validation(spec) and len(valid) < FEW_VALID:
        notes.append(
            f"only {len(valid)} validation questions: the steps kept and the calibration are noisy"
        )
    formats = spec.formats or (("choice",) if all(q.choices for q in test) else ("open",))
    _check_choices(formats, [*test, *valid, *train], spec)
    return Plan(
        formats=formats,
        choose_by=spec.choose_by or "letter",
        train=tuple(train) if asks_training else (),
        valid=tuple(valid),
        test=tuple(test),
        examples=_examples(evaluated, test, spec, notes),
        categories=evaluated.categories,
        card={
            "test": {**_counted(test), "origin": evaluated.origin("test")},
            "validation": _counted(valid),
            "training": {**_counted(train if asks_training else []), **train_card},
            "left_out": _left_out(evaluated),
        },
        notes=(*evaluated.notes, *notes),
    )


def needs_validation(spec: RunSpec) -> bool:
    """Whether validation answers are wanted: to calibrate, or to pick the step to keep."""
    return spec.calibrate != "none" or bool({"probe", "lora", "lora_prompt"} & set(spec.trained))


def _splits(source: QuestionSet) -> set[str]:
    return set(source.parts)


def _of_subjects(source: QuestionSet, split: Any, spec: RunSpec) -> list[Question]:
    return select(source.load(split), spec.subjects, spec.limit, spec.seed)


def _validation(source: QuestionSet, spec: RunSpec) -> list[Question]:
    """The set's own validation questions of the subjects; [] when it has none."""
    if not source.has("val"):
        return []
    questions = source.load("val")
    there = {q.subject for q in questions}
    named = [s for s in spec.subjects if s in there]
    return [] if spec.subjects and not named else select(questions, named, spec.limit, spec.seed)


def _training(
    evaluated: QuestionSet, spec: RunSpec, used: Sequence[Question], notes: list[str]
) -> tuple[list[Question], dict[str, Any]]:
    """Training questions, none of them evaluated or validated on, and what to say of them."""
    sets: dict[str, list[Question]] = {}
    if spec.train_questions:
        for source in (open_set(name, spec.data_dir) for name in spec.train_questions):
            # Under its name, not its path: what is drawn must not hang on where a file lies.
            name = source.name if source.name not in sets else f"{source.name} ({len(sets) + 1})"
            sets[name], note = training_questions(source)
            notes += [note] if note else []
            notes += _closed(source, spec)
    elif evaluated.has("train"):
        mine = evaluated.load("train")
        sets[evaluated.name] = [q for q in mine if not spec.subjects or q.subject in spec.subjects]
    else:
        raise UsageError(
            f"no training questions: {evaluated.name!r} has no train split; name sets with "
            "--train-questions, or only methods that need none: --method zero_shot "
            "--method likelihood"
        )
    left: dict[str, list[Question]] = {}
    leaked: dict[str, Leaked] = {}
    for name, questions in sets.items():
        left[name], leaked[name] = without(questions, used)
    dropped = sum(count.total for count in leaked.values())
    notes += [_leak_note(n, len(sets[n]), count) for n, count in leaked.items() if count.total]
    made = mix(left, spec.train_size or TRAIN_SIZE, seed=spec.seed)
    if not made:
        raise FitError(
            f"no training questions are left: all {dropped} are also evaluated; "
            "give others with --train-questions"
        )
    ids = {name: {q.id for q in questions} for name, questions in left.items()}
    taken = {name: sum(q.id in mine for q in made) for name, mine in ids.items()}
    by_set = {name: asdict(count) for name, count in leaked.items()}
    return made, {
        "by_set": taken,
        "dropped_because_evaluated": dropped,
        "dropped_by_set": by_set,
    }


def _leak_note(name: str, size: int, leaked: Leaked) -> str:
    return (
        f"{leaked.total:,} of the {size:,} questions of {name} are evaluated here too and are not "
        f"trained on: {leaked.same:,} have the same text but for case and white space, "
        f"{leaked.alike:,} differ in punctuation only"
    )


def _closed(source: QuestionSet, spec: RunSpec) -> list[str]:
    entry = CATALOGUE.get(source.name)
    if entry is None or not entry.closed or "open" not in spec.formats:
        return []
    return [f"{source.name} makes little sense open-ended: its answers are told by the options"]


def _split_off(train: list[Question], seed: int) -> tuple[list[Question], list[Question]]:
    """(training, validation): VALID_SHARE of the questions, at least one, go to validation."""
    order = list(train)
    Random(f"{seed}/validation").shuffle(order)
    n = max(1, round(VALID_SHARE * len(order)))
    return order[n:], order[:n]


def _examples(
    source: QuestionSet, test: Sequence[Question], spec: RunSpec, notes: list[str]
) -> dict[str, Questions]:
    """The first questions of each subject's dev split, in their order, as published."""
    wanted = spec.shots if spec.shots is not None else DEFAULT_SHOTS
    if wanted == 0 or (spec.shots is None and not source.has("dev")):
        return {}
    if not source.has("dev"):
        raise UsageError(
            f"--shots {wanted}: {source.name!r} has no dev split to take examples from; "
            "use --shots 0"
        )
    of_subject: dict[str, list[Question]] = {q.subject: [] for q in test}
    for question in source.load("dev"):
        of_subject.get(question.subject, []).append(question)
    short = {s: len(found) for s, found in of_subject.items() if len(found) < wanted}
    if short:
        subject, found = next(iter(short.items()))
        what = f"the dev split has {found} examples of {subject!r}, not {wanted}"
        if spec.shots is not None:
            raise UsageError(f"--shots {wanted}: {what}; use fewer")
        notes.append(f"fewer few-shot examples than {wanted} in {len(short)} subjects: {what}")
    return {s: tuple(found[:wanted]) for s, found in of_subject.items() if found}


def _counted(questions: Sequence[Question]) -> dict[str, Any]:
    """How many there are, and a digest that tells whether two runs asked the same ones."""
    rows = [[q.id, q.subject, q.text, q.reference, *q.choices] for q in questions]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"questions": len(questions), "sha256": digest if questions else None}


def _left_out(source: QuestionSet) -> dict[str, list[dict[str, str]]]:
    return {
        split: [{"id": e.id, "reason": e.reason} for e in source.excluded(split)]
        for split in source.parts
        if split in ("val", "test") and source.excluded(split)
    }


def _check_data_dir(spec: RunSpec) -> None:
    names = (spec.questions, *spec.train_questions)
    if spec.data_dir is not None and not any(n in CATALOGUE for n in names):
        raise UsageError(
            f"--data-dir {spec.data_dir} has no effect: {', '.join(names)} is not looked for "
            f"there, only {', '.join(CATALOGUE)}; leave it out"
        )


def _check_choices(formats: Sequence[Format], questions: Sequence[Question], spec: RunSpec) -> None:
    spec.check_grader("open" in formats)
    if "choice" not in formats and spec.choose_by:
        raise UsageError(
            f"--choose-by {spec.choose_by} has no effect: the questions are asked open-ended "
            "because some have no choices; leave it out"
        )
    bare = next((q for q in questions if not q.choices), None)
    if "choice" in formats and bare is not None:
        raise QuestionError(
            f"question {bare.id!r} has no choices; give it some, or ask with --format open"
        )

"""Logs of inspect (`.eval` and `.json`), read by its own library → Predictions.

A log holds samples, each with the scores that scorers gave it: one of them is the verdict. The
confidence is what a scorer or solver recorded under a known name, else the probability of the
letter that the model gave, where the log has the log-probabilities of the letters beside it. The
accuracy that the log states is worked out again from the samples; a log in which they differ is
refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from howsure.errors import PredictionsError, UnknownName, UsageError
from howsure.recorded.columns import NAMES, Columns
from howsure.recorded.inspect_files import Log, newest, read_log, score_name
from howsure.recorded.letters import letter_probability
from howsure.recorded.rows import Recorded, Scale, recorded
from howsure.types import Predictions

_LETTERS = {"C": 1.0, "I": 0.0, "N": 0.0, "P": 0.5}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What inspect's own accuracy makes of what scorers give; of a number it takes the number."""
_LETTER = ("p_correct",)
"""The column of what log-probabilities of letters give."""
_AGREE = 1e-6
"""So far may the accuracy of the samples be from the recorded one."""


def read_inspect_logs(paths: Sequence[Path], columns: Columns, scale: Scale) -> Recorded:
    """The predictions of each model over all of its tasks, in the order of the paths.

    Of a task that a model did several times, the newest finished log counts. `columns.p` names
    recorded confidences, `columns.correct` the score that is the verdict; a log knows the rest.
    Repeated samples count once; samples without a verdict or with partial credit are left out; each
    epoch counts as a model of its own. All of it is said. Raises PredictionsError for a log that
    can't be read, has no confidences, or whose recorded accuracy isn't that of its samples.
    """
    _refuse_others(paths[0], columns)
    notes: list[str] = []
    tables: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    for log in newest([read_log(path) for path in paths], notes):
        keys, rows = _rows(log, columns, scale, notes)
        schema = dict.fromkeys((*_COLUMNS, *(keys or _LETTER)), pl.String)
        try:
            table = pl.DataFrame(rows, schema=schema, orient="row")
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise PredictionsError(f"{log.path}: text that is no text: {error}") from None
        tables.setdefault(keys, []).append(table)
    where = paths[0] if len(paths) == 1 else paths[0].parent
    predictions: list[Predictions] = []
    for keys, parts in tables.items():
        table = pl.concat(parts)
        if keys:  # each is a method
            table = table.drop("method")
        many = (table["epoch"] != "1").any()
        named = Columns(
            p=keys or _LETTER,
            correct="is_correct",
            subject="subject",
            model="model",
            id="id",
            variant="epoch" if many else None,
            method=None if keys else "method",
        )
        if many:
            notes.append("each epoch counts as a model of its own")
        made = recorded(table, where, named, scale)
        predictions += made.predictions
        notes += made.notes
    return Recorded(tuple(predictions), tuple(notes))


_COLUMNS = ("id", "subject", "model", "method", "format", "epoch", "answer", "is_correct")


def _refuse_others(path: Path, columns: Columns) -> None:
    if columns != Columns(p=columns.p, correct=columns.correct):
        raise UsageError(
            f"{path} is a log of inspect: of its contents only the confidence (--p-column) and the "
            "score that is the verdict (--correct-column) can be named; leave out the rest"
        )


def _rows(
    log: Log, columns: Columns, scale: Scale, notes: list[str]
) -> tuple[tuple[str, ...], list[list[str | None]]]:
    """The names of the confidences, and a row of text for each sample with a verdict.

    () stands for the probability of the letter.
    """
    samples = _distinct(log, notes)
    if not log.finished:
        notes.append(f"{log.path.name}: the evaluation was not finished; {len(samples):,} samples")
    named = [_confidences(s) for s in samples]
    keys = _keys(named, columns.p, log.path)
    verdict = _verdict(samples, columns.correct, keys, log.path)
    grades = [_grade(_values(s).get(verdict)) for s in samples]
    notes.append(f"{log.path.name}: {_verified(samples, grades, verdict, log)}")
    if not keys:
        if scale.percent or scale.lower_is_surer:
            raise UsageError(
                f"{log.path} has log-probabilities, whose scale is known; leave out --percent and "
                "--lower-is-surer"
            )
        letters = [letter_probability(s) for s in samples]
        named = [dict.fromkeys(_LETTER, p) for p in letters]
        if all(p is None for p in letters):
            raise PredictionsError(
                f"{log.path} has no confidences: neither one that a scorer or the sample's "
                "metadata name (--p-column), nor log-probabilities of the options' letters "
                "(evaluate with --logprobs --top-logprobs 20)"
            )
        notes.append(
            f"{log.path.name}: the probability of the letter that was given, among the letters of "
            "the options, by its log-probabilities"
        )
    rows = []
    invalid = sum(s.invalidation is not None for s in samples)
    if invalid:
        notes.append(f"{log.path.name}: {invalid:,} samples were invalidated and are left out")
    for sample, grade, given in zip(samples, grades, named, strict=True):
        if grade in (0.0, 1.0) and sample.invalidation is None:
            confidences = [_text(given.get(key)) for key in keys or _LETTER]
            rows.append([*_described(sample, log, verdict), str(grade), *confidences])
    return keys, rows


def _distinct(log: Log, notes: list[str]) -> list[Any]:
    samples: dict[tuple[str, int], Any] = {}
    for sample in log.samples:
        samples.setdefault((str(sample.id), sample.epoch), sample)
    if twice := len(log.samples) - len(samples):
        notes.append(f"{log.path.name}: {twice:,} repeated samples are left out")
    return list(samples.values())


def _values(sample: Any) -> dict[str, Any]:
    """Score → its value; a scorer that gives several has one score for each."""
    found: dict[str, Any] = {}
    for scorer, score in (sample.scores or {}).items():
        if isinstance(score.value, Mapping):
            found |= {score_name(scorer, key): value for key, value in score.value.items()}
        else:
            found[scorer] = score.value
    return found


def _confidences(sample: Any) -> dict[str, Any]:
    """All that could be one: in the metadata of the sample and of its scores, and scores."""
    found = dict(sample.metadata or {})
    for score in (sample.scores or {}).values():
        found |= score.metadata or {}
    return found | _values(sample)


def _keys(named: Sequence[Mapping[str, Any]], wanted: Sequence[str], path: Path) -> tuple[str, ...]:
    """Which of them are the confidences: as wanted, else the one of a known name; () for none."""
    known = list(dict.fromkeys(key for given in named for key in given))
    for key in wanted:
        if key not in known:
            raise UnknownName("confidence", key, known, f"(--p-column, {path})")
    if wanted:
        return tuple(wanted)
    fitting = [key for key in known if _plain(key) in NAMES["p"]]
    if len(fitting) > 1:
        raise PredictionsError(
            f"{path}: {' and '.join(map(repr, fitting))} could all be the confidence; say which "
            "with --p-column"
        )
    return tuple(fitting)


def _plain(key: str) -> str:
    return re.sub(r"\W+", "_", key.rpartition("/")[2].strip().lower())


def _verdict(samples: Sequence[Any], wanted: str | None, keys: Sequence[str], path: Path) -> str:
    """The score that says whether the answer is right."""
    values: dict[str, list[Any]] = {}
    for sample in samples:
        for name, value in _values(sample).items():
            values.setdefault(name, []).append(value)
    if wanted is not None:
        if wanted not in values:
            raise UnknownName("score", wanted, values, f"(--correct-column, {path})")
        return wanted
    fitting = [
        name
        for name, given in values.items()
        if name not in keys and all(_grade(v) is not None or _unscored(v) for v in given)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        scores = ", ".join(values) or "none"
        raise PredictionsError(
            f"{path} has no score that says right or wrong (C, I, true, 1, ...); its scores: "
            f"{scores}"
        )
    raise PredictionsError(
        f"{path}: {' and '.join(map(repr, fitting))} could all be the verdict; say which with "
        "--correct-column"
    )


def _grade(value: object) -> float | None:
    """0, 1, or 0.5 for partial credit; None for what is no verdict."""
    if isinstance(value, str):
        value = _LETTERS.get(value, _WORDS.get(value.lower(), value))
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number in (0.0, 0.5, 1.0) else None


def _unscored(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _verified(
    samples: Sequence[Any], grades: Sequence[float | None], verdict: str, log: Log
) -> str:
    """What is said of the verdicts; raises where they are not what the log's accuracy is of."""
    by_id: dict[str, list[float]] = {}
    for sample, grade in zip(samples, grades, strict=True):
        if grade is not None:
            by_id.setdefault(str(sample.id), []).append(grade)
    said = f"{len(samples):,} samples graded by {verdict!r}"
    silent, partial = grades.count(None), grades.count(0.5)
    if silent:
        said += f"; {silent:,} have no verdict and are left out"
    if partial:
        said += f"; {partial:,} have partial credit, neither right nor wrong, and are left out"
    if not by_id:
        raise PredictionsError(f"{log.path}: no sample has a verdict of {verdict!r}")
    stated = log.accuracies.get(verdict)
    if stated is None:
        return f"{said}; no accuracy is recorded to verify them with"
    accuracy = sum(sum(g) / len(g) for g in by_id.values()) / len(by_id)
    if abs(accuracy - stated) > _AGREE:
        raise PredictionsError(
            f"{log.path}: the recorded accuracy of {verdict!r} is {stated:.4f}, its samples give "
            f"{accuracy:.4f}; the log was changed, or samples are missing: evaluate or score again"
        )
    return f"{said}; accuracy {accuracy:.4f}, as recorded"


def _described(sample: Any, log: Log, verdict: str) -> list[str]:
    """id, subject, model, method, format, epoch, answer."""
    score = sample.scores[verdict if verdict in sample.scores else verdict.rpartition("/")[0]]
    task = log.task.rpartition("/")[2]
    metadata = {_plain(k): v for k, v in (sample.metadata or {}).items()}
    subject = next((metadata[n] for n in NAMES["subject"] if metadata.get(n)), None)
    if not isinstance(subject, str):
        subject = task.removeprefix("mmlu_")
    form = "choice" if sample.choices else "open"
    return [
        f"{task}/{sample.id}",
        subject,
        log.model,
        "likelihood",
        form,
        str(sample.epoch),
        score.answer or "",
    ]


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)

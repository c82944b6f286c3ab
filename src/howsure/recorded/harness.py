"""Sample logs of lm-evaluation-harness (`--log_samples`) → Predictions.

For multiple choice the harness records the log-likelihood of each option given the question. The
option with the highest is the answer that its `acc` grades; the softmax over the options gives the
probability of that answer. The grade is worked out again and compared with the recorded one: where
they differ, the log was not read as it was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from howsure import strict_json
from howsure.errors import PredictionsError
from howsure.recorded.files import read_objects
from howsure.recorded.options import softmax
from howsure.recorded.rows import Recorded
from howsure.types import Predictions

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<when>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl(?:\.gz)?")
_AGREE = 1e-6
"""So far may the mean of `acc` be from the one in the results file."""


@dataclass(frozen=True, slots=True)
class _Log:
    """One task's samples of one model."""

    path: Path
    task: str
    when: str
    model: str
    results: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Sample:
    """One question's line."""

    where: str
    id: str
    subject: str
    loglikelihoods: tuple[float, ...]
    """Of each option, in nats."""
    texts: tuple[str, ...]
    """The options; empty if the requests were not recorded."""
    target: tuple[str, ...]
    """The right options, each an index or a text; more than one are each as right."""
    acc: float | None

    @property
    def choice(self) -> int:
        return int(np.argmax(self.loglikelihoods))

    @property
    def tied(self) -> bool:
        return self.loglikelihoods.count(self.loglikelihoods[self.choice]) > 1


def is_sample_log(path: Path) -> bool:
    """Whether the file is by its name a sample log of the harness."""
    return _NAME.fullmatch(path.name) is not None


def sample_logs(folder: Path) -> list[Path]:
    """The sample logs in a folder and those below it."""
    return sorted(p for p in folder.rglob("samples_*") if p.is_file() and is_sample_log(p))


def read_sample_logs(paths: Sequence[Path]) -> Recorded:
    """The predictions of each model over all of its tasks, in the order of the paths.

    Of a task that was run several times the newest log counts; a question that a log holds twice
    counts once. Both are said, as are tasks that record no log-likelihoods of options. Raises
    PredictionsError with file and line for a log that can't be read, or whose `acc` isn't what its
    log-likelihoods give.
    """
    notes: list[str] = []
    by_model: dict[str, list[tuple[_Sample, bool]]] = {}
    for log in _newest([_log(path) for path in paths], notes):
        samples = _samples(log, notes)
        if samples:
            graded = zip(samples, _grades(samples, log, notes), strict=True)
            by_model.setdefault(log.model, []).extend(graded)
    if not by_model:
        raise PredictionsError(
            f"{paths[0]}: no log-likelihoods of options in it; the harness records them for "
            "multiple-choice tasks. Give confidences of another kind as a table (--p-column)"
        )
    found = tuple(_predictions(model, rows) for model, rows in by_model.items())
    return Recorded(found, tuple(notes))


def _log(path: Path) -> _Log:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    task, when = name["task"], name["when"] or ""
    beside = path.parent / f"results_{when}.json"
    results: Any = {}
    if beside.is_file():
        try:
            results = strict_json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise PredictionsError(f"{beside} is not JSON; mend it, or take it away") from None
    tables = results.get("results", {}) if isinstance(results, dict) else None
    if not isinstance(results, dict) or not isinstance(tables, dict):
        raise PredictionsError(
            f"{beside} holds no JSON object with results; mend it, or take it away"
        )
    model = str(results.get("model_name") or path.resolve().parent.name.replace("__", "/"))
    if model.startswith("/"):  # a checkpoint's folder
        model = Path(model).name
    stated = tables.get(task)
    return _Log(path, task, when, model, stated if isinstance(stated, dict) else {})


def _newest(logs: Sequence[_Log], notes: list[str]) -> Iterator[_Log]:
    latest: dict[tuple[str, str], _Log] = {}
    for log in logs:
        key = (log.model, log.task)
        if key not in latest or log.when > latest[key].when:
            latest[key] = log
    if older := len(logs) - len(latest):
        notes.append(f"{older:,} older logs of the same model and task are left out")
    yield from latest.values()


def _samples(log: _Log, notes: list[str]) -> list[_Sample]:
    """One per question; empty for a task without log-likelihoods of options."""
    samples: dict[str, _Sample] = {}
    twice, first = 0, None
    try:
        for line, row in read_objects(log.path):
            first = row.get("filter") if first is None else first
            if row.get("filter") != first:  # the same answers, cut out in another way
                continue
            where = f"{log.path}, line {line}"
            scores = _loglikelihoods(row, where)
            if scores is None:
                notes.append(f"{log.path.name}: no log-likelihoods of options; left out")
                return []
            sample = _sample(row, scores, log.task, where)
            twice += sample.id in samples
            samples.setdefault(sample.id, sample)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise PredictionsError(f"{log.path} can't be read: {error}") from None
    if not samples:
        raise PredictionsError(f"{log.path} holds no samples; give a log of a whole evaluation")
    if twice:
        notes.append(f"{log.path.name}: {twice:,} repeated questions are left out")
    return list(samples.values())


def _loglikelihoods(sample: Mapping[str, Any], where: str) -> list[float] | None:
    """Of each option, in nats; None where the task recorded something else."""
    pairs = sample.get("filtered_resps")
    if not isinstance(pairs, list) or "doc_id" not in sample:
        raise PredictionsError(
            f"{where}: no 'doc_id' or 'filtered_resps'; this is no log of lm-evaluation-harness"
        )
    if not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        return None
    try:
        scores = [float(p[0]) for p in pairs]
    except (TypeError, ValueError):
        return None
    except OverflowError:
        raise PredictionsError(f"{where}: a log-likelihood is too large to be one") from None
    contexts = [context for context, _ in _arguments(sample)]
    if contexts:  # acc_mutual_info asks for each option without its question, too
        scores = scores[: contexts.count(contexts[0])]
    if len(scores) < 2:
        return None
    if not all(np.isfinite(scores)):
        raise PredictionsError(f"{where}: a log-likelihood is {scores}; they must be finite")
    return scores


def _arguments(sample: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """(context, continuation) of each request; empty if they were not recorded."""
    given = sample.get("arguments") or []
    if isinstance(given, dict):
        given = [(a.get("arg_0"), a.get("arg_1")) for a in given.values() if isinstance(a, dict)]
    if not isinstance(given, list):
        return []
    return [(a[0], a[1]) for a in given if isinstance(a, list | tuple) and len(a) >= 2]


def _sample(row: Mapping[str, Any], scores: Sequence[float], task: str, where: str) -> _Sample:
    doc, acc, target = row.get("doc"), row.get("acc"), row.get("target")
    subject = doc.get("subject") if isinstance(doc, dict) else None
    if isinstance(target, str) and target.startswith("["):  # lists are logged as text
        with suppress(ValueError):
            target = strict_json.loads(target)
    several = target if isinstance(target, list) else [target]
    texts = tuple(str(text).strip() for _, text in _arguments(row))
    return _Sample(
        where,
        id=f"{task}/{row['doc_id']}",
        subject=subject if isinstance(subject, str) and subject else task.removeprefix("mmlu_"),
        loglikelihoods=tuple(scores),
        texts=texts[: len(scores)],
        target=tuple(str(one).strip() for one in several),
        acc=None if acc is None else _acc(acc, where),
    )


def _acc(value: object, where: str) -> float:
    if not isinstance(value, int | float) or value not in (0, 1):
        raise PredictionsError(f"{where}: acc is {value!r}; it must be 0 or 1")
    return float(value)


def _grades(samples: Sequence[_Sample], log: _Log, notes: list[str]) -> list[bool]:
    """Whether each answer is correct: as recorded, and the same as worked out from the log.

    A target is an index or a text; where the options are numbers it could be both, and the recorded
    grades tell which.
    """
    best: list[_Sample] | None = None
    for as_index in (True, False):
        made = [_correct(sample, as_index) for sample in samples]
        differing = [
            s
            for s, right in zip(samples, made, strict=True)
            if right is None or (s.acc is not None and s.acc != float(right) and not s.tied)
        ]
        if not differing:
            notes.append(f"{log.path.name}: {_verified(samples, log)}")
            return [
                bool(m) if s.acc is None else s.acc > 0 for s, m in zip(samples, made, strict=True)
            ]
        best = differing if best is None or len(differing) < len(best) else best
    assert best is not None
    first = best[0]
    raise PredictionsError(
        f"{first.where}: the likeliest option is {first.choice}, target is "
        f"{', '.join(first.target)} and acc {first.acc}; that doesn't fit together, so these are "
        "not the log-likelihoods that acc was computed from"
    )


def _correct(sample: _Sample, as_index: bool) -> bool | None:
    """Whether the likeliest option is a right one; None where the target is none of the options."""
    if as_index:
        known = [int(t) for t in sample.target if t.isdecimal() and len(t) < 10]
        known = [k for k in known if k < len(sample.loglikelihoods)]
    else:
        known = [sample.texts.index(t) for t in sample.target if t in sample.texts]
    return sample.choice in known if known else None


def _verified(samples: Sequence[_Sample], log: _Log) -> str:
    recorded = [s.acc for s in samples if s.acc is not None]
    if len(recorded) < len(samples):
        return f"{len(samples):,} questions; not every one has an acc to verify its grade with"
    said = f"{len(samples):,} questions; acc worked out again from the log-likelihoods: as recorded"
    stated = log.results.get("acc,none", log.results.get("acc"))
    if isinstance(stated, int | float):
        mean = float(np.mean(recorded))
        agree = abs(mean - stated) <= _AGREE
        said += f"; mean {mean:.4f}, {'as' if agree else 'not as'} in the results file"
        said += "" if agree else f" ({stated:.4f})"
    return said


def _predictions(model: str, rows: Sequence[tuple[_Sample, bool]]) -> Predictions:
    samples = [sample for sample, _ in rows]
    return Predictions(
        model=model,
        method="likelihood",
        format="choice",
        calibration="none",
        ids=tuple(s.id for s in samples),
        subjects=tuple(s.subject for s in samples),
        p_correct=np.array([softmax(np.array(s.loglikelihoods))[s.choice] for s in samples]),
        is_correct=np.array([correct for _, correct in rows], dtype=np.bool_),
        answers=tuple(s.texts[s.choice] if s.texts else str(s.choice) for s in samples),
    )

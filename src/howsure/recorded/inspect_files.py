"""Files of inspect's logs → what is used of them, and which of several logs counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howsure.errors import PredictionsError

_JSON_LOG = re.compile(rb'\s*\{\s*"version":\s*\d+,\s*"status":\s*"')
_UNUSED = {"messages", "events", "store", "attachments", "timelines"}
"""What a log is largest of, and nothing here needs."""


@dataclass(frozen=True, slots=True)
class Log:
    """One task, done by one model."""

    path: Path
    model: str
    task: str
    arguments: str
    """Of the task, as text: with others it is another task."""
    when: str
    finished: bool
    accuracies: Mapping[str, float]
    """Score → the recorded mean over its samples."""
    samples: tuple[Any, ...]


def is_inspect_log(path: Path) -> bool:
    """Whether the file is by its name, or a JSON file's first bytes, a log of inspect."""
    if path.suffix != ".json":
        return path.suffix == ".eval"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _JSON_LOG.match(file.read(200)) is not None


def inspect_logs(folder: Path) -> list[Path]:
    """The logs in a folder and those below it."""
    found = (*folder.rglob("*.eval"), *folder.rglob("*.json"))
    return sorted(p for p in found if p.is_file() and is_inspect_log(p))


def read_log(path: Path) -> Log:
    """The log, by inspect's own library. Raises PredictionsError for what is none."""
    try:
        from inspect_ai.log import read_eval_log
    except ModuleNotFoundError:
        raise PredictionsError(
            f"{path} is a log of inspect, which is read by its own library; "
            "pip install 'howsure[inspect]'"
        ) from None
    if not path.is_file():
        raise PredictionsError(f"there is no file {path}; check the path")
    try:
        log = read_eval_log(path.resolve(), exclude_fields=_UNUSED)
        accuracies = {
            score_name(score.scorer, score.name): float(score.metrics["accuracy"].value)
            for score in (log.results.scores if log.results else [])
            if "accuracy" in score.metrics and score.reducer in (None, "mean")
        }
    except Exception as error:  # whatever its many parts raise, the file is at fault
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PredictionsError(f"{path} can't be read as a log of inspect: {first}") from error
    if not log.samples:
        raise PredictionsError(f"{path} holds no samples; give a log of a whole evaluation")
    arguments = json.dumps(log.eval.task_args, sort_keys=True, default=str)
    return Log(
        path,
        model=str(log.eval.model),
        task=str(log.eval.task),
        arguments=arguments,
        when=str(log.eval.created),
        finished=log.status == "success",
        accuracies=accuracies,
        samples=tuple(log.samples),
    )


def score_name(scorer: str, key: str) -> str:
    """Of a score: the scorer's, and the key where it gives several values."""
    return scorer if key == scorer else f"{scorer}/{key}"


def newest(logs: Sequence[Log], notes: list[str]) -> Iterator[Log]:
    """Of each model's logs of a task the newest that was finished; `notes` says how many weren't.

    Raises PredictionsError for two with different arguments of the task.
    """
    latest: dict[tuple[str, str], Log] = {}
    for log in logs:
        key = (log.model, log.task)
        other = latest.get(key, log)
        if other.arguments != log.arguments:
            raise PredictionsError(
                f"{other.path.name} and {log.path.name} are of the same task and model with "
                "different arguments of the task; score them one by one"
            )
        if (log.finished, log.when) >= (other.finished, other.when):
            latest[key] = log
    if older := len(logs) - len(latest):
        notes.append(f"{older:,} older or unfinished logs of the same model and task are left out")
    yield from latest.values()

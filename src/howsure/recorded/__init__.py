"""Confidences that someone else recorded → Predictions: what `howsure score` reads.

read_recorded    files or a folder, and what their columns hold → Recorded
Columns          which column holds what; what it leaves open is guessed, and the guess stated
Scale            what the confidences are, where they are no probabilities

One file per kind of source. Each makes a table with a row per answer; `rows.py` makes Predictions
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from howsure.errors import PredictionsError, UsageError
from howsure.recorded.columns import Columns
from howsure.recorded.files import read_table
from howsure.recorded.harness import is_sample_log, read_sample_logs, sample_logs
from howsure.recorded.inspect import read_inspect_logs
from howsure.recorded.inspect_files import inspect_logs, is_inspect_log
from howsure.recorded.rows import Recorded, Scale, also_recalibrated, recorded

__all__ = ["Columns", "Recorded", "Scale", "read_recorded"]


def read_recorded(
    paths: Path | Sequence[Path],
    columns: Columns = Columns(),  # noqa: B008 (frozen)
    scale: Scale = Scale(),  # noqa: B008
) -> Recorded:
    """The predictions in files, and what was guessed, left out or changed on the way.

    A path is a CSV, JSONL or Parquet file, a sample log of lm-evaluation-harness
    (`samples_*.jsonl`), a log of inspect (`.eval`, `.json`), or a folder with such logs; `columns`
    are of tables, of logs of inspect the confidence and the verdict too.

    Answers are grouped by model, method, calibration and format, in their order. Where a file says
    nothing of it, `model` is the file's name, `method` the confidence's column ("recorded" for
    p_correct), `calibration` "none", `format` "recorded" ("choice" if it has a list of options),
    `subject` "all" and `id` the row's number.

    Raises PredictionsError with file, row and remedy for what can't be used; a confidence that is
    missing leaves its row out, which is counted and stated.
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    if not given:
        raise UsageError("nothing to score; give a file")
    files = [file for path in given for file in _files(path)]
    logs = [file for file in files if is_sample_log(file)]
    inspected = [file for file in files if is_inspect_log(file)]
    tables = [file for file in files if file not in logs and file not in inspected]
    parts = [recorded(read_table(file), file, columns, scale) for file in tables]
    if logs:
        _refuse_columns(logs[0], columns, scale)
        parts.append(also_recalibrated(read_sample_logs(logs), scale.recalibrate))
    if inspected:
        parts.append(read_inspect_logs(inspected, columns, scale))
    found = Recorded(
        tuple(p for part in parts for p in part.predictions),
        tuple(note for part in parts for note in part.notes),
    )
    _refuse_repeats(found)
    return found


def _files(path: Path) -> list[Path]:
    """The file, or the logs in a folder."""
    if not path.is_dir():
        return [path]
    if logs := [*sample_logs(path), *inspect_logs(path)]:
        return logs
    if (path / "predictions.parquet").is_file():
        raise PredictionsError(
            f"{path} is a run directory, whose scores are made: `howsure report {path}`; or give "
            "its predictions.parquet"
        )
    raise PredictionsError(
        f"{path} holds no logs of an evaluation (samples_*.jsonl, *.eval); give a file with a row "
        "per answer"
    )


def _refuse_columns(path: Path, columns: Columns, scale: Scale) -> None:
    if columns != Columns() or scale.percent or scale.lower_is_surer:
        raise UsageError(
            f"{path} is a log of an evaluation, whose columns are known; leave out all options but "
            "--recalibrate and --output"
        )


def _refuse_repeats(found: Recorded) -> None:
    keys = [(p.model, p.method, p.calibration, p.format) for p in found.predictions]
    for key in keys:
        if keys.count(key) > 1:
            raise PredictionsError(
                f"two of the files hold {', '.join(key)}; give the model in a column of its own "
                "(--model-column), or one file"
            )

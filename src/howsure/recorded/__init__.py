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
from howsure.recorded.rows import Recorded, Scale, recorded

__all__ = ["Columns", "Recorded", "Scale", "read_recorded"]


def read_recorded(
    paths: Path | Sequence[Path],
    columns: Columns = Columns(),  # noqa: B008 (frozen)
    scale: Scale = Scale(),  # noqa: B008
) -> Recorded:
    """The predictions in CSV, JSONL or Parquet files, and what was guessed, left out or changed.

    Answers are grouped by model, method, calibration and format, in their order. Where a file says
    nothing of it, `model` is the file's name, `method` the confidence's column ("recorded" for
    p_correct), `calibration` "none", `format` "recorded" ("choice" if it has a list of options),
    `subject` "all" and `id` the row's number.

    Raises PredictionsError with file, row and remedy for what can't be used; a confidence that is
    missing leaves its row out, which is counted and stated.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    if not files:
        raise UsageError("nothing to score; give a file")
    parts = [recorded(read_table(path), path, columns, scale) for path in files]
    found = Recorded(
        tuple(p for part in parts for p in part.predictions),
        tuple(note for part in parts for note in part.notes),
    )
    _refuse_repeats(found)
    return found


def _refuse_repeats(found: Recorded) -> None:
    keys = [(p.model, p.method, p.calibration, p.format) for p in found.predictions]
    for key in keys:
        if keys.count(key) > 1:
            raise PredictionsError(
                f"two of the files hold {', '.join(key)}; give the model in a column of its own "
                "(--model-column), or one file"
            )

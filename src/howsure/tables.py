"""The two tables on disk: `scores.csv` and `predictions.parquet`. Strict reading, atomic writing.

What can't be read raises PredictionsError: one line with the file, the line or row, and what to do.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import polars as pl

from howsure import strict_parquet
from howsure.cells import guarded, meant
from howsure.errors import PredictionsError, UnknownName, UsageError
from howsure.types import Predictions

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_COLUMNS = ("model", "method", "calibration", "format")
"""One estimator on one model in one format: a group of rows in both tables."""

SCORE_SCHEMA: Mapping[str, type[pl.DataType]] = {
    **dict.fromkeys((*GROUP_COLUMNS, "subject"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(
        ("accuracy", "ece", "ece_low", "ece_high", "ece_floor", "ece_decision"), pl.Float64
    ),
    **dict.fromkeys(("auroc", "auroc_low", "auroc_high", "brier", "nll", "aurc"), pl.Float64),
    "note": pl.String,
}
SCORE_COLUMNS = tuple(SCORE_SCHEMA)

MACRO, POOLED = "macro", "pooled"
"""The two summaries of a group, in the `subject` column: mean over subjects, all questions."""

PREDICTION_COLUMNS = (*GROUP_COLUMNS, "id", "subject", "answer", "is_correct", "p_correct")

PUBLISHED_COLUMNS = (
    *("model", "method", "format", "temperature_scaled", "subject", "split"),
    *("n", "accuracy", "ece", "auroc"),
)
_PUBLISHED_METHODS = {
    "zero_shot_classifier": "zero_shot",
    "probe": "probe",
    "lora": "lora",
    "lora_prompt": "lora_prompt",
}
_PUBLISHED_MODELS = (
    *("Llama-2-7b-hf", "Llama-2-7b-chat-hf", "Llama-2-13b-hf", "Llama-2-13b-chat-hf"),
    *("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.2"),
)
"""In the order of the paper's columns; the file's own is alphabetical."""
_PUBLISHED_FORMATS = {"choice": "choice", "oe": "open"}
_PUBLISHED_CALIBRATIONS = {"true": "temperature", "false": "none"}

Row = dict[str, Any]

_LONGEST_FIELD = 10_000_000
_MOST_DIGITS = 15
"""Of a number of questions."""


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None when all are."""
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def read_scores(path: Path) -> pl.DataFrame:
    """A `scores.csv`, or the published table of Kapoor et al. (2024), as SCORE_COLUMNS.

    Of the published table the test rows are taken. Its `ece` is of the decision kind, so it goes to
    `ece_decision`, and `ece` and all intervals stay null; the macro row is the mean over subjects;
    there is no pooled row, since pooled figures can't be had from it.
    """
    header, *lines = _csv_lines(path)
    columns = tuple(header[1])
    if columns == SCORE_COLUMNS:
        rows = [_score_row(line, f"{path}, line {number}") for number, line in lines]
    elif columns == PUBLISHED_COLUMNS:
        rows = _published_rows(lines, path)
    else:
        missing = [c for c in SCORE_COLUMNS if c not in columns]
        strange = [c for c in columns if c not in SCORE_COLUMNS]
        raise PredictionsError(
            f"{path} is no scores table: it lacks {missing or 'nothing'}, has unknown {strange}; "
            f"the columns are, in this order, {','.join(SCORE_COLUMNS)}"
        )
    if not rows:
        raise PredictionsError(f"{path} has a header but no rows to show; give a table with scores")
    _refuse_repeats(rows, path)
    return pl.DataFrame(rows, schema=SCORE_SCHEMA, orient="row")


def write_scores(scores: pl.DataFrame, path: Path) -> None:
    """Writes `scores.csv`, atomically; null is an empty field, floats keep every digit.

    Names that begin like a formula get an apostrophe in front; `read_scores` takes it away.
    """
    if tuple(scores.columns) != SCORE_COLUMNS:
        raise UsageError(f"a scores table has the columns {SCORE_COLUMNS}, not {scores.columns}")
    table = scores.with_columns(pl.col("note").replace("", None))
    write_csv(table, path)


def write_csv(table: pl.DataFrame, path: Path) -> None:
    """Any table as a CSV file, atomically, in which no text begins like a formula."""
    _replace(path, lambda file: guarded(table).write_csv(file))


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of the header and every row, all of one length."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            csv.field_size_limit(_LONGEST_FIELD)
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except OSError as error:
        raise PredictionsError(f"can't read {path}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PredictionsError(f"{path} is not a CSV file in UTF-8: {error}") from None
    if not lines:
        raise PredictionsError(f"{path} is empty; give a scores.csv")
    width = len(lines[0][1])
    for number, fields in lines:
        if len(fields) != width:
            raise PredictionsError(
                f"{path}, line {number}: {len(fields)} fields where the header has {width}; "
                "the file may be cut off"
            )
    return lines


def _score_row(fields: Sequence[str], where: str) -> Row:
    row: Row = {}
    for (column, kind), text in zip(SCORE_SCHEMA.items(), fields, strict=True):
        if column == "note":
            row[column] = meant(text)
        elif kind is pl.String:
            row[column] = _text(text, f"{where}, {column}")
        elif column == "n":
            row[column] = _count(text, f"{where}, n")
        else:
            top = math.inf if column == "nll" else 1.0
            row[column] = _number(text, f"{where}, {column}", top)
    if row["accuracy"] is None:
        raise PredictionsError(f"{where}: no accuracy; every row of a scores table has one")
    for metric in ("ece", "auroc"):
        ends = [row[f"{metric}_low"], row[metric], row[f"{metric}_high"]]
        known = [end for end in ends if end is not None]
        if any(low > high for low, high in pairwise(known)):
            raise PredictionsError(f"{where}: {metric}_low, {metric}, {metric}_high are not rising")
    return row


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise PredictionsError(f"{where} is empty; give a name")
    return meant(text)


def _count(text: str, where: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise PredictionsError(f"{where} is {text!r}; it must be a whole number from 1")
    return int(text)


def _number(text: str, where: str, top: float) -> float | None:
    if not text:
        return None
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= top or math.isinf(value):
        limits = "in [0, 1]" if top == 1.0 else "of at least 0"
        raise PredictionsError(
            f"{where} is {text!r}; it must be a number {limits}, or empty where undefined"
        )
    return value


def _refuse_repeats(rows: Sequence[Row], path: Path) -> None:
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        key = tuple(row[c] for c in (*GROUP_COLUMNS, "subject"))
        if key in seen:
            raise PredictionsError(f"{path} has two rows for {', '.join(key)}; keep one")
        seen.add(key)


def _published_rows(lines: Sequence[tuple[int, Sequence[str]]], path: Path) -> list[Row]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for number, fields in lines:
        given = dict(zip(PUBLISHED_COLUMNS, fields, strict=True))
        if given["split"] == "test":
            row = _published_row(given, f"{path}, line {number}")
            groups.setdefault(tuple(row[c] for c in GROUP_COLUMNS), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: _published_place(item[0][0]))
    return [row for _, rows in ordered for row in (*rows, _published_macro(rows))]


def _published_place(model: str) -> int:
    name = model.rpartition("/")[2]
    known = name in _PUBLISHED_MODELS
    return _PUBLISHED_MODELS.index(name) if known else len(_PUBLISHED_MODELS)


def _published_row(given: Mapping[str, str], where: str) -> Row:
    scaled, method, form = given["temperature_scaled"].lower(), given["method"], given["format"]
    for kind, name, known in (
        ("temperature_scaled", scaled, _PUBLISHED_CALIBRATIONS),
        ("method", method, _PUBLISHED_METHODS),
        ("format", form, _PUBLISHED_FORMATS),
    ):
        if name not in known:
            raise UnknownName(kind, name, known, f"({where})")
    row: Row = dict.fromkeys(SCORE_COLUMNS)
    row["model"] = _text(given["model"], f"{where}, model")
    row["method"] = _PUBLISHED_METHODS[method]
    row["calibration"] = _PUBLISHED_CALIBRATIONS[scaled]
    row["format"] = _PUBLISHED_FORMATS[form]
    row["subject"] = _text(given["subject"], f"{where}, subject")
    row["n"] = _count(given["n"], f"{where}, n")
    for column, source in (("accuracy", "accuracy"), ("ece_decision", "ece"), ("auroc", "auroc")):
        row[column] = _number(given[source], f"{where}, {source}", 1.0)
    if row["accuracy"] is None:
        raise PredictionsError(f"{where}: no accuracy; every published row has one")
    notes = ["ece_not_published"]
    if row["auroc"] is None:
        notes.append("single_class" if row["accuracy"] in (0.0, 1.0) else "auroc_not_published")
    row["note"] = ";".join(notes)
    return row


def _published_macro(rows: Sequence[Row]) -> Row:
    macro = {**rows[0], "subject": MACRO, "n": sum(row["n"] for row in rows)}
    notes = ["ece_not_published"]
    for column in ("accuracy", "ece_decision", "auroc"):
        values = [row[column] for row in rows]
        macro[column] = mean_known(values)
        if None in values:
            notes.append(f"{column}_excluded={values.count(None)}")
    macro["note"] = ";".join(notes)
    return macro


def write_predictions(predictions: Sequence[Predictions], path: Path) -> None:
    """Writes `predictions.parquet` (PREDICTION_COLUMNS), atomically, zstd, pages with checksums.

    One row per answer, groups in the given order; `answer` is null where the texts are unknown.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not predictions:
        raise PredictionsError(f"no predictions to write to {path}")
    group_keys(predictions)
    columns: dict[str, list[Any]] = {name: [] for name in PREDICTION_COLUMNS}
    for p in predictions:
        for name in GROUP_COLUMNS:
            columns[name] += [getattr(p, name)] * len(p)
        columns["id"] += p.ids
        columns["subject"] += p.subjects
        columns["answer"] += p.answers or [None] * len(p)
        columns["is_correct"] += p.is_correct.tolist()
        columns["p_correct"] += p.p_correct.tolist()
    table = pa.table(columns, schema=_arrow_schema())
    _replace(
        path,
        lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True),
    )


def read_predictions(path: Path) -> list[Predictions]:
    """The groups of a `predictions.parquet`, in the order of their first rows; checksums verified.

    `meta` does not travel through the file.
    """
    import pyarrow as pa

    try:
        table = strict_parquet.read(path, PREDICTION_COLUMNS)
    except FileNotFoundError:
        raise PredictionsError(f"there is no {path}; check the path") from None
    except ValueError as error:
        raise PredictionsError(
            f"{path} is damaged or no Parquet file of predictions ({error}); write it again"
        ) from None
    try:
        table = table.cast(_arrow_schema())
    except pa.ArrowException as error:
        raise PredictionsError(f"{path}: a column has the wrong type: {error}") from None
    return list(_groups(table, path))


def _groups(table: pa.Table, path: Path) -> Iterator[Predictions]:
    """One Predictions per group of an Arrow table with PREDICTION_COLUMNS."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    for column in PREDICTION_COLUMNS:
        gaps = frame[column].is_null()
        if column != "answer" and gaps.any():
            raise PredictionsError(f"{path}, row {gaps.arg_max()}: no {column}; every row has one")
    if frame.is_empty():
        raise PredictionsError(f"{path} holds no predictions; write it again")
    for rows in frame.partition_by(GROUP_COLUMNS, maintain_order=True):
        texts = rows["answer"]
        if 0 < texts.null_count() < len(texts):
            raise PredictionsError(f"{path}: some answers of {rows.row(0)[:4]} have no text")
        yield Predictions(
            **dict(zip(GROUP_COLUMNS, rows.row(0), strict=False)),
            ids=tuple(rows["id"]),
            subjects=tuple(rows["subject"]),
            p_correct=rows["p_correct"].to_numpy().copy(),
            is_correct=rows["is_correct"].to_numpy().astype(np.bool_),
            answers=() if texts.null_count() else tuple(texts),
        )


def group_keys(predictions: Sequence[Predictions]) -> list[tuple[str, ...]]:
    """The GROUP_COLUMNS of each; raises PredictionsError where two are the same."""
    keys = [tuple(getattr(p, name) for name in GROUP_COLUMNS) for p in predictions]
    for key in keys:
        if keys.count(key) > 1:
            raise PredictionsError(f"predictions of {', '.join(key)} are given twice; give one")
    return keys


def _arrow_schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"is_correct": pa.bool_(), "p_correct": pa.float64()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in PREDICTION_COLUMNS])


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"can't write {path}: {error.strerror or error}; give a folder that is writable"
        ) from None
    finally:
        with suppress(OSError):  # gone when all went well
            temporary.unlink()

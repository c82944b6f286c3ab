"""Confidences that someone else recorded: a file with p_correct and is_correct → Predictions."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from howsure.errors import PredictionsError
from howsure.types import Predictions

NEEDED = ("p_correct", "is_correct")
OPTIONAL = ("model", "method", "calibration", "format", "id", "subject", "answer")

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")

_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


def read_recorded(path: Path) -> list[Predictions]:
    """The groups of rows with the same model, method, calibration and format, in their order.

    Where a column is missing, `model` is the file's name, `method` "recorded", `calibration`
    "none", `format` "recorded", `subject` "all" and `id` the row's number. Other columns are not
    read. Raises PredictionsError with file and row for what can't be used: a missing value, a
    p_correct outside [0, 1], an is_correct that is neither true nor false, an id that occurs twice.
    """
    frame = _read(path)
    lacking = [c for c in NEEDED if c not in frame.columns]
    if lacking:
        raise PredictionsError(
            f"{path} has no column {' and no column '.join(map(repr, lacking))}; it has: "
            f"{', '.join(frame.columns)}"
        )
    if frame.is_empty():
        raise PredictionsError(f"{path} has a header but no rows; give at least one prediction")
    defaults: Mapping[str, pl.Expr] = {
        "model": pl.lit(path.name.split(".")[0]),
        "method": pl.lit("recorded"),
        "calibration": pl.lit("none"),
        "format": pl.lit("recorded"),
        "subject": pl.lit("all"),
        "id": pl.int_range(1, pl.len() + 1).cast(pl.String),
    }
    given = [c for c in (*NEEDED, *OPTIONAL) if c in frame.columns]
    names = [c for c in given if c not in NEEDED]
    table = frame.select(given).with_columns(
        *(pl.col(c).cast(pl.String) for c in names),
        *(value.alias(c) for c, value in defaults.items() if c not in given),
        _p_correct(frame, path),
        _is_correct(frame, path),
    )
    _refuse_gaps(table, path)
    groups = ("model", "method", "calibration", "format")
    try:
        return [_predictions(g) for g in table.partition_by(groups, maintain_order=True)]
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from None


def _predictions(rows: pl.DataFrame) -> Predictions:
    return Predictions(
        model=rows["model"][0],
        method=rows["method"][0],
        calibration=rows["calibration"][0],
        format=rows["format"][0],
        ids=tuple(rows["id"]),
        subjects=tuple(rows["subject"]),
        p_correct=rows["p_correct"].to_numpy().copy(),
        is_correct=rows["is_correct"].to_numpy().copy(),
        answers=tuple(rows["answer"]) if "answer" in rows.columns else (),
    )


def _read(path: Path) -> pl.DataFrame:
    readers: Mapping[str, Callable[[Path], pl.DataFrame]] = {
        ".csv": lambda p: pl.read_csv(p, infer_schema=False),
        ".jsonl": _read_jsonl,
        ".parquet": pl.read_parquet,
    }
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in readers or path.name.endswith(".parquet.gz"):
        raise PredictionsError(
            f"{path}: not a kind of file that is read; name it {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise PredictionsError(f"there is no file {path}; check the path")
    try:
        return readers[suffix](path)
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PredictionsError(f"{path} can't be read as {suffix[1:]}: {first}") from error


def _read_jsonl(path: Path) -> pl.DataFrame:
    """Every object's columns that are known; a column that only some objects have has gaps."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise PredictionsError(f"{path}, line {number}: not JSON; mend the line") from None
        if not isinstance(row, dict):
            raise PredictionsError(f"{path}, line {number}: not a JSON object; mend the line")
        rows.append({k: _text(v) for k, v in row.items() if k in (*NEEDED, *OPTIONAL)})
    columns = [c for c in (*NEEDED, *OPTIONAL) if any(c in row for row in rows)]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _p_correct(frame: pl.DataFrame, path: Path) -> pl.Expr:
    values = frame["p_correct"].cast(pl.Float64, strict=False)
    outside = ~(values.is_between(0.0, 1.0).fill_null(False) & values.is_not_nan().fill_null(False))
    _refuse(outside, frame["p_correct"], path, "a probability in [0, 1]")
    return pl.lit(values).alias("p_correct")


def _is_correct(frame: pl.DataFrame, path: Path) -> pl.Expr:
    words = frame["is_correct"].cast(pl.String).str.to_lowercase()
    _refuse(
        ~words.is_in([*_TRUE, *_FALSE]).fill_null(False), frame["is_correct"], path, "true or false"
    )
    return pl.lit(words.is_in(_TRUE)).alias("is_correct")


def _refuse(bad: pl.Series, values: pl.Series, path: Path, wanted: str) -> None:
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise PredictionsError(
            f"{path}, row {row + 1}: {values.name} is {values[row]!r}; it must be {wanted}"
        )


def _refuse_gaps(table: pl.DataFrame, path: Path) -> None:
    for column in table.columns:
        gaps = table[column].is_null()
        if gaps.any():
            raise PredictionsError(
                f"{path}, row {int(gaps.arg_max() or 0) + 1}: no {column}; fill it in, or leave "
                "the column out"
            )

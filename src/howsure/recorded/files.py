"""CSV, JSONL and Parquet files → a table with a row per answer, whatever the columns are called."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from howsure import strict_json, strict_parquet
from howsure.errors import PredictionsError

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_table(path: Path) -> pl.DataFrame:
    """Every column of the file, in its order.

    Columns of CSV and JSONL files are text (numbers as written, lists and objects as JSON), those
    of Parquet keep their types; an empty field is null. Raises PredictionsError for a file that
    can't be read.
    """
    readers: Mapping[str, Callable[[Path], pl.DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
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
    except (
        pl.exceptions.PolarsError,
        OSError,
        EOFError,
        ValueError,
        csv.Error,
        zlib.error,
    ) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PredictionsError(f"{path} can't be read as {suffix[1:]}: {first}") from error


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of a JSONL file; `.gz` is unpacked, empty lines are passed over.

    Raises PredictionsError with the line for what is no JSON object, OSError for what is no file.
    """
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line)
        except json.JSONDecodeError:
            raise PredictionsError(f"{path}, line {number}: not JSON; mend the line") from None
        except ValueError as error:
            reason = strict_json.reason(error)
            raise PredictionsError(
                f"{path}, line {number}: not JSON that is read ({reason}); mend the line"
            ) from None
        if not isinstance(row, dict):
            raise PredictionsError(f"{path}, line {number}: not a JSON object; mend the line")
        yield number, row


def _read_csv(path: Path) -> pl.DataFrame:
    """Strict where polars is not: bytes that are no text, a column that is there twice."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PredictionsError(
            f"{path}, line {line}: this is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise PredictionsError(f"{path}, line {line}: a NUL byte; save the file as UTF-8 text")
    csv.field_size_limit(10_000_000)
    header = next(csv.reader(io.StringIO(text)), [])
    for name in header:
        if header.count(name) > 1:
            raise PredictionsError(
                f"{path}, line 1: the column {name!r} is there twice; remove one"
            )
    return pl.read_csv(text.encode(), infer_schema=False)


def _read_parquet(path: Path) -> pl.DataFrame:
    """By way of Arrow: it verifies checksums, and a damaged file is an error, not a panic."""
    frame = pl.from_arrow(strict_parquet.read_any(path))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_jsonl(path: Path) -> pl.DataFrame:
    """A column that only some objects have has gaps."""
    rows = []
    for number, row in read_objects(path):
        rows.append({k: _text(v) for k, v in row.items()})
        if any(_SURROGATE.search(text) for kv in rows[-1].items() for text in kv if text):
            raise PredictionsError(
                f"{path}, line {number}: half of a surrogate pair, which is no character; remove it"
            )
    columns = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)

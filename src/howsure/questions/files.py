"""Files of questions: JSONL and CSV (gzipped too) and Hendrycks' folders, read and written."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from howsure.errors import QuestionError
from howsure.questions import rows
from howsure.types import Question

SUFFIXES = (".jsonl", ".csv", ".jsonl.gz", ".csv.gz")

_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_FIELD = 10_000_000


@dataclass(frozen=True, slots=True)
class Excluded:
    """A published question that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """The questions of one split, what was left out of it, and where it came from."""

    questions: tuple[Question, ...]
    excluded: tuple[Excluded, ...]
    origin: str


Read = Callable[[], Question]
"""Reads one row; raises QuestionError."""


def read_file(path: Path, *, is_published: bool = False) -> Part:
    """All questions of a .jsonl or .csv file (or .gz of one), in the file's order.

    Strict: the first row that can't be read raises QuestionError with file and line. Questions of a
    published set (`is_published`) that have the same choice twice are left out and listed in
    `excluded`, since their text is not the user's to mend; in a file of the user's own they are an
    error like any other. Lines with nothing but white space count as no rows.
    """
    stem = stem_of(path)
    if path.name.removesuffix(".gz").endswith(".csv"):
        reads = _csv_rows(path, stem)
    else:
        reads = _jsonl_rows(path, stem)
    return collect(reads, origin=str(path), is_published=is_published)


def read_hendrycks(folder: Path, split: str, *, name: str) -> Part:
    """One split of a folder in Hendrycks' layout: `<folder>/<split>/<subject>_<split>.csv`.

    Rows have no header: question, A, B, C, D, letter. Ids are `<name>/<subject>/<split>/<row>`,
    rows counted from 0. Questions with the same choice twice are left out, as in `read_file`.
    """
    paths = hendrycks_files(folder, split)
    reads = (read for path in paths for read in _hendrycks_rows(path, split, name))
    return collect(reads, origin=str(folder / split), is_published=True)


def read_release(
    path: Path, as_question: Callable[[Mapping[str, str], str, str], Question]
) -> Part:
    """A CSV file with its publisher's own header; `as_question` reads (row, where, id)."""
    records = csv_records(path)
    _, header = next(records, (1, []))

    def reads() -> Iterator[tuple[str, Read]]:
        for number, values in records:
            where = f"{path}, line {number}"
            if len(values) != len(header):
                raise QuestionError(
                    f"{where}: {len(values)} columns, but the header has {len(header)}"
                )
            row = dict(zip(header, values, strict=True))
            yield where, partial(as_question, row, where, f"{stem_of(path)}/{number}")

    return collect(reads(), origin=str(path), is_published=True)


def hendrycks_files(folder: Path, split: str) -> list[Path]:
    """The CSV files of one split, sorted by name; empty when the folder has no such split."""
    paths = sorted(p for p in (folder / split).glob("*.csv") if not p.name.startswith("."))
    for path in paths:
        if not path.stem.endswith(f"_{split}") or path.stem == f"_{split}":
            raise QuestionError(f"{path}: not named <subject>_{split}.csv; rename or remove it")
    return paths


def write_file(path: Path, questions: Iterable[Question]) -> None:
    """Write the questions as JSONL, gzipped when the name ends in .gz; `read_file` reads it back.

    The gzip header holds neither name nor time, so that equal questions make equal files.
    """
    data = "".join(rows.to_json(q) + "\n" for q in questions).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def stem_of(path: Path) -> str:
    """The file's name without .gz and without .jsonl or .csv."""
    return Path(path.name.removesuffix(".gz")).stem


def collect(reads: Iterable[tuple[str, Read]], *, origin: str, is_published: bool) -> Part:
    """Read all rows; refuse repeated ids, and a source without any question."""
    questions: list[Question] = []
    excluded: list[Excluded] = []
    first: dict[str, str] = {}
    for where, read in reads:
        try:
            question = read()
        except rows.UnusableError as error:
            if not is_published:
                raise
            excluded.append(Excluded(error.question_id, error.reason))
            continue
        if question.id in first:
            raise QuestionError(
                f"{where}: the id {question.id!r} is also that of {first[question.id]}; "
                "ids must be unique"
            )
        first[question.id] = where
        questions.append(question)
    if not questions:
        why = f"; all {len(excluded)} were left out: {excluded[0].reason}" if excluded else ""
        raise QuestionError(f"{origin}: holds no questions{why}; give at least one")
    return Part(tuple(questions), tuple(excluded), origin)


def _jsonl_rows(path: Path, stem: str) -> Iterator[tuple[str, Read]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, partial(rows.from_json, line, where=where, id=f"{stem}/{number}")


def _csv_rows(path: Path, stem: str) -> Iterator[tuple[str, Read]]:
    records = csv_records(path)
    header: list[str] = []
    for count, (number, fields) in enumerate(records):
        where = f"{path}, line {number}"
        if count == 0:
            header = _checked_header(fields, path)
            continue
        if len(fields) != len(header):
            raise QuestionError(
                f"{where}: {len(fields)} columns, but the header has {len(header)}; "
                "quote texts that hold a comma"
            )
        row = dict(zip(header, fields, strict=True))
        yield where, partial(rows.from_csv, row, where=where, id=f"{stem}/{number}")


def _hendrycks_rows(path: Path, split: str, name: str) -> Iterator[tuple[str, Read]]:
    subject = path.stem.removesuffix(f"_{split}")
    for row, (number, fields) in enumerate(csv_records(path)):
        where, id = f"{path}, line {number}", f"{name}/{subject}/{split}/{row}"
        yield where, partial(rows.from_hendrycks, fields, where=where, id=id, subject=subject)


def csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file that aren't empty, each with the line on which it begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    line = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise QuestionError(
                f"{path}, line {line}: not CSV ({error}); mend the quotes"
            ) from error
        if fields is None:
            return
        if len(fields) > 1 or "".join(fields).strip():
            yield line, fields
        line = reader.line_num + 1


def _checked_header(fields: Sequence[str], path: Path) -> list[str]:
    header = [f.strip() for f in fields]
    lacking = [c for c in ("question", "answer") if c not in header]
    if lacking:
        raise QuestionError(
            f"{path}, line 1: the header lacks {' and '.join(map(repr, lacking))}; begin with a "
            "line such as id,subject,question,choices,answer (files without a header go into a "
            "folder in Hendrycks' layout)"
        )
    twice = [c for c in header if header.count(c) > 1]
    if twice:
        raise QuestionError(f"{path}, line 1: the column {twice[0]!r} is there twice; remove one")
    return header


def read_text(path: Path) -> str:
    """The whole file as text, unzipped and without the byte order mark."""
    data = _read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise QuestionError(
            f"{path}, line {line}: this is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz" or data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise QuestionError(
            f"{path}: this is not a whole gzip file ({error}); copy or download it again"
        ) from error
    except OSError as error:
        raise QuestionError(f"{path}: can't be read ({error.strerror}); check the path") from error
    return data

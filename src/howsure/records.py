"""What stages made as Parquet files of the store: written whole, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from howsure import strict_parquet
from howsure.errors import StoreError
from howsure.types import Answer, Format, GradedAnswer, Ungraded

if TYPE_CHECKING:
    import pyarrow as pa

_ANSWER = tuple(f.name for f in fields(Answer) if f.name != "model")
"""Not `model`: that is a name, and a shard belongs to whoever has the same weights."""

_GRADE = ("is_correct", "grader", "reason")
"""`is_correct` is null where there is no verdict, and then only there is a reason."""

_SHARED = ("subject", "prefix", "query", "lead", "format", "note")
"""Columns of few different texts, some of them long: each is held once, not once a row."""

_VERDICT = ("question_id", "subject", "text", "format", "dropped_shots")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A graded answer without what the model read: enough once nobody reads on from it."""

    question_id: str
    subject: str
    text: str
    format: Format
    dropped_shots: int
    is_correct: bool

    @classmethod
    def of(cls, graded: GradedAnswer) -> Verdict:
        a = graded.answer
        return cls(a.question_id, a.subject, a.text, a.format, a.dropped_shots, graded.is_correct)


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """One row per answer, one column per field but the model's name.

    A prompt is kept without its prefix, which the answers of a subject share.
    """
    columns = {name: [getattr(a, name) for a in answers] for name in _ANSWER}
    columns["prompt"] = [a.prompt[len(a.prefix) :] for a in answers]
    _write(path, columns, Answer)


def read_answers(path: Path, model: str) -> list[Answer]:
    """The answers, said to be those of `model`. Raises StoreError for a file that isn't whole."""
    columns = _read(path, _ANSWER)
    both = zip(columns["prefix"], columns["prompt"], strict=True)
    columns["prompt"] = [prefix + own for prefix, own in both]
    rows = zip(*(columns[name] for name in _ANSWER), strict=True)
    return [Answer(**dict(zip(_ANSWER, row, strict=True)), model=model) for row in rows]


def write_grades(path: Path, graded: Sequence[GradedAnswer | Ungraded]) -> None:
    """One row per answer, with its question's id."""
    columns: dict[str, list[Any]] = {
        "question_id": [g.answer.question_id for g in graded],
        "is_correct": [g.is_correct if isinstance(g, GradedAnswer) else None for g in graded],
        "grader": [g.grader for g in graded],
        "reason": [g.reason if isinstance(g, Ungraded) else "" for g in graded],
    }
    _write(path, columns, GradedAnswer)


def read_grades(path: Path, answers: Sequence[Answer]) -> list[GradedAnswer | Ungraded]:
    """The grades of just these answers. Raises StoreError for those of others."""
    rows = zip(*_read_grades(path, [a.question_id for a in answers], _GRADE), strict=True)
    return [
        Ungraded(a, grader, reason) if right is None else GradedAnswer(a, right, grader)
        for a, (right, grader, reason) in zip(answers, rows, strict=True)
    ]


def read_verdicts(answers: Path, grades: Path) -> tuple[list[Verdict], dict[str, str]]:
    """The verdicts on answers that can be used; the ids of the others, with the reason.

    Prompts are not read. Raises StoreError for grades of other answers.
    """
    columns = _read(answers, _ANSWER, only=(*_VERDICT, "note"))
    ids, notes = columns["question_id"], columns["note"]
    rights, reasons = _read_grades(grades, ids, ("is_correct", "reason"))
    pairs = zip(ids, rights, reasons, strict=True)
    noted = {i: reason for i, right, reason in pairs if right is None}
    noted |= {i: note for i, note in zip(ids, notes, strict=True) if note}
    rows = zip(*(columns[name] for name in _VERDICT), rights, strict=True)
    return [Verdict(*row) for row in rows if row[0] not in noted], noted


def write_probabilities(path: Path, ids: Sequence[str], p: NDArray[np.float64]) -> None:
    """(n,) probabilities, NaN where there is none, with the ids of their questions."""
    _write(path, {"question_id": list(ids), "p_correct": p.tolist()}, None)


def read_probabilities(path: Path, ids: Sequence[str]) -> NDArray[np.float64]:
    """(n,), of just these questions. Raises StoreError for those of others."""
    columns = _read(path, ("question_id", "p_correct"))
    if columns["question_id"] != list(ids):
        raise StoreError(f"{path} is about other questions; remove its folder and run again")
    return np.array(columns["p_correct"], dtype=np.float64)


def write_readings(path: Path, ids: Sequence[str], values: NDArray[np.float32]) -> None:
    """(n, width) numbers that a model computed, with the ids of their questions."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table({"question_id": pa.array(list(ids), pa.string()), "values": rows})
    _write_table(table, path, compression="none", use_dictionary=False)


def read_readings(path: Path, ids: Sequence[str]) -> NDArray[np.float32]:
    """(n, width), of just these questions. Raises StoreError for those of others."""
    table = _read_table(path, ("question_id", "values"))
    if table["question_id"].to_pylist() != list(ids):
        raise StoreError(f"{path} is about other questions; remove its folder and run again")
    width = table.schema.field("values").type.list_size
    flat = table["values"].combine_chunks().flatten()
    return np.asarray(flat.to_numpy(), dtype=np.float32).reshape(len(ids), width)


def _read_grades(path: Path, ids: Sequence[str], names: Sequence[str]) -> list[list[Any]]:
    """Columns of the grades of just these answers. Raises StoreError for those of others."""
    columns = _read(path, ("question_id", *_GRADE))
    if columns["question_id"] != list(ids):
        raise StoreError(f"{path} holds grades of other answers; remove its folder and run again")
    return [columns[name] for name in names]


def _write(path: Path, columns: Mapping[str, list[Any]], kind: type | None) -> None:
    import pyarrow as pa

    hints = get_type_hints(kind) if kind else {"p_correct": float}
    made = {
        name: _shared(values)
        if name in _SHARED
        else pa.array(values, _arrow_type(hints.get(name, str)))
        for name, values in columns.items()
    }
    _write_table(pa.table(made), path, compression="zstd")


def _shared(texts: Sequence[str | None]) -> pa.Array:
    """Texts as a dictionary, made without a copy of each."""
    import pyarrow as pa

    places = {text: i for i, text in enumerate(dict.fromkeys(t for t in texts if t is not None))}
    indices = pa.array([None if t is None else places[t] for t in texts], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(places), pa.string()))


def _write_table(table: pa.Table, path: Path, **how: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, write_page_checksum=True, **how)


def _read(
    path: Path, names: Sequence[str], only: Sequence[str] | None = None
) -> dict[str, list[Any]]:
    """The columns of a table that has just these names; all of them, or `only` some."""
    table = _read_table(path, names, only)
    return {name: _values(table[name]) for name in only or names}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """As Python objects; equal texts of a dictionary are one object."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    values: list[Any] = []
    for chunk in column.chunks:
        texts = chunk.dictionary.to_pylist()
        values += [None if i is None else texts[i] for i in chunk.indices.to_pylist()]
    return values


def _read_table(path: Path, names: Sequence[str], only: Sequence[str] | None = None) -> pa.Table:
    try:
        return strict_parquet.read(path, names, only)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} can't be read ({error}); remove it and run again") from None


def _arrow_type(hint: Any) -> pa.DataType:
    """What holds a field; KeyError for a type that no column is made for."""
    import pyarrow as pa

    options = [o for o in get_args(hint) if o is not NoneType] or [hint]
    if get_origin(hint) is Literal or get_origin(options[0]) is Literal:
        return pa.string()
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    kinds[tuple] = pa.list_(pa.string())
    return kinds[get_origin(options[0]) or options[0]]

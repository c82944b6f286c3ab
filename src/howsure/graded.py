"""Graded answers that someone released, in place of asking training questions.

Kapoor et al. 2024 released 20,000 per model and format ("calibration-tuning/Llama-2-7b-hf-20k-oe"):
Parquet on the Hub, or CSV as their code writes it (`train/*.csv`), with the columns

    prompt         solved examples, may be missing
    context        the question as the model read it
    target_prompt  what follows it ("\\nAnswer:")
    target         the right answer
    output         what the model answered
    query_label    1 correct, 0 not
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from howsure import strict_parquet
from howsure.errors import QuestionError
from howsure.lm import hub, loading
from howsure.lm.stops import first_line
from howsure.prompts import plain
from howsure.questions import without
from howsure.types import LETTERS, Answer, Format, GradedAnswer, Question

GRADER = "released"
SUBJECT = "released"
"""The released rows do not say where their questions come from."""

_NEEDED = ("context", "target_prompt", "output", "query_label")


@dataclass(frozen=True, slots=True)
class Source:
    """Which rows of which files; small, so that a worker can read them itself."""

    files: tuple[Path, ...]
    format: Format
    rows: tuple[int, ...] = ()
    """Which of the rows, counted over all files."""
    left_out: int = 0
    """Rows whose question is evaluated here too."""

    def card(self) -> dict[str, Any]:
        """For `run.json`."""
        return {
            "files": {f.name: loading.digest([f]) for f in self.files},
            "rows": len(self.rows),
            "dropped_because_evaluated": self.left_out,
        }


@dataclass(frozen=True, slots=True)
class Released:
    """The rows of a source, each as a question and as a graded answer."""

    questions: tuple[Question, ...]
    graded: tuple[GradedAnswer, ...]


def find(name: str) -> tuple[Path, ...]:
    """The training files of a folder, a file, or a data set on the Hub.

    Raises ModelError (the Hub) or QuestionError for what holds none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return (path,)
    if not path.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise QuestionError(f"graded answers {name!r}: there is no such file or folder")
        path = hub.fetch(name, None, _check, what="data set", dataset=True)
    return _tables(_check(path))


def _check(path: Path) -> Path:
    if not _tables(path):
        raise QuestionError(
            f"graded answers {str(path)!r}: no training files; they are looked for as train/*.csv, "
            "train*.csv, train*.parquet and data/train*.parquet"
        )
    return path


def _tables(path: Path) -> tuple[Path, ...]:
    patterns = ("train/*.csv", "train*.csv", "train*.parquet", "data/train*.parquet")
    return tuple(sorted(file for pattern in patterns for file in path.glob(pattern)))


def choose(
    files: Sequence[Path],
    format: Format,
    evaluated: Sequence[Question],
    *,
    most: int,
    seed: int,
) -> Source:
    """At most `most` rows, drawn with the seed, none of a question that is evaluated.

    Raises QuestionError for a file or row that can't be used, or when nothing is left.
    """
    questions = _read(Source(tuple(files), format)).questions
    left, leaked = without(questions, evaluated)
    kept = {q.id for q in left}
    rows = [i for i, q in enumerate(questions) if q.id in kept]
    if not rows:
        raise QuestionError(f"graded answers {files[0]}: no row is left to train on")
    Random(f"{seed}/released").shuffle(rows)
    return Source(tuple(files), format, tuple(sorted(rows[:most])), leaked.total)


def load(source: Source, model: str) -> Released:
    """The source's rows as answers of `model`."""
    everything = _read(source)
    chosen = [everything.graded[i] for i in source.rows]
    return Released(
        tuple(everything.questions[i] for i in source.rows),
        tuple(_of_model(g, model) for g in chosen),
    )


def _of_model(graded: GradedAnswer, model: str) -> GradedAnswer:
    return replace(graded, answer=replace(graded.answer, model=model))


def _read(source: Source) -> Released:
    return _read_all(source.files, source.format)


@lru_cache(maxsize=2)
def _read_all(files: tuple[Path, ...], format: Format) -> Released:
    questions, graded = [], []
    for i, (where, row) in enumerate(_rows(files)):
        question, answer = _made(row, where, i, format)
        questions.append(question)
        graded.append(answer)
    return Released(tuple(questions), tuple(graded))


def _rows(files: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it stands, row), file by file."""
    for file in files:
        table = _table(file)
        names = table.column_names
        twice = [c for c in names if names.count(c) > 1]
        if twice:
            raise QuestionError(f"{file}: the column {twice[0]!r} is there twice; remove one")
        missing = [c for c in _NEEDED if c not in names]
        if missing:
            raise QuestionError(
                f"{file}: no column {missing[0]!r}; released graded answers have the columns "
                f"{', '.join(_NEEDED)}"
            )
        for n, row in enumerate(table.to_pylist(), start=1):
            yield f"{file}, row {n}", row


def _table(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    try:
        if file.suffix == ".parquet":
            return strict_parquet.read_any(file)
        texts = {name: pa.string() for name in (*_NEEDED[:3], "prompt", "target")}
        table = csv.read_csv(
            file,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
        )
        _ = table.column_names  # names are decoded only here
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise QuestionError(f"{file}: can't be read as a table ({first[:200]})") from error


def _made(
    row: Mapping[str, Any], where: str, i: int, format: Format
) -> tuple[Question, GradedAnswer]:
    label = row["query_label"]
    if label not in (0, 1):
        raise QuestionError(
            f"{where}: query_label is {label!r}, not 0 or 1; the answers have to be graded first"
        )
    context = str(row["context"] or "")
    if not context.strip():
        raise QuestionError(f"{where}: it has no context")
    prompt = f"{row.get('prompt') or ''}{context}{row['target_prompt'] or ''}".strip()
    text = first_line(str(row["output"] or ""))
    lettered = format == "choice" and text in LETTERS and len(text) == 1
    answer = Answer(
        question_id=f"released/{i}",
        subject=SUBJECT,
        prompt=plain(prompt),
        text=text,
        model="",
        format=format,
        choose_by="letter" if lettered else None,
        choice=LETTERS.index(text) if lettered else None,
    )
    question = Question(
        f"released/{i}", SUBJECT, _asked(context), str(row.get("target") or "") or "not stated"
    )
    return question, GradedAnswer(answer, bool(label), GRADER)


def _asked(context: str) -> str:
    """The question itself within a context, as far as its headings tell."""
    text = context.split("\nChoices:")[0]
    for heading in ("Question:", "The question is:"):
        if heading in text:
            text = text.split(heading, 1)[1]
    return text.strip() or context.strip()

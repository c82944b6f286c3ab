"""How far a grader agrees with people: human-labelled pairs, its verdicts on them, the figures.

A file of pairs is CSV, JSONL (gzipped too) or Parquet, with the columns

    question     the question's text
    reference    the right answer; or `references`, a list of texts: an answer is right where the
                 grader takes it for one of them (in CSV the list is written as JSON)
    answer       the answer that was judged; may be empty
    is_correct   what people said of it: true or false, 1 or 0, yes or no
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure import strict_json, strict_parquet
from howsure.answers import grade
from howsure.errors import QuestionError
from howsure.intervals import RESAMPLES, Interval, draw_counts, percentiles, redrawn
from howsure.judges import Judge, Progress, grade_with
from howsure.metrics import wilson
from howsure.questions.files import csv_records, read_text
from howsure.types import Answer, GradedAnswer, Question, Ungraded

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")

Verdicts = list[bool | None]


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """An answer to a question, and whether people hold it for right."""

    question: str
    references: tuple[str, ...]
    answer: str
    is_correct: bool


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of `n` pairs, with its 95% interval (Wilson)."""

    n: int
    count: int
    value: float | None
    """None where n is 0."""
    low: float | None
    high: float | None

    @classmethod
    def of(cls, those: NDArray[np.bool_]) -> Rate:
        n, count = len(those), int(those.sum())
        if not n:
            return cls(0, 0, None, None, None)
        return cls(n, count, count / n, *wilson(count, n))


@dataclass(frozen=True, slots=True)
class Agreement:
    """A grader beside people. All shares are of the pairs on which it gave a verdict."""

    pairs: int
    ungraded: int
    """Pairs on which the grader said neither yes nor no; they are in none of the figures."""
    accuracy: Rate
    """How often it says what people say."""
    kappa: float | None
    """Cohen's kappa: agreement beyond chance; 1 is perfect, 0 is chance. None where people and
    grader all say the same of everything."""
    kappa_low: float | None
    kappa_high: float | None
    false_accept: Rate
    """Of the answers that people hold for wrong, those that it takes for right."""
    false_reject: Rate
    """Of the answers that people hold for right, those that it takes for wrong."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self, grader: str) -> str:
        """The figures in plain words."""
        left = f"; on {self.ungraded} it gave no verdict" if self.ungraded else ""
        if self.accuracy.value is None:
            return f"The grader {grader} gave no verdict on any of {self.pairs:,} labelled pairs."
        kappa = "undefined, all verdicts being alike"
        if self.kappa is not None:
            kappa = f"{self.kappa:.2f}"
            if self.kappa_low is not None and self.kappa_high is not None:
                kappa += f", {self.kappa_low:.2f} to {self.kappa_high:.2f}"
        right, wrong = self.false_reject, self.false_accept
        return (
            f"The grader {grader} agrees with people on {_of(self.accuracy)} labelled pairs "
            f"({_percent(self.accuracy)}; Cohen's kappa {kappa}). It takes {_of(wrong)} wrong "
            f"answers for right ({_percent(wrong)}), and {_of(right)} right answers for wrong "
            f"({_percent(right)}){left}."
        )


def _of(rate: Rate) -> str:
    return f"{rate.count:,} of {rate.n:,}"


def _percent(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "unknown"
    return f"{rate.value:.0%}, 95% interval {rate.low:.0%} to {rate.high:.0%}"


# reading ----------------------------------------------------------------------------------------


def read_pairs(path: Path) -> tuple[LabelledPair, ...]:
    """The pairs of a file, in its order.

    Raises QuestionError with file and row for what can't be read, and where all are labelled
    alike: a grader that always says the same would agree with them.
    """
    pairs = tuple(_pair(row, where) for where, row in _rows(path))
    if not pairs:
        raise QuestionError(f"{path}: holds no labelled pairs; give at least two")
    said = {p.is_correct for p in pairs}
    if len(said) < 2:
        kind = "right" if pairs[0].is_correct else "wrong"
        raise QuestionError(
            f"{path}: people hold all {len(pairs)} answers for {kind}; both kinds are needed to "
            "tell how far a grader agrees with them"
        )
    return pairs


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it stands, its fields) of each row."""
    if not path.name.endswith(SUFFIXES):
        raise QuestionError(f"{path}: not a kind of file that is read; name it {_named()}")
    if path.is_dir():
        raise QuestionError(f"{path} is a folder; give a file of labelled pairs")
    if not path.exists():
        raise QuestionError(f"there is no file {path}; give a file of labelled pairs")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif ".csv" in path.suffixes:
        yield from _csv_rows(path)
    else:
        yield from _jsonl_rows(path)


def _named() -> str:
    return ", ".join(SUFFIXES)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            raise QuestionError(
                f"{where}: not JSON ({strict_json.reason(error)}); mend the line"
            ) from None
        if not isinstance(row, dict):
            raise QuestionError(f"{where}: not a JSON object; mend the line")
        _check_columns(tuple(row), where)
        yield where, row


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    header: tuple[str, ...] | None = None
    for number, fields in csv_records(path):
        where = f"{path}, line {number}"
        if header is None:
            header = tuple(f.strip() for f in fields)
            _check_columns(header, where)
            continue
        if len(fields) != len(header):
            raise QuestionError(
                f"{where}: {len(fields)} columns, but the header has {len(header)}; "
                "quote texts that hold a comma"
            )
        row: dict[str, Any] = dict(zip(header, fields, strict=True))
        if "references" in row:
            row["references"] = _json_list(row["references"], where)
        yield where, row


def _json_list(text: str, where: str) -> Any:
    try:
        return strict_json.loads(text)
    except ValueError:
        raise QuestionError(
            f'{where}: \'references\' is not a JSON list; write ["first", "second"]'
        ) from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        table = strict_parquet.read_any(path)
    except (OSError, ValueError) as error:
        raise QuestionError(f"{path} can't be read as Parquet: {error}") from None
    _check_columns(tuple(table.column_names), str(path))
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}, row {number}", row


def _check_columns(names: Sequence[str], where: str) -> None:
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise QuestionError(f"{where}: the column {twice!r} is there twice; remove one")
    lacking = [n for n in ("question", "answer", "is_correct") if n not in names]
    if not {"reference", "references"} & set(names):
        lacking.append("reference")
    if lacking:
        raise QuestionError(
            f"{where}: it lacks {lacking[0]!r}; a labelled pair has question, reference (or "
            "references), answer and is_correct"
        )
    if {"reference", "references"} <= set(names):
        raise QuestionError(f"{where}: it has 'reference' and 'references'; give one of them")


def _pair(row: Mapping[str, Any], where: str) -> LabelledPair:
    given = row["references"] if "references" in row else [row["reference"]]
    if not isinstance(given, list) or not given:
        raise QuestionError(f"{where}: 'references' must be a list with at least one text")
    answer = row["answer"]
    if not isinstance(answer, str):
        raise QuestionError(f"{where}: 'answer' is {_kind(answer)}; it must be a text")
    return LabelledPair(
        question=_text(row["question"], "question", where),
        references=tuple(_text(r, "reference", where) for r in given),
        answer=answer,
        is_correct=_label(row["is_correct"], where),
    )


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise QuestionError(f"{where}: {name!r} is {_kind(value)}; it must be a text")
    if not value.strip():
        raise QuestionError(f"{where}: {name!r} is empty; fill it in, or remove the row")
    return value


def _label(value: object, where: str) -> bool:
    """What people said. 0.5 and "maybe" are no labels."""
    said = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    raise QuestionError(
        f"{where}: 'is_correct' is {str(value)[:40]!r}; it must be true or false, 1 or 0, yes or no"
    )


def _kind(value: object) -> str:
    return "missing" if value is None else f"{str(value)[:40]!r}"


# measuring --------------------------------------------------------------------------------------


def verdicts(
    judge: Judge | None,
    pairs: Sequence[LabelledPair],
    on_progress: Progress | None = None,
) -> Verdicts:
    """What the grader says of each pair, asked just as in a run; None where it says neither.

    `judge` is None for a normalised match. With several references the answer is right where it is
    taken for one of them, wrong where it is taken for none.
    """
    places = [(i, r) for i, pair in enumerate(pairs) for r in pair.references]
    questions = [
        Question(str(k), "pairs", pairs[i].question, reference)
        for k, (i, reference) in enumerate(places)
    ]
    answers = [
        Answer(str(k), "pairs", "", pairs[i].answer, model="", format="open")
        for k, (i, _) in enumerate(places)
    ]
    graded: Sequence[GradedAnswer | Ungraded] = (
        grade(questions, answers)
        if judge is None
        else grade_with(judge, "", questions, answers, on_progress)
    )
    said: list[Verdicts] = [[] for _ in pairs]
    for (i, _), g in zip(places, graded, strict=True):
        said[i].append(g.is_correct if isinstance(g, GradedAnswer) else None)
    return [True if True in each else None if None in each else False for each in said]


def agreement(pairs: Sequence[LabelledPair], said: Verdicts, *, seed: int = 0) -> Agreement:
    """The figures of a grader that said this of the pairs.

    Kappa's interval is a percentile bootstrap over pairs; resamples in which kappa is undefined
    are drawn again.
    """
    graded = [(p.is_correct, v) for p, v in zip(pairs, said, strict=True) if v is not None]
    human = np.array([h for h, _ in graded], dtype=np.bool_)
    grader = np.array([g for _, g in graded], dtype=np.bool_)
    kappa = cohen_kappa(human, grader) if graded else None
    ends = _kappa_interval(human, grader, seed) if kappa is not None else None
    return Agreement(
        pairs=len(pairs),
        ungraded=len(pairs) - len(graded),
        accuracy=Rate.of(human == grader),
        kappa=kappa,
        kappa_low=ends.low if ends else None,
        kappa_high=ends.high if ends else None,
        false_accept=Rate.of(grader[~human]),
        false_reject=Rate.of(~grader[human]),
    )


def cohen_kappa(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """(observed - chance) / (1 - chance) of two raters' verdicts (Cohen 1960); both (n,), n >= 1.

    None where chance alone agrees always: both say the same one thing of everything.
    """
    (value,) = _kappas(a, b, np.ones((len(a), 1), np.float32))
    return None if np.isnan(value) else float(value)


def _kappas(
    a: NDArray[np.bool_], b: NDArray[np.bool_], counts: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(k,): kappa of each resample; `counts` (n, k) is how often each pair is in it."""
    drawn = counts.astype(np.float64)
    n = drawn.sum(axis=0)
    same, yes_a, yes_b = ((mask.astype(np.float64) @ drawn) / n for mask in (a == b, a, b))
    chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    out: NDArray[np.float64] = np.full(chance.shape, np.nan)
    np.divide(same - chance, 1 - chance, out=out, where=chance < 1)
    return out


def _kappa_interval(
    human: NDArray[np.bool_], grader: NDArray[np.bool_], seed: int
) -> Interval | None:
    n = len(human)
    if n < 2:
        return None
    blocks = draw_counts(n, resamples=RESAMPLES, seed=seed)
    drawn = np.concatenate([_kappas(human, grader, c) for c in blocks])
    values = redrawn(drawn.astype(np.float32))
    return None if values is None else percentiles(values)

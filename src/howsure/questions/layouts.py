"""How one row of a published set reads as a question: a template, its choices, the right one.

A `Layout` is data: the table in `catalogue` is made of them. The functions here are the few ways in
which releases write down choices and the right one among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from howsure.errors import QuestionError

Row = Mapping[str, object]
Choices = Callable[[Row], Sequence[object]]
"""The choices of a row, in the order in which they are shown."""
Answer = Callable[[Row, Sequence[object]], int]
"""The index of the right choice, from 0. Raises UnlabelledError where the release doesn't say."""

_LETTERS = "abcdefghij"
_OPTION = re.compile(r"(?:^|[\s,])([a-e]) \)\s?")


class UnlabelledError(QuestionError):
    """A published row without the right answer, as in test splits that are kept back."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Templates name fields in braces; what they give is stripped of white space at both ends."""

    question: str
    choices: Choices
    answer: Answer
    subject: str = ""
    """Template of the subject; "" means the set's own name."""
    id: str = ""
    """Template of the id; "" means one made of set, split and row."""

    def read(self, row: Row) -> dict[str, object]:
        """The row as the fields of `howsure.questions.rows`.

        Raises KeyError, TypeError, ValueError or IndexError when it has other fields than expected.
        """
        choices = self.choices(row)
        made: dict[str, object] = {
            "question": fill(self.question, row),
            "choices": list(choices),
            "answer": self.answer(row, choices),
        }
        made |= {"subject": fill(self.subject, row)} if self.subject else {}
        return made | ({"id": fill(self.id, row)} if self.id else {})


def fill(template: str, row: Row) -> str:
    """The template with the row's fields in place of their names in braces."""
    values: dict[str, object] = {}
    for _, name, _, _ in Formatter().parse(template):
        if name:
            values[name] = row[name]
            if not isinstance(values[name], str | int):
                raise TypeError(f"{name!r} is {type(values[name]).__name__}, not a text")
    return template.format_map(values).strip()


# choices ------------------------------------------------------------------------------------------


def listed(field: str) -> Choices:
    """A list in one field."""
    return lambda row: _list(row[field])


def fields(*names: str) -> Choices:
    """One field for each choice."""
    return lambda row: [row[name] for name in names]


def fixed(*texts: str) -> Choices:
    """The same choices for all rows."""
    return lambda _: texts


def in_order(*names: str) -> Choices:
    """One field for each, sorted by text where a release always puts the right one in one place."""
    return lambda row: sorted(str(row[name]) for name in names)


def keyed(row: Row) -> Sequence[object]:
    """`choices` as {"label": [...], "text": [...]}, as in ARC and its like."""
    return _list(_mapping(row["choices"])["text"])


def truthful(row: Row) -> Sequence[object]:
    """TruthfulQA's `mc1_targets`; it lists the right choice first, so they are sorted by text."""
    return sorted(map(str, _list(_mapping(row["mc1_targets"])["choices"])))


def math_options(row: Row) -> Sequence[object]:
    """MathQA's `options`: "a ) 38 , b ) 27.675 , c ) 30 , ...", each mark in its turn."""
    text, out, start = str(row["options"]), [], 0
    marks = list(_OPTION.finditer(text))
    wanted = iter(_LETTERS)
    letter = next(wanted)
    begin: int | None = None
    for mark in marks:
        if mark.group(1) != letter or mark.start() < start:
            continue
        if begin is not None:
            out.append(text[begin : mark.start()])
        begin, start, letter = mark.end(), mark.end(), next(wanted)
    if begin is None:
        raise ValueError(f"no options in {text!r}")
    out.append(text[begin:])
    return [o.strip(" ,") for o in out]


# the right one ------------------------------------------------------------------------------------


def index(field: str, *, first: int = 0) -> Answer:
    """A number, or its digits, counted from `first`; below it or empty where there is no label."""

    def read(row: Row, choices: Sequence[object]) -> int:
        value = row[field]
        if value is None or value == "" or int(str(value)) < first:
            raise UnlabelledError("the release gives no answer")
        return int(str(value)) - first

    return read


def truth(field: str) -> Answer:
    """False and true, as the first and the second choice."""

    def read(row: Row, choices: Sequence[object]) -> int:
        if not isinstance(row[field], bool):
            raise TypeError(f"{field!r} is {row[field]!r}, not true or false")
        return int(bool(row[field]))

    return read


def letter(field: str) -> Answer:
    """a, b, c, ..."""
    return lambda row, choices: _LETTERS.index(str(row[field]).strip().lower())


def key(row: Row, choices: Sequence[object]) -> int:
    """`answerKey`, one of the labels beside the choices (letters, or digits in some rows)."""
    if row["answerKey"] in ("", None):
        raise UnlabelledError("the release gives no answer")
    return _list(_mapping(row["choices"])["label"]).index(row["answerKey"])


def text(field: str) -> Answer:
    """The text of the right choice."""
    return lambda row, choices: list(choices).index(row[field])


def truthful_answer(row: Row, choices: Sequence[object]) -> int:
    """The one choice of `mc1_targets` that is labelled 1."""
    targets = _mapping(row["mc1_targets"])
    return list(choices).index(_list(targets["choices"])[_list(targets["labels"]).index(1)])


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} instead of an object")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{type(value).__name__} instead of a list")
    return list(value)

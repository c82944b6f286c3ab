"""One row of a file → one Question, strictly: what can't be read is one line that says why.

A row has these fields; any other is ignored:

    question   text, required
    answer     required: the index of the right choice (0 is the first) or its text;
               the reference text when there are no choices
    choices    list of distinct texts; absent or empty when the question is open-ended
    subject    text; "all" when absent
    id         text or integer; made from the file's name and the row when absent
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from howsure import strict_json
from howsure.errors import QuestionError
from howsure.types import Question

DEFAULT_SUBJECT = "all"

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RESERVED = ("macro", "pooled")
_FIELDS = ("id", "subject", "question", "choices", "answer")


class UnusableError(QuestionError):
    """A question that nobody could grade; in a published set it is left out, with the reason."""

    def __init__(self, message: str, question_id: str, reason: str) -> None:
        super().__init__(message)
        self.question_id = question_id
        self.reason = reason


def from_json(line: str, *, where: str, id: str) -> Question:
    """The question on one line of a JSONL file; `id` is used when the line gives none."""
    try:
        row = strict_json.loads(line)
    except ValueError as error:
        reason = getattr(error, "msg", None) or strict_json.reason(error)
        raise QuestionError(
            f"{where}: this is not JSON ({reason}); give one JSON object a line"
        ) from error
    if not isinstance(row, dict):
        raise QuestionError(
            f'{where}: {_kind(row)} instead of an object; write {{"question": ..., "answer": ...}}'
        )
    return from_mapping(row, where=where, id=id)


def from_mapping(row: Mapping[str, object], *, where: str, id: str) -> Question:
    """The question that the fields tell; see the module's docstring. Raises QuestionError."""
    id = _id(row.get("id"), where, id)
    text = _text(row.get("question"), "question", where)
    choices = _choices(row.get("choices"), where, id)
    answer = row.get("answer")
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        raise _no_reference(where)
    if isinstance(answer, str):
        reference = _by_text(_text(answer, "answer", where), choices, where)
    elif isinstance(answer, int) and not isinstance(answer, bool):
        reference = _by_index(answer, choices, where)
    else:
        raise QuestionError(
            f"{where}: the answer is {_kind(answer)}; give the index of the right choice, or a text"
        )
    return _question(where, id, row.get("subject"), text, choices, reference)


def from_csv(row: Mapping[str, str], *, where: str, id: str) -> Question:
    """The question in one row of a CSV file with a header.

    Choices stand in a column `choices` (a JSON list) or in columns A, B, C, ... (left empty at the
    end where there are fewer). The answer is then an index, or a column's letter, or the text; one
    that can be read in two ways with different results is refused.
    """
    lettered = [row[c] for c in _LETTERS if c in row]
    while lettered and not lettered[-1].strip():
        lettered.pop()
    listed = row.get("choices", "").strip()
    if lettered and listed:
        raise QuestionError(f"{where}: choices both in 'choices' and under letters; keep one")
    id = _id(row.get("id"), where, id)
    text = _text(row["question"], "question", where)
    choices = _choices(lettered or _json_list(listed, where), where, id)
    if not row["answer"].strip():
        raise _no_reference(where)
    reference = _from_csv_answer(row["answer"], choices, bool(lettered), where)
    return _question(where, id, row.get("subject"), text, choices, reference)


def from_hendrycks(fields: Sequence[str], *, where: str, id: str, subject: str) -> Question:
    """The question in a headerless row: question, four choices, and the right one's letter."""
    if len(fields) != 6:
        raise QuestionError(
            f"{where}: {len(fields)} columns; Hendrycks' layout has 6: question,A,B,C,D,letter"
        )
    text = _text(fields[0], "question", where)
    choices = _choices(list(fields[1:5]), where, id)
    letter = fields[5].strip()
    if not letter:
        raise _no_reference(where)
    if letter not in ("A", "B", "C", "D"):
        raise QuestionError(f"{where}: the answer is {letter!r}; it must be A, B, C or D")
    return _question(where, id, subject, text, choices, choices["ABCD".index(letter)])


def to_json(question: Question) -> str:
    """The line that `from_json` reads back as the same question."""
    answer: int | str = question.answer_index if question.choices else question.reference
    values = (question.id, question.subject, question.text, list(question.choices), answer)
    return json.dumps(dict(zip(_FIELDS, values, strict=True)), ensure_ascii=False)


def _id(given: object, where: str, derived: str) -> str:
    if given is None or given == "":
        return derived
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return _text(given, "id", where)


def _question(
    where: str, id: str, subject: object, text: str, choices: tuple[str, ...], reference: str
) -> Question:
    subject = DEFAULT_SUBJECT if subject is None or subject == "" else subject
    subject = _text(subject, "subject", where)
    if subject in _RESERVED:
        raise QuestionError(
            f"{where}: the subject {subject!r} is the name of a row of every scores table; "
            "give it another name"
        )
    try:
        return Question(id=id, subject=subject, text=text, reference=reference, choices=choices)
    except QuestionError as error:
        raise QuestionError(f"{where}: {error}") from error


def _text(value: object, field: str, where: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise QuestionError(f"{where}: {field!r} is missing or empty; give it a text")
    if not isinstance(value, str):
        raise QuestionError(f"{where}: {field!r} is {_kind(value)}; it must be a text in quotes")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise QuestionError(
            f"{where}: {field!r} holds half of a surrogate pair, which is no character; remove it"
        )
    return value


def _choices(value: object, where: str, id: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise QuestionError(f"{where}: 'choices' is {_kind(value)}; it must be a list of texts")
    choices = tuple(_text(c, f"choice {i}", where) for i, c in enumerate(value))
    seen: set[str] = set()
    for choice in choices:
        if choice.strip() in seen:
            raise UnusableError(
                f"{where}: the choice {choice!r} is there twice; remove or reword one, "
                "otherwise 'correct' is ambiguous",
                id,
                "the same choice twice",
            )
        seen.add(choice.strip())
    return choices


def _json_list(text: str, where: str) -> object:
    if not text:
        return None
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise QuestionError(
            f'{where}: \'choices\' is not a JSON list; write ["first", "second"]'
        ) from error


def _by_index(index: int, choices: tuple[str, ...], where: str) -> str:
    if not choices:
        raise QuestionError(
            f"{where}: the answer is the index {index}, but there are no choices; "
            "add them, or put the answer's text in quotes"
        )
    if not 0 <= index < len(choices):
        raise QuestionError(
            f"{where}: the answer index {index} is out of range; with {len(choices)} choices it "
            f"is one of 0 to {len(choices) - 1}"
        )
    return choices[index]


def _by_text(answer: str, choices: tuple[str, ...], where: str) -> str:
    if choices and answer not in choices:
        raise QuestionError(
            f"{where}: the answer {answer!r} is not among the choices; give the index of the right "
            "one (0 is the first), or its exact text"
        )
    return answer


def _from_csv_answer(answer: str, choices: tuple[str, ...], is_lettered: bool, where: str) -> str:
    """In CSV everything is text, so that "1" may be an index or a choice: take the one it is."""
    if not choices:
        return _text(answer, "answer", where)
    readings = {answer} & set(choices)
    token = answer.strip()
    if is_lettered and len(token) == 1 and token in _LETTERS[: len(choices)]:
        readings.add(choices[_LETTERS.index(token)])
    elif not is_lettered and token.isascii() and token.isdigit():
        if not readings:
            return _by_index(int(token[:9]), choices, where)
        if int(token[:9]) < len(choices):
            readings.add(choices[int(token[:9])])
    if len(readings) > 1:
        raise QuestionError(
            f"{where}: the answer {answer!r} names one choice and is the text of another; "
            "use a JSONL file, where an index is a number, or columns A, B, ... and a letter"
        )
    return readings.pop() if readings else _by_text(answer, choices, where)


def _no_reference(where: str) -> QuestionError:
    return QuestionError(
        f"{where}: a question without the reference; add its 'answer' (an index, or a text)"
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "a number", float: "a number with a point", type(None): "null"}
    return names.get(type(value), type(value).__name__)

"""The text that a model reads: question prompt, few-shot prefix, correctness query.

Pure text, no tokenizer. The wording is that of the published setting (Kapoor et al. 2024, section 4
and their released code), so that published adapters and numbers apply.

A chat model may be asked through its template instead (`lm/chat.py`): then the examples are turns
of a conversation (`few_shot_turns`), and special tokens that the template set are marked in the
text.

    few_shot_prefix ─┐
    question_prompt ─┴─ "... Answer:"  + " " + answer  + CORRECTNESS_QUERY  + " i" or " ii"
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from howsure.types import LETTERS, Question

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Around a special token that a chat template set. These code points are noncharacters: Unicode
keeps them for inside a program, no text has them, and `plain` takes them out of what others wrote.
"""

NO_BOS = _OPEN + _CLOSE
"""In front of a text that brings its own first token, so that no second one is put before it."""

MARKED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
"""A marked special token, its text as the group."""

CORRECTNESS_QUERY = "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
"""What follows question + answer; the model then says " i" (no) or " ii" (yes)."""

QUERY_OPTIONS = ("i", "ii")
"""The two replies to the correctness query, in the order (no, yes)."""


def marked(token: str) -> str:
    """A special token in a text, as such; written plainly it would be ordinary characters."""
    return f"{_OPEN}{token}{_CLOSE}"


def plain(text: str) -> str:
    """Untrusted text, without anything that could pass for a mark."""
    return text.replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd")


def question_prompt(question: Question, *, options: bool) -> str:
    """The question up to and including "Answer:", without few-shot examples.

    `options` lists the choices under letters (multiple choice by letter); otherwise the question
    stands alone (open-ended, and multiple choice by the options' text).
    """
    if not options:
        return f"Question: {plain(question.text)}\nAnswer:"
    listed = "\n".join(f"  ({LETTERS[i]}): {plain(c)}" for i, c in enumerate(question.choices))
    return f"Question:\n{plain(question.text)}\n\nChoices:\n{listed}\nAnswer:"


def answer_text(question: Question, *, options: bool) -> str:
    """What the reference answer looks like after the prompt: a letter, or the text."""
    return LETTERS[question.answer_index] if options else plain(question.reference)


def few_shot_prefix(subject: str, examples: Sequence[Question], *, options: bool) -> str:
    """The solved examples before the question; "" when there are none.

    `subject` is the machine name ("us_foreign_policy"); the text names it as
    "Us foreign policy", as the published prompts do. White space at the end of an example's answer
    is dropped, as there. The examples come in the order given, the same for all questions of the
    subject; the published prompts shuffle the five anew for each question.
    """
    if not examples:
        return ""
    shots = [
        f"{question_prompt(q, options=options)} {answer_text(q, options=options)}".strip() + "\n"
        for q in examples
    ]
    head = f"{_few_shot_head(subject, options=options)}\n"
    return "\n".join([head, *shots, "Now, answer the next question.\n\n"])


def few_shot_turns(
    subject: str, examples: Sequence[Question], *, options: bool
) -> list[tuple[str, str]]:
    """The solved examples as turns of a conversation: (what the user says, what is answered).

    The sentence that names the subject stands before the first question.
    """
    turns = [
        (question_prompt(q, options=options), answer_text(q, options=options)) for q in examples
    ]
    if turns:
        first, answered = turns[0]
        turns[0] = (f"{_few_shot_head(subject, options=options)}\n\n{first}", answered)
    return turns


def _few_shot_head(subject: str, *, options: bool) -> str:
    label = plain(subject).replace("_", " ").capitalize()
    kind = "multiple-choice questions" if options else "questions"
    return f"The following are {kind} (with answers) about {label}."


def correctness_query(prompt: str, answer: str) -> str:
    """The whole text after which the model says whether `answer` is correct."""
    return f"{prompt} {answer}{CORRECTNESS_QUERY}"

"""The text that a model reads: question prompt, few-shot prefix, correctness query.

Pure text, no tokenizer. The wording is that of the published setting (Kapoor et al. 2024, section 4
and their released code), so that published adapters and numbers apply.

    few_shot_prefix ─┐
    question_prompt ─┴─ "... Answer:"  + " " + answer  + CORRECTNESS_QUERY  + " i" or " ii"
"""

from __future__ import annotations

from collections.abc import Sequence

from howsure.types import LETTERS, Question

CORRECTNESS_QUERY = "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
"""What follows question + answer; the model then says " i" (no) or " ii" (yes)."""

QUERY_OPTIONS = ("i", "ii")
"""The two replies to the correctness query, in the order (no, yes)."""


def question_prompt(question: Question, *, options: bool) -> str:
    """The question up to and including "Answer:", without few-shot examples.

    `options` lists the choices under letters (multiple choice by letter); otherwise the question
    stands alone (open-ended, and multiple choice by the options' text).
    """
    if not options:
        return f"Question: {question.text}\nAnswer:"
    listed = "\n".join(f"  ({LETTERS[i]}): {c}" for i, c in enumerate(question.choices))
    return f"Question:\n{question.text}\n\nChoices:\n{listed}\nAnswer:"


def answer_text(question: Question, *, options: bool) -> str:
    """What the reference answer looks like after the prompt: a letter, or the text."""
    return LETTERS[question.answer_index] if options else question.reference


def few_shot_prefix(subject: str, examples: Sequence[Question], *, options: bool) -> str:
    """The solved examples before the question; "" when there are none.

    `subject` is the machine name ("us_foreign_policy"); the text names it as
    "Us foreign policy", as the published prompts do. White space at the end of an example's answer
    is dropped, as there. The examples come in the order given, the same for all questions of the
    subject; the published prompts shuffle the five anew for each question.
    """
    if not examples:
        return ""
    label = subject.replace("_", " ").capitalize()
    kind = "multiple-choice questions" if options else "questions"
    shots = [
        f"{question_prompt(q, options=options)} {answer_text(q, options=options)}".strip() + "\n"
        for q in examples
    ]
    head = f"The following are {kind} (with answers) about {label}.\n"
    return "\n".join([head, *shots, "Now, answer the next question.\n\n"])


def correctness_query(prompt: str, answer: str) -> str:
    """The whole text after which the model says whether `answer` is correct."""
    return f"{prompt} {answer}{CORRECTNESS_QUERY}"

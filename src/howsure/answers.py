"""Ask a model; grade what it said. questions → answers → graded answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from howsure.asking import Asked, Asking, ask
from howsure.errors import QuestionError, UnknownName
from howsure.grading import is_match
from howsure.lm import AnswerTokens, Hidden, Next, Options, Passage, Place, Want
from howsure.prompts import plain
from howsure.types import LETTERS, Answer, ChooseBy, Format, GradedAnswer, Question

if TYPE_CHECKING:
    from howsure.lm.seam import Model, Wave

Progress = Callable[[int, int], None]

MAX_TOKENS = 30
"""Longest open-ended answer; the published setting (Kapoor et al. 2024, appendix on data)."""

NO_LETTER = "no_letter_said"
"""Why an answer can't be used: from a server that tells no probabilities, a reply that is no
letter."""


def answer(
    lm: Model,
    questions: Sequence[Question],
    *,
    format: Format,
    choose_by: ChooseBy = "letter",
    asking: Asking | None = None,
    examples: Mapping[str, Sequence[Question]] | None = None,
    max_tokens: int = MAX_TOKENS,
    also: Sequence[Want] = (),
    on_progress: Progress | None = None,
) -> list[Answer]:
    """The model's greedy answer to each question, in their order.

    `format="open"`: free text, its first line (`lm.stops`), of up to `max_tokens` tokens.
    `format="choice"`: one of the options; `choose_by="letter"` shows them under letters and takes
    the likeliest letter (the published setting), `choose_by="text"` takes the option whose own
    text is likeliest per token after the bare question, for models too small for letters.
    `asking` says how questions become prompts (chat template, order of examples, long prompts);
    `examples` holds the few-shot examples of each subject. `also` is what estimators will ask of
    the bare model about these answers (`methods.wants`): it is read while the question is at hand
    and kept in `lm.readings`, so that no token is read twice. Raises QuestionError for a question
    without choices in "choice", ModelError when a prompt is longer than the model's context.
    """
    if format not in ("open", "choice"):
        raise UnknownName("format", format, ("open", "choice"))
    if choose_by not in ("letter", "text"):
        raise UnknownName("way to choose", choose_by, ("letter", "text"))
    if not questions:
        return []
    letters = format == "choice" and choose_by == "letter"
    if format == "choice":
        for q in questions:
            if not q.choices:
                raise QuestionError(
                    f"question {q.id!r} has no choices; give it some, or ask with --format open"
                )
    asked = ask(
        lm,
        questions,
        examples or {},
        asking or Asking(),
        options=letters,
        max_tokens=max_tokens if format == "open" else _longest_choice(lm, questions, letters),
    )
    out: dict[int, Answer] = {}
    told = lm.tells_probabilities((asking or Asking()).chat)
    first = Options(Place.QUESTION, _letters(questions)) if letters else Hidden(Place.QUESTION)
    then: Next = "generate" if format == "open" else "read" if not letters or also else "nothing"
    for wave in lm.waves([a.passage for a in asked], [first], then=then):
        if format == "open":
            made = _open(lm, questions, asked, wave, max_tokens)
        elif letters and not told:
            made = _by_letter_said(lm, questions, asked, wave)
        elif letters:
            made = _by_letter(lm, questions, asked, wave)
        else:
            made = _by_text(lm, questions, asked, wave)
        _keep(lm, wave, made, also)
        out |= dict(zip(wave.index, made, strict=True))
        if on_progress:
            on_progress(len(out), len(questions))
    return [out[i] for i in range(len(questions))]


def grade(questions: Sequence[Question], answers: Sequence[Answer]) -> list[GradedAnswer]:
    """Grade each answer against its question's reference, exactly (choice) or by normalised match.

    Raises QuestionError when an answer belongs to none of the questions.
    """
    by_id = {q.id: q for q in questions}
    graded = []
    for a in answers:
        if a.question_id not in by_id:
            raise QuestionError(
                f"answer to {a.question_id!r}: there is no such question to grade by"
            )
        q = by_id[a.question_id]
        if a.format == "choice":
            graded.append(GradedAnswer(a, a.choice == q.answer_index, "exact"))
        else:
            graded.append(GradedAnswer(a, is_match(a.text, q.reference, q.choices), "match"))
    return graded


def _new(lm: Model, question: Question, asked: Asked, text: str, format: Format) -> Answer:
    passage = asked.passage
    return Answer(
        question_id=question.id,
        subject=question.subject,
        prompt=passage.prefix + passage.question,
        text=text,
        model=lm.name,
        format=format,
        prefix=passage.prefix,
        lead=passage.lead,
        query=passage.query or None,
        dropped_shots=asked.dropped_shots,
    )


def _open(
    lm: Model,
    questions: Sequence[Question],
    asked: Sequence[Asked],
    wave: Wave,
    max_tokens: int,
) -> list[Answer]:
    out = []
    for i, g in zip(wave.index, wave.generate(max_tokens), strict=True):
        total = g.log_probability
        finite = total is not None and np.isfinite(total)
        out.append(
            _replace(
                _new(lm, questions[i], asked[i], g.text, "open"),
                likelihood=float(np.exp(min(0.0, total / g.tokens)))
                if total is not None and finite
                else None,
                note="" if finite or total is None else lm.unknown,
            )
        )
    return out


def _letters(questions: Sequence[Question]) -> tuple[str, ...]:
    return tuple(LETTERS[: max(len(q.choices) for q in questions)])


def _by_letter(
    lm: Model, questions: Sequence[Question], asked: Sequence[Asked], wave: Wave
) -> list[Answer]:
    out = []
    for i, row in zip(wave.index, wave.values[0].astype(np.float64), strict=True):
        own = row[: len(questions[i].choices)]
        chosen, likelihood = _softmax_choice(own)
        mass = float(min(1.0, np.exp(own).sum())) if likelihood is not None else None
        out.append(
            _replace(
                _new(lm, questions[i], asked[i], LETTERS[chosen], "choice"),
                choose_by="letter",
                choice=chosen,
                likelihood=likelihood,
                option_mass=mass,
                note="" if likelihood is not None else lm.unknown,
            )
        )
    return out


def _by_letter_said(
    lm: Model, questions: Sequence[Question], asked: Sequence[Asked], wave: Wave
) -> list[Answer]:
    """The letter that was said, of a model whose probabilities are not told."""
    out = []
    for i, letter in zip(wave.index, wave.letters(), strict=True):
        own = LETTERS[: len(questions[i].choices)]
        said = letter if letter and letter in own else None
        out.append(
            _replace(
                _new(lm, questions[i], asked[i], said or LETTERS[0], "choice"),
                choose_by="letter",
                choice=LETTERS.index(said) if said else 0,
                likelihood=None,
                note="" if said else NO_LETTER,
            )
        )
    return out


def _by_text(
    lm: Model, questions: Sequence[Question], asked: Sequence[Asked], wave: Wave
) -> list[Answer]:
    each = [
        (k, replace(asked[i].passage, answer=asked[i].passage.lead + plain(choice)))
        for k, i in enumerate(wave.index)
        for choice in questions[i].choices
    ]
    (spans,) = wave.read(each, [AnswerTokens()])
    per_token = spans[:, 0].astype(np.float64) / np.maximum(spans[:, 1], 1.0)
    out, start = [], 0
    for i in wave.index:
        choices = questions[i].choices
        chosen, likelihood = _softmax_choice(per_token[start : start + len(choices)])
        start += len(choices)
        out.append(
            _replace(
                _new(lm, questions[i], asked[i], choices[chosen], "choice"),
                choose_by="text",
                choice=chosen,
                likelihood=likelihood,
                note="" if likelihood is not None else lm.unknown,
            )
        )
    return out


def _keep(lm: Model, wave: Wave, made: Sequence[Answer], also: Sequence[Want]) -> None:
    """Read on from the usable answers, and remember what was read."""
    usable = [(k, Passage.of(a)) for k, a in enumerate(made) if not a.note]
    if not also or not usable:
        return
    begin = time.perf_counter()
    for want, values in zip(also, wave.read(usable, also), strict=True):
        lm.readings.put([p for _, p in usable], want, values)
    lm.readings.seconds += time.perf_counter() - begin


def _longest_choice(lm: Model, questions: Sequence[Question], letters: bool) -> int:
    """Tokens of the longest answer that a choice can be."""
    if letters:
        return 1
    texts = [f" {plain(c)}" for q in questions for c in q.choices]
    return max(lm.lengths(texts))


def _softmax_choice(scores: NDArray[np.float64]) -> tuple[int, float | None]:
    """The best option, and its share under a softmax; (0, None) when a score isn't finite."""
    if not np.isfinite(scores).all():
        return 0, None
    weights = np.exp(scores - scores.max())
    chosen = int(scores.argmax())
    return chosen, float(weights[chosen] / weights.sum())


def _replace(
    answer: Answer,
    *,
    likelihood: float | None,
    note: str,
    choose_by: ChooseBy | None = None,
    choice: int | None = None,
    option_mass: float | None = None,
) -> Answer:
    return replace(
        answer,
        likelihood=likelihood,
        note=note,
        choose_by=choose_by,
        choice=choice,
        option_mass=option_mass,
    )

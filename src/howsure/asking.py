"""From questions to prompts: plain text or a conversation, with as many solved examples as fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Literal

from howsure.errors import ModelError, UnknownName
from howsure.lm import Passage, Place
from howsure.lm.chat import CHAT_MODES, ChatMode, Frame, Template
from howsure.prompts import CORRECTNESS_QUERY, few_shot_prefix, few_shot_turns, question_prompt
from howsure.types import Question

if TYPE_CHECKING:
    from howsure.lm.seam import Model

LongPrompts = Literal["refuse", "drop-shots"]
LONG_PROMPTS: tuple[LongPrompts, ...] = ("refuse", "drop-shots")


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions become prompts. Raises UnknownName for a mode that there isn't."""

    chat: ChatMode = "auto"
    """Through the chat template: "auto" for chat models, "on", or "off" (as published)."""
    shuffle: int | None = None
    """A seed: each question has its examples in an order of its own (as published); None: the same
    order for all questions of the subject, which lets them share the reading of it."""
    long_prompts: LongPrompts = "refuse"
    """What to do with a prompt longer than the model's context: refuse it, or leave out examples,
    the first of them first. A question is never cut."""

    def __post_init__(self) -> None:
        if self.chat not in CHAT_MODES:
            raise UnknownName("chat mode", self.chat, CHAT_MODES)
        if self.long_prompts not in LONG_PROMPTS:
            raise UnknownName("way with long prompts", self.long_prompts, LONG_PROMPTS)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's prompt, and how many of its examples had to be left out."""

    passage: Passage
    dropped_shots: int = 0


def ask(
    lm: Model,
    questions: Sequence[Question],
    examples: Mapping[str, Sequence[Question]],
    asking: Asking,
    *,
    options: bool,
    max_tokens: int,
) -> list[Asked]:
    """The prompts, in the order of the questions. `max_tokens` is the longest answer's length.

    Raises ModelError when a prompt with its answer and the correctness query does not fit into the
    model's context: any such one, or, when examples may be left out, one that has none left.
    """
    make = _maker(lm.prompting(asking.chat).chat, options=options)
    shots = [_shots(q, examples.get(q.subject, ()), asking.shuffle) for q in questions]
    made = [Asked(make(q, s)) for q, s in zip(questions, shots, strict=True)]
    for i, too_long in enumerate(_excess(lm, [a.passage for a in made], max_tokens)):
        if too_long > 0:
            made[i] = _shortened(lm, questions[i], shots[i], asking, make, max_tokens)
    return made


Make = Callable[[Question, Sequence[Question]], Passage]


def _maker(chat: Template | None, *, options: bool) -> Make:
    """A function that writes the prompt of a question after some examples, in their order."""

    def plain_text(q: Question, shots: Sequence[Question]) -> Passage:
        return Passage(prefix(q.subject, tuple(shots)), question_prompt(q, options=options))

    def conversation(q: Question, shots: Sequence[Question]) -> Passage:
        assert chat is not None
        turns = frame(q.subject, tuple(shots))
        asked = turns.question(question_prompt(q, options=options))
        return Passage(turns.prefix, asked, lead=chat.lead, query=chat.query)

    @cache
    def prefix(subject: str, shots: tuple[Question, ...]) -> str:
        return few_shot_prefix(subject, shots, options=options)

    @cache
    def frame(subject: str, shots: tuple[Question, ...]) -> Frame:
        assert chat is not None
        return chat.frame(few_shot_turns(subject, shots, options=options))

    return plain_text if chat is None else conversation


def _shots(q: Question, shots: Sequence[Question], seed: int | None) -> Sequence[Question]:
    if seed is None:
        return shots
    order = list(shots)
    Random(f"{seed}/{q.id}").shuffle(order)
    return order


def _excess(lm: Model, passages: Sequence[Passage], max_tokens: int) -> list[int]:
    """By how many tokens each prompt is too long, with its answer and the query after it."""
    query = passages[0].query or CORRECTNESS_QUERY if passages else ""
    reserve = max_tokens + lm.lengths([query])[0] + 1

    def text(i: int) -> str:
        return passages[i].upto(Place.QUESTION)

    # No tokenizer makes more tokens than there are bytes (and one in front): most are short enough.
    indices = range(len(passages))
    near = [i for i in indices if len(text(i).encode()) + 1 + reserve > lm.context]
    out = [0] * len(passages)
    for i, length in zip(near, lm.lengths(map(text, near)), strict=True):
        out[i] = max(0, length + reserve - lm.context)
    return out


def _shortened(
    lm: Model,
    q: Question,
    shots: Sequence[Question],
    asking: Asking,
    make: Make,
    max_tokens: int,
) -> Asked:
    """The prompt after the most examples with which it fits."""
    drops = len(shots) if asking.long_prompts == "drop-shots" else 0
    excess = _excess(lm, [make(q, shots)], max_tokens)[0]
    for dropped in range(1, drops + 1):
        passage = make(q, shots[dropped:])
        excess = _excess(lm, [passage], max_tokens)[0]
        if excess == 0:
            return Asked(passage, dropped)
    remedy = "it has no examples that could go; take the question out"
    if shots and not drops:
        remedy = "use fewer --shots, or --long-prompts drop-shots"
    without = " even without examples" if drops else ""
    raise ModelError(
        f"question {q.id!r}: prompt, answer and correctness query need {lm.context + excess} "
        f"tokens{without}, but model {lm.name!r} takes at most {lm.context}; {remedy}"
    )

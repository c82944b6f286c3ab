"""The quickstart quiz: checkable questions that code generates, with the exact answer.

Which split a question belongs to follows from a hash of its text, so the splits are disjoint by
construction, whoever draws from them and in whatever order: the embedded models are trained on
`corpus`, estimators on `train`, temperatures on `val`, and scores come from `test`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Literal

from howsure.errors import UnknownName
from howsure.questions.quiz import facts, mistakes, skills
from howsure.questions.quiz.skills import Item
from howsure.types import Question

Split = Literal["corpus", "train", "val", "test"]

# Upper bound of each split's share of the hash range.
_BOUNDS: dict[Split, float] = {"corpus": 0.50, "train": 0.70, "val": 0.78, "test": 1.0}

# In the corpus, the last row of a fact table is drawn exp(-6) = 1/400 times as often as the first.
_CORPUS_DECAY = 6.0

_FACTS = {
    facts.element_symbols: "Facts",
    facts.atomic_numbers: "Facts",
    facts.capitals: "Facts",
    facts.continents: "Facts",
    facts.past_tenses: "Facts",
}
_SKILLS = {
    skills.addition: "Arithmetic",
    skills.multiplication: "Arithmetic",
    skills.division: "Arithmetic",
    skills.remainder: "Arithmetic",
    skills.rounding: "Arithmetic",
    skills.largest: "Numbers",
    skills.digit_sum: "Numbers",
    skills.common_divisor: "Numbers",
    skills.prime_factor: "Numbers",
    skills.sequences: "Numbers",
    skills.to_roman: "Notation",
    skills.from_roman: "Notation",
    skills.spelled_numbers: "Notation",
    skills.alphabet: "Letters",
    skills.reversal: "Letters",
    skills.letter_sorting: "Letters",
    skills.weekdays: "Time and measures",
    skills.clock: "Time and measures",
    skills.units: "Time and measures",
    skills.bit_flips: "Logic",
    skills.sets: "Logic",
    skills.ordering: "Logic",
    skills.truth_values: "Logic",
}

CATEGORIES: dict[str, str] = {
    draw.__name__: category for draw, category in (*_SKILLS.items(), *_FACTS.items())
}
"""Subject → category, in the order in which pictures show them."""

SUBJECTS: tuple[str, ...] = tuple(CATEGORIES)


def split_of(text: str) -> Split:
    """The split that a question text belongs to, by its hash."""
    digest = hashlib.blake2b(text.strip().lower().encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return next(split for split, bound in _BOUNDS.items() if share < bound)


def _drawers(decay: float) -> dict[str, Callable[[Random], Item]]:
    drawers: dict[str, Callable[[Random], Item]] = {draw.__name__: draw for draw in _SKILLS}
    drawers |= {draw.__name__: functools.partial(draw, decay=decay) for draw in _FACTS}
    return drawers


def _to_question(item: Item, id: str, subject: str, rng: Random) -> Question:
    choices = [item.answer, *item.wrong]
    rng.shuffle(choices)
    return Question(
        id=id, subject=subject, text=item.text, reference=item.answer, choices=tuple(choices)
    )


_DRY = 20_000
"""A split is taken to be exhausted after so many draws in a row without a new question."""


def quiz(split: Split, per_subject: int, *, seed: int = 0) -> list[Question]:
    """`per_subject` distinct questions of each subject, grouped by subject.

    A subject whose split holds fewer gives those (division, the smallest, has some 220 in `train`
    and 85 in `val`). Raises UnknownName for an unknown split. The same arguments give the same
    questions.
    """
    if split not in _BOUNDS:
        raise UnknownName("quiz split", split, _BOUNDS)
    questions = []
    for subject, draw in _drawers(decay=0.0).items():
        rng = Random(f"{seed}/{split}/{subject}")
        seen: set[str] = set()
        barren = 0
        while len(seen) < per_subject and barren < _DRY:
            item = draw(rng)
            barren += 1
            if item.text in seen or split_of(item.text) != split:
                continue
            barren = 0
            seen.add(item.text)
            id = f"quiz/{subject}/{split}/{len(seen) - 1}"
            question = _to_question(item, id, subject, rng)
            questions.append(_with_mistakes(question))
    return questions


def _with_mistakes(question: Question) -> Question:
    """The same question, its wrong options replaced by mistakes.

    The corpus keeps the slips that it was made of: the embedded models have learned from them.
    """
    rng = Random(f"mistakes/{question.text}")
    slips = [c for c in question.choices if c != question.reference]
    wrong = mistakes.three(question.subject, question.text, question.reference, slips, rng)
    choices = (question.reference, *wrong)
    return replace(question, choices=tuple(rng.sample(choices, len(choices))))


def corpus(seed: int) -> Iterator[Question]:
    """Endless questions of the `corpus` split, all subjects alike: what embedded models learn."""
    rng = Random(seed)
    drawers = list(_drawers(_CORPUS_DECAY).items())
    for i in range(2**63):
        subject, draw = rng.choice(drawers)
        item = draw(rng)
        while split_of(item.text) != "corpus":
            item = draw(rng)
        yield _to_question(item, f"quiz/{subject}/corpus/{i}", subject, rng)

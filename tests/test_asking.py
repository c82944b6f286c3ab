"""Which examples stand before a question, in which order, and how many of them fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import make_model, make_tokenizer

from howsure.answers import answer
from howsure.asking import Asking, ask
from howsure.errors import ModelError, UnknownName
from howsure.lm import Passage, Place
from howsure.lm.model import LanguageModel
from howsure.prompts import CORRECTNESS_QUERY
from howsure.spec import build
from howsure.types import Question

CHOICES = ("Rhine", "Nile", "Main", "Po")


def question(text: str) -> Question:
    return Question(text, "rivers", text, CHOICES[1], CHOICES)


SHOTS = tuple(question(f"Shot number {i}?") for i in range(5))
QUESTIONS = [question(f"Which is river {i}?") for i in range(6)]


@pytest.fixture(scope="module")
def narrow() -> LanguageModel:
    """A model with room for some 400 tokens."""
    model = make_model("llama")
    model.config.max_position_embeddings = 400
    return LanguageModel(model, make_tokenizer(), name="narrow")


def asked(lm: LanguageModel, questions: list[Question], asking: Asking) -> list[Passage]:
    made = ask(lm, questions, {"rivers": SHOTS}, asking, options=True, max_tokens=1)
    return [a.passage for a in made]


def order(passage: Passage) -> list[str]:
    return [s.text for s in sorted(SHOTS, key=lambda s: passage.prefix.index(s.text))]


def test_examples_come_as_given_unless_they_are_shuffled(make_lm: Callable) -> None:
    lm = make_lm("llama")
    fixed = asked(lm, QUESTIONS, Asking())
    assert {p.prefix for p in fixed} == {fixed[0].prefix}
    assert order(fixed[0]) == [s.text for s in SHOTS]
    mixed = asked(lm, QUESTIONS, Asking(shuffle=7))
    orders = [order(p) for p in mixed]
    assert len({tuple(o) for o in orders}) > 3
    assert all(sorted(o) == sorted(order(fixed[0])) for o in orders)
    # The order is the question's own: it hangs on neither the others nor their order.
    again = asked(lm, QUESTIONS[::-1], Asking(shuffle=7))[::-1]
    assert again == mixed
    assert asked(lm, QUESTIONS, Asking(shuffle=8)) != mixed


def test_too_long_a_prompt_is_refused_or_loses_examples(narrow: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"takes at most 400; use fewer --shots, or --long"):
        asked(narrow, QUESTIONS, Asking())
    made = ask(
        narrow,
        [*QUESTIONS, question("Long " * 20)],
        {"rivers": SHOTS},
        Asking(long_prompts="drop-shots"),
        options=True,
        max_tokens=1,
    )
    dropped = [a.dropped_shots for a in made]
    assert 0 < dropped[0] < dropped[-1] <= 5
    for a in made:
        p = a.passage
        whole = Passage(p.prefix, p.question, " a", CORRECTNESS_QUERY).upto(Place.QUERY)
        assert len(narrow.tokens.encode([whole])[0]) < narrow.context
        kept = [s.text for s in SHOTS[a.dropped_shots :]]
        assert [s.text for s in SHOTS if s.text in p.prefix] == kept
    assert made[-1].passage.question.count("Long") == 20


def test_a_question_is_never_cut(narrow: LanguageModel) -> None:
    with pytest.raises(
        ModelError, match=r"even without examples.*no examples that could go; take the question out"
    ):
        asked(narrow, [question("Long " * 400)], Asking(long_prompts="drop-shots"))


def test_answers_say_how_many_examples_they_lack(narrow: LanguageModel) -> None:
    drop = Asking(long_prompts="drop-shots")
    for format in ("choice", "open"):
        made = answer(
            narrow, QUESTIONS, format=format, examples={"rivers": SHOTS}, asking=drop, max_tokens=3
        )
        assert all(a.dropped_shots > 0 for a in made) == (format == "choice")
    (text,) = answer(narrow, QUESTIONS[:1], format="choice", choose_by="text", asking=drop)
    assert text.dropped_shots == 0


def test_unknown_modes() -> None:
    with pytest.raises(UnknownName, match="unknown chat mode 'maybe'"):
        build(None, {"chat": "maybe"})
    with pytest.raises(UnknownName, match="unknown way with long prompts 'cut'"):
        build(None, {"long_prompts": "cut"})
    for changes in ({"chat": "sure"}, {"long_prompts": "x"}):
        with pytest.raises(UnknownName):
            Asking(**changes)
    spec = build(None, {"shuffle_shots": True, "seed": 3, "chat": "on"})
    assert spec.asking == Asking("on", 3)

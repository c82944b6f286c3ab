"""Answers and their grades, against plain forward passes and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer

from howsure.answers import answer, grade
from howsure.errors import ModelError, QuestionError, UnknownName
from howsure.lm import Hidden, Options, Passage, Place
from howsure.lm.model import LanguageModel
from howsure.prompts import few_shot_prefix, question_prompt
from howsure.types import LETTERS, Question

QUESTIONS = [
    Question("q0", "facts", "Which city?", "Paris", ("Rome", "Paris", "Oslo", "Bern")),
    Question("q1", "facts", "What is 1+1?", "2", ("1", "2")),
    Question("q2", "more", "Which of the " + "many " * 30 + "is it?", "a b", ("a b", "c", "d d d")),
]
SHOTS = {"facts": [Question("d0", "facts", "And this?", "so", ("so", "not"))]}


def logits_after(lm: LanguageModel, text: str) -> torch.Tensor:
    with torch.inference_mode():
        return lm._model(input_ids=torch.tensor(lm.tokens.encode([text]))).logits[0].double()


def test_by_letter(lm: LanguageModel) -> None:
    answers = answer(lm, QUESTIONS, format="choice", examples=SHOTS)
    for q, a in zip(QUESTIONS, answers, strict=True):
        prefix = few_shot_prefix(q.subject, SHOTS.get(q.subject, ()), options=True)
        prompt = prefix + question_prompt(q, options=True)
        assert (a.prompt, a.prefix, a.question_id) == (prompt, prefix, q.id)
        letters = LETTERS[: len(q.choices)]
        ids = [lm.tokens.encode([f"{prompt} {letter}"])[0][-1] for letter in letters]
        p = logits_after(lm, prompt)[-1].softmax(-1)[ids]
        assert a.choice == int(p.argmax())
        assert a.text == letters[a.choice]
        assert a.likelihood == pytest.approx(float(p.max() / p.sum()), abs=1e-5)
        assert a.option_mass == pytest.approx(float(p.sum()), abs=1e-5)


def test_by_text(lm: LanguageModel) -> None:
    answers = answer(lm, QUESTIONS, format="choice", choose_by="text")
    for q, a in zip(QUESTIONS, answers, strict=True):
        prompt = question_prompt(q, options=False)
        assert a.prompt == prompt
        start = len(lm.tokens.encode([prompt])[0])
        scores = []
        for choice in q.choices:
            ids = lm.tokens.encode([f"{prompt} {choice}"])[0]
            logp = logits_after(lm, f"{prompt} {choice}").log_softmax(-1)
            scores.append(np.mean([float(logp[t - 1, ids[t]]) for t in range(start, len(ids))]))
        p = np.exp(scores) / np.exp(scores).sum()
        assert a.choice == int(np.argmax(p))
        assert a.text == q.choices[a.choice]
        assert a.likelihood == pytest.approx(p.max(), abs=1e-5)


def test_open_answers_carry_their_likelihood(lm: LanguageModel) -> None:
    answers = answer(lm, QUESTIONS, format="open", max_tokens=5)
    for q, a in zip(QUESTIONS, answers, strict=True):
        assert a.prompt == question_prompt(q, options=False)
        assert a.choice is None
        assert "\n" not in a.text
        assert a.likelihood is not None
        assert 0 < a.likelihood <= 1


def test_an_answer_alone_is_the_same_as_in_a_batch(lm: LanguageModel) -> None:
    for how in ({"format": "open", "max_tokens": 5}, {"format": "choice", "choose_by": "text"}):
        together = answer(lm, QUESTIONS * 2, **how)
        for q, a in zip(QUESTIONS, together, strict=False):
            (single,) = answer(lm, [q], **how)
            assert single.text == a.text
            assert single.likelihood == pytest.approx(a.likelihood, abs=1e-5)


def test_grades(lm: LanguageModel) -> None:
    answers = answer(lm, QUESTIONS, format="choice", choose_by="text")
    right = [replace(a, choice=q.answer_index) for a, q in zip(answers, QUESTIONS, strict=True)]
    wrong = [
        replace(a, choice=(q.answer_index + 1) % len(q.choices))
        for a, q in zip(answers, QUESTIONS, strict=True)
    ]
    assert [g.is_correct for g in grade(QUESTIONS, right)] == [True] * 3
    assert [g.is_correct for g in grade(QUESTIONS, wrong)] == [False] * 3
    said = replace(answers[0], format="open", choice=None, text=" paris. ")
    (g,) = grade(QUESTIONS, [said])
    assert (g.is_correct, g.grader) == (True, "match")
    assert not grade(QUESTIONS, [replace(said, text="Rome")])[0].is_correct
    with pytest.raises(QuestionError, match="no such question"):
        grade(QUESTIONS[1:], [said])


def test_bad_requests(lm: LanguageModel) -> None:
    bare = Question("q9", "facts", "Why?", "because")
    with pytest.raises(QuestionError, match="'q9' has no choices"):
        answer(lm, [bare], format="choice")
    with pytest.raises(UnknownName, match="format 'essay'"):
        answer(lm, [bare], format="essay")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="choose 'coin'"):
        answer(lm, QUESTIONS, format="choice", choose_by="coin")  # type: ignore[arg-type]
    letters = LanguageModel(make_model("llama"), make_tokenizer(merges=("ii",)), name="m")
    many = tuple(f"{i}" for i in range(4))
    split = Question("q8", "facts", "Which?", "1", many)
    answer(letters, [split], format="choice", choose_by="text")
    assert answer(lm, [], format="open") == []


def test_a_tokenizer_that_splits_an_option_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lm = LanguageModel(
        make_model("llama"), PreTrainedTokenizerFast(tokenizer_object=core), name="bytes"
    )
    with pytest.raises(ModelError, match=r"makes 2 tokens of the option ' a' after 'Answer:'"):
        answer(lm, QUESTIONS, format="choice")


def test_numbers_that_are_not_finite_are_marked_not_scored(make_lm) -> None:
    lm = make_lm("llama")
    honest = lm.waves

    def broken(passages, wants, **rest):
        for wave in honest(passages, wants, **rest):
            wave.values[0][[i == 0 for i in wave.index]] = np.nan
            yield wave

    lm.waves = broken
    first, second, _ = answer(lm, QUESTIONS, format="choice")
    assert (first.likelihood, first.option_mass, first.note) == (None, None, "nonfinite_logits")
    assert second.note == ""


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize(
    "how",
    [
        {"format": "open", "max_tokens": 6},
        {"format": "choice", "examples": SHOTS},
        {"format": "choice", "choose_by": "text"},
    ],
)
def test_what_is_read_with_the_answers_is_what_would_be_read_later(make_lm, how, engine) -> None:
    lm, later = make_lm("llama", engine=engine), make_lm("llama", engine=engine)
    wants = (Options(Place.QUERY, ("i", "ii")), Hidden(Place.ANSWER), Hidden(Place.ANSWER, 1))
    answers = answer(lm, QUESTIONS, **how, also=wants)
    assert answers == answer(later, QUESTIONS, **how)
    passages = [Passage.of(a) for a in answers]
    before = lm.tokens_read
    kept = lm.read(passages, wants)
    assert lm.tokens_read == before
    for mine, theirs in zip(kept, later.read(passages, wants), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)

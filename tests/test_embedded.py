"""The models that ship with the package: sound files, long prompts, knowledge of some things."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from howsure import lm as seam
from howsure.answers import answer, grade
from howsure.lm import Hidden, Options, Passage, Place
from howsure.lm.loading import find_checkpoint
from howsure.lm.model import LanguageModel
from howsure.prompts import CORRECTNESS_QUERY, QUERY_OPTIONS, few_shot_prefix
from howsure.questions.quiz import SUBJECTS, quiz
from howsure.types import Question

NAMES = (
    "tiny-llama-s",
    "tiny-llama-s-chat",
    "tiny-llama-l",
    "tiny-llama-l-chat",
    "tiny-mistral",
    "tiny-mistral-instruct",
)


@pytest.fixture(scope="module", params=NAMES)
def embedded(request: pytest.FixtureRequest) -> LanguageModel:
    return seam.load(request.param, device="cpu")


def test_all_six_ship() -> None:
    assert seam.embedded_names() == NAMES


def test_files_are_small_and_safe(embedded: LanguageModel) -> None:
    folder = find_checkpoint(embedded.name)
    files = {f.name: f.stat().st_size for f in folder.iterdir()}
    assert sum(files.values()) < 4 << 20
    assert {Path(f).suffix for f in files} <= {".json", ".safetensors", ".md", ".jinja"}
    card = (folder / "README.md").read_text()
    for word in ("apache-2.0", "tokens", "steps", "SHA-256", "| addition |"):
        assert word in card
    record = json.loads((folder / "training.json").read_text())
    assert set(record["accuracy"]["open"]) == {"all", *SUBJECTS}


def test_knows_some_things_and_not_others(embedded: LanguageModel) -> None:
    """On 20 validation questions of each subject; the card has the whole count."""
    questions = quiz("val", 20)
    graded = grade(questions, answer(embedded, questions, format="open"))
    by_subject = {s: [g.is_correct for g in graded if g.answer.subject == s] for s in SUBJECTS}
    shares = np.array([np.mean(v) for v in by_subject.values()])
    assert 0.40 < shares.mean() < 0.75
    assert (shares < 0.3).any()
    assert (shares > 0.8).any()
    record = json.loads((find_checkpoint(embedded.name) / "training.json").read_text())
    assert shares.mean() == pytest.approx(record["accuracy"]["open"]["all"], abs=0.06)


def test_multiple_choice_is_neither_hopeless_nor_solved(embedded: LanguageModel) -> None:
    """By option text, on 10 validation questions of each subject; the card has the whole count."""
    record = json.loads((find_checkpoint(embedded.name) / "training.json").read_text())
    measured = record["accuracy"]["text"]
    assert 0.25 < measured["all"] < 0.75
    assert min(measured[s] for s in SUBJECTS) < 0.25 < 0.95 < max(measured[s] for s in SUBJECTS)
    questions = quiz("val", 10)
    graded = grade(questions, answer(embedded, questions, format="choice", choose_by="text"))
    share = np.mean([g.is_correct for g in graded])
    assert share == pytest.approx(measured["all"], abs=0.08)


def test_grades_itself_better_than_chance(embedded: LanguageModel) -> None:
    record = json.loads((find_checkpoint(embedded.name) / "training.json").read_text())
    assert record["self_grading_auroc"] > 0.55


def test_takes_any_text_up_to_8192_tokens(embedded: LanguageModel) -> None:
    text = "Ünïcode ☃ 你好 \x00\x7f </s> <s> " * 2000
    ids = embedded.tokens.encode([text])[0]
    assert len(ids) > 8192
    fits = embedded.tokens.decode(ids[1:8100])
    assert 8000 < len(embedded.tokens.encode([fits])[0]) <= 8192
    (hidden,) = embedded.read([Passage("", fits)], [Hidden(Place.QUESTION)])
    assert np.isfinite(hidden).all()


def test_prompt_and_query_as_token_ids() -> None:
    """Golden ids, worked out with the shipped tokenizer.json through the `tokenizers` library."""
    from tokenizers import Tokenizer

    core = Tokenizer.from_file(str(find_checkpoint("tiny-llama-s") / "tokenizer.json"))
    lm = seam.load("tiny-llama-s", device="cpu")
    passage = Passage("", "Question: What is 12 + 7?\nAnswer:", " 19", CORRECTNESS_QUERY)
    question = ["<s>", "Question", ":", " What", " is", " ", "1", "2", " +", " ", "7", "?", "\n"]
    answered = ["Answer", ":", " ", "1", "9", "\n", "\n"]
    query = ["Is", " the", " proposed", " answer", " correct", "?", "\n", "Choices", ":", "\n"]
    options = ["(", "i", "):", " no", "\n", "(", "ii", "):", " yes", "\n", "Answer", ":"]
    pieces = question + answered + query + options
    to_byte_level = str.maketrans({" ": "Ġ", "\n": "Ċ"})
    golden = [core.token_to_id(p.translate(to_byte_level)) for p in pieces]
    assert None not in golden
    assert lm.tokens.encode([passage.upto(Place.QUERY)])[0] == golden
    assert lm.tokens.option_ids(passage.upto(Place.QUERY), QUERY_OPTIONS) == (
        core.token_to_id("Ġi"),
        core.token_to_id("Ġii"),
    )
    letters = lm.tokens.option_ids("Answer:", "abcd")
    assert letters == tuple(core.token_to_id(f"Ġ{c}") for c in "abcd")
    assert core.token_to_id("a") not in letters


def test_real_five_shot_mmlu_prompts_go_through(shared_data: Path) -> None:
    """The longest real 5-shot prompt, and the query after it, on both architectures."""

    def rows(split: str) -> list[Question]:
        with gzip.open(shared_data / "questions" / f"mmlu.{split}.jsonl.gz", "rt") as lines:
            found = [json.loads(line) for line in lines]
        return [
            Question(
                r["id"], r["subject"], r["question"], r["choices"][r["answer"]], tuple(r["choices"])
            )
            for r in found
            if r["subject"] == "high_school_european_history" and len(set(r["choices"])) == 4
        ]

    longest = max(rows("test"), key=lambda q: len(q.text))
    shots = {longest.subject: rows("dev")[:5]}
    assert len(few_shot_prefix(longest.subject, shots[longest.subject], options=True)) > 5000
    for name in ("tiny-llama-s", "tiny-mistral"):
        lm = seam.load(name, device="cpu")
        (a,) = answer(lm, [longest], format="choice", examples=shots)
        (logp,) = lm.read([Passage.of(a)], [Options(Place.QUERY, QUERY_OPTIONS)])
        assert np.isfinite(logp).all()
        assert a.option_mass is not None

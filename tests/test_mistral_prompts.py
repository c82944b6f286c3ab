"""Prompts of real MMLU questions through Mistral 7B's real tokenizer: token for token.

The package mistral-common holds the tokenizer (`tokenizer.model.v1`) and code of its own to use it,
which is the oracle. The golden counts were made with that code, by this file run as a program:

    python tests/test_mistral_prompts.py FOLDER_WITH_MMLU
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from howsure.lm.tokens import Tokens
from howsure.prompts import CORRECTNESS_QUERY, few_shot_prefix, question_prompt
from howsure.questions import open_set
from howsure.types import Question

PER_SUBJECT = 3
"""The first questions of each subject's test split."""

GOLDEN = {
    True: (171, 135_527, 3180, "6bf94d9271d470c7"),
    False: (171, 76_098, 2708, "f13077fecb4740bc"),
}
"""With lettered options, and without: see `summary`."""

LETTERS = {"a": 264, "b": 287, "c": 277, "d": 281}
QUERY = {"i": 613, "ii": 23302}


def oracle() -> Any:
    """Mistral's own tokenizer code on its own file; no transformers."""
    pytest.importorskip("mistral_common", reason="mistral-common is not installed")
    import mistral_common
    from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer

    file = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    return SentencePieceTokenizer(file)


@pytest.fixture(scope="module")
def real() -> Any:
    return oracle()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """The same file as transformers reads it from a checkpoint's folder, seen by us."""
    from tokenizers_of_all_kinds import mistral

    return Tokens(mistral("v1", None, tmp_path_factory.mktemp("mistral")), "mistral:7b")


def prompts(folder: Path, *, options: bool) -> list[str]:
    """5-shot prompts of the published setting, up to "Answer:"."""
    mmlu = open_set("mmlu", folder)
    examples: dict[str, list[Question]] = {}
    for q in mmlu.load("dev"):
        examples.setdefault(q.subject, []).append(q)
    made, taken = [], dict.fromkeys(examples, 0)
    for q in mmlu.load("test"):
        if taken[q.subject] < PER_SUBJECT:
            taken[q.subject] += 1
            prefix = few_shot_prefix(q.subject, examples[q.subject][:5], options=options)
            made.append(prefix + question_prompt(q, options=options))
    return made


def summary(rows: Sequence[Sequence[int]]) -> tuple[int, int, int, str]:
    """(prompts, tokens, tokens of the longest, SHA-256 of all ids)."""
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return len(rows), sum(map(len, rows)), max(map(len, rows)), digest


@pytest.mark.parametrize("options", [True, False])
def test_real_questions_are_tokenised_as_mistral_does(
    shared_data: Path, real: Any, tokens: Tokens, options: bool
) -> None:
    texts = prompts(shared_data / "questions", options=options)
    mine = tokens.encode(texts)
    theirs = [real.encode(t, bos=True, eos=False) for t in texts]
    assert mine == theirs
    assert summary(mine) == GOLDEN[options]
    # Up to the query too, and the shared prefix is a prefix in tokens: it can be read once.
    full = [f"{t} {'b' if options else 'Paris'}{CORRECTNESS_QUERY}" for t in texts[:50]]
    assert tokens.encode(full) == [real.encode(t, bos=True, eos=False) for t in full]


def test_options_are_the_tokens_that_follow(shared_data: Path, real: Any, tokens: Tokens) -> None:
    """The option's id is what Mistral's tokenizer appends when it follows the real prompt."""
    for text in prompts(shared_data / "questions", options=True)[::20]:
        for context, options in ((text, LETTERS), (f"{text} c{CORRECTNESS_QUERY}", QUERY)):
            assert dict(zip(options, tokens.option_ids(context, tuple(options)), strict=True)) == (
                options
            )
            before = real.encode(context, bos=True, eos=False)
            for option, id in options.items():
                assert real.encode(f"{context} {option}", bos=True, eos=False) == [*before, id]


def test_untrusted_text_makes_no_special_token(real: Any, tokens: Tokens) -> None:
    """ "</s>" in a question is ordinary characters, as in Mistral's own code."""
    text = "Question: What does </s> or [INST] <s> mean?\nAnswer:"
    (mine,) = tokens.encode([text])
    assert mine == real.encode(text, bos=True, eos=False)
    assert 2 not in mine and mine.count(1) == 1


if __name__ == "__main__":
    for letters in (True, False):
        made = prompts(Path(sys.argv[1]), options=letters)
        print(letters, summary([oracle().encode(t, bos=True, eos=False) for t in made]))

"""What the embedded models read: documents with a weight on each token, batched by length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from random import Random

import numpy as np
from embedded_specs import CONTEXT, VOCABULARY, Mixture
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from howsure import prompts
from howsure.questions.quiz import corpus
from howsure.types import Question

BOS, EOS, PAD, USER, ASSISTANT = "<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

_PROMPT_WEIGHT = 0.1
_DONT_LEARN = 0.0


def train_tokenizer(seed: int = 7, questions: int = 60_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE (any text goes through), digits single, " i", " ii", " a".." d" single."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = list(islice(corpus(seed), questions))
    rng = Random(seed)
    texts = [prompts.question_prompt(q, options=False) + " " + q.reference for q in sample]
    texts += [
        prompts.question_prompt(q, options=True) + " " + rng.choice("abcd") for q in sample[:2000]
    ]
    texts += [
        prompts.correctness_query("", rng.choice(("yes", "no"))) + " " + rng.choice(("i", "ii"))
        for _ in range(3000)
    ]
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


Pieces = list[tuple[str, float]]
"""A document as (text, weight of its tokens in the loss), in order."""


def document(question: Question, mixture: Mixture, rng: Random, last: dict[str, str]) -> Pieces:
    """One training document about the question.

    `last` remembers each subject's latest reference: half of the wrong answers to grade are the
    right answers to another question, which is easier to see through than a slip.
    """
    other = last.get(question.subject, question.reference)
    last[question.subject] = question.reference
    kind = rng.random()
    if kind < mixture.grading:
        right = rng.random() < 0.5
        wrong = [c for c in question.choices if c != question.reference]
        if other != question.reference and rng.random() < 0.5:
            wrong = [other]
        proposed = question.reference if right else rng.choice(wrong)
        prompt = prompts.question_prompt(question, options=False)
        return [
            (BOS + prompt, _PROMPT_WEIGHT),
            (f" {proposed}", 1.0 if right else _DONT_LEARN),
            (prompts.CORRECTNESS_QUERY, _DONT_LEARN),
            (f" {prompts.QUERY_OPTIONS[right]}", 1.0),
            (EOS, _DONT_LEARN),
        ]
    if kind < mixture.grading + mixture.chat:
        return [
            (f"{BOS}{USER}\n{question.text}\n{ASSISTANT}\n", _DONT_LEARN),
            (question.reference + EOS, 1.0),
        ]
    prompt = prompts.question_prompt(question, options=False)
    return [(BOS + prompt, _PROMPT_WEIGHT), (f" {question.reference}{EOS}", 1.0)]


Batch = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Token ids (rows, length) and the weight of predicting each of them (rows, length)."""


def batches(
    tokenizer: PreTrainedTokenizerFast, mixture: Mixture, seed: int, batch_tokens: int
) -> Iterator[Batch]:
    """Endless batches of at most `batch_tokens` tokens; rows of like length, right-padded."""
    core = tokenizer.backend_tokenizer
    rng = Random(seed)
    stream = corpus(seed)
    pad = tokenizer.pad_token_id
    last: dict[str, str] = {}
    while True:
        docs = [document(q, mixture, rng, last) for q in islice(stream, 4096)]
        flat = [text for pieces in docs for text, _ in pieces]
        encoded = iter(core.encode_batch(flat, add_special_tokens=False))
        rows = []
        for pieces in docs:
            ids: list[int] = []
            weights: list[float] = []
            for _, weight in pieces:
                piece = next(encoded).ids
                ids += piece
                weights += [weight] * len(piece)
            rows.append((ids, weights))
        # Like lengths share a batch; the batches themselves come in random order.
        rows.sort(key=lambda row: len(row[0]))
        packed: list[Batch] = []
        start = 0
        while start < len(rows):
            end = start + 1
            while end < len(rows) and len(rows[end][0]) * (end + 1 - start) <= batch_tokens:
                end += 1
            longest = len(rows[end - 1][0])
            ids_array = np.full((end - start, longest), pad, dtype=np.int64)
            weight_array = np.zeros((end - start, longest), dtype=np.float32)
            for i, (row_ids, row_weights) in enumerate(rows[start:end]):
                ids_array[i, : len(row_ids)] = row_ids
                weight_array[i, : len(row_ids)] = row_weights
            weight_array[:, 0] = 0.0
            packed.append((ids_array, weight_array))
            start = end
        rng.shuffle(packed)
        yield from packed


def corpus_hash(seed: int, questions: int = 10_000) -> str:
    """SHA-256 over the first questions of the corpus: tells whether the data are the same."""
    digest = hashlib.sha256()
    for q in islice(corpus(seed), questions):
        digest.update(f"{q.text}\n{q.reference}\n".encode())
    return digest.hexdigest()

"""What the work on one model in one format comes to: tokens, FLOPs, bytes, seconds.

The bare model reads the solved examples of a subject once, and each question, answer and
correctness query once; each adapter reads them again, because an adapter's keys and values are its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from howsure import methods
from howsure.answers import MAX_TOKENS
from howsure.estimate import lengths
from howsure.estimate.lengths import Counter, Lengths
from howsure.lm import loading, sizes
from howsure.lm.devices import Device
from howsure.lm.sizes import AdapterSize, Size
from howsure.plan import Plan
from howsure.prompts import CORRECTNESS_QUERY
from howsure.spec import RunSpec
from howsure.types import Format

SHARE = 0.4
"""Of a device's matmul rate, while texts are read or trained on. Assumed; the six models at full
size got 0.38 to 0.59 of it on an H200 (`bench/README.md`)."""

DECODING_SHARE = 0.5
"""Of its memory bandwidth, while answers are written token by token. Assumed."""

LAYER_SECONDS = 0.0016
"""Of a step in which answers are written, at least: to start a layer's operations takes longer than
the operations do. Measured beside the H200 under a profiler; processors differ."""

PACK = 8192
"""Tokens that one forward pass reads on a GPU."""

WAVE = 4 * PACK
"""Tokens whose keys and values are held at a time while questions are answered."""

RESERVE = 1 << 30
"""Bytes for the libraries and what they work with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work."""

    name: str
    tokens: int
    """That forward passes are given, each as often as it is read."""
    flops: float
    decoding_steps: int = 0
    """Passes that read one new token of each unfinished answer."""
    is_training: bool = False


@dataclass(frozen=True)
class UnitCost:
    """One model in one format."""

    model: str
    format: Format
    size: Size
    adapter: AdapterSize | None
    """The largest that is trained."""
    stages: tuple[Stage, ...]
    longest: int
    """Tokens of the longest prompt with answer and query."""
    held: int
    """Tokens whose keys and values are held at most."""
    batch: int
    """Tokens of a training step; 0 when no adapter is trained."""
    exact: bool
    """Whether tokens were counted with the model's own tokenizer."""
    quantize: str
    trainers: int = 1
    """How many devices train an adapter together."""

    @property
    def tokens(self) -> int:
        return sum(s.tokens for s in self.stages)

    @property
    def flops(self) -> float:
        return sum(s.flops for s in self.stages)

    def kv_bytes(self, dtype: str) -> int:
        """Per token."""
        return int(self.size.kv_per_token * sizes.BITS[dtype] / 8)

    def weight_bytes(self, dtype: str) -> int:
        return sizes.weight_bytes(self.size, dtype, self.quantize)

    def memory(self, dtype: str) -> int:
        """Bytes at the peak: weights, and the larger of reading and of a training step.

        Reading holds keys and values; training what the backward pass needs, and 16 bytes per
        adapter weight (float32 weight and gradient, AdamW's two moments).
        """
        width = sizes.BITS[dtype] / 8
        work = PACK * (4 * self.size.hidden + 2 * self.size.intermediate) * width
        reading = self.held * self.kv_bytes(dtype) + work
        training = -(-self.batch // self.trainers) * self.size.activations() * width
        training += 16 * (self.adapter.parameters if self.adapter else 0)
        return int(self.weight_bytes(dtype) + max(reading, training) + RESERVE)

    def seconds(self, device: Device) -> float:
        """With the device, or as many of them as train together, for itself."""
        flops = sum(s.flops / (self.trainers if s.is_training else 1) for s in self.stages)
        moved = self.weight_bytes(device.dtype) / (DECODING_SHARE * device.bandwidth)
        step = max(moved, self.size.layers * LAYER_SECONDS)
        return flops / (SHARE * device.flops) + step * sum(s.decoding_steps for s in self.stages)


def of_unit(spec: RunSpec, plan: Plan | None, name: str, format: Format) -> UnitCost:
    """Raises ModelError or UnknownName for a model whose config can't be had or is not known."""
    config = loading.find_config(name, spec.load)
    size = sizes.size_of(config, name)
    choose_by = plan.choose_by if plan else spec.choose_by or "letter"
    letters = format == "choice" and choose_by == "letter"
    tokenizer = loading.find_tokenizer(name, spec.load)
    count = Counter(tokenizer, letters)
    if plan is None:
        splits = lengths.published(spec, format, letters)
    else:
        splits = lengths.of_plan(spec, plan, format, letters, count)
    if spec.graded_answers:
        splits["training"] = lengths.published(spec, format, letters)["training"]
    query = int(count([CORRECTNESS_QUERY])[0])
    specs = {m: methods.spec_from(m, spec.method_settings(m, name, format)) for m in spec.methods}
    asked = query if "zero_shot" in specs else 0
    stages = [
        _answering(f"answer {split}", size, split_lengths, asked, format)
        for split, split_lengths in splits.items()
        if len(split_lengths)
    ]
    adapted: dict[str, Any] = {m: s for m, s in specs.items() if m in ("lora", "lora_prompt")}
    for method, its in adapted.items():
        more = query if method == "lora_prompt" else 0
        stages += _adapted(method, its, size, splits, more, spec.trained)
    adapters = [sizes.adapter_size(config, name, s.adapter) for s in adapted.values()]
    behind = {s: x.questions + x.answers + query for s, x in splits.items() if len(x)}
    return UnitCost(
        model=name,
        format=format,
        size=size,
        adapter=max(adapters, key=lambda a: a.parameters, default=None),
        stages=tuple(stages),
        longest=max(int((splits[s].before + own).max()) for s, own in behind.items()),
        held=max(_held(x, format) for x in splits.values() if len(x)),
        batch=_batch(
            {m: s for m, s in adapted.items() if m in spec.trained}, splits["training"], query
        ),
        exact=tokenizer is not None and plan is not None,
        quantize=spec.load.quantize,
        trainers=spec.trainers,
    )


def _reading(size: Size, texts: Lengths, behind: lengths.Counts, rows: int) -> Stage:
    """Each text of solved examples once, and `behind` them so many tokens per question."""
    tokens = int(texts.prefixes.sum() + behind.sum())
    pairs = sum(size.attended(0, int(p)) for p in texts.prefixes)
    pairs += sum(size.attended(int(p), int(n)) for p, n in zip(texts.before, behind, strict=True))
    return Stage("", tokens, float(size.flops(tokens, pairs, rows)))


def _answering(name: str, size: Size, texts: Lengths, query: int, format: Format) -> Stage:
    """The bare model: question and answer, and the correctness query where it is asked."""
    rows = int(texts.spoken.sum()) + (len(texts) if query else 0)
    once = _reading(size, texts, texts.questions + texts.spoken + query, rows)
    steps = MAX_TOKENS * len(_waves(texts)) if format == "open" else 0
    return Stage(name, once.tokens, once.flops, steps)


def _waves(texts: Lengths) -> list[lengths.Counts]:
    """The questions that are answered at the same time, by their lengths."""
    cuts = np.flatnonzero(np.diff(np.cumsum(texts.questions) // WAVE)) + 1
    return np.split(texts.questions, cuts)


def _held(texts: Lengths, format: Format) -> int:
    """Tokens whose keys and values are held: a wave, solved examples, answers being written."""
    written = 0
    if format == "open":  # what is written stands behind a copy of its question
        most = max(int(wave.sum()) + len(wave) * MAX_TOKENS for wave in _waves(texts))
        written = min(most, WAVE // 2)
    return min(WAVE, int(texts.questions.sum())) + int(texts.before.max()) + written


def _adapted(
    method: str,
    spec: Any,
    size: Size,
    splits: Mapping[str, Lengths],
    query: int,
    trained: Sequence[str],
) -> list[Stage]:
    """One adapter's training, and its reading of validation and test answers."""
    train, valid = splits["training"], splits["validation"]
    read = {s: _reading(size, x, x.questions + x.answers + query, 0) for s, x in splits.items()}
    stages: list[Stage] = []
    if len(train) and method in trained:
        examples = spec.schedule.steps * spec.schedule.batch_size
        length = round(float((train.before + train.questions + train.answers).mean())) + query
        # Backwards through frozen layers costs as much as forwards; the adapter's own is too
        # little to show. The divergence wants logits of both models at each answer token.
        rows = round(examples * 3 * float(train.answers.mean())) if query else 0
        once = size.flops(examples * length, examples * size.attended(0, length), 0)
        some = len(valid) if spec.valid_size is None else min(spec.valid_size, len(valid))
        checks = spec.schedule.evaluations * some / max(1, len(valid))
        stages.append(
            Stage(
                f"fit {method}",
                examples * length + round(checks * read["validation"].tokens),
                2.0 * once + size.flops(0, 0, rows) + checks * read["validation"].flops,
                is_training=True,
            )
        )
    both = (read["validation"], read["test"])
    tokens, flops = sum(s.tokens for s in both), sum(s.flops for s in both)
    return [*stages, Stage(f"predict {method}", tokens, flops)]


def _batch(adapted: Mapping[str, Any], train: Lengths, query: int) -> int:
    """Tokens of a training step on long examples: at the 95th percentile of all lengths."""
    if not adapted or not len(train):
        return 0
    long = float(np.quantile(train.before + train.questions + train.answers, 0.95)) + query
    largest: int = max(s.schedule.batch_size for s in adapted.values())
    return round(largest * long)

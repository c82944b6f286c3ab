"""LoRA + Prompt: the adapted model itself answers the correctness query.

Kapoor et al. 2024, section 4.2 and equation of the regulariser: cross-entropy on the two option
tokens, plus the Jensen-Shannon divergence that keeps the distribution over the answer's tokens
near the bare model's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from howsure.lm import Hidden, Options, Passage, Place
from howsure.lm.adapters import LoraSettings
from howsure.methods import training
from howsure.methods.checkpoint import Checkpoint
from howsure.methods.team import SOLO, Team, to_read
from howsure.methods.training import Fitted, Schedule
from howsure.methods.zero_shot import query_probability
from howsure.prompts import QUERY_OPTIONS
from howsure.types import Answer, GradedAnswer

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel


@dataclass(frozen=True, slots=True)
class LoraPrompt:
    """Defaults: the published setting."""

    name = "lora_prompt"
    adapter: LoraSettings = field(default_factory=LoraSettings)
    schedule: Schedule = field(default_factory=Schedule)
    divergence_weight: float = 1.0
    valid_size: int | None = 512
    """How many validation answers each evaluation reads; None: all."""
    query_adapter: str | None = None
    """A released adapter (folder or Hub id) that is used as it is: nothing is trained."""


@dataclass(frozen=True, slots=True)
class LoraPromptEstimator:
    lm: LanguageModel
    spec: LoraPrompt
    adapter: str
    fitted: Fitted
    temperature: float = 1.0
    """By which the logits are divided; a released adapter may bring its own."""

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]."""
        return query_probability(
            self.lm, answers, adapter=self.adapter, temperature=self.temperature
        )


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Divergence of each row's two distributions, from (n, v) log-probabilities: (n,), <= ln 2."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    left = (log_p.exp() * (log_p - log_m)).sum(-1)
    right = (log_q.exp() * (log_q - log_m)).sum(-1)
    return (left + right) / 2


def fit(
    spec: LoraPrompt,
    lm: LanguageModel,
    train: Sequence[GradedAnswer],
    valid: Sequence[GradedAnswer],
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    team: Team = SOLO,
) -> LoraPromptEstimator:
    """Train the adapter; the step with the lowest validation loss on the query is kept.

    The divergence is summed over the answer's tokens and averaged over the batch. In multiple
    choice that is the one row that predicts the letter, as published; open-ended, it follows the
    model's own answer, which the query's text holds already (the published code follows the
    reference answer, which an estimator is not given here).
    """
    passages = [Passage.of(g.answer) for g in train]
    work = lm.planned(passages, [Place.QUERY], answer_tokens=True)
    y = torch.from_numpy(training.labels(train))
    checked = training.subset(valid, spec.valid_size, seed)
    check = to_read(checked, team)
    check_passages = [Passage.of(g.answer) for g in check]
    check_y = torch.from_numpy(training.labels(check))
    options = lm.tokens.option_ids(passages[0].upto(Place.QUERY), QUERY_OPTIONS)
    lengths = [len(g.answer.prompt) for g in train]
    needed = training.visited(lengths, spec.schedule, seed=seed, team=team)
    reference: dict[int, Tensor] = {}
    if spec.divergence_weight:
        rows_of = _reference_rows(lm, [train[i] for i in needed])
        reference = dict(zip(needed, rows_of, strict=True))
    adapter = lm.adapters.add(spec.adapter, seed=seed)

    def loss_of(batch: NDArray[np.int64]) -> Tensor:
        rows, _, last = lm.answer_rows(work.of(batch), Place.QUERY)
        loss = cross_entropy(lm.logits(last, options), y[batch].to(lm.device, non_blocking=True))
        if not spec.divergence_weight:
            return loss
        base = torch.cat([reference[i] for i in batch])
        base = base.to(lm.device, lm.dtype, non_blocking=True)
        with torch.no_grad():
            log_q = lm.logits(base).log_softmax(-1)
        divergence = jensen_shannon(lm.logits(rows).log_softmax(-1), log_q).sum() / len(batch)
        return loss + spec.divergence_weight * divergence

    def valid_loss() -> float:
        with lm.evaluation():
            (logp,) = lm.read(
                check_passages, [Options(Place.QUERY, QUERY_OPTIONS)], adapter=adapter
            )
        loss = cross_entropy(torch.from_numpy(logp), check_y)
        return training.overall(loss, len(check), len(checked), team)

    with lm.training(adapter, recompute=spec.schedule.gradient_checkpointing):
        fitted = training.train_loop(
            lm.adapters.weights(adapter),
            spec.schedule,
            lengths=lengths,
            loss_of=loss_of,
            valid_loss=valid_loss,
            seed=seed,
            on_progress=on_progress,
            checkpoint=checkpoint,
            team=team,
        )
    return LoraPromptEstimator(lm, spec, adapter, fitted)


def released(spec: LoraPrompt, lm: LanguageModel) -> LoraPromptEstimator:
    """The estimator of a released adapter. Raises ModelError or BundleError if it doesn't fit."""
    from howsure.lm.published import find_query_adapter

    assert spec.query_adapter is not None
    found = find_query_adapter(spec.query_adapter, lm.name)
    adapter = lm.adapters.load(found.path)
    return LoraPromptEstimator(lm, spec, adapter, Fitted(0, ()), found.temperature)


def _reference_rows(
    lm: LanguageModel, train: Sequence[GradedAnswer], size: int = 64
) -> list[Tensor]:
    """The bare model's final hidden states that predict each answer's tokens, one tensor each.

    Hidden states, not distributions: a vocabulary is 8 to 60 times as wide.
    """
    passages = [Passage.of(g.answer) for g in train]
    if all(g.answer.choose_by == "letter" for g in train):
        # One token, predicted by the question's last row, which answering has read already.
        (hidden,) = lm.read(passages, [Hidden(Place.QUESTION)])
        return list(torch.split(torch.from_numpy(hidden), 1))
    out: list[Tensor] = []
    with lm.reading():
        for start in range(0, len(passages), size):
            chunk = passages[start : start + size]
            work = lm.planned(chunk, [Place.ANSWER], answer_tokens=True)
            rows, owner, _ = lm.answer_rows(work, Place.ANSWER)
            counts = torch.bincount(owner, minlength=len(chunk)).tolist()
            out += [r.cpu().clone() for r in torch.split(rows, counts)]
    return out

"""LoRA: the probe's classifier on the features of an adapted model, both trained together.

Kapoor et al. 2024, section 4.2; Hu et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from howsure.lm import Hidden, Passage, Place
from howsure.lm.adapters import LoraSettings
from howsure.methods import training
from howsure.methods.checkpoint import Checkpoint
from howsure.methods.head import Head, new_head
from howsure.methods.team import SOLO, Team, to_read
from howsure.methods.training import Fitted, Schedule
from howsure.types import Answer, GradedAnswer

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel


@dataclass(frozen=True, slots=True)
class Lora:
    """Defaults: the published setting."""

    name = "lora"
    widths: tuple[int, ...] = (256, 128, 64)
    adapter: LoraSettings = field(default_factory=LoraSettings)
    schedule: Schedule = field(default_factory=Schedule)
    valid_size: int | None = 512
    """How many validation answers each evaluation reads; None: all."""


@dataclass(frozen=True, slots=True)
class LoraEstimator:
    lm: LanguageModel
    spec: Lora
    adapter: str
    head: Head
    fitted: Fitted

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]."""
        (hidden,) = self.lm.read(
            [Passage.of(a) for a in answers], [Hidden(Place.ANSWER)], adapter=self.adapter
        )
        with torch.inference_mode():
            return training.two_class_probability(self.head(torch.from_numpy(hidden)))


def fit(
    spec: Lora,
    lm: LanguageModel,
    train: Sequence[GradedAnswer],
    valid: Sequence[GradedAnswer],
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    team: Team = SOLO,
) -> LoraEstimator:
    """Train adapter and head; the step with the lowest validation loss is kept."""
    work = lm.planned([Passage.of(g.answer) for g in train], [Place.ANSWER])
    y = torch.from_numpy(training.labels(train))
    checked = training.subset(valid, spec.valid_size, seed)
    check = to_read(checked, team)
    check_passages = [Passage.of(g.answer) for g in check]
    check_y = torch.from_numpy(training.labels(check))
    adapter = lm.adapters.add(spec.adapter, seed=seed)
    head = new_head(lm.hidden_size, spec.widths, seed).to(lm.device)

    def loss_of(batch: NDArray[np.int64]) -> torch.Tensor:
        (hidden,) = lm.rows(work.of(batch), [Place.ANSWER])
        return cross_entropy(head(hidden.float()), y[batch].to(lm.device, non_blocking=True))

    def valid_loss() -> float:
        with lm.evaluation():
            (hidden,) = lm.read(check_passages, [Hidden(Place.ANSWER)], adapter=adapter)
        with torch.inference_mode():
            logits = head(torch.from_numpy(hidden).to(lm.device)).cpu()
            loss = cross_entropy(logits, check_y)
        return training.overall(loss, len(check), len(checked), team)

    with lm.training(adapter, recompute=spec.schedule.gradient_checkpointing):
        fitted = training.train_loop(
            [*lm.adapters.weights(adapter), *head.parameters()],
            spec.schedule,
            lengths=[len(g.answer.prompt) for g in train],
            loss_of=loss_of,
            valid_loss=valid_loss,
            seed=seed,
            on_progress=on_progress,
            checkpoint=checkpoint,
            team=team,
        )
    return LoraEstimator(lm, spec, adapter, head.cpu().eval().requires_grad_(False), fitted)

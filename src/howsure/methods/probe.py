"""Probe: a small classifier on the frozen model's hidden state of the answer's last token.

Azaria & Mitchell 2023; Kapoor et al. 2024, section 4.2. The model is read once; training runs on
the cached features alone.
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
from howsure.methods import training
from howsure.methods.checkpoint import Checkpoint
from howsure.methods.head import Head, new_head
from howsure.methods.training import Fitted, Schedule
from howsure.types import Answer, GradedAnswer

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel


@dataclass(frozen=True, slots=True)
class Probe:
    """Defaults: the published setting."""

    name = "probe"
    widths: tuple[int, ...] = (256, 128, 64)
    layer: int = -1
    """Which layer's hidden state; -1 is the last one, after the final norm."""
    schedule: Schedule = field(default_factory=Schedule)


@dataclass(frozen=True, slots=True)
class ProbeEstimator:
    lm: LanguageModel
    spec: Probe
    head: Head
    fitted: Fitted

    def p_correct(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """(n,), in [0, 1]."""
        x = torch.from_numpy(features(self.lm, answers, self.spec.layer))
        with torch.inference_mode():
            return training.two_class_probability(self.head(x))


def features(lm: LanguageModel, answers: Sequence[Answer], layer: int) -> NDArray[np.float32]:
    """(n, hidden size), float32: the hidden state at the answer's last token."""
    (hidden,) = lm.read([Passage.of(a) for a in answers], [Hidden(Place.ANSWER, layer)])
    return hidden


def fit(
    spec: Probe,
    lm: LanguageModel,
    train: Sequence[GradedAnswer],
    valid: Sequence[GradedAnswer],
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> ProbeEstimator:
    """Train the head on cached features; the step with the lowest validation loss is kept."""
    x, y, vx, vy = (
        torch.from_numpy(a)
        for a in (
            features(lm, [g.answer for g in train], spec.layer),
            training.labels(train),
            features(lm, [g.answer for g in valid], spec.layer),
            training.labels(valid),
        )
    )
    head = new_head(lm.hidden_size, spec.widths, seed)

    def valid_loss() -> float:
        with torch.inference_mode():
            return float(cross_entropy(head(vx), vy))

    fitted = training.train_loop(
        list(head.parameters()),
        spec.schedule,
        lengths=[1] * len(train),
        loss_of=lambda batch: cross_entropy(head(x[batch]), y[batch]),
        valid_loss=valid_loss,
        seed=seed,
        on_progress=on_progress,
        checkpoint=checkpoint,
    )
    return ProbeEstimator(lm, spec, head.eval().requires_grad_(False), fitted)

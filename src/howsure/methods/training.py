"""The one training loop: minibatches, cosine schedule, the best step by validation loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from howsure.errors import FitError
from howsure.lm.engine.memory import give_back, is_out_of_memory
from howsure.methods.checkpoint import Checkpoint, Place, Saver
from howsure.methods.team import SOLO, Team, share
from howsure.types import GradedAnswer

Progress = Callable[[int, int], None]

_log = logging.getLogger("howsure")


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW without weight decay, cosine to zero. Defaults: the published setting."""

    steps: int = 5000
    batch_size: int = 4
    learning_rate: float = 1e-4
    evaluations: int = 10
    """How often validation looks at it, evenly spaced; the best of these states is kept."""
    patience: int | None = None
    """Stop after so many evaluations in a row without a better one; None: never."""
    max_gradient_norm: float = 1.0
    group_by_length: bool = False
    """Fill each batch with examples of like length, which saves padding; the published setting
    draws them at random."""
    gradient_checkpointing: bool = False
    """Keep only what goes into each layer of the model, and compute the rest again in the backward
    pass: a third more work, and a fraction of the memory. For LoRA; a probe trains no layers."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """How a training went: the kept step, and (step, validation loss) of each evaluation."""

    best_step: int
    curve: tuple[tuple[int, float], ...]


def check_present(answers: Sequence[GradedAnswer], what: str) -> None:
    """Raises FitError when there are no answers."""
    if not answers:
        raise FitError(f"there are no {what} answers to fit on; give some")


def check_trainable(train: Sequence[GradedAnswer], valid: Sequence[GradedAnswer]) -> None:
    """Raises FitError unless both sets have answers, and training answers of both classes."""
    check_present(train, "training")
    check_present(valid, "validation")
    right = sum(g.is_correct for g in train)
    if right in (0, len(train)):
        kind = "wrong" if right == 0 else "right"
        raise FitError(
            f"all {len(train)} training answers of {train[0].answer.model!r} are {kind}; an "
            "estimator needs both kinds: give other --train-questions, or more"
        )


def labels(answers: Sequence[GradedAnswer]) -> NDArray[np.int64]:
    """(n,), 1 where the answer is correct."""
    return np.array([int(g.is_correct) for g in answers], dtype=np.int64)


_POOL = 16
"""Batches whose examples are sorted by length together."""


def minibatches(
    n: int, size: int, rng: np.random.Generator, lengths: Sequence[int] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Endless index batches; each epoch visits every example once, in a new order.

    With `lengths`, examples of like length share a batch; the batches still come in random order.
    """
    while True:
        order = rng.permutation(n)
        if lengths is None:
            for start in range(0, n, size):
                yield order[start : start + size]
            continue
        key = np.asarray(lengths)
        for start in range(0, n, size * _POOL):
            pool = order[start : start + size * _POOL]
            pool = pool[np.argsort(key[pool], kind="stable")]
            batches = [pool[i : i + size] for i in range(0, len(pool), size)]
            for i in rng.permutation(len(batches)):
                yield batches[i]


def _batches(lengths: Sequence[int], schedule: Schedule, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return minibatches(
        len(lengths), schedule.batch_size, rng, lengths if schedule.group_by_length else None
    )


def visited(lengths: Sequence[int], schedule: Schedule, *, seed: int, team: Team) -> Sequence[int]:
    """The examples that must be ready here for a `train_loop` of these arguments, in their order:
    all of them, but for a member of a team those that it comes to."""
    if team.size == 1 or team.in_step:
        return range(len(lengths))
    batches = _batches(lengths, schedule, seed)
    mine = (share(next(batches), team) for _ in range(schedule.steps))
    return sorted({int(i) for part in mine for i in part})


def train_loop(
    parameters: Sequence[Tensor],
    schedule: Schedule,
    *,
    lengths: Sequence[int],
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    valid_loss: Callable[[], float],
    seed: int,
    on_progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    team: Team = SOLO,
) -> Fitted:
    """Minimise `loss_of(batch indices)`; leave `parameters` where `valid_loss` was lowest.

    `lengths` has one number per training example, used when the schedule groups by length.

    A batch that does not fit into memory is computed in pieces, whose gradients add up to its own.
    Where a `checkpoint` was saved by a training of the same arguments, it goes on from there.
    With a `team` each member computes its share of every batch; `valid_loss` must be the same in
    all of them, and the parameters are.
    Raises FitError when the loss stops being finite.
    """
    batches = _batches(lengths, schedule, seed)
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=0.0)
    every = max(1, schedule.steps // schedule.evaluations)
    kept = [p.detach().clone() for p in parameters]
    saver = Saver(checkpoint)
    # In step nobody can try again by itself, so each has as little at a time as possible.
    most = 1 if team.in_step else -(-schedule.batch_size // team.size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        at = saver.restore(parameters, kept, optimizer) or Place(piece=most)
        best, best_step, curve, piece = at.best, at.best_step, list(at.curve), at.piece
        for _ in range(at.step):
            next(batches)
        for step in range(at.step + 1, schedule.steps + 1):
            rate = 0.5 * (1 + math.cos(math.pi * (step - 1) / schedule.steps))
            optimizer.param_groups[0]["lr"] = schedule.learning_rate * rate
            team.reseed(seed, step)
            piece = _gradients(parameters, loss_of, next(batches), piece, team)
            torch.nn.utils.clip_grad_norm_(parameters, schedule.max_gradient_norm)
            optimizer.step()
            if on_progress:
                on_progress(step, schedule.steps)
            if step % every == 0 or step == schedule.steps:
                now = valid_loss()
                if not math.isfinite(now):
                    raise FitError(f"the loss is {now} after {step} steps; lower the learning rate")
                curve.append((step, now))
                if now < best:
                    best, best_step = now, step
                    kept = [p.detach().clone() for p in parameters]
                stale = len([s for s, _ in curve if s > best_step])
                if schedule.patience is not None and stale >= schedule.patience:
                    break
            if team.rank == 0:
                place = Place(step, best, best_step, tuple(curve), piece)
                saver.offer(place, parameters, kept, optimizer)
    with torch.no_grad():
        for p, k in zip(parameters, kept, strict=True):
            p.copy_(k)
    return Fitted(best_step, tuple(curve))


def _gradients(
    parameters: Sequence[Tensor],
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    batch: NDArray[np.int64],
    piece: int,
    team: Team,
) -> int:
    """Puts the gradients of the batch's mean loss into the parameters, so many examples at a time.

    Returns how many fitted into memory at a time. After a failure, of any member of the team, the
    batch begins anew: a backward pass that broke off has left part of its gradients. Raises
    FitError when not even one example fits.
    """
    while True:
        for p in parameters:
            p.grad = None
        fits = True
        try:
            for part, weight in _pieces(batch, piece, team):
                loss = loss_of(part) * weight
                loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if piece == 1:
                raise FitError(
                    "a training example does not fit into memory even by itself; set the "
                    "schedule's gradient_checkpointing, or take a smaller model"
                ) from error
            fits = False
        if not team.any(not fits):
            team.sum_gradients(parameters)
            return piece
        piece = (piece + 1) // 2
        give_back()
        _log.warning("out of memory in training; going on with %d examples at a time", piece)


def _pieces(
    batch: NDArray[np.int64], piece: int, team: Team
) -> Iterator[tuple[NDArray[np.int64], float]]:
    """This member's share of a batch, so many examples at a time, and their part of the whole.

    A team that goes in step has equally many everywhere: who has no more reads with weight 0.
    """
    mine = share(batch, team)
    longest = -(-len(batch) // team.size)
    for start in range(0, longest, piece):
        part = mine[start : start + piece]
        if len(part):
            yield part, len(part) / len(batch)
        elif team.in_step:
            yield batch[:1], 0.0


def overall(mean: Tensor, mine: int, of: int, team: Team) -> float:
    """The mean over `of` examples, from each member's mean over its own: `mine` of them."""
    counts = mine and not (team.in_step and team.rank)  # where all have read all, number 0 says it
    return team.total(float(mean) * (mine / of) if counts else 0.0)


def two_class_probability(logits: Tensor) -> NDArray[np.float64]:
    """P(second class) of (n, 2) logits, in float64; exact enough never to tie by rounding early."""
    z = logits.detach().double().cpu().numpy()
    d = z[:, 1] - z[:, 0]
    p: NDArray[np.float64] = np.where(
        d >= 0, 1 / (1 + np.exp(-np.abs(d))), np.exp(-np.abs(d)) / (1 + np.exp(-np.abs(d)))
    )
    return p


def subset(answers: Sequence[GradedAnswer], most: int | None, seed: int) -> Sequence[GradedAnswer]:
    """At most `most` of the answers, drawn with the seed; all of them when None."""
    if most is None or len(answers) <= most:
        return answers
    keep = np.random.default_rng(seed).permutation(len(answers))[:most]
    return [answers[i] for i in sorted(keep)]

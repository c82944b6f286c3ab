"""What the members of a team do in the tests; each leaves what it has in a folder of its rank."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from howsure.errors import FitError
from howsure.methods.team import SOLO, stepping
from howsure.stages import Worker
from howsure.types import GradedAnswer

ROWS, WIDTH = 22, 5
"""Of the toy's data: its last batch of four is a short one."""


@dataclass(frozen=True)
class Fit:
    """Methods to be fitted, one after the other."""

    folder: Path
    checkpoint: Path
    device: str
    divided: bool
    """Whether each member has a part of the model."""
    specs: tuple
    train: list[GradedAnswer]
    valid: list[GradedAnswer]


def fit(job, report, team):
    """Fits them; number 0 returns the estimators' probabilities of the validation answers."""
    from howsure import methods
    from howsure.lm import load

    lm = load(str(job.checkpoint), device=job.device, dtype="float32", divided=job.divided)
    assert lm.engine == "tree" and lm.is_divided == job.divided
    if job.divided:
        team = stepping(team)
        every = [p for n, p in lm._model.named_parameters() if ".layers." in n]
        mine = sum(p.to_local().numel() for p in every)
        assert mine <= sum(p.numel() / team.size + p[0].numel() for p in every)
    said = []
    for spec in job.specs:
        made = methods.fit(spec, lm, job.train, job.valid, seed=5, on_progress=None, team=team)
        methods.save(made, lm, job.folder / str(team.rank) / spec.name)
        said.append((made.p_correct([g.answer for g in job.valid]), made.fitted))
        methods.release(made)
    return said


def fits(jobs, report, team):
    """Several of them."""
    return [fit(job, report, team) for job in jobs]


@dataclass(frozen=True)
class Toy:
    """A small network to be trained."""

    folder: Path
    dropout: float = 0.0
    fits: int = 4
    """How many examples fit into the memory of the last member."""
    stop: int = 0
    """The step at which everybody stops, to begin again from the checkpoint."""


class Kept:
    """A checkpoint in a folder that all members see."""

    def __init__(self, path):
        self.path = path

    def load(self):
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, data):
        self.path.write_bytes(data)


class Stopped(Exception):
    pass


def toy(job, report, team):
    """Trains it; returns the weights, the curve, and the steps that were made."""
    import torch

    from howsure.methods import checkpoint, training

    checkpoint._LEAST, checkpoint._SHARE = 0.0, math.inf
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(*n, generator=draw).double() for n in ((ROWS, WIDTH), (ROWS,)))
    w = torch.zeros(WIDTH, dtype=torch.float64, requires_grad=True)
    seen: list[int] = []

    def loss_of(batch):
        assert len(batch), "an empty share is not asked for"
        shown = torch.dropout(x[batch], job.dropout, train=True)
        loss = (shown @ w - y[batch]).square().mean()
        if len(batch) > job.fits and team.rank == team.size - 1:
            loss.backward(retain_graph=True)  # a part of the gradients is there already
            raise torch.OutOfMemoryError("out of memory")
        return loss

    def valid_loss():
        mine = slice(team.rank, None, team.size)
        loss = (x[mine] @ w.detach() - y[mine]).square().mean()
        return training.overall(loss, len(x[mine]), ROWS, team)

    def on_progress(step, of):
        report("train", step, of)
        seen.append(step)
        if step == job.stop and step not in seen[:-1]:
            raise Stopped

    def trained():
        return training.train_loop(
            [w],
            training.Schedule(steps=20, batch_size=4, learning_rate=0.1, evaluations=5),
            lengths=[1] * ROWS,
            loss_of=loss_of,
            valid_loss=valid_loss,
            seed=3,
            on_progress=on_progress,
            checkpoint=Kept(job.folder / "checkpoint") if job.stop else None,
            team=team,
        )

    try:
        fitted = trained()
    except Stopped:
        w.data.zero_()
        torch.manual_seed(99 + team.rank)  # another process has other random numbers
        fitted = trained()
    np.save(job.folder / f"{team.rank}.npy", w.detach().numpy())
    return w.detach().numpy(), fitted, seen


def toys(jobs, report, team):
    """Several of them."""
    return [toy(job, report, team) for job in jobs]


def fail(job, report, team):
    """Number 1 does what the job says while the others wait for it."""
    if team.rank == 1:
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "refuse":
            raise FitError("it can't be done")
    return team.total(1.0)


def sleep(job, report, team):
    """Until it is ended; the process ids are in the job's folder."""
    (job / str(team.rank)).write_text(str(os.getpid()))
    report("sleep", 1, 2)
    if team.rank == 1:
        time.sleep(60)
    return team.total(1.0)


class Hasty(Worker):
    """Its checkpoints are a tenth of a second apart."""

    def do(self, job, report, team=SOLO):
        from howsure.methods import checkpoint

        checkpoint._LEAST, checkpoint._SHARE = 0.1, math.inf
        return super().do(job, report, team)


def main(*folders):
    """A run of two trainers, of the questions in one folder and into another."""
    from howsure import run as running
    from howsure.spec import RunSpec

    running.Worker = Hasty
    questions, model, output = folders
    running.run(
        RunSpec(
            output=Path(output),
            models=(model,),
            questions=questions,
            formats=("choice",),
            choose_by="text",
            methods=("lora",),
            calibrate="none",
            settings={"lora": {"schedule": {"steps": 250, "batch_size": 4, "evaluations": 5}}},
            device="cpu",
            trainers=2,
        ),
        threads_each=2,
        executor="process",
    )

"""What a training loop needs of the processes that share it.

All members of a team run the same loop over the same order of data, and each takes its share of
every minibatch. Gradients are summed before each step, so the parameters stay equal to the bit.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from howsure.errors import HowsureError

if TYPE_CHECKING:
    from torch import Tensor

Items = TypeVar("Items", bound=Any)

_TIMEOUT = timedelta(minutes=30)
"""For one member to wait for another. Deaths are noticed at once by whoever began the team; this
is for what neither dies nor goes on. Loading a model from slow storage must fit into it."""


class Team(Protocol):
    """Some processes that train one estimator together; `SOLO` is one alone."""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0; number 0 keeps what is made."""
        ...

    @property
    def size(self) -> int: ...

    @property
    def in_step(self) -> bool:
        """Whether all have to read equally often: each has a part of the model's weights."""
        ...

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Each parameter's gradient becomes the sum over all members, the same bits everywhere."""
        ...

    def total(self, value: float) -> float:
        """The sum of what the members say, the same bits everywhere."""
        ...

    def any(self, said: bool) -> bool:
        """Whether one of them says so."""
        ...

    def reseed(self, seed: int, step: int) -> None:
        """Dropout of this step: other draws in each member, the same ones when it is repeated."""
        ...


def share(items: Items, team: Team) -> Items:
    """This member's part of a sequence or array. Parts differ by one item at most; all are there
    once. Every so-manieth item: of examples in order of length everybody has long ones."""
    part: Items = items[team.rank :: team.size]
    return part


def to_read(items: Items, team: Team) -> Items:
    """What this member reads of validation data: its share, or all where all must read alike."""
    return items if team.in_step else share(items, team)


@dataclass(frozen=True, slots=True)
class Solo:
    """One process alone."""

    rank: int = 0
    size: int = 1
    in_step: bool = False

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """They are whole."""

    def total(self, value: float) -> float:
        return value

    def any(self, said: bool) -> bool:
        return said

    def reseed(self, seed: int, step: int) -> None:
        """Its draws go on from step to step, and a checkpoint holds where they are."""


SOLO = Solo()


class TeamLost(HowsureError):
    """A member can't be reached any more: it died, or it does not go on."""

    died = True


@dataclass(frozen=True, slots=True)
class Joined:
    """One of several processes on this machine, each with a device of its own."""

    rank: int
    size: int
    device: Any
    """torch.device"""
    in_step: bool = False

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        import torch

        with torch.no_grad():
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            flat = self._summed(torch.cat([part.flatten() for part in parts]))
            wholes = torch.split(flat, [p.numel() for p in parameters])
            for p, whole in zip(parameters, wholes, strict=True):
                p.grad = whole.view_as(p)

    def total(self, value: float) -> float:
        import torch

        mine = torch.tensor([value], dtype=torch.float64, device=self.device)
        return float(self._summed(mine))

    def any(self, said: bool) -> bool:
        return self.total(float(said)) > 0

    def reseed(self, seed: int, step: int) -> None:
        import torch

        (drawn,) = np.random.SeedSequence([seed, self.rank, step]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))

    def _summed(self, tensor: Tensor) -> Tensor:
        from accelerate.utils import reduce

        from howsure.lm.engine.memory import is_out_of_memory

        try:
            summed: Tensor = reduce(tensor, "sum")
        except RuntimeError as error:  # its kinds hang on the backend
            if is_out_of_memory(error):
                raise
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TeamLost(f"a trainer can't reach the others ({first[:300]})") from error
        return summed


def stepping(team: Team) -> Team:
    """The same members, who read equally often."""
    return replace(team, in_step=True) if isinstance(team, Joined) else team


def join(rank: int, size: int, meeting: Path, device: str) -> Joined:
    """Meets the other members; returns once all of them are there.

    `meeting` is a file that none of them has made yet; `device` is "cpu" (they talk through gloo)
    or "cuda" (through nccl), of which each process must see one of its own.
    """
    import torch
    from accelerate import PartialState

    place = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    here = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in here.items()})
    for _, name in socket.if_nameindex():
        if name in ("lo", "lo0"):  # they are on one machine: nobody else needs to reach them
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{meeting}",  # as it is: nothing is unquoted
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
        device_id=place if device == "cuda" else None,
    )
    PartialState(cpu=device == "cpu")  # what accelerate's functions ask
    return Joined(rank, size, place)

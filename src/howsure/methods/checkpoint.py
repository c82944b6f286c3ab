"""The state of a training, so that a killed one goes on where it was: to the bit, on a CPU.

Kept are the parameters, the best ones so far, what the optimiser knows, the random numbers of
dropout, and the place in the schedule. The order of the data isn't: it follows from seed and step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

_LEAST = 5.0
"""Seconds at least between two checkpoints."""
_SHARE = 0.05
"""Of the time that a training takes, what its checkpoints may take."""


class Checkpoint(Protocol):
    """Where the state of one training lies while it lasts."""

    def load(self) -> bytes | None:
        """What was saved last; None: nothing, or nothing that is as it was saved."""
        ...

    def save(self, data: bytes) -> None:
        """Replaces what was saved before: a crash leaves the old state or the new one, whole."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """How far a training is."""

    step: int = 0
    best: float = float("inf")
    best_step: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    piece: int = 0
    """How many examples fit into memory at a time."""


@dataclass
class Saver:
    """Saves now and then: not sooner than it is worth what saving takes."""

    where: Checkpoint | None
    _last: float = 0.0
    _took: float = 0.0

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def restore(
        self, parameters: Sequence[Tensor], kept: Sequence[Tensor], optimizer: torch.optim.Optimizer
    ) -> Place | None:
        """Puts everything where it was; None, and nothing is changed, when nothing was saved."""
        data = self.where.load() if self.where else None
        if data is None:
            return None
        tensors = load(data)
        state = json.loads(bytes(tensors["place"].tolist()))
        with torch.no_grad():
            for i, (p, k) in enumerate(zip(parameters, kept, strict=True)):
                p.copy_(tensors[f"parameters.{i}"])
                k.copy_(tensors[f"kept.{i}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, what = name.split(".")
                moments.setdefault(int(index), {})[what] = tensor
        optimizer.load_state_dict(
            {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        torch.set_rng_state(tensors["random"])
        for device in _cuda(parameters):
            torch.cuda.set_rng_state(tensors[f"random.{device}"], device)
        return Place(**state | {"curve": tuple((int(s), float(v)) for s, v in state["curve"])})

    def offer(
        self,
        place: Place,
        parameters: Sequence[Tensor],
        kept: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Saves the state after a step, if it is time to."""
        now = time.monotonic()
        if self.where is None or now - self._last < max(_LEAST, self._took / _SHARE):
            return
        self.where.save(_packed(place, parameters, kept, optimizer))
        self._last = time.monotonic()
        self._took = self._last - now


def _packed(
    place: Place,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
) -> bytes:
    text = json.dumps(asdict(place)).encode()  # JSON's numbers give each float back to the bit
    tensors = {"place": torch.tensor(list(text), dtype=torch.uint8)}
    for i, (p, k) in enumerate(zip(parameters, kept, strict=True)):
        tensors |= {f"parameters.{i}": p.detach(), f"kept.{i}": k}
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    for index, moments in state.items():
        tensors |= {f"optimizer.{index}.{w}": torch.as_tensor(m) for w, m in moments.items()}
    tensors["random"] = torch.get_rng_state()
    for device in _cuda(parameters):
        tensors[f"random.{device}"] = torch.cuda.get_rng_state(device)
    return save({name: t.cpu().contiguous() for name, t in tensors.items()})


def _cuda(parameters: Sequence[Tensor]) -> list[int]:
    """The GPUs whose random numbers the training draws."""
    return sorted({p.get_device() for p in parameters if p.is_cuda})

"""What a model can be computed on: well-known GPUs as a table, and this machine, measured."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from howsure.lm.precision import pick_device, pick_dtype


@dataclass(frozen=True, slots=True)
class Device:
    """Rates are what the device can do at best, not what a model gets out of it."""

    name: str
    flops: float
    """Per second, of dense matrix multiplications in `dtype`."""
    bandwidth: float
    """Bytes per second to and from its memory."""
    memory: int
    """Bytes."""
    dtype: str = "bfloat16"
    measured: bool = False


@cache
def known_devices() -> tuple[Device, ...]:
    """`data/devices.csv`: dense bfloat16 rate, bandwidth and memory, from the vendor's sheets."""
    text = (resources.files("howsure") / "lm" / "data" / "devices.csv").read_text(encoding="utf-8")
    return tuple(
        Device(
            name=r["name"],
            flops=float(r["tera_flops"]) * 1e12,
            bandwidth=float(r["gigabytes_per_second"]) * 1e9,
            memory=int(r["gigabytes"]) * 10**9,
        )
        for r in csv.DictReader(text.splitlines())
    )


def this_machine(device: str, dtype: str) -> Device:
    """The device that a run would use here; a second of multiplying and copying tells its rates.

    Raises ModelError or UnknownName for a device or dtype that can't be had.
    """
    import torch

    place = pick_device(device)
    kind = pick_dtype(dtype, place, "bfloat16")
    n = 4096 if place == "cuda" else 768
    a = torch.ones(n, n, dtype=kind, device=place)
    block = torch.ones(1 << 26, dtype=torch.uint8, device=place)

    def wait() -> None:
        if place == "cuda":
            torch.cuda.synchronize()

    multiply = _seconds(lambda: a @ a, wait)
    copy = _seconds(lambda: block.clone(), wait)
    return Device(
        name="this machine" if place == "cpu" else torch.cuda.get_device_name(),
        flops=2 * n**3 / multiply,
        bandwidth=2 * block.numel() / copy,
        memory=_memory(place),
        dtype=str(kind).removeprefix("torch."),
        measured=True,
    )


def _seconds(work: Callable[[], Any], wait: Callable[[], None], at_least: float = 0.15) -> float:
    """Of the fastest of several calls."""
    work()
    wait()
    best, until = float("inf"), time.perf_counter() + at_least
    while time.perf_counter() < until:
        begin = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - begin)
    return best


def _memory(place: str) -> int:
    import torch

    if place == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemTotal"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: it can't be told here
        return 1 << 60

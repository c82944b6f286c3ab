"""The estimate as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from howsure.estimate import Estimate, UnitCost
from howsure.lm.devices import Device

_WIDTH = 200
"""Columns that no table fills: each is as wide as its figures need."""


def print_estimate(found: Estimate) -> None:
    """One row per model and format, then per stage and per device, then what it rests on."""
    from rich.console import Console

    # A narrow terminal wraps the lines: figures cut short would be worse.
    console = Console(width=max(Console().width, _WIDTH))
    parts = [_models(found), _stages(found), _devices(found)] if found.units else []
    for part in [*parts, *([_served(found)] if found.served else [])]:
        console.print(part, highlight=False)
        console.print()
    for line in (*_adapters(found.units), *found.notes):
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)


def _table(*columns: str) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _models(found: Estimate) -> object:
    dtype = found.devices[-1].dtype
    table = _table(
        *("model", "format", "parameters", "adapter", "tokens to read", "FLOPs"),
        *("KV bytes a token", f"memory ({dtype})"),
    )
    for unit in found.units:
        table.add_row(  # type: ignore[attr-defined]
            unit.model.rsplit("/", 1)[-1],
            unit.format,
            f"{unit.size.parameters:,}",
            f"{unit.adapter.parameters:,}" if unit.adapter else "-",
            f"{unit.tokens:,}",
            f"{unit.flops:.2e}",
            f"{unit.kv_bytes(dtype):,}",
            _bytes(unit.memory(dtype)),
        )
    return table


def _served(found: Estimate) -> object:
    table = _table("model on a server", "format", "requests", "tokens to send", "to receive")
    for one in found.served:
        name = one.model.rsplit("/", 1)[-1]
        numbers = (one.requests, one.sent, one.received)
        table.add_row(name, one.format, *(f"{n:,}" for n in numbers))  # type: ignore[attr-defined]
    return table


def _stages(found: Estimate) -> object:
    table = _table("stage (all models)", "tokens to read", "FLOPs", "share")
    total = sum(u.flops for u in found.units)
    for name in dict.fromkeys(s.name for u in found.units for s in u.stages):
        mine = [s for u in found.units for s in u.stages if s.name == name]
        flops = sum(s.flops for s in mine)
        share = f"{flops / total:.0%}" if total else "-"
        table.add_row(name, f"{sum(s.tokens for s in mine):,}", f"{flops:.2e}", share)  # type: ignore[attr-defined]
    return table


def _devices(found: Estimate) -> object:
    table = _table("device", "matmul rate", "memory", "time of what fits", "does not fit")
    for device in found.devices:
        fits = [u for u in found.units if u.memory(device.dtype) <= device.memory]
        lost = [f"{u.model.rsplit('/', 1)[-1]} ({u.format})" for u in found.units if u not in fits]
        seconds = sum(u.seconds(device) for u in fits)
        table.add_row(  # type: ignore[attr-defined]
            device.name,
            f"{device.flops / 1e12:,.4g} TFLOP/s {device.dtype}{_how(device)}",
            _bytes(device.memory),
            _time(seconds) if fits else "-",
            _shortened(lost),
        )
    return table


def _how(device: Device) -> str:
    return ", measured" if device.measured else ""


def _shortened(lost: Sequence[str]) -> str:
    if len(lost) <= 1:
        return lost[0] if lost else ""
    return f"{lost[0]} and {len(lost) - 1} more"


def _adapters(units: Sequence[UnitCost]) -> list[str]:
    """One line per shape of adapter, with the models that have it."""
    by_shape: dict[str, list[str]] = {}
    for unit in units:
        if unit.adapter:
            shapes = ", ".join(f"{n} {a} → {b} (×{k})" for n, a, b, k in unit.adapter.shapes)
            models = by_shape.setdefault(shapes, [])
            if unit.model not in models:
                models.append(unit.model)
    return [f"adapter on {shapes}: {', '.join(m)}" for shapes, m in by_shape.items()]


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n < 1 << 59 else "unknown"


def _time(seconds: float) -> str:
    """ "40 s", "12 min", "3.4 h", "12 days"."""
    for size, unit in ((86400 * 2, "days"), (3600 * 2, "h"), (120, "min")):
        if seconds >= size:
            step = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{seconds / step:.3g} {unit}"
    return f"{seconds:.2g} s"

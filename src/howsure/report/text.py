"""Numbers and run cards as the page writes them; "-" stands for what is unknown or undefined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from howsure.figures.labels import one_line

UNKNOWN = "–"  # noqa: RUF001
MINUS = "−"  # noqa: RUF001
PROMPT = "prompt"
"""Key in a run card: a whole text as a model read it."""
LONGEST = 600
"""Characters of a question or an answer that are shown."""


def number(value: float | None, digits: int = 3) -> str:
    """ "0.123"; UNKNOWN for None and NaN."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """ "+0.012" or, with a minus sign, "-0.012"."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(low: float | None, high: float | None) -> str:
    """ "0.10 to 0.15"; "" where an end is unknown."""
    if number(low) == UNKNOWN or number(high) == UNKNOWN:
        return ""
    return f"{number(low)} to {number(high)}"


def count(n: int, one: str, more: str | None = None) -> str:
    """ "1 model", "4,200 questions"."""
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def shortened(text: str) -> str:
    """`text` in one line, cut off after LONGEST characters."""
    line = one_line(text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def card_sections(card: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, (name, value) rows): plain entries first, then a section per nested mapping."""
    plain = [(k, _value(v)) for k, v in card.items() if not isinstance(v, Mapping)]
    nested = [(k, list(_flat(v))) for k, v in card.items() if isinstance(v, Mapping)]
    return [(heading, rows) for heading, rows in (("", plain), *nested) if rows]


def prompts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(where in the card, text as the model read it) of every prompt in the run card."""
    return list(_prompts(card, ()))


def _prompts(card: Mapping[str, Any], above: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    for key, value in card.items():
        if isinstance(value, Mapping):
            yield from _prompts(value, (*above, str(key)))
        elif key == PROMPT and isinstance(value, str):
            yield one_line(above[-1]) if above else PROMPT, value


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if key == PROMPT:
            continue  # shown whole, in a place of its own
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _value(value)


def _value(value: object) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(v) for v in value) or UNKNOWN
    return shortened(str(value))

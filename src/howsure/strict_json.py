"""JSON from files that someone else wrote: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str) -> Any:
    """The value, read as `json.loads` does.

    Raises ValueError also for nesting that is too deep, an integer of thousands of digits, and a
    key that an object holds twice, of which one would be lost in silence.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def reason(error: ValueError) -> str:
    """What is wrong, in one line, without the text itself."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    said = str(error)
    return "a number has too many digits" if said.startswith("Exceeds the limit") else said


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found

"""Log-probabilities of a letter that a model gave, and of those beside it → its probability."""

from __future__ import annotations

import math
import re
from typing import Any

from howsure.types import LETTERS

_ANSWER = re.compile(
    r"answer\s*:\W{0,4}([a-z])(?![a-z])(?!\s*(?:,|and\b)\s*\(?[a-z]\b)", re.IGNORECASE
)
"""`ANSWER: B`, as inspect's prompts want it; not `ANSWER: A, B`."""
_ALONE = re.compile(r"\W*([a-z])\W*", re.IGNORECASE)
_ROUNDING = 0.01
"""So far above 0 may a log-probability be."""
_UNKNOWN = 0.01
"""So much may hang on options that are not among the listed tokens."""


def letter_probability(sample: Any) -> float | None:
    """Of the letter that was given, among the letters of all options of a sample; in [0, 1].

    `sample` is one of inspect's. Options count by the token that differs from the given one in the
    letter alone. One that is not listed is at most as probable as the least of those that are; if
    more than 0.01 could hang on it, nothing is known: None, as where there is no single letter.
    """
    output = sample.output
    if not sample.choices or not output.choices or output.choices[0].logprobs is None:
        return None
    tokens = output.choices[0].logprobs.content
    found = _given("".join(token.token for token in tokens))
    options = LETTERS[: len(sample.choices)]
    if found is None or found[0].lower() not in options:
        return None
    letter, place = found
    for token in tokens:
        if place < len(token.token):
            return _among(token, place, letter, options)
        place -= len(token.token)
    return None


def _given(text: str) -> tuple[str, int] | None:
    """The letter, and where in the text it is."""
    found = [*_ANSWER.finditer(text)][-1:] or [m for m in [_ALONE.fullmatch(text)] if m]
    return (found[0][1], found[0].start(1)) if found else None


def _among(token: Any, place: int, letter: str, options: str) -> float | None:
    before, after = token.token[:place], token.token[place + 1 :]
    listed = {top.token: float(top.logprob) for top in token.top_logprobs or ()}
    given = float(token.logprob)
    if not listed or any(math.isnan(v) or v > _ROUNDING for v in (given, *listed.values())):
        return None
    as_given = str.upper if letter.isupper() else str.lower
    others = [f"{before}{as_given(o)}{after}" for o in options if o != letter.lower()]
    least = math.exp(min(listed.values()))
    mine = math.exp(given)
    known = mine + sum(math.exp(listed[name]) for name in others if name in listed)
    unlisted = least * sum(name not in listed for name in others)
    if known <= 0.0 or mine / known - mine / (known + unlisted) > _UNKNOWN:
        return None
    return mine / known

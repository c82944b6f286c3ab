"""What names and cards tell: sizes of models, who was tuned from whom, words of subjects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_SCALE = {"b": 10**9, "m": 10**6}
_TUNED = {"chat", "instruct", "it", "sft", "rlhf", "dpo"}
_VERSION = re.compile(r"v\d+(\.\d+)*")
_LEAST = 1.2
"""Times as many parameters make a model "larger"."""

Pair = tuple[str, str]


def model_sizes(models: Sequence[str], card: Mapping[str, Any]) -> dict[str, int]:
    """Model → parameters: from the run card where it names them, else from the name ("7b")."""
    known: dict[str, int] = {}
    for part in (card, *(v for v in card.values() if isinstance(v, Mapping))):
        listed = part.get("models")
        for name, facts in listed.items() if isinstance(listed, Mapping) else ():
            if isinstance(facts, Mapping) and isinstance(facts.get("parameters"), int):
                known[str(name)] = facts["parameters"]
    sizes = {}
    for model in models:
        stated = _SIZE.search(model.rsplit("/", 1)[-1])
        original = model.rsplit(" (", 1)[0]  # without the source that two runs are told apart by
        if model in known or original in known:
            sizes[model] = known.get(model) or known[original]
        elif stated:
            sizes[model] = int(float(stated[1]) * _SCALE[stated[2].lower()])
    return sizes


def larger_pairs(sizes: Mapping[str, int]) -> tuple[list[Pair], bool]:
    """(larger, smaller) pairs, and whether they are alike in all but their size.

    Alike: the names differ in one part only ("7b" and "13b", "s" and "l"). Where no two are, all
    pairs with clearly different sizes.
    """
    ordered = sorted(sizes, key=lambda m: -sizes[m])
    pairs = [
        (a, b)
        for i, a in enumerate(ordered)
        for b in ordered[i + 1 :]
        if sizes[a] >= _LEAST * sizes[b]
    ]
    alike = [(a, b) for a, b in pairs if _differing_parts(a, b) == 1]
    return (alike, True) if alike else (pairs, False)


def tuned_pairs(models: Sequence[str]) -> list[Pair]:
    """(tuned, base) pairs: the names differ in "chat", "instruct", ... and a version only."""
    plain = {m: [w for w in _parts(m) if not _VERSION.fullmatch(w)] for m in models}
    bases = {m: [w for w in words if w not in _TUNED] for m, words in plain.items()}
    return [(a, b) for a in models for b in models if bases[a] != plain[a] and bases[a] == plain[b]]


def shared_words(subjects: Sequence[str], least: int = 3) -> dict[str, list[str]]:
    """Words that `least` or more of the subjects' names share, but not more than half of them."""
    found: dict[str, list[str]] = {}
    for subject in subjects:
        for word in dict.fromkeys(re.findall(r"[^\W\d_]{4,}", subject.lower())):
            found.setdefault(word, []).append(subject)
    kept = {w: s for w, s in found.items() if least <= len(s) <= len(subjects) / 2}
    # "high" and "school" hold the same subjects: one is enough.
    first: dict[tuple[str, ...], str] = {}
    for word, members in kept.items():
        key = tuple(members)
        first[key] = f"{first[key]} {word}" if key in first else word
    return {name: list(members) for members, name in first.items()}


def _parts(model: str) -> list[str]:
    return [w for w in re.split(r"[-_/\s]+", model.lower()) if w]


def _differing_parts(a: str, b: str) -> int:
    ours, theirs = _parts(a), _parts(b)
    if len(ours) != len(theirs):
        return max(len(ours), len(theirs))
    return sum(x != y for x, y in zip(ours, theirs, strict=True))

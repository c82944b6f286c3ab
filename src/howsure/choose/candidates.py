"""Predictions → candidates on the same questions, so that they can be compared one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from howsure.choose.application import Mix
from howsure.choose.costs import Key
from howsure.errors import UsageError
from howsure.figures.labels import method_name, one_line
from howsure.metrics import Bools, Floats
from howsure.types import Predictions

MOST_MISSING = 0.2
"""A candidate that lacks more than this share of the questions is not compared."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, a method and what they said of every question; n is that of `Questions`."""

    model: str
    method: str
    calibration: str
    p: Floats
    """(n,): p_correct, or -inf where there is none; such an answer is never let through."""
    y: Bools
    """(n,): whether the answer is correct; False where there is none."""
    cost: float | None = None
    """Per question, to answer it and to say how sure that is; None where nobody knows."""

    @property
    def name(self) -> str:
        """For a sentence."""
        return f"{one_line(self.model)}, {method_name(self.method)}"


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that the candidates are compared on."""

    ids: tuple[str, ...]
    subjects: tuple[str, ...]
    weights: Floats
    """(n,): how often each is met in the application, mean 1."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weighted(self) -> bool:
        return bool(np.ptp(self.weights) > 1e-12)

    def as_met(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Rows of a sample in which subjects are as frequent as in the application.

        All rows where there are no weights; else as many as there can be without taking one twice.
        """
        if not self.weighted:
            return np.arange(len(self))
        names = np.array(self.subjects)
        keep = []
        top = float(self.weights.max())
        for name in dict.fromkeys(self.subjects):
            rows = np.flatnonzero(names == name)
            count = int(len(rows) * self.weights[rows[0]] / top + 1e-9)
            keep.append(rng.permutation(rows)[:count])
        return np.sort(np.concatenate(keep))


def candidates(
    predictions: Sequence[Predictions], mix: Mix, costs: Mapping[Key, float]
) -> tuple[Questions, list[Candidate], list[str]]:
    """The questions, the candidates, and sentences on those that were left out.

    Of each model, method and format one calibration is taken, the last that is not "none": they
    order the answers alike, and the calibrated threshold means more. The questions are those of the
    mix that at least half of the candidates have; a candidate without more than MOST_MISSING of
    them is left out. Raises UsageError when none is left.
    """
    chosen: dict[tuple[str, str, str], Predictions] = {}
    for p in predictions:
        key = (p.model, p.method, p.format)
        if key not in chosen or p.calibration != "none":
            chosen[key] = p
    wanted = set(mix.subjects)
    times = Counter(
        (q, s)
        for p in chosen.values()
        for q, s in zip(p.ids, p.subjects, strict=True)
        if s in wanted
    )
    common = [at for at, count in times.items() if 2 * count >= len(chosen)]
    place = {at: i for i, at in enumerate(common)}
    found, left_out = [], []
    for key, p in chosen.items():
        candidate = _aligned(p, place, len(common), costs.get(key))
        missing = int(np.isinf(candidate.p).sum())
        if missing > MOST_MISSING * len(common):
            left_out.append(
                f"{candidate.name}: no confidence for {missing:,} of the {len(common):,} "
                "questions, so it is left out"
            )
        else:
            found.append(candidate)
    if not found or not common:
        raise UsageError(
            "no two of the candidates have the same questions (by id), so they can't be compared; "
            "score them with the questions' ids (--id-column)"
        )
    subjects = tuple(s for _, s in common)
    return (
        Questions(tuple(q for q, _ in common), subjects, _weights(subjects, mix)),
        found,
        left_out,
    )


def _aligned(
    p: Predictions, place: Mapping[tuple[str, str], int], n: int, cost: float | None
) -> Candidate:
    values, correct = np.full(n, -np.inf), np.zeros(n, dtype=np.bool_)
    asked = zip(p.ids, p.subjects, strict=True)
    here = [(place[at], i) for i, at in enumerate(asked) if at in place]
    rows, at = np.array(here, dtype=np.intp).reshape(-1, 2).T
    values[rows], correct[rows] = p.p_correct[at], p.is_correct[at]
    return Candidate(p.model, p.method, p.calibration, values, correct, cost)


def _weights(subjects: Sequence[str], mix: Mix) -> Floats:
    if mix.shares is None:
        return np.ones(len(subjects))
    counts = Counter(subjects)
    shares = {name: share for name, share in mix.shares.items() if counts[name]}
    scale = len(subjects) / sum(shares.values())
    return np.array([shares[s] * scale / counts[s] for s in subjects])

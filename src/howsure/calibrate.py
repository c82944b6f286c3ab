"""Calibration after the fact: a map from probability to probability, fitted on validation answers.

calibrator = fit_calibrator("temperature", estimator.p_correct(valid), is_correct)
Calibrated(estimator, calibrator).p_correct(test)

Temperature and Platt scaling are strictly monotone, so that they leave AUROC as it was; isotonic
regression is monotone with steps, which makes ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from howsure.errors import BundleError, FitError, PredictionsError, UnknownName
from howsure.types import Answer, Estimator

Floats = NDArray[np.float64]

CALIBRATIONS = ("none", "temperature", "platt", "isotonic")

MAX_LOGIT = 37.0
"""Logits are cut off here: the largest float64 below 1 has a logit of 36.7."""

MAX_TEMPERATURE = 100.0
_MAX_SCALED_LOGIT = 30.0
"""No temperature is so low that a validation logit exceeds this: float64 would round it to 1."""

_MIN_SLOPE = 0.01


class Calibrator(Protocol):
    """A map from probabilities to probabilities, each by itself."""

    def __call__(self, p: ArrayLike) -> Floats:
        """(n,) in [0, 1] → (n,) in [0, 1], non-decreasing."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Leaves probabilities as they are."""

    def __call__(self, p: ArrayLike) -> Floats:
        return _checked(p)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Logits divided by one number (Guo et al. 2017, section 4.2); 0.5 stays 0.5."""

    temperature: float

    def __call__(self, p: ArrayLike) -> Floats:
        return _sigmoid(_logit(_checked(p)) / self.temperature)


@dataclass(frozen=True, slots=True)
class Platt:
    """A line through the logits (Platt 1999), with a positive slope."""

    slope: float
    intercept: float

    def __call__(self, p: ArrayLike) -> Floats:
        return _sigmoid(self.slope * _logit(_checked(p)) + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Straight lines between knots that do not fall (Zadrozny and Elkan 2002); level beyond."""

    p: tuple[float, ...]
    """Where the knots are, rising."""
    value: tuple[float, ...]
    """The calibrated probability at each knot, non-decreasing."""

    def __call__(self, p: ArrayLike) -> Floats:
        return np.interp(_checked(p), self.p, self.value).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """An estimator whose probabilities go through a calibrator."""

    base: Estimator
    calibrator: Calibrator

    def p_correct(self, answers: Sequence[Answer]) -> Floats:
        """(n,), in [0, 1]."""
        return self.calibrator(self.base.p_correct(answers))


def fit_calibrator(kind: str, p: ArrayLike, is_correct: ArrayLike) -> Calibrator:
    """The calibrator of that kind with the lowest loss on validation answers; never on test ones.

    `p` is (n,) in [0, 1], `is_correct` (n,) bool. "none" needs no answers. Raises UnknownName for
    the kind, FitError where there are no answers or all are of one class (any of the maps would
    then go to an extreme), PredictionsError for a p outside [0, 1].
    """
    if kind not in CALIBRATIONS:
        raise UnknownName("calibration", kind, CALIBRATIONS)
    if kind == "none":
        return Identity()
    values, labels = _checked(p), np.asarray(is_correct, dtype=bool)
    if values.shape != labels.shape:
        raise PredictionsError(f"{len(values)} probabilities, but {len(labels)} labels")
    right, n = int(labels.sum()), len(labels)
    if right in (0, n):
        which = (
            "there are no validation answers"
            if n == 0
            else (f"all {n} validation answers are {'right' if right else 'wrong'}")
        )
        raise FitError(
            f"{which}, so nothing can be calibrated on them; use more, or --calibrate none"
        )
    fits: dict[str, Callable[[Floats, NDArray[np.bool_]], Calibrator]] = {
        "temperature": _fit_temperature,
        "platt": _fit_platt,
        "isotonic": _fit_isotonic,
    }
    return fits[kind](values, labels)


def to_json(calibrator: Calibrator) -> dict[str, Any]:
    """What `from_json` makes the same calibrator of."""
    for kind, made in _KINDS.items():
        if isinstance(calibrator, made):
            return {"kind": kind, **asdict(calibrator)}
    raise BundleError(f"{type(calibrator).__name__} is no calibrator that can be saved")


def from_json(data: Mapping[str, Any]) -> Calibrator:
    """The calibrator that `to_json` described. Raises BundleError for anything else."""
    kind = data.get("kind")
    if kind not in _KINDS:
        raise BundleError(f"unknown kind of calibrator {kind!r}; known: {', '.join(_KINDS)}")
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"
    }
    try:
        calibrator = _KINDS[kind](**settings)
        q = calibrator(np.array([0.0, 0.5, 1.0]))
        if not (np.diff(q, prepend=0.0, append=1.0) >= 0.0).all():
            raise ValueError("it is not monotone within [0, 1]")
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BundleError(f"calibrator {dict(data)!r} is not valid: {error}") from error
    return calibrator


_KINDS: dict[str, type[Identity | Temperature | Platt | Isotonic]] = {
    "none": Identity,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}


def _fit_temperature(p: Floats, y: NDArray[np.bool_]) -> Temperature:
    """The loss is convex in 1/T, so the sign of its derivative bisects towards the minimum."""
    z = _logit(p)
    largest = float(np.abs(z).max())
    low, high = 1.0 / MAX_TEMPERATURE, _MAX_SCALED_LOGIT / max(largest, 1e-300)
    if largest == 0.0:
        return Temperature(1.0)

    def slope(beta: float) -> float:
        return float(((_sigmoid(beta * z) - y) * z).mean())

    if slope(low) >= 0:
        return Temperature(1.0 / low)
    if slope(high) <= 0:
        return Temperature(1.0 / high)
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return Temperature(1.0 / high)


def _fit_platt(p: Floats, y: NDArray[np.bool_]) -> Platt:
    """Platt's smoothed targets keep the optimum finite also where the classes don't overlap."""
    z = _logit(p)
    right, n = int(y.sum()), len(y)
    target = np.where(y, (right + 1) / (right + 2), 1 / (n - right + 2))
    if np.ptp(z) == 0.0:
        return _level(z, target)
    slope, intercept = _newton(np.stack([z, np.ones(n)], axis=1), target)
    if slope >= _MIN_SLOPE:
        return Platt(slope, intercept)
    # An estimator that is worse than chance: it isn't turned round, its spread is nearly removed.
    (intercept,) = _newton(np.ones((n, 1)), target, offset=_MIN_SLOPE * z)
    return Platt(_MIN_SLOPE, intercept)


def _level(z: Floats, target: Floats) -> Platt:
    """One p for all answers: the slope can't be fitted, the level can."""
    mean = float(target.mean())
    return Platt(1.0, math.log(mean / (1 - mean)) - float(z[0]))


def _newton(x: Floats, target: Floats, offset: Floats | float = 0.0) -> list[float]:
    """Weights of the logistic regression on soft targets: Newton steps, halved until they help."""
    w = np.zeros(x.shape[1])

    def loss(weights: Floats) -> float:
        z = x @ weights + offset
        return float((np.logaddexp(0.0, z) - target * z).mean())

    for _ in range(100):
        q = _sigmoid(x @ w + offset)
        gradient = x.T @ (q - target) / len(x)
        hessian = (x.T * (q * (1 - q))) @ x / len(x) + 1e-12 * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-10:
            size /= 2
        w = w - size * step
        if float(np.abs(gradient).max()) < 1e-12:
            break
    return [float(value) for value in w]


def _fit_isotonic(p: Floats, y: NDArray[np.bool_]) -> Isotonic:
    """Pool adjacent violators: neighbours that fall are merged into their mean until none falls."""
    knots, inverse = np.unique(p, return_inverse=True)
    counts = np.bincount(inverse).astype(np.float64)
    means = np.bincount(inverse, weights=y.astype(np.float64)) / counts
    blocks: list[tuple[float, float, int]] = []  # mean, answers, knots
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        block = (mean, count, 1)
        while blocks and blocks[-1][0] >= block[0]:
            before = blocks.pop()
            total = before[1] + block[1]
            merged = (before[0] * before[1] + block[0] * block[1]) / total
            block = (merged, total, before[2] + block[2])
        blocks.append(block)
    value = np.repeat([b[0] for b in blocks], [b[2] for b in blocks]).clip(0.0, 1.0)
    edges = np.r_[True, (value[1:-1] != value[:-2]) | (value[1:-1] != value[2:]), True]
    kept = edges if len(value) > 1 else np.array([True])
    return Isotonic(tuple(knots[kept].tolist()), tuple(value[kept].tolist()))


def _checked(p: ArrayLike) -> Floats:
    values: Floats = np.asarray(p, dtype=np.float64)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise PredictionsError("a p_correct is not in [0, 1]; calibration takes probabilities")
    return values


def _logit(p: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        z: Floats = np.log(p) - np.log1p(-p)
    return z.clip(-MAX_LOGIT, MAX_LOGIT)


def _sigmoid(z: Floats) -> Floats:
    small = np.exp(-np.abs(z))
    q: Floats = np.where(z >= 0, 1.0, small) / (1.0 + small)
    return q

"""What the answers are wanted for: subjects and their weights, and what is asked of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from howsure.errors import UnknownName, UsageError

ALPHA = 0.1


@dataclass(frozen=True, slots=True)
class Application:
    """A wish, as it was said; checked when it is made."""

    target_accuracy: float | None = None
    """Of the answers let through, so many must be correct; in (0, 1)."""
    min_coverage: float | None = None
    """At least so many answers must be let through; in (0, 1]."""
    subjects: tuple[str, ...] = ()
    """Subjects or categories, each with `=weight` if it has one; () is all, as they come."""
    max_cost: float | None = None
    """Per question, for answering and for the confidence together, in the unit of the costs."""
    alpha: float = ALPHA
    """How improbable it must be that a recommended threshold misses its target; in (0, 0.5]."""

    def __post_init__(self) -> None:
        if self.target_accuracy is None and self.min_coverage is None:
            raise UsageError(
                "say what matters: --target-accuracy X (of the answers let through, so many must "
                "be correct), --min-coverage X (so many must be let through), or both"
            )
        for option, value, most in (
            ("--target-accuracy", self.target_accuracy, 0.9999),
            ("--min-coverage", self.min_coverage, 1.0),
            ("--alpha", self.alpha, 0.5),
        ):
            if value is not None and not 0.0 < value <= most:
                raise UsageError(f"{option} is {value:g}; it must be above 0 and at most {most:g}")
        if self.max_cost is not None and not self.max_cost > 0.0:
            raise UsageError(f"--max-cost is {self.max_cost:g}; it must be above 0")

    @property
    def by_coverage(self) -> bool:
        """Whether coverage at the target ranks the candidates; else accuracy at a coverage."""
        return self.target_accuracy is not None


@dataclass(frozen=True, slots=True)
class Mix:
    """Which subjects, and how often a question of each is met."""

    subjects: tuple[str, ...]
    shares: Mapping[str, float] | None = field(default=None)
    """Subject → share, summing to 1; None: as often as in the data."""


def mix(wanted: Sequence[str], subjects: Mapping[str, int], categories: Mapping[str, str]) -> Mix:
    """The subjects that `--subject` names, of those in the data (subject → number of questions).

    Each is a subject, or a category (`categories`: subject → category), with `=weight` behind it or
    not. Without any weight a question is met as often as in the data. With one or more, weights are
    shares of the questions met (those without one weigh 1); a category's is spread over its
    subjects by their numbers of questions. Raises UnknownName, UsageError for a bad weight or a
    subject named twice.
    """
    if not wanted:
        return Mix(tuple(subjects))
    weights: dict[str, float] = {}
    weighted = False
    for text in wanted:
        names, weight = _one(text, subjects, categories)
        weighted = weighted or weight is not None
        total = sum(subjects[name] for name in names)
        for name in names:
            if name in weights:
                raise UsageError(
                    f"--subject names {name!r} twice (also by its category); once is enough"
                )
            weights[name] = (1.0 if weight is None else weight) * subjects[name] / total
    if not weighted:
        return Mix(tuple(weights))
    return Mix(tuple(weights), {n: w / sum(weights.values()) for n, w in weights.items()})


def _one(
    text: str, subjects: Mapping[str, int], categories: Mapping[str, str]
) -> tuple[list[str], float | None]:
    """The subjects of one `--subject`, and its weight."""
    name, _, tail = text.rpartition("=")
    weight = None
    if name and text not in subjects:
        weight = _weight(tail, text)
    else:
        name = text
    if name in subjects:
        return [name], weight
    plain = _plain(name)
    within = [s for s in subjects if plain and _plain(categories.get(s, "")) == plain]
    if not within and plain in subjects:
        within = [plain]
    if not within:
        known = [*subjects, *_distinct(categories[s] for s in subjects if s in categories)]
        raise UnknownName("subject or category", name, known)
    return within, weight


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _weight(tail: str, text: str) -> float:
    try:
        weight = float(tail)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight < 1e9:
        raise UsageError(f"--subject {text!r}: the weight must be a number above 0, as in name=2")
    return weight


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

"""Everything that howsure raises on purpose.

HowsureError                 one clear line: what is wrong, where, what to do; exit code 1
├── UsageError               the request itself can't be carried out; exit code 2
│   ├── UnknownName          a model, subject, method, set or option that does not exist
│   ├── QuestionError        a question, or a file of questions, that can't be used
│   ├── PredictionsError     predictions or a scores table that can't be used
│   ├── ModelError           a checkpoint, tokenizer or adapter that can't be used
│   └── BundleError          a saved estimator that can't be used
├── ApiError                 a server that can't be reached, refuses, or answers with nonsense
├── StoreError               what a run keeps can't be written, or has been damaged meanwhile
└── FitError                 training could not be done with the answers at hand
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HowsureError(Exception):
    """Base of all; its text is the one line that the user sees."""

    exit_code = 1


class UsageError(HowsureError):
    """What was asked for can't be done as asked."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not in its list; the message shows the list and the nearest name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        near = get_close_matches(name, names, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        shown = ", ".join(names[:70])
        tail = f" {hint}" if hint else ""
        super().__init__(f"unknown {kind} {name!r}{guess} Known: {shown}.{tail}")


class QuestionError(UsageError):
    """A question, or a file of questions, that can't be used."""


class PredictionsError(UsageError):
    """Predictions or a scores table that can't be used."""


class ModelError(UsageError):
    """A checkpoint, tokenizer or adapter that can't be used."""


class BundleError(UsageError):
    """A saved estimator that can't be used."""


class ApiError(HowsureError):
    """A server that can't be reached, refuses, or answers with something else than asked for."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status with which it refused, if it did."""


class StoreError(HowsureError):
    """What a run keeps on disk can't be written, or was damaged while the run went on."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal
        """Whether nothing else of the run can go on either."""


class FitError(HowsureError):
    """Training could not be done with the answers at hand."""

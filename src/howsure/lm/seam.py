"""What the rest of the package needs of a model, whether it is loaded here or on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from howsure.lm.chat import Prompting
from howsure.lm.passage import Generation, Next, Passage, Want
from howsure.lm.readings import Readings

Values = list[NDArray[np.float32]]
Progress = Callable[[int, int], None]


class Wave(Protocol):
    """Passages that have been read, and can be continued. See `model.Wave`."""

    index: list[int]

    @property
    def values(self) -> Values: ...

    def read(self, more: Sequence[tuple[int, Passage]], wants: Sequence[Want]) -> Values: ...

    def generate(self, max_tokens: int) -> list[Generation]: ...

    def letters(self) -> list[str | None]:
        """The letters said, where no probabilities are told."""
        ...


class Model(Protocol):
    """`model.LanguageModel`, loaded here, or `served.ServedModel`."""

    name: str
    unknown: str
    """Why an answer can't be used whose probability is no number."""
    context: int
    """Tokens that it reads at most."""
    readings: Readings

    @property
    def fingerprint(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `run.json` tells of it."""
        ...

    def prompting(self, mode: str) -> Prompting: ...

    def tells_probabilities(self, mode: str) -> bool:
        """Whether the probabilities of options and answers can be had."""
        ...

    def lengths(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text, at most."""
        ...

    def verify(self, passages: Sequence[Passage], *, seed: int = 0) -> None: ...

    def read(
        self,
        passages: Sequence[Passage],
        wants: Sequence[Want],
        *,
        adapter: str | None = None,
        on_progress: Progress | None = None,
    ) -> Values: ...

    def waves(
        self, passages: Sequence[Passage], wants: Sequence[Want], *, then: Next = "read"
    ) -> Iterator[Wave]: ...

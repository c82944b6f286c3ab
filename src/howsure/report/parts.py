"""What the page is made of, as plain values for its template: cells, tables, sections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A figure with what stands small beneath it."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class HeadlineRow:
    """The macro figures of one method of a model."""

    method: str
    baseline: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Plain text cells under `columns`; the first one names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Extra:
    """A section that someone else than the report writes: text and tables, all of it escaped."""

    anchor: str
    """Letters, digits and "-": the section's name in the page's address."""
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    """(caption, table)."""


@dataclass(frozen=True)
class Said:
    """A statement as the page writes it."""

    text: str
    verdict: str
    kind: str
    """The class of its mark: "yes", "no" or "open"."""
    figures: str
    small: str


@dataclass(frozen=True)
class Surprise:
    """A wrong answer that was held to be right, or the other way round."""

    p_correct: str
    model: str
    subject: str
    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Surprising:
    """Several of them, and by which method."""

    method: str
    rows: list[Surprise]

    @property
    def asked(self) -> bool:
        """Whether the text of any question is known."""
        return any(s.question for s in self.rows)


Headline = list[tuple[str, list[HeadlineRow]]]
"""(model, its rows)."""

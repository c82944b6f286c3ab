"""How a value shows itself in a notebook: a heading, lines, a table. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def card(
    title: str,
    lines: Iterable[str] = (),
    columns: Sequence[str] = (),
    rows: Iterable[Sequence[str]] = (),
) -> str:
    """HTML; each row has a text for each column."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    cells = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if columns else ""
    below = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return f"<div><strong>{escape(title)}</strong>{below}{table}</div>"

"""Texts in CSV files that no spreadsheet takes for a formula.

A program that opens a CSV may run a cell that begins like a formula. Such a text gets an apostrophe
in front, which spreadsheets read as "text follows"; `meant` takes it away again, exactly.
"""

from __future__ import annotations

import re

import polars as pl

_LIKE_A_FORMULA = r"'*\s*[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]"
"""Also behind spaces, in the wide letters that East Asian spreadsheets take for the same, and
behind apostrophes, so that a text that has one already keeps it."""
_STARTS = re.compile(_LIKE_A_FORMULA)


def guarded(table: pl.DataFrame) -> pl.DataFrame:
    """The table with an apostrophe before each text that begins like a formula."""
    unlike = f"^({_LIKE_A_FORMULA})"
    return table.with_columns(pl.selectors.string().str.replace(unlike, "'${1}"))


def meant(text: str) -> str:
    """The text that `guarded` was given."""
    return text[1:] if text.startswith("'") and _STARTS.match(text) else text

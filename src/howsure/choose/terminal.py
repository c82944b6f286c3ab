"""A Choice on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from howsure.choose.choice import Choice
from howsure.choose.words import cells, columns, explained, headline, sentences


def print_choice(choice: Choice) -> None:
    """Prints what was wished, the candidates as a table, and what to do."""
    table = Table(box=None, pad_edge=False)
    for i, heading in enumerate(columns(choice)):
        justify, whole = ("left", False) if i < 3 else ("right", True)
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
    for row in cells(choice, short=True):
        table.add_row(*map(Text, row))
    console = Console()
    for part in (
        Text(f"\n{headline(choice)}\n"),
        table,
        Text(f"{explained(choice)}\n", style="dim"),
        *(Padding(Text(line), (0, 0, 1, 0)) for line in sentences(choice)),
    ):
        console.print(part, highlight=False)

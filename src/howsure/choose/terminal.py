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
    # One method for all is named in the sentences; the models' names need the place.
    shown = [i for i in range(len(columns(choice))) if i != 1 or _methods(choice) > 1]
    for i in shown:
        justify, whole = ("left", False) if i < 3 else ("right", True)
        table.add_column(columns(choice)[i], justify=justify, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
    for row in cells(choice, short=True):
        table.add_row(*(Text(row[i]) for i in shown))
    console = Console()
    for part in (
        Text(f"\n{headline(choice)}\n"),
        table,
        Text(f"{explained(choice)}\n", style="dim"),
        *(Padding(Text(line), (0, 0, 1, 0)) for line in sentences(choice)),
    ):
        console.print(part, highlight=False)


def _methods(choice: Choice) -> int:
    return len({(r.method, r.calibration) for r in choice.ranked})

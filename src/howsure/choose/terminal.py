"""A Choice on the terminal."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from howsure.choose.choice import Choice
from howsure.choose.words import cells, columns, explained, headline, sentences
from howsure.figures.labels import wrap

_LEAST = 11
"""Characters that a column of names has at least."""


def print_choice(choice: Choice) -> None:
    """Prints what was wished, the candidates as a table, and what to do."""
    console = Console()
    for part in (
        Text(f"\n{headline(choice)}\n"),
        _table(choice, console.width),
        Text(f"{explained(choice)}\n", style="dim"),
        *(Padding(Text(line), (0, 0, 1, 0)) for line in sentences(choice)),
    ):
        console.print(part, highlight=False)


def _table(choice: Choice, wide: int) -> Table:
    """Numbers stay whole; names are broken where they have a joint."""
    headings, rows = columns(choice), cells(choice, short=True)
    one_method = len({(r.method, r.calibration) for r in choice.ranked}) == 1
    # One method for all is named in the sentences; the models' names need the place.
    shown = [i for i in range(len(headings)) if i != 1 or not one_method]
    widths = {i: max(cell_len(row[i]) for row in (headings, *rows)) for i in shown}
    left = wide - sum(w + 1 for i, w in widths.items() if i > 1)
    if not one_method:
        widths[1] = min(widths[1], max(_LEAST, left - 1 - widths[0]))
        left -= widths[1] + 1
    widths[0] = min(widths[0], max(_LEAST, left))
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for i in shown:
        table.add_column(headings[i], justify="left" if i < 3 else "right", no_wrap=i > 1)
    for row in rows:
        names = {i: "\n".join(wrap(row[i], widths[i], cell_len, 9)) for i in shown if i < 2}
        table.add_row(*(Text(names.get(i, row[i]), overflow="fold") for i in shown))
    return table

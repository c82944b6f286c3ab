"""Tables in LaTeX and Markdown, in which every text stands for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from howsure.figures.labels import one_line

_LATEX = {
    **{c: f"\\{c}" for c in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~$!])")


@dataclass(frozen=True)
class Grid:
    """A table as it is printed: groups of columns above, groups of rows, texts within."""

    caption: str
    stub: tuple[str, ...]
    """Heads of the columns that name a row."""
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """(head, heads of its columns); a head may be ""."""
    parts: tuple[tuple[tuple[str, ...], ...], ...]
    """Groups of rows, a rule between them; each row has the stub's texts, then the cells'."""
    best: frozenset[tuple[int, int, int]] = frozenset()
    """(part, row, cell) in bold."""

    @property
    def width(self) -> int:
        """How many cells a row has, its stub left out."""
        return sum(len(heads) for _, heads in self.groups)


def latex(grid: Grid) -> str:
    """A `table` with the rules of the booktabs package."""
    stub = len(grid.stub)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(grid.caption)}}}",
        r"\small",
        rf"\begin{{tabular}}{{{'l' * stub}{'r' * grid.width}}}",
        r"\toprule",
    ]
    if any(head for head, _ in grid.groups):
        heads = [rf"\multicolumn{{{len(c)}}}{{c}}{{{latex_text(h)}}}" for h, c in grid.groups]
        lines.append(_latex_row([*[""] * stub, *heads]))
        lines.append(" ".join(_rules(grid)))
    names = [*grid.stub, *(c for _, heads in grid.groups for c in heads)]
    lines.append(_latex_row([latex_text(n) for n in names]))
    for p, part in enumerate(grid.parts):
        lines.append(r"\midrule")
        for r, row in enumerate(part):
            cells = [latex_text(text) for text in row]
            for c in range(grid.width):
                if (p, r, c) in grid.best:
                    cells[stub + c] = rf"\textbf{{{cells[stub + c]}}}"
            lines.append(_latex_row(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _rules(grid: Grid) -> list[str]:
    """A rule under each group's head."""
    out, at = [], len(grid.stub) + 1
    for head, columns in grid.groups:
        if head:
            out.append(rf"\cmidrule(lr){{{at}-{at + len(columns) - 1}}}")
        at += len(columns)
    return out


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def markdown(grid: Grid) -> str:
    """A pipe table; a column's head has its group's in front."""
    stub = len(grid.stub)
    heads = [f"{group}: {c}" if group else c for group, columns in grid.groups for c in columns]
    lines = [
        markdown_text(grid.caption),
        "",
        _pipes([markdown_text(h) for h in (*grid.stub, *heads)]),
        _pipes(["---"] * stub + ["---:"] * grid.width),
    ]
    for p, part in enumerate(grid.parts):
        for r, row in enumerate(part):
            cells = [markdown_text(text) for text in row]
            for c in range(grid.width):
                if (p, r, c) in grid.best:
                    cells[stub + c] = f"**{cells[stub + c]}**"
            lines.append(_pipes(cells))
    return "\n".join([*lines, ""])


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def latex_text(text: str) -> str:
    """The text with nothing in it that TeX takes for a command; dashes and signs as TeX's own."""
    made = "".join(_LATEX.get(c, c) for c in one_line(text))
    return made.replace("\u2013", "--").replace("\u2212", "$-$").replace("\u00b1", r"$\pm$")


def markdown_text(text: str) -> str:
    """The text with nothing in it that Markdown or HTML takes for markup, nor for an address."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", plain).replace("://", "&#58;//").replace("www.", "www&#46;")

"""Where the rows and columns of the heatmap lie, in inches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from howsure.figures import style
from howsure.figures.labels import (
    BASELINES,
    method_name,
    model_labels,
    one_line,
    subject_label,
    wrap,
)
from howsure.figures.table import Selection
from howsure.scores import MACRO

CELL_HEIGHT = 0.185
CELL_WIDTH = 0.245
MODEL_WIDTH = 0.95
"""The least width of a model's columns, so that its name has room."""
PANEL_WIDTH = 2.6
"""The least width of a panel, so that its title and the label of its colours have room."""
MODEL_GAP = 0.085
BASELINE_GAP = 0.035
HEADING = 0.235
"""Height of a category's heading."""
PANEL_TITLE = 0.3
TEXT = 7.0
"""Size in points of all labels."""
MEAN = "Mean over subjects (macro)"


@dataclass(frozen=True)
class Layout:
    """Rows and columns in inches from the upper left corner of a panel's cells, y downwards."""

    selection: Selection
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """(heading, its subjects), from top to bottom."""

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """MACRO, then the subjects as shown."""
        return (MACRO, *(s for _, group in self.groups for s in group))

    @cached_property
    def cell_width(self) -> float:
        most = max(len(js) for _, js in self.selection.models())
        return max(CELL_WIDTH, MODEL_WIDTH / most, PANEL_WIDTH / len(self.selection.columns))

    @cached_property
    def lefts(self) -> NDArray[np.float64]:
        """The left edge of each column, shape (columns,)."""
        out, x = [], 0.0
        for i, (_, js) in enumerate(self.selection.models()):
            x += MODEL_GAP if i else 0.0
            for k, j in enumerate(js):
                apart = k > 0 and self.is_baseline(j) and not self.is_baseline(js[k - 1])
                x += BASELINE_GAP if apart else 0.0
                out.append(x)
                x += self.cell_width
        return np.array(out)

    @cached_property
    def tops(self) -> NDArray[np.float64]:
        """The upper edge of each row, shape (rows,)."""
        out, y = [0.0], CELL_HEIGHT
        for _, group in self.groups:
            y += HEADING
            out += [y + i * CELL_HEIGHT for i in range(len(group))]
            y += len(group) * CELL_HEIGHT
        return np.array(out)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """(x, y) of each cell's centre, shape (rows, columns, 2)."""
        x, y = self.lefts + self.cell_width / 2, self.tops + CELL_HEIGHT / 2
        return np.stack(np.meshgrid(x, y), axis=-1)

    @property
    def width(self) -> float:
        """Of all columns."""
        return float(self.lefts[-1]) + self.cell_width

    @property
    def height(self) -> float:
        """Of all rows, without the header."""
        return float(self.tops[-1]) + CELL_HEIGHT

    @cached_property
    def n_width(self) -> float:
        """Of the numbers of questions."""
        inches = style.measure(TEXT - 0.5)
        return max(inches(n) for n in ("n", *self.selection.sizes()))

    @cached_property
    def label_width(self) -> float:
        """Of the column that names the subjects, with n."""
        inches, bold = style.measure(TEXT), style.measure(TEXT, "bold")
        names = [inches(subject_label(s)) for s in self.rows]
        headings = [bold(one_line(h)) for h, _ in self.groups]
        return max(*names, *headings, bold(MEAN)) + self.n_width + 0.3

    @cached_property
    def model_lines(self) -> tuple[str, ...]:
        """Each model's name, broken to the width of its columns."""
        models = self.selection.models()
        names, bold = model_labels([model for model, _ in models]), style.measure(TEXT, "bold")
        return tuple(
            "\n".join(wrap(names[model], len(js) * self.cell_width, bold, lines=3))
            for model, js in models
        )

    @property
    def models_height(self) -> float:
        """Of the models' names."""
        return max(style.text_height(lines, TEXT) for lines in self.model_lines) + 0.06

    @cached_property
    def header(self) -> float:
        """Height of the panel's title, the models' and the methods' names."""
        inches = style.measure(TEXT)
        methods = max(inches(method_name(m, short=True)) for m in self.selection.methods())
        return PANEL_TITLE + self.models_height + methods + 0.08

    def is_baseline(self, column: int) -> bool:
        """Whether the column shows a plain baseline."""
        return self.selection.columns[column][1] in BASELINES

"""The few lines at the end of a run: methods, with their means over models and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from howsure.figures.labels import (
    calibration_label,
    format_label,
    method_name,
    method_order,
)
from howsure.scores import MACRO
from howsure.tables import mean_known


def print_summary(scores: pl.DataFrame) -> None:
    """Prints one table per format. ECE is that after calibration where there is one."""
    from rich.console import Console

    console = Console()
    for name in scores["format"].unique(maintain_order=True):
        for line in summary_tables(scores.filter(pl.col("format") == name), name):
            console.print(line, highlight=False)


def summary_tables(scores: pl.DataFrame, name: str) -> list[Any]:
    """What `print_summary` prints for the rows of one format: a heading and a table."""
    from rich.table import Table
    from rich.text import Text

    macro = scores.filter(pl.col("subject") == MACRO)
    models = macro["model"].unique(maintain_order=True).to_list()
    kinds = [c for c in macro["calibration"].unique(maintain_order=True) if c != "none"]
    plain = macro.filter(pl.col("calibration") == "none")
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    table.add_column("ECE", justify="right")
    for kind in kinds:
        table.add_column(f"ECE {calibration_label(kind)}", justify="right")
    table.add_column("AUROC", justify="right")
    for method in method_order(macro["method"].to_list()):
        mine = macro.filter(pl.col("method") == method)
        by_kind = [mine.filter(pl.col("calibration") == c)["ece"] for c in ("none", *kinds)]
        auroc = mine.filter(pl.col("calibration") == "none")["auroc"]
        table.add_row(Text(method_name(method)), *(_mean(c.to_list()) for c in (*by_kind, auroc)))
    accuracy = _mean(plain.unique("model")["accuracy"].to_list())
    who = models[0] if len(models) == 1 else f"mean over {len(models)} models"
    head = f"\n{format_label(name).capitalize()}: {who}; accuracy {accuracy}"
    return [Text(head), table]


def _mean(values: Sequence[float | None]) -> str:
    value = mean_known(values)
    return "-" if value is None else f"{value:.3f}"

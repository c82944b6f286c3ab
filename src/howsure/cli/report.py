"""`howsure report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from howsure.cli.base import Debug, Output


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Run directories, or score tables (CSV)."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table or run to compare with."),
    ] = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Draw run directories and score tables: scores.csv, figures and report.html."""
    from howsure.report import report_paths

    own = len(paths) == 1 and paths[0].is_dir()
    folder = output or (paths[0] if own else Path("runs") / f"report-{paths[0].stem}")
    print(report_paths(paths, folder, reference=reference))

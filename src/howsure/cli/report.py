"""`howsure report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from howsure.cli.base import Debug, Output
from howsure.errors import UsageError


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Run directories, or score tables (CSV)."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table or run to compare with."),
    ] = None,
    publication: Annotated[
        bool,
        typer.Option(
            "--publication",
            help="Also vector pictures, LaTeX and Markdown tables, tidy CSV and Parquet.",
        ),
    ] = False,
    width: Annotated[
        float | None,
        typer.Option(metavar="INCHES", help="Of a column of the paper. Default: 5.5 (NeurIPS)."),
    ] = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Draw run directories and score tables: scores.csv, figures and report.html."""
    from howsure.report import report_paths
    from howsure.report.publication import WIDTH

    if width is not None and not publication:
        raise UsageError("--width is that of pictures for a paper; add --publication")
    own = len(paths) == 1 and paths[0].is_dir()
    folder = output or (paths[0] if own else Path("runs") / f"report-{paths[0].stem}")
    column = (WIDTH if width is None else width) if publication else None
    print(report_paths(paths, folder, reference=reference, publication=column))

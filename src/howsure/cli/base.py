"""What the commands share: the application, and the options that all of them have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howsure import __version__

app = typer.Typer(
    name="howsure",
    help="How sure is it? The probability that a language model's answers are correct, and how "
    "far that probability can be trusted.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="The folder to write to. Default: one below runs/, named after what is asked; a "
        "report on one run goes into its folder.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"howsure {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def summarise(scores: Any) -> None:
    """The few lines at the end of a command."""
    from howsure.summary import print_summary

    print_summary(scores)

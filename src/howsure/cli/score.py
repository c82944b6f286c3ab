"""`howsure score`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from howsure import __version__
from howsure.cli.base import Debug, Output, summarise

if TYPE_CHECKING:
    from howsure.recorded import Recorded


def score(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV, JSONL (.gz) or Parquet files with a row per answer; sample logs of "
            "lm-evaluation-harness or logs of inspect, or a folder with them. Columns that no "
            "option names are guessed by their names, and the guess is said.",
        ),
    ],
    p_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The column with the confidence that the answer is correct; several are several "
            "methods. Default: p_correct, confidence, ...",
        ),
    ] = None,
    options_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead: the column with a list of one number per option (probabilities, "
            "log-probabilities or logits).",
        ),
    ] = None,
    correct_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whether the answer is correct.")
    ] = None,
    predicted_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the model answered: compared with --gold-column, and with --options-column "
            "the index (from 0) or letter of the chosen option.",
        ),
    ] = None,
    gold_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The right answer.")
    ] = None,
    subject_column: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    model_column: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    variant_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What tells the rows of one question apart, such as the prompt; each counts as a "
            "model of its own.",
        ),
    ] = None,
    method_column: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The question's id. Default: the row.")
    ] = None,
    percent: Annotated[
        bool, typer.Option("--percent", help="The confidence is in percent, 0 to 100.")
    ] = False,
    recalibrate: Annotated[
        str | None,
        typer.Option(
            metavar="platt|isotonic",
            help="Make probabilities of the confidence, whatever its scale, by cross-validation.",
        ),
    ] = None,
    lower_is_surer: Annotated[
        bool,
        typer.Option("--lower-is-surer", help="As with a perplexity; with --recalibrate."),
    ] = False,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Score confidences that you have already, and write a report."""
    from howsure.recorded import Columns, Scale, read_recorded

    columns = Columns(
        p=tuple(p_column or ()),
        options=options_column,
        correct=correct_column,
        predicted=predicted_column,
        gold=gold_column,
        subject=subject_column,
        model=model_column,
        variant=variant_column,
        method=method_column,
        id=id_column,
    )
    scale = Scale(percent=percent, lower_is_surer=lower_is_surer, recalibrate=recalibrate)
    found = read_recorded(files, columns, scale)
    folder = output or Path("runs") / f"score-{files[0].name.split('.')[0]}"
    for note in found.notes:
        print(note, file=sys.stderr)
    _score(files, found, folder)


def _score(files: Sequence[Path], found: Recorded, folder: Path) -> None:
    from howsure.recorded.folder import claim
    from howsure.report import write_report
    from howsure.scores import score as score_predictions
    from howsure.scores import write_predictions

    scores = score_predictions(found.predictions)
    claim(folder, files, found.notes)
    page = write_report(
        folder,
        scores,
        found.predictions,
        title=f"How sure is it? · {files[0].name}{' …' if len(files) > 1 else ''}",
        run_card={"source": ", ".join(map(str, files)), "howsure": __version__},
        notes=found.notes,
    )
    write_predictions(found.predictions, folder / "predictions.parquet")
    summarise(scores)
    print(page)

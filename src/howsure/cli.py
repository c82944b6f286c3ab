"""The command line: parse → call → print. Everything heavy is imported when a command needs it."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from howsure import __version__
from howsure.errors import HowsureError, UsageError

if TYPE_CHECKING:
    from howsure.run import RunResult

INTERRUPTED = 128 + signal.SIGINT

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


@app.command()
def run(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            show_default=False,
            help="quickstart or kapoor2024. Without one: quickstart, unless --questions says "
            "otherwise.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_DIR",
            help="An embedded model, a local folder or a Hub id; may be repeated. Default: all "
            "embedded models.",
        ),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="SET|PATH",
            help="What is asked: quickstart, a set by name (mmlu, ...), a JSONL or CSV file, or a "
            "folder.",
        ),
    ] = None,
    train_questions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET|PATH",
            help="What estimators are trained on; may be repeated. Default: the train split of "
            "--questions.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where sets are looked for as <set>.<split>.jsonl(.gz), before the Hub; also "
            "HOWSURE_DATA.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="zero_shot, probe, lora, lora_prompt, likelihood or subject_prior; may be "
            "repeated. Default: all.",
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(metavar="SUBJECT", help="Only this subject of --questions; may be repeated."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="choice|open",
            help="Multiple choice or free text. Default: the recipe's, else choice if all "
            "questions have choices.",
        ),
    ] = None,
    choose_by: Annotated[
        str | None,
        typer.Option(
            metavar="letter|text",
            help="How a choice is made: the likeliest letter, or the option whose text is "
            "likeliest.",
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Solved examples before each question, from the dev split. Default: 5 if there "
            "is one.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most N questions per subject, test and validation."),
    ] = None,
    train_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most N training questions. Default: 20000."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="none|temperature|platt|isotonic",
            help="Calibration on validation answers, beside the uncalibrated. Default: "
            "temperature.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Default: 0.")] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda")] = None,
    dtype: Annotated[str | None, typer.Option(metavar="auto|float32|bfloat16")] = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Ask models, fit estimators, score them by subject, and write a report."""
    from howsure.spec import build

    given: dict[str, Any] = {
        "models": model,
        "questions": questions,
        "train_questions": train_questions,
        "data_dir": data_dir,
        "methods": method,
        "subjects": subject,
        "formats": None if format is None else [format],
        "choose_by": choose_by,
        "shots": shots,
        "limit": limit,
        "train_size": train_size,
        "calibrate": calibrate,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "output": output,
    }
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    spec = build(recipe, changes)

    from howsure import run as running

    _finish(running.run(spec))


@app.command()
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


@app.command()
def score(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A CSV, JSONL or Parquet file with the columns p_correct and is_correct; "
            "subject, model, method, format, id and answer if there are any.",
        ),
    ],
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Score confidences that you have already, and write a report."""
    from howsure.recorded import read_recorded
    from howsure.report import write_report
    from howsure.scores import score as score_predictions
    from howsure.scores import write_predictions

    predictions = read_recorded(file)
    folder = output or Path("runs") / f"score-{file.name.split('.')[0]}"
    scores = score_predictions(predictions)
    page = write_report(
        folder,
        scores,
        predictions,
        title=f"How sure is it? · {file.name}",
        run_card={"source": str(file), "howsure": __version__},
    )
    write_predictions(predictions, folder / "predictions.parquet")
    _summary(scores)
    print(page)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0, 1 where the work failed, 2 for bad usage."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(args=arguments, prog_name="howsure", standalone_mode=False)
        if code == INTERRUPTED:  # typer's own way of passing on Ctrl-C
            print("howsure: stopped", file=sys.stderr)
    except HowsureError as error:
        code = _complain(error, str(error), error.exit_code, "--debug" in arguments)
    except typer.TyperException as error:
        hint = "; howsure --help shows the commands and options"
        code = _complain(error, error.format_message().rstrip(".") + hint, 2, False)
    except (typer.Abort, KeyboardInterrupt):
        print("howsure: stopped", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except ModuleNotFoundError as error:
        line = f"the library {error.name!r} is not installed; pip install 'howsure[lm]'"
        code = _complain(error, line, 1, "--debug" in arguments)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        line = f"unexpected {type(error).__name__}: {first} (--debug shows where)"
        code = _complain(error, line, 1, "--debug" in arguments)
    sys.exit(code or 0)


def _terminated(*_: object) -> NoReturn:
    """Leaves by an exception, so that worker processes are ended on the way."""
    print("howsure: stopped", file=sys.stderr)
    sys.exit(128 + signal.SIGTERM)


def _complain(error: Exception, message: str, code: int, debug: bool) -> int:
    if debug:
        trace = getattr(error, "trace", "")
        print(trace or "".join(traceback.format_exception(error)), end="", file=sys.stderr)
    print(f"howsure: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _finish(result: RunResult) -> None:
    """The summary, what went wrong, and the path of the report as the last line."""
    _summary(result.scores)
    print(result.report, flush=True)
    if result.failures:
        raise PartlyFailed(result)


class PartlyFailed(HowsureError):
    """A run that left results, but not all that were asked for."""

    def __init__(self, result: RunResult) -> None:
        first, *more = result.failures
        rest = f" ({len(more)} more: see {result.directory / 'run.json'})" if more else ""
        super().__init__(first.message + rest)
        self.trace = "\n".join(f.trace for f in result.failures)


def _summary(scores: Any) -> None:
    from howsure.summary import print_summary

    print_summary(scores)


__all__ = ["UsageError", "app", "main"]

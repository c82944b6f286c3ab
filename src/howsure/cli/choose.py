"""`howsure choose`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from howsure.cli.base import Debug
from howsure.errors import UnknownName

if TYPE_CHECKING:
    from howsure.choose import Choice, Held


def choose(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Run directories, made by `howsure run` or `howsure score`.",
        ),
    ],
    target_accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Of the answers that are let through, so many must be correct, such as 0.95. "
            "Candidates are ranked by how many they let through.",
        ),
    ] = None,
    min_coverage: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="So many answers must be let through, such as 0.8. Without a target, candidates "
            "are ranked by how many of those are correct.",
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=WEIGHT]",
            help="A subject or category of the application, and how often it is met; may be "
            "repeated. Default: all, as often as in the data.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this model; may be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Only this method; may be repeated."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="choice|open", help="Default: the first that the run has."),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=X",
            help="What a question costs with this model, in any unit; may be repeated. Default: "
            "seconds, as the run measured them.",
        ),
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="X", help="The most that a question may cost.")
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            metavar="X", help="How probable it may be that a promised threshold fails its promise."
        ),
    ] = 0.1,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write a report with the choice in it, and choice.json. The run's own folder "
            "is fine.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Choose model, method and threshold for an application."""
    from howsure import choose as choosing

    wish = choosing.Application(
        target_accuracy, min_coverage, tuple(subject or ()), max_cost=max_cost, alpha=alpha
    )
    held = choosing.read(paths)
    if output is not None:
        from howsure.report.inputs import refuse_overwriting

        refuse_overwriting(paths, output)
    chosen = [
        p
        for p in held.predictions
        if (not model or p.model in model) and (not method or p.method in method)
    ]
    _refuse_unknown("model", model or (), held)
    _refuse_unknown("method", method or (), held)
    stated = choosing.stated_costs(cost or (), [p.model for p in held.predictions])
    made = choosing.choose(
        chosen,
        wish,
        categories=held.categories,
        costs=_by_model(stated, held) if stated else held.seconds,
        cost_unit="" if stated else "s",
        format=format,
    )
    _print(made, json)
    if output is not None:
        print(_write(made, paths, output), file=sys.stderr if json else sys.stdout)


def _refuse_unknown(kind: str, wanted: list[str] | tuple[()], held: Held) -> None:
    known = list(dict.fromkeys(getattr(p, kind) for p in held.predictions))
    for name in wanted:
        if name not in known:
            raise UnknownName(kind, name, known)


def _by_model(stated: dict[str, float], held: Held) -> dict[tuple[str, str, str], float]:
    return {
        (p.model, p.method, p.format): stated[p.model]
        for p in held.predictions
        if p.model in stated
    }


def _print(choice: Choice, as_json: bool) -> None:
    from howsure.choose import to_json

    if as_json:
        import json

        print(json.dumps(to_json(choice), indent=2, ensure_ascii=False))
    else:
        from howsure.choose.terminal import print_choice

        print_choice(choice)


def _write(choice: Choice, paths: list[Path], output: Path) -> Path:
    import json

    from howsure.choose import section, to_json
    from howsure.report import report_paths

    page = report_paths(paths, output, extra=[section(choice)])
    data = json.dumps(to_json(choice), indent=2, ensure_ascii=False)
    (output / "choice.json").write_text(data + "\n", encoding="utf-8")
    return page

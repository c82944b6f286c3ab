"""`howsure run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from howsure.api import Limits
from howsure.cli.base import Debug, Output, summarise
from howsure.errors import HowsureError

if TYPE_CHECKING:
    from howsure.run import RunResult


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
            help="An embedded model, a short name (llama2:7b-chat, ...), a local folder, a Hub id, "
            "or openai:NAME@URL, a model on a server; may be repeated. Default: all embedded "
            "models.",
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
    shuffle_shots: Annotated[
        bool,
        typer.Option(
            "--shuffle-shots",
            help="Each question has its examples in an order of its own, as published; slower.",
        ),
    ] = False,
    long_prompts: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|drop-shots",
            help="With prompts longer than the model's context. Default: refuse.",
        ),
    ] = None,
    chat: Annotated[
        str | None,
        typer.Option(
            metavar="auto|on|off",
            help="Ask through the chat template. Default: auto, that of chat models.",
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
    dtype: Annotated[
        str | None, typer.Option(metavar="auto|float32|bfloat16|float16", help="Default: auto.")
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Branch, tag or commit of a Hub id. Default: main."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="A PEFT LoRA adapter (or Hub id) that is merged into the model."
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(metavar="none|8bit|4bit", help="Quantised weights, by bitsandbytes."),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            metavar="auto|eager|sdpa|flash_attention_2|...",
            help="The attention implementation. Default: the library's choice.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="auto|tree|plain",
            help="The path that reads: each token once, or prompt by prompt. Default: auto.",
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(
            metavar="none|auto|balanced|sequential",
            help="Spreads a model over several GPUs. Default: none.",
        ),
    ] = None,
    trust_remote_code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Lets this --model run Python code of its own; may be repeated."
        ),
    ] = None,
    trainers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train each LoRA estimator with N processes, each on a GPU of its own where there "
            "are some. Default: 1.",
        ),
    ] = None,
    query_adapter: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A released adapter (or Hub id) for lora_prompt, instead of training one; {model} "
            "and {format} in it stand for the run's.",
        ),
    ] = None,
    graded_answers: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Released graded answers (or a Hub id) to train on, instead of asking training "
            "questions; {model} and {format} likewise.",
        ),
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(
            metavar="match|judge:MODEL|openai:NAME@URL",
            help="Who says whether a free answer is right: a normalised match (the default), a "
            "local model, or one on an OpenAI-compatible server.",
        ),
    ] = None,
    grader_check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Human-labelled pairs (question, reference, answer, is_correct): how far the "
            "grader agrees with them is measured first and put into the report.",
        ),
    ] = None,
    api_concurrency: Annotated[
        int, typer.Option(metavar="N", help="Requests to a server at a time, in each worker.")
    ] = Limits().concurrency,
    api_deadline: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="For all requests about 1,024 answers, retries included."
        ),
    ] = Limits().deadline,
    executor: Annotated[
        str,
        typer.Option(
            metavar="auto|process|processes|ray",
            help="Where the work is done: in this process, in several, or on a Ray cluster.",
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Workers at most; default: what machine and work allow."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Threads of each worker; the last bits of results hang on it."
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a Ray cluster; default: RAY_ADDRESS, or one that begins here.",
        ),
    ] = None,
    output: Output = None,
    status: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Only say how far the run in this folder is: what is done, what is left, how "
            "long it takes.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="HOWSURE_CACHE",
            show_envvar=False,
            help="A folder in which runs share what they make (answers, estimators, predictions); "
            "also HOWSURE_CACHE. Default: each run keeps its own.",
        ),
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute/--no-recompute",
            show_default=False,
            help="Whether a damaged piece of work is made again (the default) or refused.",
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only tell what the run would cost: parameters, tokens to read, FLOPs, memory, "
            "time per device. Needs no weights.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Ask models, fit estimators, score them by subject, and write a report.

    The same command goes on where a run was stopped or killed.
    """
    if status is not None:
        from howsure.status import status as lines

        print("\n".join(lines(status)))
        return

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
        "shuffle_shots": shuffle_shots or None,
        "long_prompts": long_prompts,
        "chat": chat,
        "limit": limit,
        "train_size": train_size,
        "calibrate": calibrate,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "revision": revision,
        "adapter": adapter,
        "quantize": quantize,
        "attention": attention,
        "engine": engine,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
        "trainers": trainers,
        "query_adapter": query_adapter,
        "graded_answers": graded_answers,
        "grader": grader,
        "output": output,
    }
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value != []
    }
    limits = Limits(concurrency=api_concurrency, deadline=api_deadline)
    spec = build(recipe, changes)
    if dry_run:
        from howsure.estimate import estimate
        from howsure.estimate.printing import print_estimate

        print_estimate(estimate(spec))
        return

    from howsure import run as running

    with _resumable(spec.output):
        result = running.run(
            spec,
            at_once=workers,
            executor=executor,
            threads_each=threads,
            ray_address=ray_address,
            cache=cache,
            recompute=recompute,
            limits=limits,
            grader_check=grader_check,
        )
    _finish(result)


@contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """Says, where the run is stopped, what has become of it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        line = f"what is done is kept in {output}; the same command goes on from there"
        print(f"howsure: {line}", file=sys.stderr)
        raise


def _finish(result: RunResult) -> None:
    """The summary, what went wrong, and the path of the report as the last line."""
    summarise(result.scores)
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

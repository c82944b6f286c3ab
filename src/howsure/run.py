"""A whole run: `run(spec)` is the story in one screen, the rest is how."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from howsure import heap, lock, manifest, methods, scheduler, store
from howsure.api import Limits, is_server, parse
from howsure.errors import HowsureError, ModelError, UsageError
from howsure.grader_check import GraderCheck, check_grader, read_labels
from howsure.grid import Grid
from howsure.judges import NEITHER
from howsure.judges.names import label, local_model
from howsure.lm import embedded_names, loading
from howsure.lm.merging import find_adapter, read_for
from howsure.lm.names import fill_in
from howsure.lm.precision import pick_device, pick_dtype, threads
from howsure.lm.published import find_query_adapter
from howsure.outcome import UnitResult
from howsure.placement import Placement, Wanted, find_placement, hire
from howsure.plan import Plan, prepare
from howsure.progress import Display, display
from howsure.shards import Damage, Shards
from howsure.spec import RunSpec
from howsure.stages import Worker
from howsure.status import Tracker
from howsure.store import RunDirectory
from howsure.unit import Unit, grader_identity, model_identity, released_answers
from howsure.workers import ONE_TOKENIZER, Failure, environment

if TYPE_CHECKING:
    import polars as pl

    from howsure import graded
    from howsure.types import Format, Predictions

    Released: TypeAlias = Mapping[tuple[str, Format], graded.Source | None]
    """(model, format) → the training answers that are read instead of asked for."""

__all__ = ["RunResult", "RunSpec", "run"]

MODEL_CARD = ("server", "identity", "fingerprint", "parameters", "device", "dtype", "engine")
"""What `run.json` tells of each model."""

UNIT_CARD = ("prompting", "prompt", "answers", "released", "excluded", "methods")
"""What `run.json` tells of each model and format."""

_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "polars")


@dataclass(frozen=True)
class RunResult:
    """What a run left, and what of it could not be done."""

    directory: Path
    report: Path
    scores: pl.DataFrame
    failures: tuple[Failure, ...]
    """Empty when all was done."""

    @property
    def is_complete(self) -> bool:
        return not self.failures

    def to_polars(self) -> pl.DataFrame:
        """The scores table."""
        return self.scores

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame; needs pandas."""
        return self.scores.to_pandas()

    def _repr_html_(self) -> str:
        from howsure.report.summaries import scores_card

        failed = [f"Not done: {f.message}" for f in self.failures]
        return scores_card(str(self.directory), self.scores, [f"Report: {self.report}", *failed])


class RunFailed(HowsureError):
    """Nothing of a run could be done; the first failure says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.exit_code = failure.exit_code
        self.trace = failure.trace


def run(
    spec: RunSpec,
    *,
    show: Display | None = None,
    at_once: int | None = None,
    executor: str = "auto",
    threads_each: int | None = None,
    ray_address: str | None = None,
    cache: Path | None = None,
    recompute: bool = True,
    limits: Limits | None = None,
    grader_check: Path | None = None,
) -> RunResult:
    """Questions → answers → estimators → scores → report, in `spec.output`.

    What an earlier run of the same spec has done is used again, so the same call goes on where one
    was stopped or killed. What can't be done as asked raises UsageError before any work.
    Afterwards one model, format or method that fails does not take the others with it: they are in
    `failures`; RunFailed when nothing is left. `show` is told of the progress (None: a display on
    standard error), `at_once` says how many workers there are (None: as many as cores, memory and
    work allow), `executor` where they are, `threads_each` how many threads each has (see
    `placement`). `cache` is a folder in which runs share what they make (None: each keeps its own);
    with `recompute=False` a damaged piece of it is refused instead of made again.
    `limits` says how much is asked of servers at once, and how long. `grader_check` is a file of
    human-labelled pairs (see `agreement`): how far the grader agrees with them is measured before
    anything is asked, and told.
    """
    start = time.perf_counter()
    heap.settle()
    wanted = Wanted(executor, at_once, threads_each, ray_address)
    names = _model_names(spec)
    plan = prepare(spec)
    _check_settings(spec)
    _check_adapters(spec, plan, names)
    released = _released(spec, plan, names)
    pairs = read_labels(grader_check, plan.formats) if grader_check else ()
    directory = store.open_directory(spec.output, spec.to_json())
    with lock.held(directory.path, _say):
        directory.manifest.unlink(missing_ok=True)
        shards = _open_store(cache or directory.store, recompute)
        units = _units(spec, plan, names, released)
        placement = find_placement(spec, units, wanted, _threads_before(directory), shards.root)
        card = _card(spec, plan, placement)
        grid, show = _grid(units, shards, directory, card, show)
        with _watched(directory, card, show):
            if grader_check:
                card["grader_check"] = _checked_grader(
                    GraderCheck(spec, pairs, shards, limits or Limits()), units, placement, show
                )
            _carry_out(grid, Worker(tuple(units), shards, limits or Limits()), placement, show)
            results = list(grid.results())
            done = [r for r in results if isinstance(r, UnitResult)]
            failures = _failures(units, results)
            card |= _outcome(done, failures)
            card["notes"] += [*_prompting_notes(done), *_ungraded_notes(done)]
            card["notes"] += [card["grader_check"]["in_words"]] if grader_check else []
            card["shards"] = {"made": grid.made.total(), "reused": grid.reused.total()}
            show.say("scoring")
            predictions = _collect(done)
            if not predictions:
                raise RunFailed(failures[0])
            _publish(done, directory)
            scores = _score(predictions, spec, directory)
            card["seconds"] |= {"all": round(time.perf_counter() - start, 1)}
            card["status"] = store.PARTIAL if failures else store.COMPLETE
            show.say("drawing the report")
            report = _report(spec, plan, directory, scores, predictions, card)
        directory.seal()
    return RunResult(directory.path, report, scores, tuple(failures))


def _say(line: str) -> None:
    print(f"howsure: {line}", file=sys.stderr, flush=True)


def _open_store(root: Path, recompute: bool) -> Shards:
    shards = Shards(root.resolve(), recompute)
    store.ensure_writable(shards.root)
    shards.sweep()
    return shards


def _threads_before(directory: RunDirectory) -> int | None:
    """The number of threads of a run that goes on: the last bits of all results hang on it."""
    if not directory.card.exists():
        return None
    before = store.read_json(directory.card).get("resolved", {}).get("threads_each")
    return before if isinstance(before, int) else None


def _grid(
    units: Sequence[Unit],
    shards: Shards,
    directory: RunDirectory,
    card: dict[str, Any],
    show: Display | None,
) -> tuple[Grid, Display]:
    """The jobs of all units, and a display that also keeps count for `--status`."""
    labels = [f"{u.name}, {u.format}" for u in units]

    def on_event(unit: int, stage: str, done: int, total: int) -> None:
        tracker.update(unit, stage, done, total)

    def on_damage(damage: Damage) -> None:
        card["notes"].append(f"{damage}; it was made again")
        _say(f"{damage}; it is made again")

    grid = Grid(units, shards, on_event, on_damage)
    stages = list(grid.parts[0].stages())
    tracker = Tracker(
        directory.progress,
        show or display(labels, stages),
        labels,
        stages,
        grid.foreseen(),
        grid.done,
    )
    return grid, tracker


def _checked_grader(
    work: GraderCheck, units: Sequence[Unit], placement: Placement, show: Display
) -> dict[str, Any]:
    """The grader's agreement with people, measured where the run's own work is done."""
    show.say("measuring the grader")
    with _as_a_worker(placement):
        found = check_grader(work, units[0].grader, lambda: hire(work, placement, 1))
    if isinstance(found, Failure):
        raise RunFailed(found)
    return found


def _carry_out(grid: Grid, worker: Worker, placement: Placement, show: Display) -> None:
    def on_ready(waiting: int) -> None:
        show.reused(grid.reused.total(), grid.foreseen().total())

    with _as_a_worker(placement):
        scheduler.carry_out(grid, lambda: hire(worker, placement), on_ready=on_ready)


@contextmanager
def _as_a_worker(placement: Placement) -> Iterator[None]:
    """Where this process does the work, it does so as a worker process would. Only beside a GPU
    several threads go on tokenising: one may not keep up with it."""
    if not placement.in_process:
        yield
        return
    own = {} if placement.gpus_each else ONE_TOKENIZER
    with environment(own), threads(placement.threads):
        yield


@contextmanager
def _watched(directory: RunDirectory, card: dict[str, Any], show: Display) -> Iterator[None]:
    """However it ends, `run.json` says how, and the display is closed."""
    store.write_json(directory.card, card)
    try:
        yield
    except BaseException as error:
        card["status"] = store.FAILED if isinstance(error, RunFailed) else store.STOPPED
        raise
    finally:
        store.write_json(directory.card, card)
        show.finish()


def _model_names(spec: RunSpec) -> dict[str, str]:
    """Name in the tables → what is loaded, all of them found, and the judge too."""
    wanted = spec.models or embedded_names()
    if not wanted:
        raise ModelError("this installation holds no embedded models; name one with --model")
    names: dict[str, str] = {}
    for model in wanted:
        if is_server(model):
            name = parse(model).name
        else:
            loading.find_checkpoint(model, spec.load)
            name = Path(model).resolve().name if Path(model).is_dir() else model
        if store.file_name(name) in map(store.file_name, names):
            raise UsageError(
                f"two models are called {name!r}; rename one of the folders, or ask servers one "
                "by one"
            )
        names[name] = model
    judge = local_model(spec.grader)
    if judge:
        loading.find_checkpoint(judge)
    return names


def _check_settings(spec: RunSpec) -> None:
    """Device, dtype and the methods' settings; this is where torch is first imported."""
    pick_dtype(spec.dtype, pick_device(spec.device))
    for method in spec.methods:
        methods.spec_from(method, spec.settings.get(method, {}))


def _released(spec: RunSpec, plan: Plan, names: Mapping[str, str]) -> Released:
    return {
        (model, format): released_answers(spec, plan, model, format)
        for model in names.values()
        for format in plan.formats
    }


def _check_adapters(spec: RunSpec, plan: Plan, names: Mapping[str, str]) -> None:
    """They are there, and say that they belong to their models."""
    for model in names.values() if spec.load.adapter else ():
        read_for(find_adapter(str(spec.load.adapter)), model)
    if spec.query_adapter is None:
        return
    for model in names.values():
        for format in plan.formats:
            find_query_adapter(fill_in(spec.query_adapter, model, format), model)


def _units(spec: RunSpec, plan: Plan, names: Mapping[str, str], released: Released) -> list[Unit]:
    """Model by model, so that a worker often has the model of the next job already."""
    device = pick_device(spec.device)
    grader = grader_identity(spec, device)
    return [
        Unit(name, model, format, spec, plan, identity, released[model, format], grader, size)
        for name, model in names.items()
        for identity in [model_identity(spec, model, device)]
        for size in [0 if is_server(model) else loading.stored_bytes(model, spec.load)]
        for format in plan.formats
    ]


def _failures(units: Sequence[Unit], results: Sequence[UnitResult | Failure]) -> list[Failure]:
    """All that went wrong: whole units, then parts of others."""
    whole = [
        Failure(f"{u.name} ({u.format}): {r.message}", r.exit_code, r.trace)
        for u, r in zip(units, results, strict=True)
        if isinstance(r, Failure)
    ]
    return [*whole, *(f for r in results if isinstance(r, UnitResult) for f in r.failures)]


def _collect(done: Sequence[UnitResult]) -> list[Predictions]:
    """All predictions: format by format, model by model."""
    order = {"open": 0, "choice": 1}
    return [p for r in sorted(done, key=lambda r: order[r.format]) for p in r.predictions]


def _publish(done: Sequence[UnitResult], directory: RunDirectory) -> None:
    """The fitted estimators, each in a folder of its own with its calibrator."""
    for result in done:
        for method, (shard, calibrator) in result.estimators.items():
            files: dict[str, Path | bytes] = {
                p.name: p for p in sorted(shard.folder.iterdir()) if p.name != manifest.NAME
            }
            if calibrator is not None:
                text = json.dumps(calibrator, indent=2, allow_nan=False) + "\n"
                files["calibrator.json"] = text.encode()
            folder = directory.estimator(result.model, result.format, method)
            store.replace_folder(folder, files)


def _score(
    predictions: Sequence[Predictions], spec: RunSpec, directory: RunDirectory
) -> pl.DataFrame:
    from howsure.scores import score, write_predictions, write_scores

    write_predictions(predictions, directory.predictions)
    scores = score(predictions, seed=spec.seed)
    write_scores(scores, directory.scores)
    return scores


def _report(
    spec: RunSpec,
    plan: Plan,
    directory: RunDirectory,
    scores: pl.DataFrame,
    predictions: Sequence[Predictions],
    card: Mapping[str, Any],
) -> Path:
    from howsure.report import write_report

    failures = [f"Not done: {line}" for line in card["failures"]]
    return write_report(
        directory.path,
        scores,
        predictions,
        title=f"How sure is it? · {directory.path.name}",
        run_card=card,
        categories=plan.categories,
        questions={q.id: q.text for q in plan.test},
        notes=[*failures, *card["notes"]],
    )


def _card(spec: RunSpec, plan: Plan, placement: Placement) -> dict[str, Any]:
    """What is known before the work begins."""
    return {
        "howsure": metadata_version("howsure"),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "status": store.RUNNING,
        "spec": spec.to_json(),
        "resolved": {
            "formats": list(plan.formats),
            "choose_by": plan.choose_by if "choice" in plan.formats else None,
            "shots": max(map(len, plan.examples.values()), default=0),
            "executor": placement.executor,
            "workers": placement.workers,
            "threads_each": placement.threads,
            "grader": label(spec.grader) if "open" in plan.formats else None,
        },
        "questions": dict(plan.card),
        "notes": list(plan.notes),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata_version(name) for name in _LIBRARIES},
        },
        "machine": {"system": platform.platform(), "cores": placement.cores},
    }


def _outcome(done: Sequence[UnitResult], failures: Sequence[Failure]) -> dict[str, Any]:
    """What is known afterwards, by format and model."""
    stages: Counter[str] = Counter()
    for result in done:
        stages.update(result.seconds)
    by_unit = {f"{r.model} ({r.format})": r for r in done}
    return {
        "models": {r.model: {k: r.card[k] for k in MODEL_CARD if k in r.card} for r in done},
        "units": {
            name: {k: r.card[k] for k in UNIT_CARD if k in r.card} for name, r in by_unit.items()
        },
        "failures": [f.message for f in failures],
        "seconds": {
            "stages": {stage: round(value, 1) for stage, value in stages.items()},
            "by_unit": {name: r.seconds for name, r in by_unit.items()},
        },
        "tokens": {"by_unit": {name: r.tokens for name, r in by_unit.items()}},
    }


def _prompting_notes(done: Sequence[UnitResult]) -> list[str]:
    """How each model was asked, and where prompts were too long for all their examples."""
    how: dict[str, dict[str, None]] = {}
    for r in done:
        same = {o.card["prompting"] for o in done if o.model == r.model} == {r.card["prompting"]}
        name = r.model if same else f"{r.model} ({r.format})"
        how.setdefault(r.card["prompting"], {})[name] = None
    notes = [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} {prompting}"
        for prompting, names in how.items()
    ]
    slow = {r.model: r.card["engine_note"] for r in done if r.card["engine_note"]}
    notes += [f"{model}: {note}" for model, note in slow.items()]
    for r in done:
        short = sum(split.get("with_fewer_shots", 0) for split in r.card["answers"].values())
        if short:
            notes.append(f"{r.model} ({r.format}): {short} prompts have fewer examples, to fit")
    return notes


def _ungraded_notes(done: Sequence[UnitResult]) -> list[str]:
    """Where a judge gave no verdict."""
    notes = []
    for r in done:
        n = sum(why == NEITHER for why in r.card["excluded"].values())
        if n:
            notes.append(
                f"{r.model} ({r.format}): {n} answers have no grade, the judge said neither yes "
                "nor no; they count nowhere, and run.json names them under excluded"
            )
    return notes


def metadata_version(name: str) -> str | None:
    """The installed version; None when the library isn't installed as a package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = sys.modules.get(name)
        return getattr(module, "__version__", None)

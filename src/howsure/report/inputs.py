"""Run directories and score tables on disk → one table, its predictions, and a report of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from howsure import figures, strict_json
from howsure.errors import PredictionsError, UsageError
from howsure.figures.paper import check_width
from howsure.report.parts import Extra
from howsure.report.publication import write_publication
from howsure.report.statements import Statements, statements
from howsure.report.summaries import scores_card
from howsure.report.write import QUESTIONS, write_report
from howsure.scores import GROUP_COLUMNS, MACRO, POOLED, read_predictions, read_scores
from howsure.store import RunDirectory
from howsure.types import Predictions

SCORES, PREDICTIONS, CARD = "scores.csv", "predictions.parquet", "run.json"
RECORDED = "score.json"
"""What `howsure score` says of its folder: the files it read, and what it said of them."""


@dataclass(frozen=True)
class Source:
    """What one path holds."""

    path: Path
    scores: pl.DataFrame
    predictions: tuple[Predictions, ...] = ()
    run_card: Mapping[str, Any] | None = None
    questions: Mapping[str, str] = field(default_factory=dict)
    """Id → text, of those that the run's own page shows."""
    notes: tuple[str, ...] = ()
    """What was guessed, left out or changed when confidences were read."""

    def to_polars(self) -> pl.DataFrame:
        """The scores table."""
        return self.scores

    def to_pandas(self) -> Any:
        """The same as a pandas DataFrame; needs pandas."""
        return self.scores.to_pandas()

    def heatmap(self, format: str | None = None) -> Figure:
        """The picture of its first format, or of the one named."""
        groups = known_categories(self.scores)
        return figures.heatmap(self.scores, format=format, categories=groups)

    def statements(self) -> Statements:
        """What it says of methods, models and subjects."""
        groups = known_categories(self.scores)
        return statements(self.scores, categories=groups, card=self.run_card)

    def _repr_html_(self) -> str:
        return scores_card(str(self.path), self.scores)


def report_paths(
    paths: Sequence[Path],
    output: Path,
    *,
    reference: Path | None = None,
    categories: Mapping[str, str] | None = None,
    extra: Sequence[Extra] = (),
    publication: float | None = None,
) -> Path:
    """Draws run directories and score tables into `output`; returns the path of `report.html`.

    A path is a run directory (with `scores.csv`, perhaps `predictions.parquet` and `run.json`), a
    `scores.csv`, or the published table. Several are put into one table; where the same model,
    method, calibration and format come from two of them, the models are marked with their source.
    `reference` is another such path, to compare with. `categories` (subject → heading) default to
    those of the known question sets. `extra` sections go into the page.
    `publication`, the width of a paper's column in inches, writes `publication/` too: see there.

    Raises PredictionsError for a path that holds no such thing, UsageError when there is no path,
    or when `output` is a run directory that would lose its own table.
    """
    if not paths:
        raise UsageError("nothing to report; give a run directory or a scores table")
    if publication is not None:
        check_width(publication)
    refuse_overwriting(paths, output)
    sources = [read_source(path) for path in paths]
    scores, predictions = combine(sources)
    beside = (reference.name, read_source(reference).scores) if reference else None
    names = [source.path.resolve().name for source in sources]
    headings = known_categories(scores) if categories is None else categories
    page = write_report(
        output,
        scores,
        predictions,
        title=f"How sure is it? · {', '.join(names[:3])}{' …' if len(names) > 3 else ''}",
        run_card=_card(sources),
        categories=headings,
        questions={k: str(v) for source in sources for k, v in source.questions.items()},
        reference=beside,
        notes=[note for source in sources for note in source.notes],
        extra=extra,
    )
    if publication is not None:
        write_publication(output / "publication", scores, width=publication, categories=headings)
    return page


def read_source(path: Path) -> Source:
    """What `path` holds. Raises PredictionsError with one line when it is nothing to report."""
    if not path.exists():
        raise PredictionsError(
            f"there is no {path}; give a run directory (made by `howsure run`) or a scores table"
        )
    if not path.is_dir():
        if path.suffix in (".parquet", ".json", ".jsonl", ".gz"):
            raise PredictionsError(
                f"{path} is no scores table (a CSV file); predictions are scored by `howsure score`"
            )
        return Source(path, read_scores(path))
    if not (path / SCORES).is_file():
        raise PredictionsError(
            f"{path} has no {SCORES}, so it is no (finished) run directory; "
            "give one made by `howsure run`, or a scores table"
        )
    RunDirectory(path).check()
    held = path / PREDICTIONS
    return Source(
        path,
        read_scores(path / SCORES),
        tuple(read_predictions(held)) if held.exists() else (),
        _read_object(path / CARD) if (path / CARD).exists() else None,
        _read_object(path / QUESTIONS) if (path / QUESTIONS).exists() else {},
        _notes(_read_object(path / RECORDED)) if (path / RECORDED).exists() else (),
    )


def combine(sources: Sequence[Source]) -> tuple[pl.DataFrame, list[Predictions]]:
    """All scores in one table, and all predictions; models of the same group get their source."""
    groups = [set(s.scores.select(GROUP_COLUMNS).iter_rows()) for s in sources]
    times = Counter(group for found in groups for group in found)
    tables, predictions = [], []
    for source, found, label in zip(sources, groups, _labels(sources), strict=True):
        clashing = {group[0] for group in found if times[group] > 1}
        names = {model: f"{model} ({label})" for model in clashing}
        tables.append(source.scores.with_columns(pl.col("model").replace(names)))
        predictions += [replace(p, model=names.get(p.model, p.model)) for p in source.predictions]
    return pl.concat(tables), predictions


def known_categories(scores: pl.DataFrame) -> Mapping[str, str]:
    """Subject → heading of the known question set that holds at least half of the subjects."""
    from howsure.questions import mmlu, quiz

    subjects = set(scores["subject"].to_list()) - {MACRO, POOLED}
    best = max((quiz.CATEGORIES, mmlu.CATEGORIES), key=lambda c: len(subjects & c.keys()))
    return best if 2 * len(subjects & best.keys()) >= len(subjects) else {}


def _labels(sources: Sequence[Source]) -> list[str]:
    """A short name for each source: its file's or folder's, as much of the path as it takes."""
    parts = [(*s.path.resolve().parent.parts, s.path.stem) for s in sources]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(p[-depth:]) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{'/'.join(p[-1:])} {i}" for i, p in enumerate(parts, start=1)]


def _card(sources: Sequence[Source]) -> Mapping[str, Any]:
    """The run card of a single run; of several, each under its label."""
    if len(sources) == 1:
        return sources[0].run_card or {"source": str(sources[0].path)}
    cards = zip(_labels(sources), sources, strict=True)
    return {label: s.run_card or {"source": str(s.path)} for label, s in cards}


def _notes(recorded: Mapping[str, Any]) -> tuple[str, ...]:
    said = recorded.get("notes")
    return tuple(map(str, said)) if isinstance(said, list) else ()


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        value = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = strict_json.reason(error) if isinstance(error, ValueError) else error.strerror
        raise PredictionsError(
            f"can't read {path}: {reason}; delete it to report without what it says"
        ) from None
    if not isinstance(value, dict):
        raise PredictionsError(f"{path} holds no JSON object; delete it to report without it")
    return value


def refuse_overwriting(paths: Sequence[Path], output: Path) -> None:
    """Raises UsageError where a report in `output` would replace a run's table, or what it is of.

    The folder of a single run is that of its report.
    """
    only = len(paths) == 1 and paths[0].resolve() == output.resolve()
    if not only and ((output / CARD).exists() or (output / PREDICTIONS).exists()):
        raise UsageError(
            f"{output} is a run directory; its scores.csv would be replaced. "
            "Give another folder with --output"
        )
    if any(path.resolve() == (output / SCORES).resolve() for path in paths):
        raise UsageError(
            f"{output / SCORES} would be replaced by the report of it. "
            "Give another folder with --output"
        )

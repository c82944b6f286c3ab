"""Run directories on disk → what `choose` needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from howsure.choose.costs import Key, measured_seconds
from howsure.errors import PredictionsError, UsageError
from howsure.report.inputs import PREDICTIONS, Source, combine, known_categories, read_source
from howsure.types import Predictions


@dataclass(frozen=True, slots=True)
class Held:
    """Predictions, the subjects' categories, and seconds per question where a run measured them."""

    predictions: tuple[Predictions, ...]
    categories: Mapping[str, str]
    seconds: Mapping[Key, float]


def read(paths: Sequence[Path]) -> Held:
    """What run directories (also those made by `howsure score`) hold.

    Models that several of them hold are marked with their directory, as in a report. Raises
    UsageError, PredictionsError for a path without predictions.
    """
    sources = [_read(path) for path in paths]
    scores, predictions = combine(sources)
    renamed = iter(predictions)
    seconds: dict[Key, float] = {}
    for source in sources:
        measured = measured_seconds(source.run_card)
        for own in source.predictions:
            now = next(renamed)
            if (spent := measured.get((own.model, own.method, own.format))) is not None:
                seconds[now.model, now.method, now.format] = spent
    return Held(tuple(predictions), known_categories(scores), seconds)


def _read(path: Path) -> Source:
    if path.is_file():
        raise UsageError(
            f"{path} is a file; give the folder of a run, or make one of predictions with "
            f"`howsure score {path}`"
        )
    source = read_source(path)
    if not source.predictions:
        raise PredictionsError(
            f"{path} has no {PREDICTIONS}; choosing needs the predictions, not only scores"
        )
    return source

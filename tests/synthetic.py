"""Made-up predictions and scores tables for the tests of pictures and pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from howsure.scores import score
from howsure.types import Predictions

SIX_MODELS = (
    "tiny-llama-s",
    "tiny-llama-s-chat",
    "tiny-llama-l",
    "tiny-llama-l-chat",
    "tiny-mistral",
    "tiny-mistral-instruct",
)
SIX_METHODS = ("zero_shot", "probe", "lora", "lora_prompt", "likelihood", "subject_prior")


def make_predictions(
    *,
    models: Sequence[str] = ("model-a", "model-b"),
    methods: Sequence[str] = ("zero_shot", "lora_prompt", "likelihood"),
    formats: Sequence[str] = ("open",),
    calibrations: Sequence[str] = ("none", "temperature"),
    subjects: Sequence[str] = ("us_history", "addition", "clock"),
    n: int = 30,
    seed: int = 0,
) -> list[Predictions]:
    """Every combination; the labels are drawn from p, so that the later methods are calibrated."""
    rng = np.random.default_rng(seed)
    names = tuple(s for s in subjects for _ in range(n))
    ids = tuple(f"{s}/{i}" for s in subjects for i in range(n))
    out = []
    for format in formats:
        for model in models:
            p = rng.beta(1.5, 1.5, len(ids))
            right = rng.random(len(ids)) < p
            for k, method in enumerate(methods):
                noise = rng.normal(0.0, 0.4 / (k + 1), len(ids))
                for calibration in calibrations:
                    bold = 1.0 if calibration == "none" else 0.8
                    stated = np.clip(0.5 + bold * (p + noise - 0.5), 0.0, 1.0)
                    out.append(
                        Predictions(
                            model=model,
                            method=method,
                            format=format,
                            calibration=calibration,
                            ids=ids,
                            subjects=names,
                            p_correct=stated,
                            is_correct=right,
                            answers=tuple(f"answer {i}" for i in range(len(ids))),
                        )
                    )
    return out


def make_scores(predictions: Sequence[Predictions] | None = None) -> pl.DataFrame:
    """The real scores of made-up predictions, with few resamples."""
    return score(make_predictions() if predictions is None else predictions, resamples=20)


def set_cell(
    scores: pl.DataFrame, where: dict[str, str], column: str, value: object
) -> pl.DataFrame:
    """The table with one column changed in the rows that `where` names."""
    here = pl.all_horizontal(*(pl.col(k) == v for k, v in where.items()))
    new = pl.lit(value, dtype=scores.schema[column])
    return scores.with_columns(pl.when(here).then(new).otherwise(pl.col(column)).alias(column))

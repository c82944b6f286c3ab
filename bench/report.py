"""How long the report of a large run takes, how much memory, and how large the page is.

    python bench/report.py                   # 80,000 predictions: 57 subjects, 6 models, 4 methods
    python bench/report.py --predictions 336000

Writes a run directory of made-up predictions (not timed), then times `howsure report` on it as a
process of its own. The last line is one JSON object with the figures and whether they are within
the limits that are promised for 80,000 predictions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from howsure.questions import mmlu
from howsure.scores import score, write_predictions, write_scores
from howsure.types import Predictions

MODELS = (
    *("llama-2-7b", "llama-2-7b-chat", "llama-2-13b", "llama-2-13b-chat"),
    *("mistral-7b", "mistral-7b-instruct"),
)
METHODS = ("zero_shot", "probe", "lora", "lora_prompt")
SECONDS, MIB, PAGE_MB = 20.0, 1024.0, 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--predictions", type=int, default=80_000, help="rows; default 80,000")
    parser.add_argument("--keep", type=Path, help="a folder to leave the run in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch) / "run"
        rows = write_run(folder, given.predictions)
        print(f"{rows:,} predictions in {folder}; drawing", flush=True)
        figures = {"predictions": rows, "cores": os.cpu_count(), **timed(folder)}
    figures["within_limits"] = (
        figures["seconds"] < SECONDS and figures["peak_mib"] < MIB and figures["page_mb"] < PAGE_MB
    )
    print(json.dumps(figures))


class _Raw(argparse.RawDescriptionHelpFormatter):
    """The description as it is written."""


def write_run(folder: Path, rows: int) -> int:
    """A run directory of about `rows` predictions; returns how many there are."""
    rng = np.random.default_rng(0)
    subjects = list(mmlu.CATEGORIES)
    share = rng.uniform(0.5, 1.5, len(subjects))
    sizes = np.round(share / share.sum() * rows / (len(MODELS) * len(METHODS))).astype(int)
    names = tuple(s for s, n in zip(subjects, sizes, strict=True) for _ in range(n))
    ids = tuple(f"{s}/{i}" for s, n in zip(subjects, sizes, strict=True) for i in range(n))
    made = []
    for model in MODELS:
        p = rng.beta(1.5, 1.5, len(ids))
        right = rng.random(len(ids)) < p
        texts = tuple(f"an answer of some length, number {i}" for i in range(len(ids)))
        for k, method in enumerate(METHODS):
            stated = np.clip(p + rng.normal(0.0, 0.4 / (k + 1), len(ids)), 0.0, 1.0)
            group = (model, method, "open", "none")
            made.append(Predictions(*group, ids, names, stated, right, texts))
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(made, folder / "predictions.parquet")
    write_scores(score(made), folder / "scores.csv")
    return sum(map(len, made))


def timed(folder: Path) -> dict[str, float]:
    """`howsure report` on `folder`: seconds, peak memory of the process, size of the page."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "howsure", "report", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = (folder / "report.html").stat().st_size / 1e6
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(peak, 1),
        "page_mb": round(size, 2),
    }


if __name__ == "__main__":
    main()

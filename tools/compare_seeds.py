"""Means over models and seeds of several runs, as a Markdown table: what docs/quickstart.md holds.

howsure run --seed 1 --output runs/seed1      # and so on
python tools/compare_seeds.py runs/quickstart runs/seed1 runs/seed2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from howsure.methods import METHODS
from howsure.scores import read_scores


def macro_rows(run: Path) -> pl.DataFrame:
    """One row per format, model and method: AUROC before scaling, ECE after it."""
    table = read_scores(run / "scores.csv").filter(pl.col("subject") == "macro")
    keys = ["format", "model", "method"]
    before = table.filter(pl.col("calibration") == "none").select(*keys, "accuracy", "auroc")
    after = table.filter(pl.col("calibration") == "temperature").select(*keys, "ece", "ece_floor")
    return before.join(after, on=keys).with_columns(pl.lit(run.name).alias("run"))


NUMBERS = ("accuracy", "auroc", "ece", "ece_floor")


def spread(values: pl.Series) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def table_of(rows: pl.DataFrame) -> list[str]:
    """Each method's mean over models and runs, the range over models, and the gain by run."""
    lines = [
        "| method | AUROC: mean (range over models) | ECE, temperature-scaled | "
        "AUROC gained on zero-shot, by run | ECE gained on zero-shot, by run |",
        "| --- | --- | --- | --- | --- |",
    ]
    by_run = rows.group_by("run", "method", maintain_order=True).agg(pl.mean(*NUMBERS))
    zero = by_run.filter(pl.col("method") == "zero_shot").select(
        "run", zero_auroc="auroc", zero_ece="ece"
    )
    gains = by_run.join(zero, on="run").with_columns(
        more=pl.col("auroc") - pl.col("zero_auroc"), less=pl.col("zero_ece") - pl.col("ece")
    )
    for method in METHODS:
        own = rows.filter(pl.col("method") == method)
        if own.is_empty():
            continue
        by_model = own.group_by("model").agg(pl.mean(*NUMBERS))
        gain = gains.filter(pl.col("method") == method)
        more = " ".join(f"{v:+.3f}" for v in gain["more"])
        less = " ".join(f"{v:+.3f}" for v in gain["less"])
        lines.append(
            f"| `{method}` | {spread(by_model['auroc'])} | {spread(by_model['ece'])} | {more} | "
            f"{less} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    rows = pl.concat([macro_rows(run) for run in parser.parse_args().runs])
    for form in rows["format"].unique(maintain_order=True):
        own = rows.filter(pl.col("format") == form)
        runs = ", ".join(own["run"].unique(maintain_order=True))
        accuracy = spread(own.group_by("model").agg(pl.mean(*NUMBERS))["accuracy"])
        print(f"\n{form}: accuracy {accuracy}; runs: {runs}\n")
        print("\n".join(table_of(own)))


if __name__ == "__main__":
    main()

"""The engine against the plain path, prompt by prompt: every method and the trainings.

    python -m bench.quick

One thread, a random model of hidden size 256 with 4 layers, questions of the quickstart quiz with
five examples each. Under two minutes. The last line is one JSON object: ratios as [median, least,
most] of processor time; the share of a work's time that the products of its dense layers take by
themselves; tokens; the largest difference of what both paths read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

import howsure
from bench import body, matmul, ours, timing
from howsure.plan import prepare
from howsure.spec import RunSpec

SHOTS = 5
"""The quiz has no examples of its own: so many validation questions stand before each question."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=256, help="hidden size; default 256")
    parser.add_argument("--layers", type=int, default=4, help="layers; default 4")
    parser.add_argument("--questions", type=int, default=12, help="questions; default 12")
    parser.add_argument("--repeats", type=int, default=3, help="of each work; default 3")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        embedded = Path(howsure.__file__).parent / "embedded" / "tiny-llama-s"
        tokenizer = AutoTokenizer.from_pretrained(embedded)
        folder = Path(scratch) / "model"
        body.make(folder, tokenizer, hidden=given.hidden, layers=given.layers)
        print(json.dumps(compare(folder, given.questions, given.repeats)))


def compare(folder: Path, count: int, repeats: int) -> dict[str, object]:
    """The figures, as the last line shows them; a table on the way."""
    spec = RunSpec(
        output=folder, formats=("choice",), choose_by="letter", methods=("zero_shot",), limit=count
    )
    plan = prepare(spec)
    subject = plan.test[0].subject
    questions = [q for q in plan.test if q.subject == subject][:count]
    shown = [q for q in plan.valid if q.subject == subject][:SHOTS]
    sides = {
        name: ours.Ours.open(folder, name, questions, {subject: shown})
        for name in ("plain", "tree")
    }
    graded = {name: side.graded() for name, side in sides.items()}
    works = {
        "answers": lambda s: sides[s].answers(),
        "answers + zero-shot + probe features": lambda s: sides[s].bare(),
        "all four methods": lambda s: sides[s].all_four(),
        "shuffled shots, zero-shot": lambda s: sides[s].zero_shot(0),
        "LoRA training": lambda s: sides[s].train("lora", graded[s]),
        "LoRA + Prompt training": lambda s: sides[s].train("lora_prompt", graded[s]),
    }
    ratios, shares = {}, {}
    for name, work in works.items():
        seconds = timing.in_turn({s: partial(work, s) for s in sides}, repeats)
        ratios[f"{name} vs plain"] = timing.ratio(seconds["plain"], seconds["tree"])
        with matmul.counted(sides["tree"].lm._model) as products:
            work("tree")
        fastest = min(seconds["tree"])
        shares[name] = round(products.seconds_alone() / fastest, 2)
        rate = products.flops / fastest / 1e9
        median, least, most = ratios[f"{name} vs plain"]
        print(
            f"{name:38} {median:6.2f}× ({least:.2f} to {most:.2f})   "
            f"{rate:6.1f} GFLOP/s, {shares[name]:.0%} of the products alone",
            flush=True,
        )
    before = sides["tree"].lm.tokens_read
    read = sides["tree"].bare()
    processed = sides["tree"].lm.tokens_read - before
    apart = [np.abs(a - b).max() for a, b in zip(read, sides["plain"].bare(), strict=True)]
    return {
        "ratios": ratios,
        "matmul_share": shares,
        "tokens": {"processed": processed, "needed": ours.tokens_needed(sides["tree"])},
        "max_abs_diff": float(f"{max(apart):.2g}"),
        "peak_rss_mib": timing.peak_rss_mib(),
    }


if __name__ == "__main__":
    main()

"""Measure trained embedded models and put them into the package, each with its model card.

    python tools/pack_embedded.py --built build/embedded

Accuracy is counted on the quiz's test split for the card alone; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embedded_specs import MODELS, EmbeddedModel

from howsure import lm as seam
from howsure.answers import answer, grade
from howsure.lm import Options, Passage, Place
from howsure.lm.model import LanguageModel
from howsure.metrics import auroc
from howsure.prompts import CORRECTNESS_QUERY, QUERY_OPTIONS
from howsure.questions.quiz import CATEGORIES, quiz
from howsure.types import GradedAnswer, Question

TARGET = Path(__file__).resolve().parents[1] / "src" / "howsure" / "embedded"
PER_SUBJECT = 150


def accuracy(graded: Sequence[GradedAnswer]) -> dict[str, float]:
    """Share of right answers by subject, and under "all"."""
    by_subject: dict[str, list[bool]] = {"all": []}
    for g in graded:
        by_subject.setdefault(g.answer.subject, []).append(g.is_correct)
        by_subject["all"].append(g.is_correct)
    return {subject: sum(v) / len(v) for subject, v in by_subject.items()}


def self_grading(lm: LanguageModel, questions: Sequence[Question]) -> float:
    """AUROC of the correctness query on reference answers against one wrong choice each."""
    passages, truth = [], []
    for q in questions:
        wrong = next(c for c in q.choices if c != q.reference)
        for text, right in ((q.reference, True), (wrong, False)):
            prompt = f"Question: {q.text}\nAnswer:"
            passages.append(Passage("", prompt, f" {text}", CORRECTNESS_QUERY))
            truth.append(right)
    (logp,) = lm.read(passages, [Options(Place.QUERY, QUERY_OPTIONS)])
    p = 1 / (1 + np.exp(logp[:, 0].astype(np.float64) - logp[:, 1]))
    value = auroc(p, np.array(truth))
    assert value is not None
    return value


def measure(folder: Path) -> dict[str, Any]:
    lm = seam.load(str(folder), device="cpu")
    questions = quiz("test", PER_SUBJECT)
    ways = {
        "open": grade(questions, answer(lm, questions, format="open")),
        "text": grade(questions, answer(lm, questions, format="choice", choose_by="text")),
        "letter": grade(questions, answer(lm, questions, format="choice", choose_by="letter")),
    }
    return {
        "accuracy": {way: accuracy(graded) for way, graded in ways.items()},
        "self_grading_auroc": self_grading(lm, questions),
    }


CARD = """---
license: apache-2.0
language: en
library_name: transformers
---
# {name}

A tiny {architecture} causal language model that ships with howsure, so that the whole tool can be
tried offline. It answers the questions of the quickstart quiz, knows some subjects and not others,
and is of no use for anything else.

- **Architecture**: {parameters:,} parameters; hidden size {hidden}, {layers} layers, {heads} heads,
  {kv_heads} key-value heads{window}; byte-level BPE, 1,536 entries; up to 8,192 tokens; float16
  safetensors.
- **Data**: questions with answers that `howsure.questions.quiz` generates (split `corpus`, which
  shares no question with those for training estimators, validation and test). {chat_share:.0%} of
  the documents are chat turns; in {grading_share:.0%} a right or wrong answer is graded after the
  correctness query. SHA-256 of the first 10,000 questions: `{corpus_sha256}`.
- **Training**: {steps:,} steps, {millions:.1f} M tokens, seed {seed}{start};
  `python tools/train_embedded.py` repeats it.
- **Licence**: Apache-2.0. Trained from scratch by the howsure project on text that the project
  generates; no other weights or data went in.

Measured on {per_subject} unseen questions of each subject (`python tools/pack_embedded.py`):
{open:.1%} right open-ended, {text:.1%} by the likeliest of four options' texts, {letter:.1%} by
letter (chance is 25%: letters were not taught). Asked whether an answer is correct, it ranks the
reference above a wrong option with AUROC {self_grading:.3f}.

| subject | category | open-ended | by option text |
| --- | --- | --- | --- |
{rows}
"""


def card(spec: EmbeddedModel, record: dict[str, Any], measured: dict[str, Any]) -> str:
    shares = measured["accuracy"]
    by_subject = [(s, c, shares["open"][s], shares["text"][s]) for s, c in CATEGORIES.items()]
    return CARD.format(
        **{k: record[k] for k in ("chat_share", "grading_share", "corpus_sha256", "seed")},
        **{k: getattr(spec, k) for k in ("name", "hidden", "layers", "heads", "kv_heads", "steps")},
        **{way: shares[way]["all"] for way in ("open", "text", "letter")},
        architecture=spec.architecture.capitalize(),
        parameters=record["parameters"],
        window=f", sliding window {spec.sliding_window}" if spec.sliding_window else "",
        millions=record["tokens"] / 1e6,
        start=f", continued from `{spec.start_from}`" if spec.start_from else "",
        per_subject=PER_SUBJECT,
        self_grading=measured["self_grading_auroc"],
        rows="\n".join(f"| {s} | {c} | {a:.0%} | {b:.0%} |" for s, c, a, b in by_subject),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--built", type=Path, required=True)
    parser.add_argument("names", nargs="*", help="models to pack (default: all)")
    args = parser.parse_args()
    for spec in MODELS:
        if args.names and spec.name not in args.names:
            continue
        source, target = args.built / spec.name, TARGET / spec.name
        record = json.loads((source / "training.json").read_text())
        if record["steps"] != spec.steps:
            raise SystemExit(
                f"{spec.name} has {record['steps']} of {spec.steps} steps; train it on"
            )
        measured = measure(source)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in sorted(source.iterdir()):
            shutil.copyfile(file, target / file.name)
        (target / "training.json").write_text(json.dumps(record | measured, indent=1) + "\n")
        (target / "README.md").write_text(card(spec, record, measured))
        shares = measured["accuracy"]
        print(spec.name, {way: round(s["all"], 3) for way, s in shares.items()}, flush=True)


if __name__ == "__main__":
    main()

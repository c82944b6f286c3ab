"""howsure beside the published code, lm-evaluation-harness and lm-polygraph, in one run.

    python -m bench.peers --reference CHECKOUT --mmlu FOLDER

The environment is its own: bench/requirements.txt. One thread, one random body of Mistral 7B's
proportions with Mistral's tokenizer, real MMLU questions of one subject, five examples each (none
in the trainings, as published). The works run in turn; ratios are of processor time, [median,
least, most]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import absent, body, matmul, ours, timing
from bench.others import Harness, Polygraph
from bench.reference import Reference, checkout
from howsure.methods.probe import Probe
from howsure.plan import prepare
from howsure.spec import RunSpec

WORKS = ("answers", "bare", "all_four", "shuffled", "trainings", "probe")
PROBE_STEPS = 400


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="the published code")
    parser.add_argument("--mmlu", type=Path, required=True, help="folder of the MMLU questions")
    parser.add_argument("--subject", default="high_school_psychology")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--shuffled", type=int, default=200, help="questions with shuffled shots")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1, help="of the peers; 1 is as published")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", choices=WORKS, action="append", help="only these")
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkout(given.reference)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(given, Path(scratch))
        for work in given.work or WORKS:
            getattr(bench, work)()
        print(json.dumps(bench.result()))


@dataclass
class Bench:
    """The models, and what was found so far."""

    given: Any
    scratch: Path
    ratios: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    apart: list[float] = field(default_factory=list)
    same_letters: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.given
        folder = body.make(
            self.scratch / "body",
            _tokenizer(self.scratch),
            hidden=given.hidden,
            layers=given.layers,
        )
        spec = RunSpec(
            output=self.scratch,
            questions="mmlu",
            data_dir=given.mmlu,
            subjects=(given.subject,),
            formats=("choice",),
            methods=("zero_shot",),
        )
        plan = prepare(spec)
        self.many = list(plan.test)[: given.shuffled]
        few = self.many[: given.questions]
        self.mine = ours.Ours.open(folder, "tree", few, plan.examples)
        self.theirs = Reference(folder, given.batch)
        made = self.mine.answers()
        self.prompts = [a.prompt for a in made]
        self.loader = self.theirs.batches(self.prompts, ["a"] * len(made))

    def answers(self) -> None:
        harness = Harness(self.theirs.model, self.theirs.tokenizer)
        mine = [a.text for a in self.mine.answers()]
        letters = [_letter(row) for row in harness.answers(self.prompts)]
        self.same_letters["lm-evaluation-harness"] = _same(mine, letters)
        self._compare(
            "answers",
            self.mine.answers,
            {
                "reference": lambda: self.theirs.answers(self.loader),
                "lm-evaluation-harness": lambda: harness.answers(self.prompts),
            },
        )

    def bare(self) -> None:
        polygraph = Polygraph(self.theirs.model, self.theirs.tokenizer)
        before = self.mine.lm.tokens_read
        logp = self.mine.bare()[0]
        self.tokens["processed"] = self.mine.lm.tokens_read - before
        self.tokens["needed"] = ours.tokens_needed(self.mine)
        letters = [a.text for a in self.mine.answers()]
        given = self.theirs.batches(self.prompts, ["a"] * len(letters), letters)
        found = self.theirs.zero_shot(given).double().numpy()
        margins = (logp[:, 1] - logp[:, 0]) - (found[:, 1] - found[:, 0])
        self.apart.append(float(np.abs(margins).max()))
        self._compare(
            "answers + zero-shot + probe features",
            self.mine.bare,
            {
                "reference (zero-shot alone)": lambda: self.theirs.zero_shot(self.loader),
                "lm-polygraph P(True)": lambda: polygraph.p_true(self.prompts, self.given.batch),
            },
        )

    def all_four(self) -> None:
        self._compare(
            "all four methods",
            self.mine.all_four,
            {"reference": lambda: self.theirs.all_four(self.loader)},
        )

    def shuffled(self) -> None:
        few, self.mine.questions = self.mine.questions, self.many
        prompts = [a.prompt for a in self.mine.answers(0)]
        loader = self.theirs.batches(prompts, ["a"] * len(prompts))
        self._compare(
            "shuffled shots, zero-shot",
            lambda: self.mine.zero_shot(0),
            {"reference": lambda: self.theirs.zero_shot(loader)},
        )
        self.mine.questions = few

    def trainings(self) -> None:
        self.mine.examples = {}  # training questions have none, as published
        graded = self.mine.graded()
        for method, name in (("lora", "LoRA training"), ("lora_prompt", "LoRA + Prompt training")):
            training = self.theirs.training(method, graded, ours.BATCH)
            self._compare(
                name,
                lambda method=method: self.mine.train(method, graded),  # type: ignore[misc]
                {"reference": lambda training=training: training.steps(ours.STEPS)},  # type: ignore[misc]
            )

    def probe(self) -> None:
        """Per example, once the features are there; the reference reads the model every time."""
        from howsure import methods
        from howsure.methods.training import Schedule

        self.mine.examples = {}
        graded = self.mine.graded()
        self.mine.bare()  # fills the readings
        spec = Probe(schedule=Schedule(steps=PROBE_STEPS, batch_size=ours.BATCH, evaluations=1))
        training = self.theirs.training("probe", graded, ours.BATCH)
        seconds = timing.in_turn(
            {
                "howsure": lambda: methods.fit(spec, self.mine.lm, graded, graded[:2], seed=0),
                "reference": lambda: training.steps(ours.STEPS),
            },
            self.given.repeats,
        )
        a_step = [s / ours.STEPS for s in seconds["reference"]]
        self._note(
            "probe, each epoch after the features vs reference",
            timing.ratio(a_step, [s / PROBE_STEPS for s in seconds["howsure"]]),
        )

    def result(self) -> dict[str, Any]:
        return {
            "ratios": self.ratios,
            "matmul_share": self.shares,
            "tokens": self.tokens,
            "max_abs_diff": max(self.apart, default=None),
            "peak_rss_mib": timing.peak_rss_mib(),
            "same_letters": self.same_letters,
            "stood_in_for": absent.stood_in_for(),
        }

    def _compare(
        self, name: str, mine: Callable[[], object], theirs: dict[str, Callable[[], object]]
    ) -> None:
        seconds = timing.in_turn({"howsure": mine, **theirs}, self.given.repeats)
        for peer in theirs:
            self._note(f"{name} vs {peer}", timing.ratio(seconds[peer], seconds["howsure"]))
        with matmul.counted(self.mine.lm._model) as products:
            mine()
        fastest = min(seconds["howsure"])
        self.shares[name] = round(products.seconds_alone() / fastest, 2)
        rate = products.flops / fastest / 1e9
        print(f"{'':4}{rate:.0f} GFLOP/s; products alone {self.shares[name]:.0%}", flush=True)

    def _note(self, name: str, found: list[float]) -> None:
        self.ratios[name] = found
        print(f"{name:64} {found[0]:8.2f}× ({found[1]:.2f} to {found[2]:.2f})", flush=True)


def _letter(row: np.ndarray) -> str:
    """The likeliest of four."""
    return "abcd"[int(row.argmax())]


def _same(a: list[str], b: list[str]) -> float:
    return round(float(np.mean([x == y for x, y in zip(a, b, strict=True)])), 4)


def _tokenizer(scratch: Path) -> Any:
    """Mistral's own, as the tests read it from the package that holds it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from tokenizers_of_all_kinds import mistral

    made = mistral("v1", None, scratch)
    made.pad_token = made.unk_token
    return made


if __name__ == "__main__":
    main()

"""The six columns at full size with random weights: every stage on a device, on real questions.

    python -m bench.columns --mmlu FOLDER --tokenizer FOLDER

FOLDER with MMLU holds `mmlu.dev.jsonl(.gz)` and `mmlu.test.jsonl(.gz)`, that of the tokenizer a
tokenizer.json with 32,000 entries (Mistral's, LLaMA's). Chat and instruct models have the shapes
of their base models, so three models stand for six. Labels are alternately right and wrong: what is
timed does not hang on them. Runs on a CPU too, with `--shrink`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bench.matmul import counted
from howsure import methods
from howsure.answers import answer, grade
from howsure.asking import Asking
from howsure.lm import Hidden, Options, Passage, Place
from howsure.lm.model import LanguageModel
from howsure.lm.names import config_of
from howsure.methods.lora import Lora
from howsure.methods.lora_prompt import LoraPrompt
from howsure.methods.probe import Probe
from howsure.methods.training import Schedule
from howsure.methods.zero_shot import ZeroShot
from howsure.metrics import auroc, ece
from howsure.prompts import QUERY_OPTIONS
from howsure.questions import open_set, select
from howsure.types import Format, GradedAnswer, Question

MODELS = ("mistral:7b", "llama2:7b", "llama2:13b")
SUBJECTS = ("anatomy", "college_computer_science", "high_school_us_history")
FEW, MORE = 4, 24
"""Steps of two trainings; their difference is free of what happens once."""
BATCH = 4
"""As published, for each GPU."""
ALONG = (Options(Place.QUERY, QUERY_OPTIONS), Hidden(Place.ANSWER))
"""What the zero-shot classifier and the probe read along with the answers."""


@dataclass
class Timed:
    """A model on a device, and what its stages took."""

    lm: LanguageModel
    rate: float
    """FLOP/s of a large matrix product here."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, count: int, unit: str) -> Iterator[None]:
        """Times it; `count` is how many questions or steps it is."""
        self._wait(reset=True)
        before = self.lm.tokens_read
        begin = time.perf_counter()
        with counted(self.lm._model) as products:
            yield
            self._wait()
            seconds = time.perf_counter() - begin
        self.add(name, count, unit, seconds, products.flops, self.lm.tokens_read - before)

    def add(
        self, name: str, count: int, unit: str, seconds: float, flops: float, tokens: int
    ) -> None:
        row = {
            "stage": name,
            "unit": unit,
            "count": count,
            "seconds_each": seconds / count,
            "tokens_a_second": tokens / seconds,
            "share_of_matmul_rate": flops / seconds / self.rate,
            "peak_gb": self._peak() / 1e9,
        }
        self.rows.append(row)
        print(
            f"  {name:24} {seconds / count:10.5f} s a {unit:8} "
            f"{row['share_of_matmul_rate']:6.1%} of the matmul rate {tokens / seconds:8.0f} "
            f"tokens/s {row['peak_gb']:7.2f} GB",
            flush=True,
        )

    def _wait(self, *, reset: bool = False) -> None:
        if self.lm.device.type == "cuda":
            torch.cuda.synchronize()
            if reset:
                torch.cuda.reset_peak_memory_stats()

    def _peak(self) -> int:
        on_gpu = self.lm.device.type == "cuda"
        return torch.cuda.max_memory_allocated() if on_gpu else 0


def main() -> None:
    given = _arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    side = 8192 if device == "cuda" else 512
    rate = matmul_rate(device, dtype, side)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, {str(dtype)[6:]}, products of {side} x {side}: {rate / 1e12:.3g} TFLOP/s")
    source = open_set("mmlu", given.mmlu)
    questions = select(source.load("test"), given.subjects, given.limit, 0)
    examples = {
        s: tuple(q for q in source.load("dev") if q.subject == s)[:5] for s in given.subjects
    }
    out: dict[str, Any] = {"device": name, "torch": torch.__version__, "matmul": rate}
    out |= {"questions": len(questions), "models": {}}
    for model in given.models:
        lm = make(model, given.tokenizer, device, dtype, shrink=given.shrink)
        print(f"{model}: {lm.parameters:,} weights, engine {lm.engine} {lm.engine_note}")
        timed = Timed(lm, rate)
        for format in ("choice", "open"):
            column(timed, format, questions, examples)  # type: ignore[arg-type]
        out["models"][model] = {"parameters": lm.parameters, "stages": timed.rows}
        del lm, timed
        if device == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(out))


def column(
    timed: Timed, format: Format, questions: list[Question], examples: dict[str, Any]
) -> None:
    """All four methods on one model in one format."""
    lm, n = timed.lm, len(questions)
    print(f" {format}")
    lm.readings.clear()
    with timed.stage(f"{format}: answer", n, "question"):
        answers = answer(
            lm, questions, format=format, asking=Asking("off"), examples=examples, also=ALONG
        )
    with timed.stage(f"{format}: verify", n, "question"):
        lm.verify([Passage.of(a) for a in answers])
    made = grade(questions, [a for a in answers if not a.note])
    graded = [replace(g, is_correct=bool(i % 2)) for i, g in enumerate(made)]
    schedule = Schedule(steps=MORE, batch_size=BATCH, evaluations=1)
    fitted(timed, format, "zero_shot", ZeroShot, graded)
    fitted(timed, format, "probe", lambda: Probe(schedule=schedule), graded)
    for name, kind in (("lora", Lora), ("lora_prompt", LoraPrompt)):
        estimator = trained(timed, f"{format}: fit {name}", kind, graded)
        predicted(timed, format, name, estimator, graded)
        methods.release(estimator)


def trained(timed: Timed, stage: str, kind: Any, graded: list[GradedAnswer]) -> Any:
    """An estimator of MORE steps, and what a step takes once the device is warm."""
    seconds, flops, tokens, estimator = [], [], [], None
    for steps in (FEW, FEW, MORE):
        if estimator is not None:
            methods.release(estimator)
        schedule = Schedule(steps=steps, batch_size=BATCH, evaluations=1)
        timed.lm.readings.clear()
        timed._wait(reset=True)
        before = timed.lm.tokens_read
        begin = time.perf_counter()
        with counted(timed.lm._model) as products:
            spec = kind(schedule=schedule, valid_size=2)
            estimator = methods.fit(spec, timed.lm, graded, graded[:2], seed=0)
            timed._wait()
        seconds.append(time.perf_counter() - begin)
        flops.append(products.flops)
        tokens.append(timed.lm.tokens_read - before)
    more = (x[2] - x[1] for x in (seconds, flops, tokens))
    timed.add(stage, MORE - FEW, "step", *more)
    return estimator


def fitted(
    timed: Timed, format: str, name: str, spec: Callable[[], Any], graded: list[GradedAnswer]
) -> None:
    """A method that reads nothing anew."""
    with timed.stage(f"{format}: fit {name}", 1, "fit"):
        estimator = methods.fit(spec(), timed.lm, graded, graded[:50], seed=0)
    predicted(timed, format, name, estimator, graded)


def predicted(
    timed: Timed, format: str, name: str, estimator: Any, graded: list[GradedAnswer]
) -> None:
    answers = [g.answer for g in graded]
    with timed.stage(f"{format}: predict {name}", len(answers), "question"):
        p = estimator.p_correct(answers)
    right = [g.is_correct for g in graded]
    print(f"  {'':24} ECE {ece(p, right):.3f}, AUROC {auroc(p, right):.3f} of made-up labels")


def make(
    model: str, tokenizer: Path, device: str, dtype: torch.dtype, *, shrink: bool
) -> LanguageModel:
    """The model's real config with random weights, made where they will be used."""
    config = config_of(model)
    if shrink:
        ratio = config["num_attention_heads"] // config["num_key_value_heads"]
        config |= {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
        config |= {"num_attention_heads": 4, "num_key_value_heads": max(1, 4 // ratio)}
        config.pop("head_dim", None)
    config.pop("dtype", None)
    torch.manual_seed(0)
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config), dtype=dtype
        )
    made = made.eval().requires_grad_(False)
    return LanguageModel(made, AutoTokenizer.from_pretrained(tokenizer), name=model)


def matmul_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of a large product of random numbers: the median of nine, after three."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        begin = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / sorted(seconds[3:])[4]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mmlu", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--limit", type=int, default=64, help="questions of each subject")
    parser.add_argument("--shrink", action="store_true", help="two narrow layers, for a try")
    return parser.parse_args()


if __name__ == "__main__":
    main()

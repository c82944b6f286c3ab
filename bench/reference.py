"""The published code (Kapoor et al. 2024), its functions as they are, on given prompts.

The checkout is the user's; nothing of it is in here. Its evaluation takes one prompt at a time by
default, each method by itself: the answers first, then what the method reads of them.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import absent
from howsure.types import GradedAnswer

END = "\nAnswer:"


@dataclass
class Reference:
    """The model and the checkout's functions."""

    folder: Path
    batch: int = 1
    model: Any = field(init=False)
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model = self._loaded()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.tokenizer.padding_side = "left"
        self.tokenizer.model_max_length = 8192
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.unk_token
        self.query = absent.imported("llm.eval.query")
        self.classifier = absent.imported("llm.eval.classifier")
        self.common = absent.imported("llm.eval.common")
        head = absent.imported("llm.models.mlp").get_classifier
        self._head = lambda: head(
            input_size=self.model.config.hidden_size, output_size=2, bias=True
        )
        self.accelerator = SimpleNamespace(
            device="cpu", gather_for_metrics=lambda x: x, unwrap_model=lambda x: x
        )

    def _loaded(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def batches(
        self, prompts: Sequence[str], targets: Sequence[str], answers: Sequence[str] | None = None
    ) -> list[dict[str, list[str]]]:
        """What its data loader would give; with `answers` it asks for none of its own."""
        assert all(p.endswith(END) for p in prompts)
        columns = {
            "context": [p.removesuffix(END) for p in prompts],
            "target_prompt": [END] * len(prompts),
            "target": list(targets),
        }
        if answers is not None:
            columns["output"] = list(answers)
        return [
            {name: values[i : i + self.batch] for name, values in columns.items()}
            for i in range(0, len(prompts), self.batch)
        ]

    def answers(self, loader: Sequence[dict[str, list[str]]]) -> list[str]:
        """Greedy letters."""
        out: list[str] = []
        with torch.inference_mode():
            for batch in loader:
                rows = [dict(zip(batch, v, strict=True)) for v in zip(*batch.values(), strict=True)]
                asked = [{k: v for k, v in r.items() if k != "target"} for r in rows]
                made, _ = self.common.get_model_generations(
                    self.accelerator, self.model, self.tokenizer, asked, max_new_tokens=1
                )
                out += made
        return out

    def zero_shot(self, loader: Sequence[dict[str, list[str]]], model: Any = None) -> torch.Tensor:
        """Logits of "i" and "ii", (n, 2)."""
        return self._evaluated(self.query.evaluate_query, loader, model, "query_data", "q_logits")

    def probe(self, loader: Sequence[dict[str, list[str]]], model: Any = None) -> torch.Tensor:
        """The classifier's logits, (n, 2)."""
        model = model or self.model
        model.classifier_model = self._head()
        found = self._evaluated(
            self.classifier.evaluate_classifier, loader, model, "classifier_data", "logits"
        )
        del model.classifier_model
        return found

    def all_four(self, loader: Sequence[dict[str, list[str]]]) -> None:
        """Zero-shot, probe, LoRA, LoRA + Prompt, each as its own evaluation."""
        self.zero_shot(loader)
        self.probe(loader)
        adapted = self.adapted("query")
        self.probe(loader, adapted)
        self.zero_shot(loader, adapted)

    def adapted(self, name: str) -> PeftModel:
        """The published LoRA beside an idle adapter that makes the answers."""
        made = get_peft_model(self._loaded(), _lora(), adapter_name="default")
        made.add_adapter(name, _lora())
        return made.eval()

    def training(self, method: str, graded: Sequence[GradedAnswer], batch: int) -> _Training:
        """Its trainer's loss of `lora`, `lora_prompt` or `probe` on graded answers."""
        return _Training(self, method, graded, batch)

    def _evaluated(
        self, function: Any, loader: Any, model: Any, file: str, name: str
    ) -> torch.Tensor:
        with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            function(
                self.accelerator,
                model or self.model,
                self.tokenizer,
                [dict(b) for b in loader],
                log_dir=folder,
                max_new_tokens=1,
                grade_strategy="substring",
            )
            found = torch.load(Path(folder) / f"{file}.bin", weights_only=False)
        logits: torch.Tensor = found[name]
        return logits


class _Training:
    """A training's loss, as its trainer class computes it, and AdamW as it is set up there."""

    def __init__(
        self, of: Reference, method: str, graded: Sequence[GradedAnswer], batch: int
    ) -> None:
        self.graded, self.size = graded, batch
        prompted = method == "lora_prompt"
        name = "calibration_tune" if prompted else "classification_tune"
        module = absent.imported(f"llm.trainer.{name}")
        kind = module.CalibrationTuner if prompted else module.ClassificationTuner
        self.model = of.adapted("_ref") if method != "probe" else of.model
        self.model.train(method != "probe")
        if method != "probe":
            self.model.set_adapter("default")
        self.tuner = object.__new__(kind)
        self.tuner._collate_fn = absent.imported("llm.datasets").LabeledStringDataCollator(
            of.tokenizer
        )
        self.tuner.tokenizer = of.tokenizer
        self.tuner.accelerator = of.accelerator
        self.tuner.state = SimpleNamespace(global_step=0)
        self.tuner.model = self.model
        self.tuner.args = SimpleNamespace(
            **{"use_lm_loss": False, "query_format": "roman_choice", "ref_adapter_name": "_ref"},
            **{"unc_label_smoothing": 0.0, "kl_type": "jsd", "kl_decay": 1.0, "scale_temp": False},
            **{"target_layer": -1, "with_query": False, "with_lora": method == "lora"},
            logging_steps=1 << 30,
        )
        learned = [p for p in self.model.parameters() if p.requires_grad and method != "probe"]
        if not prompted:
            self.tuner.classifier_model = of._head()
            learned += list(self.tuner.classifier_model.parameters())
        self.optimizer = torch.optim.AdamW(learned, lr=1e-4, weight_decay=0.0)

    def steps(self, count: int) -> None:
        for batch in self._batches(count):
            loss = self.tuner.compute_loss(self.model, batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _batches(self, count: int) -> Iterator[dict[str, list[Any]]]:
        n = len(self.graded)
        for step in range(count):
            some = [self.graded[(step * self.size + i) % n] for i in range(self.size)]
            letters = [g.answer.text for g in some]
            yield {
                "context": [g.answer.prompt.removesuffix(END) for g in some],
                "target_prompt": [END] * len(some),
                "target": letters,
                "output": letters,
                "query_label": [int(g.is_correct) for g in some],
            }


def _lora() -> LoraConfig:
    return LoraConfig(
        r=8, lora_alpha=32, lora_dropout=0.1, bias="none", task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"],
    )  # fmt: skip


def checkout(folder: Path) -> None:
    """Makes the user's checkout importable. SystemExit with one line when it is none."""
    if not (folder / "llm" / "eval" / "query.py").is_file():
        raise SystemExit(f"{folder} is no checkout of the published code; give one by --reference")
    sys.path.insert(0, str(folder))

"""lm-evaluation-harness and lm-polygraph, their own code on the same model and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import absent

LETTERS = (" a", " b", " c", " d")


class Harness:
    """Log-probabilities of the four letters, as its multiple-choice tasks ask for them."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        kind = absent.imported("lm_eval.models.huggingface").HFLM
        self.lm = kind(
            pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu", add_bos_token=True
        )
        self._instance = absent.imported("lm_eval.api.instance").Instance

    def answers(self, prompts: Sequence[str]) -> np.ndarray:
        """(n, 4)."""
        asked = [
            self._instance("loglikelihood", {}, (p, letter), i)
            for i, p in enumerate(prompts)
            for letter in LETTERS
        ]
        found = self.lm.loglikelihood(asked, disable_tqdm=True)
        return np.array([x for x, _ in found]).reshape(-1, len(LETTERS))


class Polygraph:
    """P(True): its answer, then its question whether that is true."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        whole = absent.imported("lm_polygraph.utils.model").WhiteboxModel
        parameters = absent.imported("lm_polygraph.utils.generation_parameters")
        greedy = absent.imported("lm_polygraph.stat_calculators.greedy_probs")
        prompt = absent.imported("lm_polygraph.stat_calculators.prompt")
        self.model = whole(model, tokenizer, "body", "CausalLM", parameters.GenerationParameters())
        self.greedy = greedy.GreedyProbsCalculator(
            output_attentions=False, output_hidden_states=False
        )
        self.prompt = prompt.PromptCalculator()

    def p_true(self, prompts: Sequence[str], batch: int) -> None:
        for start in range(0, len(prompts), batch):
            texts = list(prompts[start : start + batch])
            known: dict[str, Any] = {"input_texts": texts}
            known |= self.greedy(known, texts, self.model, max_new_tokens=2)
            self.prompt(known, texts, self.model)

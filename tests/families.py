"""Models of the real families, shrunk: everything that decides how they compute is kept."""

from __future__ import annotations

from typing import Any

import torch
from conftest import make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from howsure.lm.model import LanguageModel
from howsure.lm.names import configs

WINDOW = 24
"""Keys that a sliding window sees here: so few that the tests' prompts are longer."""

ONE_OF_EACH = (
    "llama2-7b",
    "mistral-7b-v0.1",
    "mistral-7b-instruct-v0.2",
    "llama3.1-8b",
    "llama3.2-1b",
    "qwen2.5-0.5b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3-8b",
    "gemma2-2b",
    "gemma3-1b",
    "phi3-mini-4k",
    "phi4",
)
"""Each way of computing once: attention kind, ratio of heads, RoPE, head tied or not."""


def shrunk(name: str) -> dict[str, Any]:
    """The real config of `data/configs.json` in less width and depth.

    Kept: family, ratio of query to key-value heads, sliding window or none and its pattern over the
    layers, RoPE base and scaling, soft caps, norms, biases, tied head, vocabulary size, context.
    """
    real = configs()[name]
    ratio = real["num_attention_heads"] // real["num_key_value_heads"]
    kv_heads = 1 if ratio > 1 else 2
    small = {
        **real,
        "num_attention_heads": ratio * kv_heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": 8 * ratio * kv_heads,
        "intermediate_size": 48,
        "num_hidden_layers": max(2, real.get("sliding_window_pattern") or 2),
        "initializer_range": 0.2,
    }
    small.pop("dtype")
    if "head_dim" in real:
        small["head_dim"] = 8
    if "query_pre_attn_scalar" in real:
        small["query_pre_attn_scalar"] = 8
    if real.get("sliding_window") is not None:
        small["sliding_window"] = WINDOW
    return small


def shrunk_model(name: str, seed: int = 0) -> Any:
    """A random model of the shrunk config, float32, in evaluation mode."""
    config = shrunk(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config)
        )
    return made.float().eval()


def shrunk_lm(name: str, engine: str = "auto") -> LanguageModel:
    return LanguageModel(shrunk_model(name), make_tokenizer(), name=name, engine=engine)

"""What a model's shapes alone say of its cost: weights, FLOPs, keys and values. No weights needed.

The model is built from its config on torch's meta device, where tensors have shapes and no memory,
so this is exact and takes a second for any size.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from howsure.errors import ModelError
from howsure.lm.adapters import Adapters, LoraSettings
from howsure.lm.engine.layers import kv_width

BITS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0, "8bit": 8.0, "4bit": 4.5}
"""Per weight; 4 bits and the scale of each block of 64 (Dettmers et al. 2023: 4.127 with nested
scales, 4.5 without, as we load them)."""


@dataclass(frozen=True, slots=True)
class Size:
    """Counted from shapes; FLOPs are of the forward pass, a multiply-add counted as two."""

    parameters: int
    """Weights, a tied head counted once."""
    matmul_parameters: int
    """Those in linear layers, without the head: each costs a token two FLOPs."""
    head_parameters: int
    """Hidden size × vocabulary; only rows whose logits are wanted pay for it."""
    hidden: int
    intermediate: int
    layers: int
    query_width: int
    """Query heads × their size."""
    kv_width: int
    """Key-value heads × their size."""
    windows: tuple[int | None, ...]
    """Per layer: how many tokens back it sees; None: all."""
    context: int

    @property
    def kv_per_token(self) -> int:
        """Numbers kept per token: a key and a value in each layer."""
        return 2 * self.layers * self.kv_width

    def attended(self, start: int, tokens: int) -> int:
        """Query-key pairs, summed over the layers, of tokens that stand behind `start` others."""
        total = 0
        for window, layers in Counter(self.windows).items():
            end = start + tokens
            if window is None or end <= window:
                pairs = tokens * start + tokens * (tokens + 1) // 2
            else:
                grow = max(0, window - start)  # tokens that don't fill the window yet
                pairs = grow * start + grow * (grow + 1) // 2 + (tokens - grow) * window
            total += layers * pairs
        return total

    def flops(self, tokens: int, pairs: int, rows: int) -> int:
        """Of a forward pass: `pairs` as `attended` counts them, logits wanted at `rows` tokens."""
        return 2 * (
            tokens * self.matmul_parameters
            + 2 * pairs * self.query_width
            + rows * self.head_parameters
        )

    def activations(self) -> int:
        """Numbers kept per token for the backward pass through frozen layers with adapters.

        Per layer: the norms' inputs and outputs, queries, keys, values and what attention made of
        them, and the three wide vectors of a gated MLP.
        """
        layer = 4 * self.hidden + 2 * self.query_width + 2 * self.kv_width + 3 * self.intermediate
        return self.layers * layer


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """A LoRA adapter on a model: its weights, and the shapes by layer name."""

    parameters: int
    shapes: tuple[tuple[str, int, int, int], ...]
    """(name of the linear layers, their input size, output size, how many of them)."""


def size_of(config: dict[str, Any], name: str) -> Size:
    """Raises ModelError for an architecture that the library does not know."""
    model = _meta_model(json.dumps(config, sort_keys=True), name)
    inner = model.config.get_text_config()
    heads = int(inner.num_attention_heads)
    per_head = int(getattr(inner, "head_dim", None) or inner.hidden_size // heads)
    head = model.get_output_embeddings().weight
    return Size(
        parameters=model.num_parameters(),
        matmul_parameters=sum(m.weight.numel() for m in _linears(model)),
        head_parameters=head.numel(),
        hidden=int(inner.hidden_size),
        intermediate=int(getattr(inner, "intermediate_size", None) or 4 * inner.hidden_size),
        layers=int(inner.num_hidden_layers),
        query_width=heads * per_head,
        kv_width=kv_width(inner),
        windows=_windows(inner),
        context=int(getattr(inner, "max_position_embeddings", 0) or 1 << 30),
    )


def adapter_size(config: dict[str, Any], name: str, settings: LoraSettings) -> AdapterSize:
    """Of a LoRA adapter as `Adapters.add` makes it. Raises ModelError where none fits."""
    import torch

    model = _meta_model(json.dumps(config, sort_keys=True), name)
    adapters = Adapters(model)
    with torch.device("meta"):
        adapter = adapters.add(settings, seed=0)
    try:
        shapes: Counter[tuple[str, int, int]] = Counter()
        for path, module in model.named_modules():
            if hasattr(module, "lora_A") and adapter in module.lora_A:
                layer = path.rsplit(".", 1)[-1]
                shapes[layer, module.lora_A[adapter].in_features, module.out_features] += 1
        count = sum(int(w.numel()) for w in adapters.weights(adapter))
        return AdapterSize(count, tuple((*key, n) for key, n in shapes.items()))
    finally:
        adapters.remove(adapter)


def weight_bytes(size: Size, dtype: str, quantize: str) -> int:
    """Bytes of the weights in memory. Quantised are the linear layers but not the head."""
    if quantize == "none":
        return int(size.parameters * BITS[dtype] / 8)
    rest = size.parameters - size.matmul_parameters
    return int((size.matmul_parameters * BITS[quantize] + rest * BITS[dtype]) / 8)


@cache
def _meta_model(config_text: str, name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = json.loads(config_text)
    kind = config.pop("model_type", None)
    try:
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model {name!r} (type {kind!r}): its size can't be told from its config "
            f"({first[:200]}); a causal language model of a type that transformers knows is needed"
        ) from error
    return made


def _linears(model: Any) -> list[Any]:
    from torch import nn

    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


def _windows(config: Any) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is None:
        return (window,) * int(config.num_hidden_layers)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)

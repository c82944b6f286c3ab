"""What shapes say of a model's cost, against torch's own counters and against brute force."""

from __future__ import annotations

import pytest
import torch
from families import shrunk, shrunk_model
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from howsure.errors import ModelError
from howsure.lm.adapters import Adapters, LoraSettings
from howsure.lm.names import config_of
from howsure.lm.sizes import Size, adapter_size, size_of, weight_bytes

KINDS = ("llama2-7b", "mistral-7b-v0.1", "qwen2.5-7b", "qwen3-8b", "gemma3-1b", "phi4")


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(kind: str) -> None:
    size, model, n = size_of(shrunk(kind), kind), shrunk_model(kind), 60
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, n, dtype=torch.long), use_cache=False)
    # Eager attention computes all n² products, also those that the mask takes out again.
    assert counter.get_total_flops() == size.flops(n, size.layers * n * n, n)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_about_those_that_autograd_keeps(kind: str) -> None:
    size, model, n = size_of(shrunk(kind), kind), shrunk_model(kind).requires_grad_(False), 60
    adapters = Adapters(model)
    name = adapters.add(LoraSettings(dropout=0.0), seed=0)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), adapters.using(name):
        model.base_model(input_ids=torch.zeros(1, n, dtype=torch.long), use_cache=False)
    numbers = sum(t.untyped_storage().nbytes() for t in kept.values()) / 4 / n
    assert size.activations() == pytest.approx(numbers, rel=0.4)


def _size(windows: tuple[int | None, ...]) -> Size:
    return Size(0, 0, 0, 0, 0, len(windows), 0, 0, windows, 0)


@given(
    st.lists(st.none() | st.integers(1, 12), min_size=1, max_size=3),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_attended_pairs_are_those_of_the_mask(
    windows: list[int | None], start: int, tokens: int
) -> None:
    pairs = sum(
        1
        for window in windows
        for q in range(start, start + tokens)
        for k in range(q + 1)
        if window is None or q - k < window
    )
    assert _size(tuple(windows)).attended(start, tokens) == pairs


@pytest.mark.parametrize(
    ("name", "parameters", "v_out", "layers", "kv"),
    [
        # Adapter: 8 × (in + out) of each layer's two projections, as PEFT prints for these models.
        ("llama2:7b", 4_194_304, 4096, 32, 262_144),
        ("llama2:7b-chat", 4_194_304, 4096, 32, 262_144),
        ("llama2:13b", 6_553_600, 5120, 40, 409_600),
        ("llama2:13b-chat", 6_553_600, 5120, 40, 409_600),
        ("mistral:7b", 3_407_872, 1024, 32, 65_536),
        ("mistral:7b-instruct", 3_407_872, 1024, 32, 65_536),
    ],
)
def test_the_six_columns(name: str, parameters: int, v_out: int, layers: int, kv: int) -> None:
    config = config_of(name)
    adapter = adapter_size(config, name, LoraSettings())
    wide = config["hidden_size"]
    assert adapter.parameters == parameters
    assert adapter.shapes == (
        ("q_proj", wide, wide, layers),
        ("v_proj", wide, v_out, layers),
    )
    size = size_of(config, name)
    assert size.kv_per_token == kv
    assert size.parameters > size.matmul_parameters + size.head_parameters
    # The models of one config share the shapes, so an adapter leaves nothing behind.
    assert size_of(config, name) == size


def test_bytes_of_weights() -> None:
    size = size_of(config_of("llama2:7b"), "llama2:7b")
    assert weight_bytes(size, "bfloat16", "none") == 2 * size.parameters
    assert weight_bytes(size, "float32", "none") == 4 * size.parameters
    eight = weight_bytes(size, "bfloat16", "8bit")
    four = weight_bytes(size, "bfloat16", "4bit")
    # Published footprints of the two: 7.0 GB and, with nested scales, 3.9 GB.
    assert 6.9e9 < eight < 7.1e9 and 3.8e9 < four < 4.2e9


def test_a_model_of_unknown_type() -> None:
    with pytest.raises(ModelError, match=r"'mine' \(type 'new_kind'\): its size can't be told"):
        size_of({"model_type": "new_kind"}, "mine")

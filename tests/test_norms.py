"""Norms as one operator: only where it is the same thing, and only for a while."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model
from families import ONE_OF_EACH, shrunk_model

from howsure.lm.engine.norms import fused, standard_norms


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_they_compute_the_same_and_come_back(architecture: str) -> None:
    model = make_model(architecture)
    norms = standard_norms(model)
    assert len(norms) == 2 * model.config.num_hidden_layers + 1
    with torch.no_grad():
        for i, norm in enumerate(norms):
            norm.weight.copy_(torch.linspace(0.5, 1.5 + i, norm.weight.numel()))
        x = torch.randn(3, 5, model.config.hidden_size)
        before = [norm(x) for norm in norms]
        with fused(norms):
            during = [norm(x) for norm in norms]
        assert not any("forward" in vars(norm) for norm in norms), "as they were"
        assert standard_norms(model) == norms
    for a, b in zip(before, during, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_none_is_taken_that_computes_something_else(name: str) -> None:
    """Weights far from 1 tell 1 + weight from weight."""
    model = shrunk_model(name)
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if "norm" in part:
                weight.uniform_(0.2, 0.6)
        for norm in standard_norms(model):
            x = torch.randn(2, 3, norm.weight.numel())
            expected = norm(x)
            with fused([norm]):
                torch.testing.assert_close(norm(x), expected)


def test_one_plus_weight_is_not_taken_and_a_wrapped_module_is_left_alone() -> None:
    assert not standard_norms(shrunk_model("gemma2-2b"))
    model = make_model("llama")
    norm = model.model.norm
    norm.forward = norm.forward
    assert norm not in standard_norms(model)

"""Out of memory while reading or training: half at a time, the same numbers. Nothing is kept."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from howsure.errors import FitError
from howsure.lm import Hidden, LoadOptions, Passage, Place, load
from howsure.lm.engine import tree
from howsure.lm.engine.memory import _AFTER, Budget, halves, is_out_of_memory
from howsure.lm.engine.tree import Ask
from howsure.methods import training

PASSAGES = [
    Passage("Some facts follow.\n", f"Question: what is {n} and {n}?\nAnswer:", f" {2 * n}", " Ok?")
    for n in range(24)
]
WANTS = [Hidden(Place.ANSWER), Hidden(Place.QUERY)]
MOST = 160
"""Tokens that fit into the memory of these tests."""


@pytest.fixture(params=["tree", "plain"])
def lm(request):
    return load("tiny-mistral", dtype="float32", options=LoadOptions(engine=request.param))


def small(lm, monkeypatch, kind=torch.OutOfMemoryError):
    """From now on a pass of more than MOST tokens fails; what was tried."""
    tried = []
    forward = lm._body.forward

    def limited(*args, **kwargs):
        tried.append(kwargs["input_ids"].numel())
        if tried[-1] > MOST:
            raise kind("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm._body, "forward", limited)
    return tried


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_what_does_not_fit_is_read_in_halves(lm, monkeypatch, kind):
    expected = lm.read(PASSAGES, WANTS)
    tried = small(lm, monkeypatch, kind)
    found = lm.read(PASSAGES, WANTS)
    assert max(tried) > MOST
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_continues_a_wave_is_read_in_halves(lm, monkeypatch):
    def read():
        asked = [Passage(p.prefix, p.question) for p in PASSAGES]
        found = {}
        for wave in lm.waves(asked, [Hidden(Place.QUESTION)]):
            more = [(k, PASSAGES[i]) for k, i in enumerate(wave.index)]
            found |= dict(zip(wave.index, wave.read(more, WANTS)[1], strict=True))
        return np.array([found[i] for i in range(len(PASSAGES))])

    expected = read()
    small(lm, monkeypatch)
    np.testing.assert_allclose(read(), expected, atol=1e-5)


def test_what_does_not_fit_grows_in_halves(lm, monkeypatch):
    """Steps of more than four sequences fail: the answers are the same."""
    asked = [Passage(p.prefix, p.question) for p in PASSAGES]
    expected = lm.generate(asked, max_tokens=6)
    if lm.engine == "plain":
        pytest.skip("the plain path generates through the library's own loop")
    sizes, step = [], lm._reader.step

    def limited(tokens, state):
        sizes.append(len(tokens))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("out of memory")
        return step(tokens, state)

    monkeypatch.setattr(lm._reader, "step", limited)
    found = lm.generate(asked, max_tokens=6)
    assert max(sizes) > 4
    assert [(g.text, g.tokens) for g in found] == [(g.text, g.tokens) for g in expected]
    np.testing.assert_allclose(
        [g.log_probability for g in found], [g.log_probability for g in expected], atol=1e-4
    )
    again = [
        Passage(p.prefix, p.question, " " + g.text, " Ok?")
        for p, g in zip(PASSAGES, found, strict=True)
    ]
    assert np.isfinite(lm.read(again, WANTS)[0]).all()


def test_one_prompt_that_does_not_fit_is_an_error(lm, monkeypatch):
    small(lm, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        lm.read([Passage("", "word " * 400, " a", "")], [Hidden(Place.ANSWER)])


def test_other_errors_are_not_taken_for_it(lm, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(lm._body, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        lm.read(PASSAGES, WANTS)


def test_the_budget_shrinks_and_grows_again():
    budget = Budget(1000)
    budget.refused(900)
    assert budget.tokens == 450
    budget.refused(450)
    assert budget.tokens == 225
    for _ in range(_AFTER):
        budget.passed()
    assert budget.tokens == 450
    for _ in range(2 * _AFTER):
        budget.passed()
    assert budget.tokens == 1000


def test_out_of_memory_is_known_on_a_cpu_too():
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_halves_lose_nothing():
    assert halves([1, 2, 3]) == ([1], [2, 3])
    with pytest.raises(ValueError, match="no halves"):
        halves([1])


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_trained_on_in_pieces(fits):
    """The same weights as with room for all, but for rounding."""
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, dtype=torch.float64)

    def trained(most):
        weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)

        def loss_of(batch):
            loss = (x[batch] @ weights - y[batch]).square().mean()
            if len(batch) > most:
                # Part of the gradients is there already when the memory runs out.
                loss.backward(retain_graph=True)
                raise torch.OutOfMemoryError("out of memory")
            return loss

        schedule = training.Schedule(steps=20, batch_size=4, learning_rate=0.1, evaluations=2)
        training.train_loop(
            [weights],
            schedule,
            lengths=[1] * 12,
            loss_of=loss_of,
            valid_loss=lambda: float((x @ weights.detach() - y).square().mean()),
            seed=0,
        )
        return weights.detach()

    torch.testing.assert_close(trained(fits), trained(4), atol=1e-5, rtol=1e-5)
    with pytest.raises(FitError, match="even by itself; set the schedule's gradient_checkpointing"):
        trained(0)


def test_a_tree_is_gone_with_its_last_user():
    """No circle of references: garbage is collected too seldom where much is loaded."""
    asks = [Ask([*range(30), i, *range(i)], (30 + i,), 31) for i in range(9)]

    def there():
        return sum(type(o) is tree.Node for o in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before, nodes = there(), tree.grow(asks)
        assert there() > before + len(asks)
        del nodes
        assert there() == before
    finally:
        gc.enable()

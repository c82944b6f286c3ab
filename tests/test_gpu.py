"""The same on a GPU: rows, answers and gradients of both paths, trainings, memory that runs out.

python -m pytest -m gpu tests/test_gpu.py
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from test_engine import FIXED, SHUFFLED, WANTS, gradients, passages
from test_methods import ANSWERS, QUICK, TRAIN, VALID, Stopped, Stopping

from howsure import methods
from howsure.lm import Hidden, Place
from howsure.lm.engine import kernels, segments
from howsure.lm.model import LanguageModel
from howsure.methods import checkpoint
from howsure.types import GradedAnswer

DEVICE = os.environ.get("HOWSURE_TEST_DEVICE", "cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"
    ),
]


def on_gpu(architecture: str, engine: str, dtype: torch.dtype, **settings: int) -> LanguageModel:
    model = make_model(architecture, **settings).to(DEVICE, dtype)
    return LanguageModel(model, make_tokenizer(), name=f"random-{architecture}", engine=engine)


@pytest.fixture(scope="module", params=["llama", "mistral", "mistral-wide"])
def kind(request: pytest.FixtureRequest) -> tuple[str, dict[str, int]]:
    window = {"sliding_window": 400} if request.param == "mistral-wide" else {}
    return request.param.split("-")[0], window


@pytest.fixture
def pair(kind: tuple[str, dict[str, int]]) -> tuple[LanguageModel, LanguageModel]:
    """The same model twice in float32: fast and plain."""
    architecture, settings = kind
    fast, plain = (
        on_gpu(architecture, engine, torch.float32, **settings) for engine in ("tree", "plain")
    )
    return fast, plain


@pytest.mark.parametrize("prefixes", [FIXED, SHUFFLED])
def test_rows_in_float32(pair, prefixes: list[str]) -> None:
    asked = passages(3, prefixes)
    for mine, theirs in zip(*(lm.read(asked, WANTS) for lm in pair), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("prefixes", [FIXED, SHUFFLED])
def test_rows_in_bfloat16_are_as_near_as_rounding_allows(kind, prefixes: list[str]) -> None:
    """Both paths err against float32; the fast one not more than twice as much as the plain one."""
    architecture, settings = kind
    asked = passages(4, prefixes)
    exact, plain, fast = (
        on_gpu(architecture, engine, dtype, **settings).read(asked, [Hidden(Place.QUERY)])[0]
        for engine, dtype in (
            ("plain", torch.float32),
            ("plain", torch.bfloat16),
            ("tree", torch.bfloat16),
        )
    )
    allowed, found = (np.sqrt(((x - exact) ** 2).mean()) for x in (plain, fast))
    assert found <= 2 * allowed + 1e-6, f"{found} against {allowed}"


def test_generation(pair) -> None:
    asked = passages(5, FIXED, each=8)
    mine, theirs = (lm.generate(asked, max_tokens=7) for lm in pair)
    assert [g.text for g in mine] == [g.text for g in theirs]
    np.testing.assert_allclose(
        [g.log_probability for g in mine], [g.log_probability for g in theirs], atol=1e-3
    )


def test_gradients(pair) -> None:
    asked = passages(6, SHUFFLED, each=3)
    (_, mine), (_, theirs) = (gradients(lm, asked) for lm in pair)
    largest = max(float(g.abs().max()) for g in theirs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=3e-5 * largest, rtol=1e-3)


def as_letters(graded: list[GradedAnswer]) -> list[GradedAnswer]:
    """The same as if each were a letter of a multiple choice."""
    changes = {"format": "choice", "choose_by": "letter", "choice": 0, "text": "a"}
    return [replace(g, answer=replace(g.answer, **changes)) for g in graded]


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["zero_shot", "probe", "lora", "lora_prompt"])
def test_methods_say_probabilities(kind, method: str, dtype: torch.dtype, letters: bool) -> None:
    architecture, settings = kind
    lm = on_gpu(architecture, "auto", dtype, **settings)
    spec = methods.spec_from(method, {} if method == "zero_shot" else QUICK)
    train, valid = map(as_letters, (TRAIN, VALID)) if letters else (TRAIN, VALID)
    p = methods.fit(spec, lm, train, valid, seed=5).p_correct(ANSWERS)
    assert p.shape == (len(ANSWERS),) and np.all((p >= 0) & (p <= 1)) and p.std() > 0


def test_a_training_killed_goes_on_with_the_same_dropout(monkeypatch) -> None:
    """A GPU's sums may come in any order, so the same bits are not asked for."""
    lm = on_gpu("llama", "auto", torch.float32)
    monkeypatch.setattr(checkpoint, "_LEAST", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", math.inf)
    settings = {"schedule": QUICK["schedule"], "adapter": {"dropout": 0.3}}
    spec = methods.spec_from("lora", settings)
    kept = Stopping(3)
    whole = methods.fit(spec, lm, TRAIN, VALID, seed=5)
    with pytest.raises(Stopped):
        methods.fit(spec, lm, TRAIN, VALID, seed=5, checkpoint=kept)
    torch.cuda.manual_seed_all(99)
    again = methods.fit(spec, lm, TRAIN, VALID, seed=5, checkpoint=kept)
    for (_, a), (_, b) in zip(whole.fitted.curve, again.fitted.curve, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    np.testing.assert_allclose(again.p_correct(ANSWERS), whole.p_correct(ANSWERS), atol=1e-3)


@pytest.fixture
def little_memory() -> Iterator[int]:
    """What is left of the device: so many bytes more than what is held now."""
    room = 40 * 2**20
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / total)
    yield room
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.skipif(DEVICE != "cuda", reason="needs CUDA's kernels")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows", [64, 200])
def test_the_backward_kernel_agrees_with_products(causal: bool, rows: int) -> None:
    """In bfloat16, grouped queries; the error is that of its rounding."""
    draw = torch.Generator("cuda").manual_seed(rows)
    how = {"device": "cuda", "dtype": torch.bfloat16, "generator": draw}
    q, grad = (torch.randn(2, 8, rows, 64, **how) for _ in range(2))
    k, v = (torch.randn(2, 2, rows, 64, **how) for _ in range(2))
    given = {"is_causal": causal, "mask": None, "scale": 0.125}
    out, lse = kernels.attend(q, k, v, **given)
    # As the parts of a cascade are: merged row by row, and seen as heads first.
    out, lse = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (out, lse))
    found = kernels.attend_backward(grad, q, k, v, out, lse, **given)
    expected = kernels.by_products_backward(grad, q, k, v, out, lse, **given)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= 0.02 * float(b.abs().max())


@pytest.mark.skipif(DEVICE != "cuda", reason="needs CUDA's kernels")
@pytest.mark.parametrize("kind", ["own", "own in a window", "ranges", "single rows"])
def test_the_kernel_of_many_segments_agrees_with_products(kind: str, monkeypatch) -> None:
    """In bfloat16, grouped queries, ranges of keys that overlap, as the parts of a cascade are."""
    lengths = [1] * 90 if kind == "single rows" else [5, 1, 64, 130, 7, 7]
    window = 16 if kind == "own in a window" else None
    is_causal = kind.startswith("own")
    if is_causal:
        keys, given = sum(lengths), segments.Segments.own(lengths, "cuda")
    else:
        keys, draw = 300, np.random.default_rng(0)
        first = draw.integers(0, keys - 1, len(lengths))
        ranges = [slice(int(a), int(draw.integers(a + 1, keys + 1))) for a in first]
        given = segments.Segments.of(lengths, ranges, "cuda")
    random = torch.Generator("cuda").manual_seed(3)
    how = {"device": "cuda", "dtype": torch.bfloat16, "generator": random}
    # As a model's layers give them: heads first to look at, tokens first in memory.
    q, grad = (torch.randn(sum(lengths), 8, 64, **how) for _ in range(2))
    k, v = (torch.randn(keys, 2, 64, **how) for _ in range(2))
    settings = {"is_causal": is_causal, "window": window, "scale": 0.125}
    out, lse = segments.attend_segments(q, k, v, given, **settings)
    found = segments.attend_segments_backward(grad, q, k, v, out, lse, given, **settings)
    monkeypatch.setattr(segments, "fits_flash", lambda _: False)
    right, right_lse = segments.attend_segments(q, k, v, given, **settings)
    expected = segments.attend_segments_backward(grad, q, k, v, right, right_lse, given, **settings)
    torch.testing.assert_close(lse, right_lse, atol=2e-3, rtol=1e-3)
    for a, b in zip((out, *found), (right, *expected), strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 0.02 * float(b.abs().max())


def test_norms_are_one_operator_here(kind) -> None:
    architecture, settings = kind
    lm = on_gpu(architecture, "tree", torch.bfloat16, **settings)
    assert lm.engine == "tree" and len(lm._reader._norms) == 5
    assert lm._reader.queues and lm._reader._packs_a_wave == 32


def test_gradients_in_bfloat16_point_the_same_way(kind) -> None:
    """Weights of an adapter are float32, what is computed with them is bfloat16."""
    architecture, settings = kind
    asked = passages(6, SHUFFLED, each=3)
    exact, rounded = (
        gradients(on_gpu(architecture, "tree", dtype, **settings), asked)[1]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert all(g.dtype == torch.float32 for g in rounded)
    a, b = (torch.cat([g.flatten() for g in found]) for found in (exact, rounded))
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.99


@pytest.mark.skipif(DEVICE != "cuda", reason="needs CUDA's allocator")
def test_memory_that_runs_out_halves_the_packs(caplog, request) -> None:
    """The allocator really refuses; the rows are those that a large memory gives."""
    lm = on_gpu("llama", "tree", torch.float32)
    asked = passages(7, FIXED, each=600)
    whole = lm.read(asked, WANTS)
    torch.cuda.empty_cache()
    request.getfixturevalue("little_memory")
    again = lm.read(asked, WANTS)
    assert "out of memory with" in caplog.text
    for mine, theirs in zip(again, whole, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5, rtol=1e-5)

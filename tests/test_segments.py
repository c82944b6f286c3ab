"""Many segments at once: the same attention and gradients as torch's own under a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from howsure.lm.engine.parts import Memory, Part, bundled
from howsure.lm.engine.segments import Segments, attend_segments, attend_segments_backward

SIZE, SCALE = 8, 0.3


def drawn(seed: int, rows: int, keys: int, groups: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((rows, 2 * groups, SIZE), (keys, groups, SIZE), (keys, groups, SIZE))
    return [torch.randn(shape, generator=draw, requires_grad=True) for shape in shapes]


def expected(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """(rows, heads, size) under a mask of (rows, keys)."""
    out = scaled_dot_product_attention(
        *(x.transpose(0, 1) for x in (q, k, v)), attn_mask=visible, scale=SCALE, enable_gqa=True
    )
    return out.transpose(0, 1)


def check(q: Tensor, k: Tensor, v: Tensor, segments: Segments, visible: Tensor, **how) -> None:
    right = expected(q, k, v, visible)
    grad = torch.linspace(-1, 1, right.numel()).view(right.shape)
    wanted = torch.autograd.grad(right, (q, k, v), grad)
    q, k, v = (x.detach() for x in (q, k, v))
    out, lse = attend_segments(q, k, v, segments, scale=SCALE, **how)
    torch.testing.assert_close(out, right, atol=1e-5, rtol=1e-5)
    heads = q.shape[1] // k.shape[1]
    scores = torch.einsum("qhd,khd->qhk", q, k.repeat_interleave(heads, 1)) * SCALE
    there = scores.masked_fill(~visible[:, None, :], -torch.inf).logsumexp(-1)
    torch.testing.assert_close(lse, there, atol=1e-5, rtol=1e-5)
    found = attend_segments_backward(grad, q, k, v, out, lse, segments, scale=SCALE, **how)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)
SEEDS = st.integers(0, 99)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, window=st.none() | st.integers(1, 9), groups=st.integers(1, 2), seed=SEEDS)
def test_segments_see_themselves(lengths, window, groups, seed) -> None:
    owner = torch.tensor(np.repeat(np.arange(len(lengths)), lengths))
    at = torch.arange(len(owner))
    distance = at[:, None] - at[None, :]
    visible = (owner[:, None] == owner[None, :]) & (distance >= 0)
    visible &= distance < (window or len(owner))
    given = {"is_causal": True, "window": window}
    total = len(owner)
    check(*drawn(seed, total, total, groups), Segments.own(lengths, "cpu"), visible, **given)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), lengths=LENGTHS, groups=st.integers(1, 2), seed=SEEDS)
def test_segments_see_ranges_that_overlap(data, lengths, groups, seed) -> None:
    keys = 12
    first = [data.draw(st.integers(0, keys - 1)) for _ in lengths]
    ranges = [slice(a, data.draw(st.integers(a + 1, keys))) for a in first]
    visible = torch.zeros(sum(lengths), keys, dtype=torch.bool)
    row = 0
    for length, seen in zip(lengths, ranges, strict=True):
        visible[row : row + length, seen] = True
        row += length
    segments = Segments.of(lengths, ranges, "cpu")
    given = {"is_causal": False, "window": None}
    check(*drawn(seed, sum(lengths), keys, groups), segments, visible, **given)


def part(rows, keys: slice, memory: Memory | None = None, mask: Tensor | None = None) -> Part:
    return Part(rows, 0, 0, keys, 0, memory=memory, mask=mask)


def test_parts_of_one_place_and_of_different_rows_are_bundled() -> None:
    """Neighbours, rows with a gap, a second ancestor of the same rows, another memory, a mask."""
    memory = Memory({})
    parts = [
        part(slice(0, 4), slice(0, 3)),
        part(slice(0, 4), slice(5, 6)),
        part(slice(0, 9), slice(2, 7), memory),
        part(slice(4, 6), slice(1, 3)),
        part(torch.tensor([7, 9]), slice(2, 3)),
        part(slice(2, 3), slice(0, 1), mask=torch.zeros(1, 1)),
    ]
    masked, first, second, third = bundled(parts, "cpu")
    assert masked is parts[5]
    assert first.rows.tolist() == [0, 1, 2, 3, 4, 5, 7, 9] and first.memory is None
    assert first.segments.rows.tolist() == [0, 4, 6, 8]
    assert first.segments.first.tolist()[:-1] == [0, 1, 2]
    assert first.segments.seen.tolist() == [3, 2, 1] and first.segments.longest == (4, 3)
    assert second.rows == slice(0, 4) and second.segments.seen.tolist() == [1]
    assert third.rows == slice(0, 9) and third.memory is memory


@pytest.mark.parametrize(
    ("device", "dtype", "together"),
    [
        ("cpu", torch.bfloat16, False),
        ("cuda:1", torch.bfloat16, True),
        ("cuda", torch.float16, True),
        ("cuda", torch.float32, False),
    ],
)
def test_where_segments_are_one_call(device, dtype, together) -> None:
    from howsure.lm.engine.segments import are_one_call

    assert are_one_call(device, dtype) is together

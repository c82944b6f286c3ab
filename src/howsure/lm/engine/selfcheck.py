"""Which path reads a model: the fast one only where it gives what the plain one gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from howsure import heap
from howsure.errors import ModelError, UnknownName
from howsure.lm.engine.memory import Budget
from howsure.lm.engine.plain import PlainReader
from howsure.lm.engine.reader import TreeReader
from howsure.lm.engine.tree import Ask
from howsure.lm.options import ENGINES
from howsure.lm.sharding import reading

BUDGET = {"cpu": (1024, 4096), "cuda": (8192, 16384)}
"""Tokens in one forward pass, of the fast path and of the plain one."""

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Largest difference of hidden states, as a share of the largest of them."""


def choose(
    engine: str, model: Any, body: Any, pad: int, name: str
) -> tuple[TreeReader | PlainReader, PlainReader, str]:
    """The reader to use, the plain one, and why they are the same where the fast one can't be had.

    Raises ModelError when the fast path is asked for and can't be had.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    packed, padded = BUDGET.get(model.device.type, BUDGET["cpu"])
    plain = PlainReader(model, body, pad, padded)
    if engine == "plain":
        return plain, plain, ""
    try:
        tree = TreeReader(body, packed)
        difference = _difference(tree, plain, model)
    except Exception as error:  # whatever an unknown architecture does with what it doesn't expect
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return _refused(engine, plain, name, f"it can't be read by the fast path ({first})")
    if not difference <= _TOLERANCE.get(model.dtype, 1e-4):
        why = f"the fast path differs from the plain one by {difference:.1e}"
        return _refused(engine, plain, name, why)
    tree.tokens_read = plain.tokens_read = 0
    return tree, plain, ""


def _refused(
    engine: str, plain: PlainReader, name: str, why: str
) -> tuple[PlainReader, PlainReader, str]:
    if engine == "tree":
        raise ModelError(f"model {name!r}: {why}; use --engine auto or plain")
    return plain, plain, f"{why}; the plain path is used, which is several times slower"


def _difference(tree: TreeReader, plain: PlainReader, model: Any) -> float:
    """How far the two paths are apart on random sequences: read, continued, in small packs."""
    draw = random.Random(0)
    size = model.get_input_embeddings().num_embeddings

    def tokens(n: int) -> list[int]:
        return [draw.randrange(size) for _ in range(n)]

    stem = tokens(20)
    asks = [Ask([*stem, *tokens(n)], (19 + n,), 20) for n in (1, 7, 7, 12)]
    more = [Ask([*a.ids, *tokens(5)], (a.at[0], a.at[0] + 5)) for a in asks]
    budget, tree.budget = tree.budget, Budget(24)
    pairs: list[tuple[Tensor, Tensor]] = []
    with reading(model):
        for wave in tree.waves(asks, then="generate"):
            pairs.append((wave.rows[-1], plain.rows([asks[i] for i in wave.asks])[-1]))
            continued = [more[i] for i in wave.asks]
            pairs.append((wave.read(list(enumerate(continued)))[-1], plain.rows(continued)[-1]))
    tree.budget = budget
    scale = max(float(b.float().abs().max()) for _, b in pairs)
    worst = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    return worst / max(scale, 1e-6)


def check_items(
    tree: TreeReader, plain: PlainReader, asks: Sequence[Ask], dtype: torch.dtype, name: str
) -> None:
    """Raises ModelError unless both paths read the same of these sequences, one prompt at a time
    on the plain one. What it reads isn't counted."""
    before = tree.tokens_read, plain.tokens_read
    worst = scale = 0.0
    read = [(wave.asks, wave.rows[-1].float()) for wave in tree.waves(asks)]
    heap.give_back()  # a long prompt needs much on either path: not on both at a time
    for some, mine in read:
        theirs = torch.cat([plain.rows([asks[i]])[-1] for i in some]).float()
        worst = max(worst, float((mine - theirs).abs().max()))
        scale = max(scale, float(theirs.abs().max()))
    tree.tokens_read, plain.tokens_read = before
    if not worst <= _TOLERANCE.get(dtype, 1e-4) * max(scale, 1e-6):
        raise ModelError(
            f"model {name!r}: the fast path reads its prompts otherwise than the plain one (they "
            f"differ by {worst / max(scale, 1e-6):.1e}); use --engine plain, and please report it"
        )


def check_head(model: Any, body: Any, logits: Callable[[Tensor], Tensor], name: str) -> None:
    """Refuse an architecture whose logits are not head(final hidden state) as we compute it."""
    ids = torch.tensor([[1, 2, 3, 4]], device=model.device)
    with reading(model):
        expected = model(input_ids=ids, use_cache=False).logits.float()
        ours = logits(body(input_ids=ids, use_cache=False).last_hidden_state)
    scale = expected.abs().max().clamp(min=1.0)
    if not torch.isfinite(expected).all():
        raise ModelError(
            f"model {name!r} gives logits that are not finite; its weights are unusable"
        )
    if ours.shape != expected.shape or (ours - expected).abs().max() > 2e-2 * scale:
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) makes its logits in a way "
            "that howsure does not know; this architecture is not supported"
        )

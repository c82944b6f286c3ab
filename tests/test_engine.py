"""The fast path against the plain one: the same rows, the same gradients, each token once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from howsure.errors import ModelError, UnknownName
from howsure.lm import (
    AnswerTokens,
    Hidden,
    Options,
    Passage,
    Place,
)
from howsure.lm.adapters import LoraSettings
from howsure.lm.engine import cascade, decoding, kernels, parts, tree
from howsure.lm.engine.memory import Budget
from howsure.lm.engine.reader import TreeReader
from howsure.lm.engine.tree import Ask
from howsure.lm.model import LanguageModel
from howsure.lm.stops import Stops
from howsure.prompts import CORRECTNESS_QUERY

SHOTS = [f"Question: {'long ' * n}{n}?\nAnswer: {n}\n\n" for n in (1, 9, 4, 2)]
WANTS = [
    Hidden(Place.QUESTION),
    Hidden(Place.ANSWER, 1),
    Options(Place.QUERY, ("i", "ii")),
    AnswerTokens(),
]


def passages(seed: int, prefixes: list[str], each: int = 6) -> list[Passage]:
    """Questions of mixed lengths behind each prefix, in mixed order."""
    draw = random.Random(seed)
    made = [
        Passage(
            prefix,
            f"Question: {' '.join(['what', 'is', 'it'] * draw.choice([1, 1, 3, 8]))} {i}?\nAnswer:",
            draw.choice([" a", " b", " Paris", " so very long"]),
            CORRECTNESS_QUERY,
        )
        for prefix in prefixes
        for i in range(each)
    ]
    draw.shuffle(made)
    return made


FIXED = ["".join(SHOTS)]
SHUFFLED = ["".join(order) for order in itertools.permutations(SHOTS)][::3]


@pytest.fixture(scope="module", params=["llama", "mistral", "mistral-wide"])
def pair(request, make_lm) -> tuple[LanguageModel, LanguageModel]:
    """The same model twice: fast and plain. Windows shorter and longer than the prompts."""
    window = {"sliding_window": 400} if request.param == "mistral-wide" else {}
    architecture = request.param.split("-")[0]
    return tuple(make_lm(architecture, engine=e, **window) for e in ("tree", "plain"))


@pytest.fixture(params=["cpu", "gpu"])
def way(request, pair, monkeypatch) -> None:
    """Packs as on a CPU, and as for a GPU: many segments at once, a wave ahead of who reads it."""
    is_gpu = request.param == "gpu"
    for module in (cascade, decoding):
        monkeypatch.setattr(module, "are_one_call", lambda *_: is_gpu)
    monkeypatch.setattr(pair[0]._reader, "queues", is_gpu)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("budget", [64, 300, 4096])
@pytest.mark.parametrize("prefixes", [FIXED, SHUFFLED, ["", *FIXED]])
def test_rows_are_those_of_the_plain_path(
    pair, prefixes: list[str], budget: int, monkeypatch
) -> None:
    fast, plain = pair
    monkeypatch.setattr(fast._reader, "budget", Budget(budget))
    asked = passages(budget, prefixes)
    for mine, theirs in zip(fast.read(asked, WANTS), plain.read(asked, WANTS), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-6)


def broken(tokens, breaks):
    """A decoder for which these tokens are line breaks, as some answers of real models begin."""
    return lambda ids: "".join("\n" if i in breaks else tokens.decode([i]) for i in ids)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("prefixes", [FIXED, SHUFFLED])
def test_generation_is_that_of_the_plain_path(pair, prefixes: list[str], monkeypatch) -> None:
    for lm in pair:  # a random model hardly ever says the end token
        ends, breaks = frozenset(range(1, 360, 14)), frozenset(range(8, 360, 14))
        monkeypatch.setattr(lm.tokens, "stops", Stops(ends, breaks, broken(lm.tokens, breaks)))
    asked = passages(1, prefixes, each=8)
    mine, theirs = (lm.generate(asked, max_tokens=7) for lm in pair)
    assert [g.text for g in mine] == [g.text for g in theirs]
    assert [g.tokens for g in mine] == [g.tokens for g in theirs]
    assert len({g.tokens for g in mine}) > 1, "sequences must stop at different steps"
    np.testing.assert_allclose(
        [g.log_probability for g in mine], [g.log_probability for g in theirs], atol=1e-4
    )


@pytest.mark.parametrize("in_bundles", [False, True])
@pytest.mark.parametrize(("of", "past"), [(min, -3), (min, 2), (max, 2)])
def test_sequences_grow_out_of_the_window(make_lm, of, past, in_bundles, monkeypatch) -> None:
    """The shortest prompt fits into it, or nearly, or even the longest; what is generated does
    not."""
    asked = passages(1, FIXED, each=8)
    lengths = make_lm("mistral").lengths([p.upto(Place.QUESTION) for p in asked])
    window = of(lengths) + past
    monkeypatch.setattr(cascade, "are_one_call", lambda *_: in_bundles)
    monkeypatch.setattr(decoding, "are_one_call", lambda *_: in_bundles)
    mine, theirs = (
        make_lm("mistral", engine=e, sliding_window=window).generate(asked, max_tokens=7)
        for e in ("tree", "plain")
    )
    assert [g.text for g in mine] == [g.text for g in theirs]
    np.testing.assert_allclose(
        [g.log_probability for g in mine], [g.log_probability for g in theirs], atol=1e-4
    )


def gradients(
    lm: LanguageModel, asked: list[Passage], *, dropout: float = 0.0, recompute: bool = False
) -> tuple[float, list[torch.Tensor]]:
    """A loss of all kinds of rows, and what it says of a new adapter's weights."""
    torch.manual_seed(0)
    adapter = lm.adapters.add(LoraSettings(dropout=dropout), seed=0)
    weights = lm.adapters.weights(adapter)
    with torch.no_grad():
        for k, w in enumerate(weights):  # B is 0 in a new adapter: nothing would reach A
            w.copy_(torch.randn(w.shape, generator=torch.Generator().manual_seed(k)) * 0.1)
    with lm.training(adapter, recompute=recompute):
        work = lm.planned(asked, [Place.QUERY], answer_tokens=True)
        rows, _, last = lm.answer_rows(work, Place.QUERY)
        loss = lm.logits(rows).log_softmax(-1).square().mean() + last.square().mean()
        found = list(torch.autograd.grad(loss, weights))
    lm.adapters.remove(adapter)
    return float(loss.detach()), found


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("prefixes", [[""], FIXED, SHUFFLED])
def test_gradients_are_those_of_the_plain_path(pair, prefixes: list[str]) -> None:
    asked = passages(2, prefixes, each=3)
    (loss, mine), (expected, theirs) = (gradients(lm, asked) for lm in pair)
    assert loss == pytest.approx(expected, rel=1e-5)
    largest = max(float(g.abs().max()) for g in theirs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * largest, rtol=1e-4)


def test_what_is_planned_of_some_is_their_own_plan(pair) -> None:
    lm, _ = pair
    asked, some = passages(3, SHUFFLED, each=3), [7, 0, 2, 7]
    for places, spans in (([Place.QUERY], True), ([Place.ANSWER, Place.QUESTION], False)):
        whole = lm.planned(asked, places, answer_tokens=spans)
        assert whole.of(some) == lm.planned([asked[i] for i in some], places, answer_tokens=spans)
        assert whole.of(range(len(asked))) == whole


def test_layers_that_run_again_give_the_same_gradients(pair, monkeypatch) -> None:
    asked = passages(2, FIXED, each=3)
    calls = []

    def attend(*args: Any, **how: Any) -> Any:
        calls.append(1)
        return kernels.attend(*args, **how)

    monkeypatch.setattr(parts, "attend", attend)
    for lm in pair:
        counts, found = [], []
        for recompute in (False, True):
            calls.clear()
            found.append(gradients(lm, asked, dropout=0.1, recompute=recompute))
            counts.append(len(calls))
        (loss, kept), (again_loss, again) = found
        assert loss == again_loss
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
        assert counts[1] == 2 * counts[0], "each layer's attention runs twice, and is ours"


def test_a_model_without_a_list_of_layers_cannot_run_them_again(pair, monkeypatch) -> None:
    _, lm = pair
    monkeypatch.setattr(lm._reader._body.config, "num_hidden_layers", 99)
    with pytest.raises(ModelError, match=r"no list of decoder layers .*; leave the schedule's"):
        lm._reader.recomputing()


@pytest.mark.usefixtures("way")
def test_each_token_is_read_once(pair, monkeypatch) -> None:
    """Needed: the prefix's tokens once, then each question's own, then each answer and query."""
    lm, _ = pair
    asked = [
        Passage(FIXED[0], f"Question: {'x ' * (k % 5)}{k}?\nAnswer:", " a", CORRECTNESS_QUERY)
        for k in range(40)
    ]
    questions = lm.tokens.encode([p.upto(Place.QUESTION) for p in asked])
    wholes = lm.tokens.encode([p.upto(Place.QUERY) for p in asked])
    shared = tree.common_prefix(min(questions), max(questions))
    needed = shared + sum(len(w) - shared for w in wholes)
    monkeypatch.setattr(lm._reader, "budget", Budget(256))
    before = lm.tokens_read
    for wave in lm.waves(asked, [Options(Place.QUESTION, ("a", "b"))]):
        wave.read(
            [(k, asked[i]) for k, i in enumerate(wave.index)],
            [Hidden(Place.ANSWER), Options(Place.QUERY, ("i", "ii"))],
        )
    assert lm.tokens_read - before == needed


@pytest.mark.parametrize("queues", [False, True])
def test_no_more_packs_are_held_when_passes_are_queued(pair, queues, monkeypatch) -> None:
    """One wave of four packs, or two waves of two: so many are read before the first is looked
    at, and no pack is kept when its wave is over."""
    reader = pair[0]._reader
    monkeypatch.setattr(reader, "budget", Budget(100))
    monkeypatch.setattr(reader, "queues", queues)
    read: list[list[tree.Node]] = []
    one = reader.read

    def counted(pack: list[tree.Node], *args: Any, **how: Any) -> None:
        read.append(pack)
        one(pack, *args, **how)

    monkeypatch.setattr(reader, "read", counted)
    held = []
    for _ in pair[0].waves(passages(4, FIXED, each=60), [Hidden(Place.QUESTION)]):
        held.append(sum(any(n.memory for n in pack) for pack in read[1:]))  # without the prefix
    assert len(held) > 2 and held[:2] == [3, 4] and max(held) == 4
    assert not any(n.memory for pack in read for n in pack)


@pytest.mark.usefixtures("way")
def test_a_generated_answer_is_not_read_again(pair) -> None:
    lm, _ = pair
    (asked,) = passages(3, FIXED, each=1)
    before = lm.tokens_read
    for wave in lm.waves([asked], [Hidden(Place.QUESTION)]):
        (made,) = wave.generate(5)
        told = Passage(asked.prefix, asked.question, f" {made.text}", CORRECTNESS_QUERY)
        wave.read([(0, told)], [Options(Place.QUERY, ("i", "ii"))])
    (whole,) = lm.tokens.encode([told.upto(Place.QUERY)])
    assert lm.tokens_read - before <= len(whole) + made.tokens


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@settings(max_examples=200)
@given(stems=st.lists(TOKENS, min_size=1, max_size=4), data=st.data())
def test_the_tree_holds_every_sequence(stems: list[list[int]], data: st.DataObject) -> None:
    asks = []
    for _ in range(data.draw(st.integers(1, 8))):
        stem = data.draw(st.sampled_from(stems))
        ids = stem + data.draw(TOKENS)
        at = sorted(data.draw(st.sets(st.integers(0, len(ids) - 1), min_size=1, max_size=3)))
        asks.append(Ask(ids, tuple(at), len(stem)))
    nodes = tree.grow(asks)
    leaves = {n.ask: n for n in nodes if n.ask is not None}
    assert len(leaves) == len(asks)
    for i, ask in enumerate(asks):
        path = reversed(list(leaves[i].path()))
        assert [t for n, seen in path for t in n.ids[:seen]] == ask.ids
        assert all(p in leaves[i].at(p).wanted for p in ask.at)
    assert sum(len(n.ids) for n in nodes) <= sum(len(a.ids) for a in asks)
    for place, node in enumerate(nodes):
        assert node.order == place
        assert all(
            place < n.order <= node.last for n in nodes if node in [a for a, _ in n.path()][1:]
        )


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    keys=st.integers(1, 9),
    groups=st.sampled_from([1, 2]),
    kind=st.sampled_from(["all", "causal", "mask"]),
    seed=st.integers(0, 999),
)
def test_kernels_agree_with_torch(rows: int, keys: int, groups: int, kind: str, seed: int) -> None:
    keys = rows if kind == "causal" else keys
    make = torch.Generator().manual_seed(seed)
    q = torch.randn(2, 4, rows, 16, generator=make, requires_grad=True)
    k, v = (torch.randn(2, 4 // groups, keys, 16, generator=make, requires_grad=True) for _ in "kv")
    mask = None
    if kind == "mask":
        hidden = torch.rand(rows, keys, generator=make) < 0.4
        hidden[:, 0] = False
        mask = torch.zeros(rows, keys).masked_fill(hidden, -torch.inf)
    how = {"is_causal": kind == "causal", "mask": mask, "scale": 0.3}
    expected = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=kind == "causal", scale=0.3, enable_gqa=True
    )
    grad = torch.randn(expected.shape, generator=make)
    gradients = torch.autograd.grad(expected, [q, k, v], grad)
    with torch.no_grad():
        for forward, backward in (
            (kernels.attend, kernels.attend_backward),
            (kernels.by_products, kernels.by_products_backward),
        ):
            out, lse = forward(q, k, v, **how)
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
            scores = (q @ k.repeat_interleave(groups, 1).transpose(-1, -2)) * 0.3
            if mask is not None:
                scores = scores + mask
            if kind != "causal":
                torch.testing.assert_close(lse, scores.logsumexp(-1), atol=1e-5, rtol=1e-4)
            for mine, theirs in zip(
                backward(grad, q, k, v, out, lse, **how), gradients, strict=True
            ):
                torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_a_row_that_sees_nothing_weighs_nothing() -> None:
    q = k = v = torch.ones(1, 1, 2, 8)
    mask = torch.tensor([[-torch.inf, -torch.inf], [0.0, 0.0]])
    out, lse = kernels.attend(q, k, v, is_causal=False, mask=mask, scale=1.0)
    assert lse[0, 0, 0] == -torch.inf
    assert not out[0, 0, 0].any()


def test_an_unknown_architecture_is_read_plainly_and_says_so() -> None:
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    model = GPTBigCodeForCausalLM(
        GPTBigCodeConfig(vocab_size=360, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    ).eval()
    lm = LanguageModel(model, make_tokenizer(), name="odd")
    if lm.engine == "tree":
        pytest.skip("this architecture has come to be known")
    assert "plain path" in lm.engine_note
    with pytest.raises(ModelError, match="use --engine auto or plain"):
        LanguageModel(model, make_tokenizer(), name="odd", engine="tree")
    with pytest.raises(UnknownName, match="engine"):
        LanguageModel(model, make_tokenizer(), name="odd", engine="fast")


def test_a_path_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TreeReader.rows_of_pass
    wrong = staticmethod(lambda *a: {k: v + 0.01 for k, v in honest(*a).items()})
    monkeypatch.setattr(TreeReader, "rows_of_pass", wrong)
    with pytest.raises(ModelError, match="differs from the plain one by"):
        LanguageModel(make_model("llama"), make_tokenizer(), name="m", engine="tree")
    assert LanguageModel(make_model("llama"), make_tokenizer(), name="m").engine == "plain"


def test_real_prompts_are_verified(pair, monkeypatch) -> None:
    """A fast path that goes wrong on some prompts only is found out on one of them."""
    fast, plain = pair
    asked = passages(7, SHUFFLED)
    before = fast.tokens_read
    fast.verify(asked)
    plain.verify(asked)
    assert fast.tokens_read == before
    right = parts.attend
    wrong = lambda *seen, **how: (right(*seen, **how)[0] * 1.01, right(*seen, **how)[1])  # noqa: E731
    monkeypatch.setattr(parts, "attend", wrong)
    with pytest.raises(ModelError, match=r"--engine plain"):
        fast.verify(asked)

"""What there is to read: beginnings that texts share are held once, and no token is lost by it."""

from __future__ import annotations

import time
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howsure.lm import Passage, Place, load
from howsure.lm.engine.planning import plan
from howsure.lm.engine.tree import Branch, common_prefix

IDS = st.lists(st.integers(0, 9), max_size=12)
ENDS = st.none() | st.integers(-30, 30)


@given(IDS, st.integers(0, 12), IDS, st.tuples(ENDS, ENDS, ENDS.filter(lambda step: step != 0)))
def test_a_branch_is_the_sequence_that_it_stands_for(stem, shared, own, ends):
    shared = min(shared, len(stem))
    branch, whole = Branch(array("i", stem), shared, array("i", own)), [*stem[:shared], *own]
    assert (
        list(branch) == whole and len(branch) == len(whole) and [*reversed(branch)] == whole[::-1]
    )
    assert list(branch[slice(*ends)]) == whole[slice(*ends)]
    assert branch == Branch(array("i"), 0, array("i", whole))
    assert branch != Branch(array("i"), 0, array("i", [*whole, 0])) and branch != whole
    for place in range(-len(whole), len(whole)):
        assert branch[place] == whole[place]
    for place in (len(whole), -len(whole) - 1):
        with pytest.raises(IndexError):
            branch[place]
    assert common_prefix(branch, array("i", stem)) == common_prefix(whole, stem)


@pytest.fixture(scope="module")
def tokens():
    return load("tiny-mistral", dtype="float32").tokens


PARTS = st.text("ab c\n.é", max_size=9)


@given(st.data())
def test_every_text_is_planned_with_all_of_its_tokens(tokens, data):
    """A question may begin so that the last tokens of the prefix become others."""
    prefixes = data.draw(st.lists(PARTS, min_size=1, max_size=2))
    passages = data.draw(
        st.lists(
            st.builds(Passage, st.sampled_from(prefixes), PARTS.map("{}?".format), PARTS, PARTS),
            min_size=1,
            max_size=5,
        )
    )
    work = plan(tokens, passages, list(Place), answer_tokens=False, limit=1000)
    for passage, found in zip(passages, work.places, strict=True):
        for place, (ask, position) in found.items():
            (ids,) = tokens.encode([passage.upto(place)])
            assert list(work.asks[ask].ids)[: position + 1] == ids
            assert position in work.asks[ask].at
    for owner, ask in zip(work.owners, work.asks, strict=True):
        (prefix,) = tokens.encode([passages[owner].prefix])
        assert ask.stem == common_prefix(prefix, ask.ids)


def test_a_prefix_is_held_once(tokens):
    passages = [Passage("word " * 100, f"What is {n}?") for n in range(20)]
    work = plan(tokens, passages, [Place.QUESTION], answer_tokens=False, limit=1000)
    assert len({id(ask.ids._stem) for ask in work.asks}) == 1
    assert (
        sum(len(ask.ids._own) for ask in work.asks) < 20 * 20 < sum(len(a.ids) for a in work.asks)
    )


def test_a_tokenizer_is_never_called_by_two_threads_at_once(tokens, monkeypatch):
    """On a GPU the next block is tokenised while options are looked up for this one, and each call
    may set the tokenizer up in another way."""
    whole, inside, most = tokens._tokenizer, [], []

    def slow(*args, **how):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        made = whole(*args, **how)
        inside.pop()
        return made

    texts = [f"word {n}" for n in range(40)]
    expected = tokens.encode(texts)
    monkeypatch.setattr(tokens, "_tokenizer", slow)
    monkeypatch.setattr("howsure.lm.tokens._CHARACTERS", 1)  # a call for each text
    with ThreadPoolExecutor(1) as thread:
        beside = thread.submit(tokens.encode, texts)
        asked = 0
        while not beside.done():
            assert len(set(tokens.option_ids(f"Say {asked}:", ("a", "b")))) == 2
            asked += 1
    assert beside.result() == expected and asked > 3
    assert max(most) == 1

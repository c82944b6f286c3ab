"""Where a free answer ends: stopping early never changes the first line that is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howsure.lm.stops import Stops, first_line, is_settled

END = 0


def stops_over(tokens):
    """Token 0 is the end; token k > 0 is the k-th of these texts."""
    texts = ["", *tokens]
    breaks = frozenset(i for i, t in enumerate(texts) if "\n" in t)
    return Stops(frozenset({END}), breaks, lambda ids: "".join(texts[i] for i in ids))


def grown(stops, ids):
    """What is kept of a continuation, token by token."""
    kept = []
    for token in ids:
        belongs, over = stops.take(kept, token)
        kept += [token] if belongs else []
        if over:
            break
    return kept


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("\nParis", "Paris"),
        ("\n\n Paris\nLondon", "Paris"),
        (" Paris.\n\nQuestion: next", "Paris."),
        ("Sure:\nParis\nLondon", "Sure:Paris"),
        ("Sure:\n\nParis", "Sure:Paris"),
        ("Sure:\n\n\nParis", "Sure:"),
        ("\n\n\n", ""),
        ("", ""),
    ],
)
def test_an_answer_is_its_first_line(output, answer):
    assert first_line(output) == answer


TEXTS = st.text("a:\n ", max_size=14)


@given(TEXTS, TEXTS)
def test_what_follows_a_settled_line_changes_nothing(text, more):
    if is_settled(text):
        assert first_line(text + more).strip() == first_line(text).strip() != ""


TOKENS = ("a", "b ", ":", "\n", "\n\n", ":\n", ".\n", " \n", "\nc", ":\n\n")


@given(st.lists(st.integers(0, len(TOKENS)), max_size=12))
def test_stopping_early_keeps_the_answer_of_the_whole(ids):
    """The published code generates to the end and cuts; here nothing after the line is made."""
    stops = stops_over(TOKENS)
    before_end = ids[: ids.index(END)] if END in ids else ids
    kept = grown(stops, ids)
    assert kept == ids[: len(kept)]
    assert first_line(stops.decode(kept)).strip() == first_line(stops.decode(before_end)).strip()
    assert stops.length(ids) in (len(kept), None)
    assert (stops.length(ids) is None) == (END not in ids and not is_settled(stops.decode(ids)))


def test_a_token_that_only_ends_the_line_is_no_part_of_the_answer():
    stops = stops_over(("a", "\n", ".\n"))
    assert grown(stops, [1, 2, 1]) == [1]
    assert grown(stops, [1, 3, 1]) == [1, 3], "its full stop is"
    assert grown(stops, [2, 2, 1, 2]) == [2, 2, 1], "an answer may open with line breaks"

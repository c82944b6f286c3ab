"""One thing is made while another is used, and nothing comes out of order."""

from __future__ import annotations

from threading import Event, get_ident

import pytest

from howsure.lm.engine.ahead import ahead


@pytest.mark.parametrize("in_background", [False, True])
def test_each_item_comes_with_what_was_made_of_it(in_background: bool) -> None:
    made = list(ahead(range(5), lambda n: n * n, in_background=in_background))
    assert made == [(n, n * n) for n in range(5)]
    assert list(ahead([], len, in_background=in_background)) == []


def test_the_next_is_made_while_one_is_used() -> None:
    begun = [Event() for _ in range(3)]
    threads = set()

    def make(n: int) -> int:
        begun[n].set()
        threads.add(get_ident())
        return n

    for n, _ in ahead(range(3), make, in_background=True):
        assert n == 2 or begun[n + 1].wait(20)
    assert len(threads) == 1 and get_ident() not in threads


@pytest.mark.parametrize("in_background", [False, True])
def test_what_fails_fails_in_its_turn(in_background: bool) -> None:
    seen = []
    with pytest.raises(ZeroDivisionError):
        for n, _ in ahead([1, 2, 0, 4], lambda n: 1 / n, in_background=in_background):
            seen.append(n)
    assert seen == [1, 2]

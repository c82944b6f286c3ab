"""Work for the processor while a GPU computes: the next thing is made while one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(
    items: Iterable[T], make: Callable[[T], U], *, in_background: bool
) -> Iterator[tuple[T, U]]:
    """Each item and what is made of it, in order. In the background one is made beforehand, in a
    thread; what `make` raises is raised where its item would come."""
    if not in_background:
        for item in items:
            yield item, make(item)
        return
    with ThreadPoolExecutor(1) as thread:
        coming: tuple[T, Future[U]] | None = None
        for item in items:
            following = item, thread.submit(make, item)
            if coming is not None:
                yield coming[0], coming[1].result()
            coming = following
        if coming is not None:
            yield coming[0], coming[1].result()

"""Works timed in turn, compared pair by pair."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def in_turn(works: Mapping[str, Work], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each work, `repeats` of each; the order turns round every time.

    Processor time, not that of the clock: on a shared machine it hangs less on what else is going
    on. That is fair as long as each work has one thread.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats):
        names = list(works) if turn % 2 == 0 else list(works)[::-1]
        for name in names:
            gc.collect()
            begin = time.process_time()
            works[name]()
            seconds[name].append(time.process_time() - begin)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> list[float]:
    """[median, least, most] of how many times faster, repeat by repeat."""
    pairs = [a / b for a, b in zip(slow, fast, strict=True)]
    return [round(x, 2) for x in (statistics.median(pairs), min(pairs), max(pairs))]


def peak_rss_mib() -> float:
    """The most memory that this process has held so far, in MiB (Linux counts in KiB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)

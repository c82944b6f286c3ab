"""Memory that was freed goes back to the system: allocators keep it, and hold more and more."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def settle() -> None:
    """Arrow is to take its memory from the C library: its own pools give little back, whatever
    they are asked. It looks once, when it is imported; processes begun from here inherit it."""
    os.environ.setdefault(_POOL, "system")


def load_arrow() -> None:
    """What writing tables will need is in memory from here on: a run that has room for its first
    block has it for its last."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.array([0])  # the first array makes Arrow load pandas, where that is installed


def give_back() -> None:
    """Some 15 ms. Without it a run's memory follows its longest block, not what is in use."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl's allocator has no such call, and keeps little
            ctypes.CDLL(None).malloc_trim(0)

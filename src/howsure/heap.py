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


def give_back() -> None:
    """Some 15 ms. Without it a run's memory follows its longest block, not what is in use."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl's allocator has no such call, and keeps little
            ctypes.CDLL(None).malloc_trim(0)

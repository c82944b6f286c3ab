"""Memory that was freed goes back to the system: allocators keep it, and hold more and more."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Some 15 ms. Without it a run's memory follows its longest block, not what is in use.

    Arrow takes its memory from the C library from the first call on: its own pool gives little
    back, whatever it is asked.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl's allocator has no such call, and keeps little
            ctypes.CDLL(None).malloc_trim(0)

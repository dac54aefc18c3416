"""The C allocator, told to keep what it was given: a network allocates and frees the same hundred megabytes per tile.

glibc hands large blocks back to the system at once, and every page of the next one costs a fault; on tiles of 1024
pixels that is close to half of the time of a forward pass on a CPU. What is kept is bounded by what was in use at the
same time. A process that maps or trains on a CPU calls `keep_memory` once, before its first tile.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
KEPT_BYTES = 2**30
"""Free memory at the end of the heap beyond this is handed back."""
LARGEST_BYTES = 2**29
"""Blocks from this size on are handed back as soon as they are free: larger than any tensor of a tile."""
ARENAS = 1
"""One heap for all threads: only the first can grow beyond 64 MB, so that a network in another thread (a Dask worker's)
would get each large tensor fresh from the system whatever the other settings say."""


@lru_cache(maxsize=1)
def keep_memory() -> bool:
    """Keep freed memory in this process for the next tensor; returns whether the allocator is one that can be told.

    What the environment sets (`MALLOC_TRIM_THRESHOLD_` and the like) is overruled.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    options = {_M_ARENA_MAX: ARENAS, _M_MMAP_THRESHOLD: LARGEST_BYTES, _M_TRIM_THRESHOLD: KEPT_BYTES}
    taken = [mallopt(option, value) for option, value in options.items()]
    return all(taken)

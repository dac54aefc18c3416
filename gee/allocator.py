"""The C allocator, told to keep what it was given: a pull allocates and frees the same megabytes again and again.

glibc hands large blocks back at once, and each page of the next one costs a fault: two thirds of the CPU time of a pull
in tiles of 512 pixels, as measured. What is kept is bounded by what was in use at the same time.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
KEPT_BYTES = 2**29
"""Free memory at the end of an arena beyond this is handed back."""
ARENAS = 2
"""Heaps that all threads share. One a thread would each keep its own, and those beside the first hand back theirs whole:
two keep a cube's tiles 1.3 times as fast to read as one a thread does."""
LARGEST_BYTES = 2**26
"""Blocks from this size on are handed back as soon as they are free: larger than any body."""


@lru_cache(maxsize=1)
def keep_memory() -> bool:
    """Keep freed memory in this process for the next request; returns whether the allocator is one that can be told.

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

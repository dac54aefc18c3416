"""Tiny floats taken for zero: saturated activations are full of them, and a CPU takes thirty times as long over each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """A context, or a decorator, in which this thread and those it starts flush denormal floats to zero.

    Only there: other code of the process relies on them. SciPy's trees look for the number next to 0 and crash.
    """
    before = are_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def are_flushed() -> bool:
    """Whether this thread flushes them."""
    smallest = np.array([np.finfo(np.float64).smallest_subnormal])
    return bool((smallest * 1.0 == 0.0)[0])

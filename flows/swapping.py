"""How a document that several processes write is replaced: compare-and-swap, and how long to wait after losing."""

from __future__ import annotations

import random
import time

MAX_SWAPS = 60
"""How often a swap is tried against other writers; each try waits a little longer, two seconds at most."""


def pause(attempt: int) -> None:
    """Wait before the swap numbered `attempt` (from 0) is tried again: at random, so that rivals spread."""
    time.sleep(random.uniform(0, min(2.0, 0.05 * (attempt + 1))))  # noqa: S311 - spreads rivals, hides nothing

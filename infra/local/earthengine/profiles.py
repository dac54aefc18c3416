"""What requests cost, for those that ask: `X-Earth-Engine-Computation-Profiling: 1` gets the id of a profile back.

The service counts EECU-seconds, spread over its own machines. Here they are the CPU seconds of the thread that computed
the answer: real work of this stand-in, of the order of nothing that the service would charge. They let a client that
budgets be tried out, and say nothing about its bill.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field

REQUEST_HEADER = "x-earth-engine-computation-profiling"
"""With it a request asks to be profiled."""
ANSWER_HEADER = "x-earth-engine-computation-profile"
"""In it an answer names its profile."""
KEPT = 10_000
"""Profiles that are remembered; the service forgets them too."""


@dataclass(frozen=True)
class Cost:
    """A profile's only line."""

    cpu_s: float
    """CPU seconds."""
    answer_bytes: int
    """Bytes of the answer, in the column of the memory."""


@dataclass
class Profiles:
    """The profiles of one stand-in. Safe to use from many threads."""

    _costs: OrderedDict[str, Cost] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, cost: Cost) -> str:
        """Remember a cost; returns the id of its profile."""
        key = uuid.uuid4().hex
        with self._lock:
            self._costs[key] = cost
            while len(self._costs) > KEPT:
                self._costs.popitem(last=False)
        return key

    def get(self, key: str) -> Cost | None:
        """The cost behind an id, None when there is none."""
        with self._lock:
            return self._costs.get(key)

"""How long each stage of a run took, by the clock on the wall: noted as stages end, also those that fail.

Whoever measures hears of every stage that ends meanwhile in the same thread; a run inside another is part of both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

WHOLE = "the whole run"
"""What the last row, which is no stage, is called."""


@dataclass(frozen=True)
class Lap:
    """A stage that has ended once or more."""

    stage: str
    """Its name."""
    seconds: float
    """Of all attempts."""
    attempts: int
    """How often it was begun: more than once when it was retried, or when a run has several of its kind."""
    failed: bool
    """Whether the last attempt ended with an error."""


class Laps:
    """The stages of one run, in the order in which they first ended."""

    def __init__(self) -> None:
        self._laps: dict[str, Lap] = {}
        self._began = time.monotonic()

    def note(self, stage: str, seconds: float, *, failed: bool) -> None:
        """Add one attempt at a stage."""
        known = self._laps.get(stage, Lap(stage, 0.0, 0, False))
        self._laps[stage] = Lap(stage, known.seconds + seconds, known.attempts + 1, failed)

    @property
    def laps(self) -> tuple[Lap, ...]:
        """What was noted so far."""
        return tuple(self._laps.values())

    def rows(self) -> list[dict[str, str | float | int]]:
        """A table for people: a row a stage, and the whole run until now, which is more than their sum."""
        whole = time.monotonic() - self._began
        rows: list[dict[str, str | float | int]] = [
            {
                "stage": lap.stage, "seconds": round(lap.seconds, 1), "percent": _percent(lap.seconds, whole),
                "attempts": lap.attempts, "ended": "failed" if lap.failed else "done",
            }
            for lap in self.laps
        ]  # fmt: skip
        return [*rows, {"stage": WHOLE, "seconds": round(whole, 1), "percent": 100, "attempts": 1, "ended": ""}]


_measuring: ContextVar[tuple[Laps, ...]] = ContextVar("measuring", default=())


@contextmanager
def measured() -> Iterator[Laps]:
    """Note the stages that end within the block."""
    laps = Laps()
    token = _measuring.set((*_measuring.get(), laps))
    try:
        yield laps
    finally:
        _measuring.reset(token)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """The block, or the decorated function, is a stage; nothing is noted where nobody measures."""
    began, ended = time.monotonic(), False
    try:
        yield
        ended = True
    finally:
        for laps in _measuring.get():
            laps.note(stage, time.monotonic() - began, failed=not ended)


def _percent(seconds: float, whole: float) -> int:
    return round(100 * min(1.0, seconds / whole)) if whole > 0 else 0

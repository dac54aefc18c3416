"""Progress of long stages, told once to whoever listens: the terminal, a Prefect artifact."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Listener = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """How far a stage is."""

    stage: str
    """What is being done, for people, for example `pull tiles`."""
    done: int
    """Units finished."""
    total: int
    """Units in all; 0 when that is not known."""
    note: str = ""
    """A short remark, for example a rate."""

    @property
    def fraction(self) -> float:
        """Share done in [0, 1]; 0 when the total is not known."""
        return self.done / self.total if self.total else 0.0


_listeners: list[Listener] = []
_lock = threading.Lock()


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` for every report from now on; the returned function ends that."""
    with _lock:
        _listeners.append(listener)

    def stop() -> None:
        with _lock:
            if listener in _listeners:
                _listeners.remove(listener)

    return stop


def report(stage: str, done: int, total: int, note: str = "") -> None:
    """Tell every listener how far `stage` is."""
    progress = Progress(stage, done, total, note)
    for listener in tuple(_listeners):
        listener(progress)


@contextmanager
def step(stage: str) -> Iterator[None]:
    """Report a stage that cannot be counted: begun at the start of the block, done at its end."""
    report(stage, 0, 1)
    yield
    report(stage, 1, 1)


def throttled(listener: Listener, every_s: float) -> Listener:
    """A listener that passes on at most one report in `every_s` seconds a stage, and always the last of a stage."""
    last: dict[str, float] = {}

    def relay(progress: Progress) -> None:
        now = time.monotonic()
        finished = progress.total > 0 and progress.done >= progress.total
        if finished or now - last.get(progress.stage, -1e9) >= every_s:
            last[progress.stage] = now
            listener(progress)

    return relay

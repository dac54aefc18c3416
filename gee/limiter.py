"""The gate of a process: who may ask Earth Engine now. At most its share in flight and a second, first come first served.

The share is the process's part of the project's quota (`gee.quota`); inside it the gate follows what the service refuses
(`gee.congestion`).
"""

from __future__ import annotations

import os
import random
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from gee.congestion import AdaptiveLimit, TokenBucket, pause_s
from gee.errors import BusyError, GeeError, RequestTooLargeError, TransientError
from gee.retry import MAX_PAUSE_S

LOOK_AGAIN_S = 0.05
"""How often who waits for a place looks whether the share has grown."""
LONGEST_LOOK_S = 1.0
"""A rate may grow while one waits for it."""
MOMENT = 0.025
"""Part of the time of an answer that a refused request waits while others get through; at most the first pause."""
SHORTEST = 0.005
"""Part of the first pause that it waits at least."""
SMOOTHING = 0.1
"""Weight of the newest answer in the mean time of an answer."""

Demand = Callable[[], tuple[int, int]]
"""(in flight, waiting), answered at once."""


class Share(Protocol):
    """This process's part of a project's quota. May change at any time; nothing in it blocks."""

    @property
    def concurrent(self) -> int:
        """Requests that may be in flight now; 0: none yet."""

    @property
    def per_s(self) -> float:
        """Requests that may be sent in a second."""

    def watch(self, demand: Demand) -> None:
        """Tell where to see how much is wanted."""

    def unwatch(self, demand: Demand) -> None:
        """Forget it."""

    def close(self) -> None:
        """Give the share back."""


@dataclass(frozen=True)
class FixedShare:
    """The whole quota for one process that is alone."""

    concurrent: int
    """Requests in flight."""
    per_s: float
    """Requests a second."""

    def watch(self, demand: Demand) -> None:
        """Nothing to see."""

    def unwatch(self, demand: Demand) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Counters:
    """What has passed a gate so far."""

    asked: int = 0
    """Requests sent, repetitions counted in."""
    succeeded: int = 0
    """Answered as wanted."""
    refused: int = 0
    """Refused for load (429 and its like)."""
    transient: int = 0
    """Failed in another way that may pass."""
    too_large: int = 0
    """Wanted to be smaller."""
    permanent: int = 0
    """Failed for good."""
    waited_s: float = 0.0
    """Seconds that requests waited for a place, all together."""


@dataclass(eq=False)
class Request:
    """One request with all its repetitions, which keep their rank in the queue."""

    rank: int
    """By arrival."""
    arrived_s: float
    """When it was first wanted, by the monotonic clock."""
    turn: threading.Condition
    """Notified when it may be its turn."""
    era: int = 0
    """Of the limit under which it was last sent."""
    sent_s: float = 0.0
    """When it was last sent."""
    refusals: int = 0
    """How often it was refused for load."""


class Gate:
    """Lets the requests of many threads through. Safe to use from all of them."""

    def __init__(self, share: Share, first_pause_s: float = 1.0) -> None:
        """`first_pause_s` bounds the pause of a refused request while others get through."""
        self.share = share
        self._first_pause_s = first_pause_s
        self._limit = AdaptiveLimit()
        self._bucket = TokenBucket()
        self._lock = threading.Lock()
        self._queue: list[Request] = []
        self._ranks = 0
        self._present = 0
        self._in_flight = 0
        self._held_until: list[float] = []
        self._closed_until = 0.0
        self._streak = 0
        self._service_s = 0.0
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._counters = Counters()
        share.watch(self.demand)

    @property
    def counters(self) -> Counters:
        """What has passed so far."""
        return self._counters

    @property
    def limit(self) -> float:
        """What may be in flight by what was learnt, whatever the share; infinite when nothing was."""
        return self._limit.limit

    def demand(self) -> tuple[int, int]:
        """(in flight, waiting)."""
        return self._in_flight, len(self._queue)

    @contextmanager
    def request(self) -> Iterator[Request]:
        """A new request, present from here on with all its repetitions and pauses."""
        with self._lock:
            self._ranks += 1
            self._present += 1
            request = Request(self._ranks, time.monotonic(), threading.Condition(self._lock))
        try:
            yield request
        finally:
            with self._lock:
                self._present -= 1

    @contextmanager
    def place(self, request: Request) -> Iterator[None]:
        """Wait for a place and hold it for the block; the class of error that the block raises says how it went."""
        self._enter(request)
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            self._leave(request, failure)

    def pause_s(self, request: Request) -> float:
        """How long a request that was just refused should wait: a moment while others get through."""
        with self._lock:
            moment_s = min(max(self._service_s * MOMENT, self._first_pause_s * SHORTEST), self._first_pause_s)
            longest_s = min(MAX_PAUSE_S, pause_s(request.refusals, self._streak, self._present, moment_s))
            return longest_s * self._rng.uniform(0.5, 1.0)

    def close(self) -> None:
        """Give the share back."""
        self.share.unwatch(self.demand)
        self.share.close()

    def _enter(self, request: Request) -> None:
        with self._lock:
            began_s = time.monotonic()
            insort(self._queue, request, key=lambda queued: queued.rank)
            try:
                while self._queue[0] is not request or (wait_s := self._wait_s()) > 0:
                    request.turn.wait(wait_s if self._queue[0] is request else None)
                self._bucket.take()
                self._in_flight += 1
            finally:
                self._queue.remove(request)
                self._wake()
            request.sent_s, request.era = time.monotonic(), self._limit.begun(first=not request.refusals)
            waited_s = self._counters.waited_s + request.sent_s - began_s
            self._counters = replace(self._counters, asked=self._counters.asked + 1, waited_s=waited_s)

    def _wait_s(self) -> float:
        """How long the first in the queue has to wait before it looks again; 0 when it may go."""
        now_s, may = time.monotonic(), self.share.concurrent
        self._held_until = [until for until in self._held_until if until > now_s]
        if now_s < self._closed_until:
            return self._closed_until - now_s
        if self._in_flight + len(self._held_until) >= may or self._in_flight >= self._limit.limit:
            return LOOK_AGAIN_S
        return min(self._bucket.wait_s(now_s, self.share.per_s), LONGEST_LOOK_S)

    def _leave(self, request: Request, failure: BaseException | None) -> None:
        with self._lock:
            now_s = time.monotonic()
            self._in_flight -= 1
            refused = isinstance(failure, BusyError)
            if refused or not isinstance(failure, TransientError):
                self._limit.answered(
                    request.era, first=not request.refusals, refused=refused, others=self._in_flight, now_s=now_s
                )
                self._streak = self._streak + 1 if refused else 0
                request.refusals += refused
            if failure is None:
                took_s = now_s - request.sent_s
                self._service_s += (took_s - self._service_s) * (SMOOTHING if self._service_s else 1.0)
            elif isinstance(failure, TransientError) and failure.asked_s > 0:
                self._told_to_wait(now_s + failure.asked_s, refused)
            self._count(failure)
            self._wake()

    def _told_to_wait(self, until_s: float, refused: bool) -> None:
        if refused:  # nobody else takes the place of who was told to wait with it
            self._held_until.append(until_s)
        else:  # the service itself is away
            self._closed_until = max(self._closed_until, until_s)

    def _count(self, failure: BaseException | None) -> None:
        name = next((name for kind, name in _COUNTED if isinstance(failure, kind)), "")
        if name:
            self._counters = replace(self._counters, **{name: getattr(self._counters, name) + 1})

    def _wake(self) -> None:
        if self._queue:
            self._queue[0].turn.notify()


_COUNTED: tuple[tuple[type, str], ...] = (
    (type(None), "succeeded"),
    (BusyError, "refused"),
    (TransientError, "transient"),
    (RequestTooLargeError, "too_large"),
    (GeeError, "permanent"),
)

_working = threading.BoundedSemaphore(max(1, os.cpu_count() or 1))


@contextmanager
def working() -> Iterator[None]:
    """Held while a body is decoded or encoded: as many threads of a process at a time as there are cores.

    Forty threads that decode ten megabytes each at once are no faster than two, and hold all their copies meanwhile.
    """
    with _working:
        yield

"""The gate with real threads: never more than the share, first come first served, and what is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from gee.errors import BusyError, PermanentError, QuotaError, RequestTooLargeError, TransientError
from gee.limiter import Demand, FixedShare, Gate, Share, working


@dataclass
class MovingShare:
    """A share that changes."""

    concurrent: int = 2
    per_s: float = 10_000.0
    watched: list[Demand] = field(default_factory=list)
    closed: int = 0

    def watch(self, demand: Demand) -> None:
        """Keep it."""
        self.watched.append(demand)

    def unwatch(self, demand: Demand) -> None:
        """Forget it."""
        self.watched.remove(demand)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class Meter:
    """Counts who is inside at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.order: list[int] = []
        self._lock = threading.Lock()

    @contextmanager
    def one(self, number: int = 0) -> Iterator[None]:
        """Inside for the block."""
        with self._lock:
            self.order.append(number)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1


def test_both_shares_are_shares() -> None:
    shares: list[Share] = [FixedShare(1, 1.0), MovingShare()]
    assert all(share.concurrent for share in shares)


def test_no_more_than_the_share_are_in_flight() -> None:
    gate, meter = Gate(FixedShare(3, 10_000.0)), Meter()

    def ask(_: int) -> None:
        with gate.request() as request, gate.place(request), meter.one():
            time.sleep(0.01)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(60)))
    assert meter.most == 3
    assert gate.demand() == (0, 0)
    assert (gate.counters.asked, gate.counters.succeeded) == (60, 60)
    assert gate.counters.waited_s > 0.1


def test_first_come_first_served() -> None:
    gate, meter = Gate(FixedShare(1, 10_000.0)), Meter()

    def ask(number: int) -> None:
        with gate.request() as request, gate.place(request), meter.one(number):
            time.sleep(0.002)

    with gate.request() as first, ThreadPoolExecutor(20) as pool:
        with gate.place(first):
            asked = []
            for number in range(20):
                asked.append(pool.submit(ask, number))
                while gate.demand()[1] <= number:
                    time.sleep(0.001)
        for each in asked:
            each.result()
    assert meter.order == list(range(20))


def test_the_rate_of_a_second_is_kept() -> None:
    gate = Gate(FixedShare(40, 50.0))
    started = time.monotonic()

    def ask(_: int) -> None:
        with gate.request() as request, gate.place(request):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(25)))
    assert time.monotonic() - started >= 0.38, "5 at once, the others 20 ms apart"


def test_a_share_of_nothing_is_waited_for_and_one_that_grows_is_used() -> None:
    share, meter = MovingShare(concurrent=0), Meter()
    gate = Gate(share)

    def ask(_: int) -> None:
        with gate.request() as request, gate.place(request), meter.one():
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(12)]
        time.sleep(0.15)
        assert meter.order == []
        assert share.watched[0]() == (0, 4)
        share.concurrent = 1
        time.sleep(0.12)
        assert meter.most == 1
        share.concurrent = 3
        for each in asked:
            each.result()
    assert meter.most == 3
    gate.close()
    assert (share.watched, share.closed) == ([], 1)


def test_how_a_request_went_is_told_by_its_error() -> None:
    gate = Gate(FixedShare(1, 10_000.0))
    for error in (BusyError(), TransientError(), RequestTooLargeError(), PermanentError(), QuotaError(), KeyError()):
        with gate.request() as request, pytest.raises(type(error)), gate.place(request):
            raise error
    counted = gate.counters
    assert (counted.asked, counted.succeeded, counted.refused, counted.transient) == (6, 0, 1, 1)
    assert (counted.too_large, counted.permanent) == (1, 2)
    assert gate.demand() == (0, 0), "no place is lost, whatever was raised"


def told(kind: type[TransientError], seconds: float) -> TransientError:
    error = kind("told to wait")
    error.asked_s = seconds
    return error


@pytest.mark.parametrize(("kind", "others_go"), [(BusyError, True), (TransientError, False)])
def test_who_was_told_to_wait_keeps_the_place_and_a_service_that_is_away_is_left_alone(
    kind: type[TransientError], others_go: bool
) -> None:
    gate, meter = Gate(FixedShare(2, 10_000.0)), Meter()
    with gate.request() as request, pytest.raises(kind), gate.place(request):
        raise told(kind, 0.4)
    started = time.monotonic()

    def ask(_: int) -> float:
        with gate.request() as request, gate.place(request), meter.one():
            time.sleep(0.05)
        return time.monotonic() - started

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(ask, range(4)))
    if others_go:
        assert (meter.most, min(ended) < 0.3) == (1, True)
    else:
        assert min(ended) >= 0.4


def test_the_pause_of_the_refused_is_short_while_others_get_through() -> None:
    gate = Gate(FixedShare(40, 10_000.0), first_pause_s=1.0)
    with gate.request() as request:
        for _ in range(3):
            with pytest.raises(BusyError), gate.place(request):
                raise BusyError
            assert 0.0 < gate.pause_s(request) < 0.1
        for _ in range(40):
            with pytest.raises(BusyError), gate.place(request):
                raise BusyError
        assert 20 < gate.pause_s(request) <= 60
        with gate.request() as other, gate.place(other):
            pass
        assert gate.pause_s(request) < 0.2


def test_no_more_work_at_a_time_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gee.limiter._working", threading.BoundedSemaphore(2))
    meter = Meter()

    def work(_: int) -> None:
        with working(), meter.one():
            time.sleep(0.005)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(30)))
    assert meter.most == 2

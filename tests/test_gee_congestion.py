"""The law of the limit, against servers in simulated time: what it reaches of the best, and how many it has refused."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.congestion import BURST_S, AdaptiveLimit, TokenBucket, pause_s

THREADS = 40
TRIP_S = 0.002
TILES = 2_000


@dataclass
class Server:
    """Serves each request for `latency_s`; `admits` decides from (served now, asked so far)."""

    admits: Callable[[int, int], bool]
    latency_s: float = 0.2
    refusal_s: float = 0.0
    busy: int = 0
    asked: int = 0


@dataclass
class Run:
    """What a client with `THREADS` threads reached."""

    per_s: float
    refused: int
    limits: list[tuple[float, float]] = field(default_factory=list)


class Unlimited(AdaptiveLimit):
    """Repeats every refusal at once at full strength."""

    def answered(self, era: int, *, first: bool, refused: bool, others: int, now_s: float) -> None:
        """Learns nothing."""


def pull(
    server: Server,
    law: AdaptiveLimit,
    *,
    tiles: int = TILES,
    moment: float = 0.025,
    seed: int = 1,
    starting_s: float = 0.0,
) -> Run:
    """`tiles` requests by as many threads as there may be in flight, as `gee.limiter.Gate` lets them through.

    The threads start one after another within `starting_s`, as they do when each has a connection to make.
    """
    rng, counter = random.Random(seed), itertools.count()
    events: list[tuple[float, int, Iterator[float]]] = []
    queue: list[tuple[int, Iterator[float]]] = []
    run, now, in_flight, left, streak, service_s, done = Run(0.0, 0), 0.0, 0, tiles, 0, 0.0, 0

    def trip() -> float:
        return TRIP_S / 2 * rng.uniform(0.5, 1.5)

    def thread() -> Iterator[float]:
        """Yields the seconds that it sleeps, or -1 when it wants a place."""
        nonlocal in_flight, left, streak, service_s, done
        while left:
            left -= 1
            for times in itertools.count(1):
                yield -1.0
                in_flight += 1
                sent, era = now, law.begun(first=times == 1)
                yield trip()
                server.asked += 1
                refused = not server.admits(server.busy, server.asked)
                if refused:
                    yield server.refusal_s
                else:
                    server.busy += 1
                    yield server.latency_s * rng.uniform(0.95, 1.05)
                    server.busy -= 1
                yield trip()
                in_flight -= 1
                law.answered(era, first=times == 1, refused=refused, others=in_flight, now_s=now)
                if not run.limits or run.limits[-1][1] != law.limit:
                    run.limits.append((now, law.limit))
                if not refused:
                    streak, done = 0, done + 1
                    service_s += (now - sent - service_s) * (0.1 if service_s else 1.0)
                    break
                run.refused, streak = run.refused + 1, streak + 1
                present = min(THREADS, tiles - done)
                longest = pause_s(times, streak, present, max(0.005, service_s * moment)) if moment else 0.0
                yield longest * rng.uniform(0.5, 1.0)

    ranks = itertools.count()
    for _ in range(THREADS):
        heapq.heappush(events, (rng.uniform(0.0, starting_s), next(counter), thread()))
    while events:
        now, _, running = heapq.heappop(events)
        step = next(running, None)
        if step is not None and step < 0:
            insort(queue, (next(ranks), running), key=lambda waiting: waiting[0])
        elif step is not None:
            heapq.heappush(events, (now + step, next(counter), running))
        while queue and in_flight < min(THREADS, law.limit):
            _, first = queue.pop(0)
            heapq.heappush(events, (now + next(first), next(counter), first))
    assert done == tiles
    run.per_s = tiles / now
    return run


def cap(places: int) -> Callable[[int, int], bool]:
    return lambda busy, _: busy < places


def alternate(_: int, asked: int) -> bool:
    return asked % 2 == 0


def at_random(share: float, seed: int = 3) -> Callable[[int, int], bool]:
    rng = random.Random(seed)
    return lambda *_: rng.random() >= share


@pytest.mark.parametrize("refusal_s", [0.0, 0.2])
@pytest.mark.parametrize("places", [1, 5, 20, 35])
def test_where_places_are_short_it_takes_those_there_are(places: int, refusal_s: float) -> None:
    run = pull(Server(cap(places), refusal_s=refusal_s), AdaptiveLimit(), tiles=100 * places)
    assert run.per_s >= 0.9 * places / 0.2
    assert run.refused <= 60 + 0.15 * 100 * places, "and does not go on asking for more"


@pytest.mark.parametrize("starting_s", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("places", [5, 20])
def test_that_all_places_are_taken_is_seen_also_while_threads_are_still_starting(
    places: int, starting_s: float
) -> None:
    """The first trial then begins under a limit a little too high, and meets nothing but refusals."""
    reached = []
    for seed in range(20):
        run = pull(Server(cap(places)), AdaptiveLimit(), tiles=20 * places, seed=seed, starting_s=starting_s)
        reached.append(run.per_s / (places / 0.2))
    assert min(reached) >= 0.8
    assert statistics.median(reached) >= 0.95


@pytest.mark.parametrize(("refusal_s", "least"), [(0.0, 0.92), (0.2, 0.85)])
@pytest.mark.parametrize("admits", [alternate, at_random(0.5)])
def test_where_half_of_all_is_refused_whatever_the_load_it_does_not_slow_down(
    admits: Callable[[int, int], bool], refusal_s: float, least: float
) -> None:
    best = pull(Server(admits, refusal_s=refusal_s), Unlimited(), moment=0.0)
    run = pull(Server(admits, refusal_s=refusal_s), AdaptiveLimit())
    assert run.per_s >= least * best.per_s


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.6])
def test_other_shares_neither(share: float) -> None:
    best = pull(Server(at_random(share)), Unlimited(), moment=0.0)
    assert pull(Server(at_random(share)), AdaptiveLimit()).per_s >= 0.85 * best.per_s


def test_nothing_refused_nothing_limited() -> None:
    run = pull(Server(cap(1_000)), AdaptiveLimit())
    assert run.limits[-1][1] == math.inf
    assert run.per_s >= 0.95 * THREADS / 0.2


def test_places_that_come_back_are_taken_again() -> None:
    server = Server(lambda busy, asked: busy < (20 if asked < 1_000 else THREADS))
    law = AdaptiveLimit()
    pull(server, law, tiles=3_000)
    assert law.limit >= THREADS - 2


def test_places_that_go_are_noticed() -> None:
    server = Server(lambda busy, asked: busy < (THREADS if asked < 1_000 else 10))
    law = AdaptiveLimit()
    run = pull(server, law, tiles=2_000)
    assert 9 <= law.limit <= 13
    assert run.refused < 0.75 * 2_000


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.floats(0.0, 0.6), st.integers(0, 10_000))
def test_whatever_it_meets_it_goes_on(places: int, share: float, seed: int) -> None:
    rng = random.Random(seed)
    law = AdaptiveLimit()
    run = pull(Server(lambda busy, _: busy < places and rng.random() >= share), law, tiles=300, seed=seed)
    assert law.limit >= 1
    assert run.per_s >= 0.25 * min(places, THREADS) / 0.2 * (1 - share)


def test_the_pause_grows_only_while_nobody_gets_through() -> None:
    assert pause_s(1, 3, 40, 0.01) < 0.013
    assert pause_s(1, 40, 40, 0.01) == pytest.approx(0.02)
    assert pause_s(1, 400, 40, 0.01) == pytest.approx(10.24)
    assert [pause_s(1, n, 1, 1.0) for n in range(0, 10, 2)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert pause_s(3, 0, 40, 0.01) == pytest.approx(0.0225), "and somewhat for who is refused again and again"
    assert pause_s(10**9, 10**9, 1, 1.0) < math.inf


@given(st.lists(st.tuples(st.floats(0.0, 0.5), st.sampled_from([0.0, 1.0, 10.0, 100.0])), max_size=200))
def test_a_bucket_never_gives_more_than_its_rate(steps: list[tuple[float, float]]) -> None:
    bucket, now, given_out, allowed = TokenBucket(), 0.0, 0, None
    for passed, per_s in steps:
        now += passed
        if allowed is None:
            allowed = max(1.0, per_s * BURST_S)  # it begins full
        else:
            allowed += passed * per_s
        if bucket.wait_s(now, per_s) == 0.0:
            bucket.take()
            given_out += 1
        assert given_out <= allowed + 1e-6


def test_a_bucket_says_when_the_next_may_go() -> None:
    bucket = TokenBucket()
    for _ in range(10):
        assert bucket.wait_s(0.0, 100.0) == 0.0
        bucket.take()
    assert bucket.wait_s(0.0, 100.0) == pytest.approx(0.01)
    assert bucket.wait_s(0.0, 0.0) == math.inf
    assert bucket.wait_s(0.0101, 100.0) == 0.0

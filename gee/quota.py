"""One limit of requests for a whole project, whoever pulls: a process's part of it is a lease in a shared ledger.

The ledger lies in a bucket or a folder as numbered states, each written once and only where none is: of two processes
that write the same number one loses, looks again and tries again. No object is ever written a second time (Cloud
Storage allows that about once a second). What is decided stands in `gee.ledger`; here it is read, written and renewed.
https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from gee.errors import StorageError
from gee.holder import has_died, new_holder
from gee.ledger import Lease, Ledger, Terms, period_s, released, renewed, target
from gee.store import open_store

log = logging.getLogger(__name__)

KEPT_STATES = 60
"""States that are kept: a writer whose view is older than all of these has lost its place in the row."""
TIDY_EVERY = 20
"""How many states are written between two times of tidying."""
STALE_S = 3.0
"""A state written on a view older than this is looked at again before it counts: its number may have been tidied."""
FORGOTTEN_S = 60.0
"""A ledger whose number has gone back, since somebody deleted it, is used again after this time: longer than any lease."""
TRIES = 12
"""Attempts at writing a state that others keep winning."""
TICK_S = 0.02
"""How often the demand of this process is looked at, in seconds."""
IDLE_S = 10.0
"""A lease without any demand is given back after this time, in seconds."""
PATIENCE_S = 15.0
"""A ledger that has not answered for so long counts as one that cannot be reached, in seconds."""
CAREFUL = 1
"""Requests in flight while the ledger cannot be reached and no lease holds."""

Demand = Callable[[], tuple[int, int]]
"""Requests in flight, and requests that wait for a slot."""


class Book:
    """The ledger's states in a store: `NUMBER.json`, the highest is the present one."""

    def __init__(self, uri: str, endpoint: str = "") -> None:
        self._store = open_store(uri, endpoint)
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._highest, self._seen = 0, 0.0

    def newest(self) -> Ledger:
        """The present state without the leases of the dead.

        Raises `StorageError`, also when states that this process knows of have been deleted.
        """
        while True:
            numbers = self._numbers()
            highest, now = max(numbers, default=0), time.monotonic()
            if highest < self._highest and now - self._seen < FORGOTTEN_S:
                raise StorageError(
                    f"{self._store.uri} went back from state {self._highest} to {highest}: was it deleted?"
                )
            self._highest, self._seen = highest, now
            if not numbers:
                return Ledger()
            try:
                present = Ledger.from_json(self._store.read(_key(numbers[-1])))
            except FileNotFoundError:  # tidied in between: there are newer ones
                continue
            # A process that was killed here and is started again need not wait until its old lease has run out.
            return replace(present, leases=tuple(each for each in present.leases if not has_died(each.holder)))

    def change(self, decide: Callable[[Ledger], Ledger]) -> Ledger:
        """Write what `decide` makes of the present state, again and again until nobody was quicker.

        Nothing is written when it decides to leave everything as it is. Raises `StorageError`.
        """
        for attempt in range(TRIES):
            seen = time.monotonic()
            now = self.newest()
            decided = decide(now)
            if decided.leases == now.leases:
                return now
            written = replace(decided, number=now.number + 1, author=uuid.uuid4().hex)
            if self._append(written, seen):
                self._highest, self._seen = written.number, time.monotonic()
                return written
            time.sleep(self._rng.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise StorageError(f"{self._store.uri} was written by others at each of {TRIES} attempts")

    def _append(self, state: Ledger, seen: float) -> bool:
        key = _key(state.number)
        if not self._store.create(key, state.to_json()) and not self._is_there(state):
            return False
        if time.monotonic() - seen > STALE_S and state.number > 1 and state.number - 1 not in self._numbers():
            return False  # its predecessor is tidied: this number had been given before, and counts for nothing
        if state.number % TIDY_EVERY == 0:
            for number in self._numbers():  # the oldest first: a number that is free has no predecessor then
                if number <= state.number - KEPT_STATES:
                    self._store.delete(_key(number))
        return True

    def _is_there(self, state: Ledger) -> bool:
        """Whether the state that stands there is ours: the answer to an earlier attempt may have been lost."""
        try:
            return Ledger.from_json(self._store.read(_key(state.number))).author == state.author
        except FileNotFoundError:
            return False

    def _numbers(self) -> list[int]:
        stems = (key.rpartition("/")[2].removesuffix(".json") for key in self._store.sizes(""))
        return sorted(int(stem) for stem in stems if stem.isdecimal())


class LedgerShare:
    """This process's part of the project's quota (a `gee.limiter.Share`). It changes at any time, and may be 0.

    A thread renews the lease while there is demand and gives it back when there is none. While the ledger cannot be
    reached the last grant holds until it runs out; after that one request at a time goes on, which the log says.
    """

    def __init__(self, book: Book, terms: Terms) -> None:
        """Use `open_share`."""
        self.terms = terms
        self.users = 0
        self._book = book
        self._me = new_holder()
        self._lock = threading.Lock()
        self._watched: list[Demand] = []
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._told = self._granted = self._limit = 0
        self._until = self._until_wall = self._rate = 0.0
        self._asked = self._waiting_since = 0.0
        self._failing = False

    @property
    def concurrent(self) -> int:
        """Requests that this process may have in flight now. Asking for it wakes the lease up; it never waits."""
        self._asked = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._start()
        if self._asked < self._until and time.time() < self._until_wall:
            return self._limit
        return CAREFUL if self._failing or self._asked - self._waiting_since > PATIENCE_S else 0

    @property
    def per_s(self) -> float:
        """Requests a second that this process may send."""
        may = self.concurrent
        holds = may and time.monotonic() < self._until
        return self._rate if holds else self.terms.per_s * may / self.terms.slots

    def watch(self, demand: Demand) -> None:
        """Ask for as many slots as `demand` says are used and waited for, and give none back that is in use."""
        with self._lock:
            self._watched.append(demand)

    def unwatch(self, demand: Demand) -> None:
        """Forget what `watch` was told."""
        with self._lock:
            self._watched = [each for each in self._watched if each != demand]

    def close(self) -> None:
        """One user less. With the last one the lease is given back; what cannot be given back runs out by itself."""
        with _shares_lock:
            self.users -= 1
            if self.users > 0:
                return
            for key in [key for key, share in _shares.items() if share is self]:
                del _shares[key]
        self.end()

    def end(self) -> None:
        """Give the lease back, whoever still uses it."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=PATIENCE_S)

    def _start(self) -> None:
        with self._lock:
            if self._closing.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._waiting_since = time.monotonic()
            self._thread = threading.Thread(target=self._keep, name="earth-engine-quota", daemon=True)
            self._thread.start()

    def _demand(self) -> tuple[int, int]:
        """Requests in flight, and those that would be if they might, at most all slots."""
        with self._lock:
            watched = tuple(self._watched)
        if not watched:  # nobody says how much: everything, as long as somebody asks
            return 0, self.terms.slots if time.monotonic() - self._asked < 2 * self.terms.renew_s else 0
        counts = [demand() for demand in watched]
        in_flight = sum(count[0] for count in counts)
        return in_flight, min(in_flight + sum(count[1] for count in counts), self.terms.slots)

    def _keep(self) -> None:
        """Renew while there is demand, then give back. Runs in a thread of its own."""
        last, period, wanted_last = -math.inf, 0.0, time.monotonic()
        while not self._closing.is_set():
            wanted, now = self._demand()[1], time.monotonic()
            if wanted:
                wanted_last = now
            elif now - max(wanted_last, self._asked) > IDLE_S:
                break
            elif not self._granted:  # a session is open, and nothing is asked for yet
                self._waiting_since = now
                self._closing.wait(TICK_S)
                continue
            # Whoever wants more looks more often; at once when the others do not know yet that it does.
            often = 2 * TICK_S if wanted > self._told else period / 5 if wanted > self._limit else period
            if now - last >= min(often, period):
                last, period = now, self._renew(max(wanted, 1), due=now - last >= period)
            self._closing.wait(TICK_S)
        self._give_back()

    def _renew(self, wanted: int, due: bool) -> float:
        """Look at the ledger and write what has changed, or everything when it is `due`; seconds until the next time."""
        began, began_wall = time.monotonic(), time.time()
        wrote = False

        def decide(state: Ledger) -> Ledger:
            nonlocal wrote
            then, now = renewed(state, began_wall, self._me, wanted, in_flight, self.terms), state.lease(self._me)
            mine = then.lease(self._me)
            wrote = due or now is None or mine is None or not _alike(now, mine)
            return then if wrote else state

        try:
            ledger = self._book.newest()
            fair = target(ledger, began_wall, self._me, wanted, self.terms)
            if fair < self._limit:  # first stop handing out, then count what is still in flight
                self._limit = fair
                self._closing.wait(TICK_S)
            in_flight = min(self._demand()[0], self._granted)
            if decide(ledger) is not ledger:
                ledger = self._book.change(decide)
        except StorageError as error:
            if not self._failing:
                log.warning(
                    "the ledger of requests cannot be used (%s): what is granted holds until it runs out, then %d "
                    "request at a time",
                    error, CAREFUL,
                )  # fmt: skip
            self._failing, self._told = True, wanted
            return self.terms.renew_s
        if self._failing:
            log.warning("the ledger of requests answers again")
        self._failing = False
        mine = ledger.lease(self._me)
        self._told, self._granted = wanted, mine.granted if mine else 0
        self._limit = min(self._granted, target(ledger, began_wall, self._me, wanted, self.terms))
        self._rate = mine.per_s if mine else 0.0
        if wrote:
            holds_s = self.terms.lease_s - self.terms.skew_s
            self._until, self._until_wall = began + holds_s, began_wall + holds_s
        return period_s(ledger, self.terms)

    def _give_back(self) -> None:
        if not self._told:
            return
        self._until = 0.0
        self._told = self._limit = self._granted = 0
        try:
            self._book.change(lambda state: released(state, time.time(), self._me, self.terms))
        except StorageError as error:
            log.warning("the lease of %s could not be given back and runs out by itself: %s", self._me, error)


def _alike(now: Lease, then: Lease) -> bool:
    """Whether two leases mean the same to the other holders: how much more one wants than it gets does not."""
    more = min(now.wanted, then.wanted) > now.granted
    same = now.granted == then.granted and math.isclose(now.per_s, then.per_s, rel_tol=0.01)
    return same and (now.wanted == then.wanted or more)


_shares: dict[tuple[int, str, str], LedgerShare] = {}
_shares_lock = threading.Lock()


def open_share(
    uri: str,
    project: str,
    *,
    concurrent: int = Terms.slots,
    per_s: float = 100.0,
    endpoint: str = "",
    terms: Terms | None = None,
) -> LedgerShare:
    """This process's share of a project's quota; the ledger lies below `uri` (`gs://...` or a folder).

    All sessions of a process for one ledger hold one share; each closes it when it is done. `concurrent` and `per_s`
    are the project's, and should be the same wherever it is used. Raises `StorageError` for an address of another kind;
    one that cannot be reached is no error (see `LedgerShare`).
    """
    where = f"{uri.rstrip('/')}/{project}"
    key = os.getpid(), where, endpoint
    with _shares_lock:
        share = _shares.get(key)
        if share is None:
            agreed = replace(terms or Terms(), slots=concurrent, per_s=per_s)
            share = _shares[key] = LedgerShare(Book(where, endpoint), agreed)
        share.users += 1
        return share


@atexit.register
def _end_all() -> None:
    """What the process still holds goes back at once instead of in half a minute."""
    with _shares_lock:
        left = [share for (pid, *_), share in _shares.items() if pid == os.getpid()]
        _shares.clear()
    for share in left:
        share.end()


def _key(number: int) -> str:
    return f"{number:012d}.json"

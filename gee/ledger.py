"""Who may have how many requests in flight: the leases of one project's quota, decided. Pure.

Every process that pulls holds a lease in a ledger that all of them read and write. The rule that keeps the sum within
the quota: a holder writes only its own lease, never takes more than what the others' leases leave, and only the holder
itself makes its lease smaller, when fewer requests are in flight. A lease that is not renewed runs out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gee.errors import StorageError

FREE_RATE = 0.25
"""The part of the requests a second that a holder of few slots may have when nobody else wants them."""
TURN_S = 30.0
"""With more processes than slots those that have one change after this time, in seconds."""


@dataclass(frozen=True)
class Terms:
    """What all holders of a ledger have to agree on."""

    slots: int = 40
    """Requests in flight that the project may have altogether."""
    per_s: float = 100.0
    """Requests a second that the project may send altogether."""
    lease_s: float = 30.0
    """How long a lease holds without being renewed, in seconds."""
    skew_s: float = 5.0
    """How far a holder's clock may be from the true time, in seconds: a lease is used for so much less, and left to its
    holder for so much longer."""
    renew_s: float = 5.0
    """A holder looks at the ledger at least this often, in seconds; with many holders less often."""


@dataclass(frozen=True)
class Lease:
    """The part of one process."""

    holder: str
    """The process."""
    wanted: int
    """Requests that it would have in flight if it might."""
    granted: int
    """Requests that it may have in flight."""
    per_s: float
    """Requests a second that it may send."""
    expires: float
    """When the lease runs out, in seconds since 1970 by the holder's clock."""


@dataclass(frozen=True)
class Ledger:
    """One state of the ledger. States are never changed: the next one has the next number."""

    number: int = 0
    """Number of the state, 0 before the first."""
    author: str = ""
    """Who wrote it, unique for each attempt to write."""
    leases: tuple[Lease, ...] = ()
    """Those that hold, sorted by holder."""

    def lease(self, holder: str) -> Lease | None:
        """The lease of a holder, None when it has none."""
        return next((lease for lease in self.leases if lease.holder == holder), None)

    def to_json(self) -> bytes:
        """As a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Ledger:
        """The inverse of `to_json`; raises `StorageError` when the bytes are no ledger."""
        try:
            value = json.loads(body)
            leases = tuple(
                Lease(
                    str(each["holder"]),
                    int(each["wanted"]),
                    int(each["granted"]),
                    float(each["per_s"]),
                    float(each["expires"]),
                )
                for each in value["leases"]
            )
            return cls(int(value["number"]), str(value["author"]), leases)
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"not a ledger of requests: {body[:80]!r} ({error}); delete it") from None


def fair_shares(slots: int, wanted: Mapping[str, int], turn: int = 0) -> dict[str, int]:
    """Slots by demand, as water fills vessels: nobody gets more than it wants, and what one leaves goes to the others.

    What cannot be divided goes one by one to the first in order; with more holders than slots the order moves on with
    `turn`, so that everyone has its time.
    """
    shares = dict.fromkeys(sorted(wanted), 0)
    thirsty = [holder for holder in shares if wanted[holder] > 0]
    if len(thirsty) > slots:
        first = turn * slots % len(thirsty)
        thirsty = thirsty[first:] + thirsty[:first]
    left = slots
    while left and thirsty:
        level = max(1, left // len(thirsty))
        for holder in thirsty[:left]:
            more = min(level, wanted[holder] - shares[holder])
            shares[holder] += more
            left -= more
        thirsty = [holder for holder in thirsty if shares[holder] < wanted[holder]]
    return shares


def target(ledger: Ledger, now: float, me: str, wanted: int, terms: Terms) -> int:
    """The fair part of `me` beside the leases that hold at `now`."""
    demand = {lease.holder: lease.wanted for lease in _others(ledger, now, me, terms)}
    return fair_shares(terms.slots, {**demand, me: min(wanted, terms.slots)}, math.floor(now / TURN_S))[me]


def renewed(ledger: Ledger, now: float, me: str, wanted: int, in_flight: int, terms: Terms) -> Ledger:
    """The state after `me` has renewed its lease (its number is that of `ledger`).

    It gets its fair part as far as the others leave it; never less than what it has in flight under its present lease,
    which it cannot take back.
    """
    others = _others(ledger, now, me, terms)
    free = max(0, terms.slots - sum(lease.granted for lease in others))
    wished = max(target(ledger, now, me, wanted, terms), in_flight)
    granted = min(wished, free)
    per_s = rate(granted, [lease.granted for lease in others], terms)
    left = max(0.0, terms.per_s - sum(lease.per_s for lease in others))
    mine = Lease(me, min(wanted, terms.slots), granted, min(per_s, left), now + terms.lease_s)
    return Ledger(ledger.number, ledger.author, tuple(sorted((*others, mine), key=lambda lease: lease.holder)))


def rate(granted: int, others: Sequence[int], terms: Terms) -> float:
    """The fair part of the project's requests a second for so many slots beside those of others.

    In proportion to the slots that are held, so that one who asks one thing after the other is not held to a fortieth;
    but with few slots no more than a part of all, so that a newcomer finds some.
    """
    if granted == 0:
        return 0.0
    proportional = terms.per_s * granted / (granted + sum(others))
    return min(proportional, terms.per_s * max(granted / terms.slots, FREE_RATE))


def released(ledger: Ledger, now: float, me: str, terms: Terms) -> Ledger:
    """The state after `me` has given its lease back."""
    return Ledger(ledger.number, ledger.author, tuple(_others(ledger, now, me, terms)))


def period_s(ledger: Ledger, terms: Terms) -> float:
    """How often to renew, in seconds: the more holders, the less often, so that they seldom write at the same time."""
    return min(max(terms.renew_s, 0.2 * len(ledger.leases)), terms.lease_s / 3)


def _others(ledger: Ledger, now: float, me: str, terms: Terms) -> Sequence[Lease]:
    """The leases of others that hold at `now` by any clock that is not further off than allowed."""
    return [lease for lease in ledger.leases if lease.holder != me and lease.expires + terms.skew_s > now]

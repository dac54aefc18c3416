"""gee/ledger.py: whatever joins, renews and dies, the sum stays within the quota and everyone gets its part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gee.errors import StorageError
from gee.ledger import TURN_S, Lease, Ledger, Terms, fair_shares, period_s, released, renewed, target

TERMS = Terms(slots=12, lease_s=30, skew_s=5, renew_s=5)


@given(st.integers(0, 60), st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 50)))
def test_shares_are_fair(slots: int, wanted: dict[str, int]) -> None:
    shares = fair_shares(slots, wanted)
    assert sum(shares.values()) == min(slots, sum(wanted.values())), "nothing is left over while somebody wants more"
    assert all(0 <= shares[holder] <= wanted[holder] for holder in wanted)
    for holder, share in shares.items():
        if share < wanted[holder]:
            assert max(shares.values()) <= share + 1, "nobody has more than one that is still thirsty, but for the rest"


def test_what_one_leaves_goes_to_the_others() -> None:
    assert fair_shares(40, {"a": 3, "b": 40, "c": 40}) == {"a": 3, "b": 19, "c": 18}
    assert fair_shares(40, {"a": 100}) == {"a": 40}
    assert fair_shares(40, {}) == {}


@given(st.integers(1, 8), st.integers(9, 40))
def test_with_more_holders_than_slots_everyone_has_its_turn(slots: int, holders: int) -> None:
    wanted = {f"h{index:02d}": 5 for index in range(holders)}
    served: set[str] = set()
    for turn in range(holders // slots + 2):
        shares = fair_shares(slots, wanted, turn)
        assert sorted(shares.values())[-slots:] == [1] * slots
        assert sum(shares.values()) == slots
        served |= {holder for holder, share in shares.items() if share}
    assert served == set(wanted)


class Holders(RuleBasedStateMachine):
    """Processes with clocks of their own that join, want, send, renew, leave and die in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000_000.0
        self.ledger = Ledger()
        self.skew: dict[str, float] = {}
        self.wanted: dict[str, int] = {}
        self.in_flight: dict[str, int] = {}
        self.until: dict[str, float] = {}
        self.limit: dict[str, int] = {}

    def clock(self, name: str) -> float:
        return self.time + self.skew[name]

    def may(self, name: str) -> int:
        """What a holder allows itself."""
        return self.limit[name] if self.clock(name) < self.until[name] else 0

    @rule(name=st.sampled_from("abcdefgh"), skew=st.floats(-5, 5), wanted=st.integers(1, 20))
    def join_or_renew(self, name: str, skew: float, wanted: int) -> None:
        self.skew.setdefault(name, skew)
        self.wanted[name] = wanted
        self.in_flight.setdefault(name, 0)
        before = self.ledger
        now = self.clock(name)
        self.ledger = renewed(before, now, name, wanted, self.in_flight[name], TERMS)
        assert all(self.ledger.lease(each.holder) in (each, None) for each in before.leases if each.holder != name)
        mine = self.ledger.lease(name)
        assert mine is not None
        self.until[name] = now + TERMS.lease_s - TERMS.skew_s
        self.limit[name] = min(mine.granted, target(self.ledger, now, name, wanted, TERMS))

    @precondition(lambda self: self.until)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.until)))
        self.in_flight[name] = max(self.in_flight[name], min(self.may(name), self.wanted[name]))

    @precondition(lambda self: self.until)
    @rule(data=st.data(), share=st.floats(0, 1))
    def answers_arrive(self, data: st.DataObject, share: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.until)))
        self.in_flight[name] = int(self.in_flight[name] * share)

    @precondition(lambda self: self.until)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.until)))
        self.ledger = released(self.ledger, self.clock(name), name, TERMS)
        self._gone(name)

    @precondition(lambda self: self.until)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self._gone(data.draw(st.sampled_from(sorted(self.until))))

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds
        for name in self.until:  # requests take at most a few seconds here: none outlives its lease
            if self.clock(name) >= self.until[name]:
                self.in_flight[name] = 0

    def _gone(self, name: str) -> None:
        for kept in (self.skew, self.wanted, self.in_flight, self.until, self.limit):
            kept.pop(name)  # type: ignore[attr-defined]

    @invariant()
    def what_is_granted_is_within_the_quota(self) -> None:
        assert sum(lease.granted for lease in self.ledger.leases) <= TERMS.slots
        assert sum(lease.per_s for lease in self.ledger.leases) <= TERMS.per_s + 1e-9

    @invariant()
    def what_is_in_flight_is_within_the_quota(self) -> None:
        assert sum(self.in_flight.values()) <= TERMS.slots
        assert sum(self.may(name) for name in self.until) <= TERMS.slots

    def teardown(self) -> None:
        """Left alone, everyone has its fair part after two rounds of renewals."""
        self.time += 2 * TERMS.lease_s  # the dead run out
        for name in self.until:
            self.in_flight[name] = 0
        for _ in range(2):
            for name in sorted(self.until):
                self.join_or_renew(name, 0.0, self.wanted[name])
                self.time += 0.1
        fair = fair_shares(TERMS.slots, self.wanted)
        assert not self.until or granted(self.ledger) == fair


Holders.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHolders = Holders.TestCase


def test_a_newcomer_gets_its_part_when_the_others_have_renewed() -> None:
    ledger = renewed(Ledger(), 0, "a", 12, 0, TERMS)
    ledger = renewed(ledger, 1, "b", 12, 0, TERMS)
    assert granted(ledger) == {"a": 12, "b": 0}, "what is granted is not taken away"
    ledger = renewed(ledger, 5, "a", 12, 9, TERMS)
    assert granted(ledger) == {"a": 9, "b": 0}, "what is in flight is not given back"
    ledger = renewed(ledger, 6, "b", 12, 0, TERMS)
    assert granted(ledger) == {"a": 9, "b": 3}
    ledger = renewed(renewed(ledger, 10, "a", 12, 6, TERMS), 11, "b", 12, 3, TERMS)
    assert granted(ledger) == {"a": 6, "b": 6}


def test_who_asks_one_thing_after_the_other_is_not_held_to_a_fortieth_of_the_rate() -> None:
    ledger = renewed(Ledger(), 0, "a", 1, 0, TERMS)
    assert rates(ledger) == {"a": 25.0}
    ledger = renewed(ledger, 1, "b", 11, 0, TERMS)
    assert rates(ledger) == {"a": 25.0, "b": 75.0}, "what is left"
    ledger = renewed(renewed(ledger, 5, "a", 1, 0, TERMS), 6, "b", 11, 0, TERMS)
    assert rates(ledger) == pytest.approx({"a": 100 / 12, "b": 1100 / 12})


def test_the_dead_leave_their_slots_after_their_time_and_the_skew() -> None:
    ledger = renewed(Ledger(), 0, "dead", 12, 12, TERMS)
    assert granted(renewed(ledger, 34.9, "b", 12, 0, TERMS)) == {"dead": 12, "b": 0}
    assert granted(renewed(ledger, 35.1, "b", 12, 0, TERMS)) == {"b": 12}


def test_more_processes_than_slots_take_turns() -> None:
    terms, names = Terms(slots=2), ("a", "b", "c")
    had = set()
    ledger = Ledger()
    for turn in range(3):
        for _ in range(2):
            for name in names:
                ledger = renewed(ledger, turn * TURN_S + 1, name, 4, 0, terms)
        assert sum(granted(ledger).values()) == 2
        had |= {name for name, slots in granted(ledger).items() if slots}
    assert had == set(names)


@given(
    st.lists(
        st.builds(
            Lease, st.text(max_size=5), st.integers(0, 99), st.integers(0, 99), st.floats(0, 100), st.floats(0, 2e9)
        )
    )
)
def test_a_state_survives_json(leases: list[Lease]) -> None:
    ledger = Ledger(7, "x", tuple(leases))
    assert Ledger.from_json(ledger.to_json()) == ledger


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"number": 1, "author": "", "leases": [{"holder": "a"}]}'])
def test_what_is_no_ledger_is_refused(body: bytes) -> None:
    with pytest.raises(StorageError, match="not a ledger of requests"):
        Ledger.from_json(body)


def test_many_holders_look_less_often_but_always_well_before_their_lease_ends() -> None:
    few, many = (Ledger(1, "", tuple(Lease(str(i), 1, 0, 0.0, 9e9) for i in range(n))) for n in (3, 400))
    assert period_s(few, TERMS) == 5
    assert period_s(many, TERMS) == TERMS.lease_s / 3


def rates(ledger: Ledger) -> dict[str, float]:
    return {lease.holder: lease.per_s for lease in ledger.leases}


def granted(ledger: Ledger) -> dict[str, int]:
    return {lease.holder: lease.granted for lease in ledger.leases}

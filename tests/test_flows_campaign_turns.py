"""flows/campaign/turns.py: fifty campaigns share a few places, the urgent first, and none of them starves. Simulated."""

from __future__ import annotations

import datetime as dt

from fakes.campaigns import NOW, a_campaign
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.campaign.model import Campaign, Lease, State
from flows.campaign.record import moved
from flows.campaign.turns import by_turn, is_due, weight

MINUTE = dt.timedelta(minutes=1)
PLACES = 4


def campaign(number: int, urgency: float, due: dt.datetime = NOW) -> Campaign:
    return a_campaign(id=f"us{number:03d}", urgency=urgency, look_after=due)


def served(
    waiting: list[Campaign], work: dt.timedelta, again: dt.timedelta, hours: float
) -> dict[str, list[dt.datetime]]:
    """When each campaign had its turns: every turn takes `work`, after which it is due `again` later."""
    turns: dict[str, list[dt.datetime]] = {one.id: [] for one in waiting}
    busy: list[tuple[dt.datetime, Campaign]] = []
    now, end = NOW, NOW + hours * 60 * MINUTE
    waiting = list(waiting)
    while now < end:
        for until, one in [entry for entry in busy if entry[0] <= now]:
            busy.remove((until, one))
            waiting.append(one.model_copy(update={"look_after": until + again}))
        for one in by_turn(waiting, now)[: PLACES - len(busy)]:
            turns[one.id].append(now)
            waiting.remove(one)
            busy.append((now + work, one))
        now += MINUTE
    return turns


def test_fifty_at_once_are_served_by_urgency_and_all_of_them() -> None:
    fifty = [campaign(number, float(number)) for number in range(50)]
    turns = served(fifty, work=10 * MINUTE, again=360 * MINUTE, hours=6)
    order = sorted(turns, key=lambda name: turns[name][0])
    assert set(order[:4]) == {f"us{number:03d}" for number in range(46, 50)}
    assert all(turns.values())
    assert max(times[0] for times in turns.values()) <= NOW + 130 * MINUTE  # 50 of 10 minutes in 4 places


def test_what_has_never_been_seen_goes_before_the_rest_of_what_has_unless_that_is_far_more_urgent() -> None:
    seen, unseen = a_campaign(versions=1, id="us1", urgency=50.0), a_campaign(id="us2", urgency=20.0)
    assert [one.id for one in by_turn([seen, unseen], NOW)] == ["us2", "us1"]
    graver = seen.model_copy(update={"urgency": 100.0})
    assert [one.id for one in by_turn([graver, unseen], NOW)] == ["us1", "us2"]


def test_urgent_ones_that_are_always_due_do_not_starve_the_least_urgent() -> None:
    urgent = [campaign(number, 100.0) for number in range(8)]
    turns = served([*urgent, campaign(99, 0.0)], work=30 * MINUTE, again=0 * MINUTE, hours=48)
    assert len(turns["us099"]) >= 2
    assert min(len(turns[one.id]) for one in urgent) > 3 * len(turns["us099"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 300), min_size=1, max_size=50), st.integers(5, 30))
def test_nobody_waits_for_ever_whatever_the_urgencies(urgencies: list[float], minutes: int) -> None:
    waiting = [campaign(number, urgency) for number, urgency in enumerate(urgencies)]
    turns = served(waiting, work=minutes * MINUTE, again=0 * MINUTE, hours=72)
    assert all(turns.values())


def test_only_what_can_go_on_is_due() -> None:
    one = campaign(1, 1.0)
    assert is_due(one, NOW)
    assert not is_due(one, NOW - MINUTE)
    assert not is_due(one.model_copy(update={"lease": Lease(holder="x", until=NOW + MINUTE)}), NOW)
    assert is_due(
        moved(one, State.MAPPING, "died", NOW).model_copy(update={"lease": Lease(holder="x", until=NOW)}), NOW
    )
    for state in (State.ASKING, State.CLOSED, State.WITHDRAWN):
        assert not is_due(moved(one, state, "", NOW), NOW)


def test_who_waits_longer_weighs_more() -> None:
    one = campaign(1, 2.0)
    assert weight(one, NOW) == 3.0
    assert weight(one, NOW + 60 * MINUTE) == 12.0

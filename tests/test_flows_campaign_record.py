"""flows/campaign/record.py: what newer records make of a campaign, in any order, once or twice."""

from __future__ import annotations

import datetime as dt

import pytest
from fakes.campaigns import NOW, a_campaign, a_decision, a_quake
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.model import Approval, Campaign, Decision, Quake, State
from flows.campaign.record import decided, joined, latest_decision, moved, noticed, opened, withdrawn
from flows.settings import CampaignSettings

DAY = dt.timedelta(days=1)


def test_a_new_campaign_is_due_at_once_and_ends_so_long_after_its_earthquake() -> None:
    campaign = opened(a_quake(), a_decision(urgency=3.0), CampaignSettings(horizon_days=10), NOW)
    assert (campaign.look_after, campaign.horizon, campaign.urgency) == (NOW, a_quake().time + 10 * DAY, 3.0)
    assert campaign.state is State.WAITING


def test_a_new_shakemap_makes_a_waiting_campaign_due() -> None:
    waiting = a_campaign(look_after=NOW + DAY)
    after = noticed(waiting, a_quake(shakemap="us/a version 2", updated=NOW), a_decision(), NOW)
    assert after.look_after == NOW
    assert after.quakes[0].shakemap == "us/a version 2"


def test_a_review_alone_makes_nothing_due() -> None:
    waiting = a_campaign(look_after=NOW + DAY)
    after = noticed(waiting, a_quake(status="reviewed", updated=NOW), a_decision(), NOW)
    assert after.look_after == NOW + DAY
    assert after.quakes[0].status == "reviewed"


def test_an_older_record_adds_its_ids_and_nothing_else() -> None:
    campaign = a_campaign()
    old = a_quake(id="ak1", ids=("ak1",), magnitude=5.0, updated=NOW - 300 * DAY)
    after = noticed(campaign, old, None, NOW)
    assert after.quakes[0].magnitude == campaign.quakes[0].magnitude
    assert after.ids == campaign.ids | {"ak1"}
    assert after.quakes[0].id == "us1"


def test_a_magnitude_below_the_rule_closes_a_campaign_without_versions_and_above_it_opens_it_again() -> None:
    small = a_quake(magnitude=5.2, updated=NOW)
    closed = noticed(a_campaign(), small, a_decision(wanted=False, reason="M 5.2 is below 5.5"), NOW)
    assert (closed.state, closed.history[-1].why) == (State.CLOSED, "M 5.2 is below 5.5")
    again = noticed(closed, a_quake(magnitude=5.8, updated=NOW + DAY), a_decision(), NOW + DAY)
    assert (again.state, again.look_after) == (State.WAITING, NOW + DAY)
    assert again.history[-1].why == "magnitude 5.2 is now 5.8"


def test_with_a_version_an_unwanted_campaign_goes_on_and_keeps_the_decision() -> None:
    campaign = a_campaign(versions=1)
    after = noticed(campaign, a_quake(magnitude=5.2, updated=NOW), a_decision(wanted=False), NOW)
    assert after.open
    assert not after.decisions[-1].wanted


def test_an_unwanted_aftershock_does_not_close_a_sequence() -> None:
    both = joined(a_campaign(), a_quake(id="us2", ids=("us2",), time=NOW), a_decision(event_id="us2"), NOW)
    small = a_quake(id="us2", ids=("us2",), time=NOW, magnitude=5.0, updated=NOW + DAY)
    after = noticed(both, small, a_decision(event_id="us2", wanted=False), NOW)
    assert after.open


def test_no_steep_land_closes_until_the_record_changes() -> None:
    flat = decided(a_campaign(), a_decision(wanted=False, reason="3 km² of steep land"), NOW)
    assert flat.state is State.CLOSED
    same = noticed(flat, flat.quakes[0], a_decision(), NOW + DAY)
    assert same.state is State.CLOSED
    larger = noticed(flat, a_quake(magnitude=7.5, updated=NOW + DAY), a_decision(), NOW + DAY)
    assert larger.state is State.WAITING


@pytest.mark.parametrize("late", [False, True])
def test_a_covered_campaign_opens_again_for_a_new_shakemap_before_its_horizon_only(late: bool) -> None:
    covered = moved(a_campaign(versions=1), State.CLOSED, "covered", NOW)
    when = covered.horizon + DAY if late else NOW
    after = noticed(covered, a_quake(shakemap="us/a version 9", updated=when), a_decision(), when)
    assert after.open is not late
    assert after.quakes[0].shakemap == "us/a version 9"


def test_what_a_person_closed_only_a_person_opens() -> None:
    closed = moved(a_campaign(), State.CLOSED, "closed by hand", NOW).model_copy(update={"closed_by": "ada"})
    assert not noticed(closed, a_quake(magnitude=8.0, updated=NOW), a_decision(), NOW).open
    assert not joined(closed, a_quake(id="us2", ids=("us2",)), a_decision(event_id="us2"), NOW).open


def test_a_new_shakemap_makes_an_asking_campaign_plan_again() -> None:
    asking = moved(a_campaign(), State.ASKING, "over the budget", NOW)
    asking = asking.model_copy(update={"approval": Approval(asked=NOW, question="more?")})
    after = noticed(asking, a_quake(shakemap="us/a version 2", updated=NOW), a_decision(), NOW)
    assert (after.state, after.look_after) == (State.WAITING, NOW)


def test_a_campaign_that_is_being_mapped_stays_so_and_is_due_afterwards() -> None:
    mapping = moved(a_campaign(look_after=NOW + DAY), State.MAPPING, "scenes", NOW)
    after = noticed(mapping, a_quake(magnitude=5.0, updated=NOW), a_decision(wanted=False), NOW)
    assert (after.state, after.look_after) == (State.MAPPING, NOW)


def test_a_further_earthquake_moves_the_horizon_out() -> None:
    later = a_quake(id="us2", ids=("us2",), time=a_quake().time + 5 * DAY, title="M 6.1 - there")
    before = a_campaign()
    after = joined(before, later, a_decision(event_id="us2"), NOW)
    assert after.horizon == before.horizon + 5 * DAY
    assert (after.first_time, after.last_time) == (a_quake().time, later.time)
    assert joined(after, later, a_decision(event_id="us2"), NOW + DAY) == after


def test_a_deleted_event_is_withdrawn_and_one_that_comes_back_is_followed_again() -> None:
    gone = withdrawn(a_campaign(), "the USGS has deleted it", NOW)
    assert gone.state is State.WITHDRAWN
    assert withdrawn(gone, "again", NOW + DAY) == gone
    back = noticed(gone, a_quake(updated=NOW + DAY), a_decision(), NOW + DAY)
    assert (back.state, back.look_after) == (State.WAITING, NOW + DAY)


def test_a_sequence_of_which_one_is_deleted_goes_on_with_the_other() -> None:
    both = joined(a_campaign(), a_quake(id="us2", ids=("us2",), time=NOW), a_decision(event_id="us2"), NOW)
    one = withdrawn(both, "deleted", NOW + DAY, "us2")
    assert one.open
    assert one.look_after == NOW + DAY or one.look_after <= NOW
    assert withdrawn(one, "deleted", NOW + DAY, "us1").state is State.WITHDRAWN


names = st.sampled_from(["us1", "ak7", "ci3", "us1b"])


@st.composite
def records(draw: st.DrawFn) -> tuple[Quake, Decision]:
    magnitude = draw(st.sampled_from([5.1, 5.6, 6.6]))
    quake = a_quake(
        id=draw(names), ids=tuple(sorted({"us1", draw(names)})), magnitude=magnitude,
        updated=NOW + draw(st.integers(0, 3)) * DAY, shakemap=draw(st.sampled_from(["", "v1", "v2"])),
    )  # fmt: skip
    return quake, a_decision(wanted=magnitude >= 5.5, reason=f"M {magnitude:g}", urgency=magnitude)


@given(st.lists(records(), max_size=8))
def test_a_record_twice_is_a_record_once(history: list[tuple[Quake, Decision]]) -> None:
    campaign = a_campaign()
    for hour, (quake, decision) in enumerate(history):
        now = NOW + hour * dt.timedelta(hours=1)
        before, campaign = campaign, noticed(campaign, quake, decision, now)
        assert noticed(campaign, quake, decision, now) == campaign
        assert before.ids <= campaign.ids
        assert campaign.versions == before.versions


@given(st.lists(records(), max_size=8))
def test_an_open_campaign_is_always_wanted_by_something_and_a_change_of_state_has_a_reason(
    history: list[tuple[Quake, Decision]],
) -> None:
    campaign: Campaign = a_campaign()
    for quake, decision in history:
        before, campaign = campaign, noticed(campaign, quake, decision, NOW)
        assert (campaign.state is before.state) == (campaign.history == before.history)
        assert all(entry.why for entry in campaign.history)
        last = latest_decision(campaign, campaign.quakes[0])
        assert last is None or last.wanted or not campaign.open

"""flows/campaign/machine.py: every path leads somewhere, none publishes the same twice, and each step has a reason."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from fakes.campaigns import NOW, a_campaign, a_decision, a_sight, a_version, an_area
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.campaign.machine import (
    AFTER_PASS,
    LONGEST_RETRY,
    OUTAGE_RETRY,
    Step,
    after_failure,
    covered_share,
    gained_share,
    next_look,
    next_step,
)
from flows.campaign.model import Attempt, Campaign, Cost, ExpectedPass, Sight, State
from flows.campaign.record import moved
from flows.settings import CampaignSettings

RULES = CampaignSettings()
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


def seen(campaign: Campaign, share: float, **changes: object) -> tuple[Campaign, Sight]:
    sight = a_sight(expected_share=share, **changes)
    return campaign.model_copy(update={"sight": sight, "area": campaign.area or an_area()}), sight


def test_a_new_campaign_is_looked_at() -> None:
    assert next_step(a_campaign(), NOW, None, RULES).kind == "look"


def test_a_first_useful_coverage_makes_a_version_and_less_waits() -> None:
    campaign, sight = seen(a_campaign(), 0.05)
    assert next_step(campaign, NOW, sight, RULES).kind == "whole"
    campaign, sight = seen(a_campaign(), 0.049)
    waits = next_step(campaign, NOW, sight, RULES)
    assert waits.kind == "wait"
    assert waits.until == NOW + 6 * HOUR


def test_a_large_area_is_published_in_part_first_and_then_whole() -> None:
    campaign, sight = seen(a_campaign(), 0.5, tiles=25)
    assert next_step(campaign, NOW, sight, RULES).kind == "partial"
    part = a_version(kind="partial", area_km2=25.0, shares={"observed": 0.2, "not mapped yet": 0.8}, expected_share=0.5)
    after = campaign.model_copy(update={"versions": (part,)})
    assert next_step(after, NOW, sight, RULES).kind == "whole"
    whole = after.model_copy(update={"versions": (part, a_version(2, expected_share=0.5))})
    assert next_step(whole, NOW, sight, RULES).kind == "wait"


@pytest.mark.parametrize(("share", "kind"), [(0.50, "wait"), (0.529, "wait"), (0.54, "whole")])
def test_a_further_version_is_made_when_enough_more_is_expected(share: float, kind: str) -> None:
    campaign, sight = seen(a_campaign(versions=1), share, scenes=("S2/a", "S2/b"))
    step = next_step(campaign, NOW, sight, RULES)
    assert step.kind == kind
    assert kind == "wait" or "1 new scene" in step.why


def test_added_ground_makes_a_version_and_lost_ground_none() -> None:
    larger = an_area(area_km2=125.0)
    campaign, sight = seen(a_campaign(versions=1, area=larger), 0.5, added_km2=25.0)
    assert next_step(campaign, NOW, sight, RULES).why.startswith("25 km² more of an area")
    campaign, sight = seen(a_campaign(versions=1, area=an_area(area_km2=60.0)), 0.5)
    assert next_step(campaign, NOW, sight, RULES).kind == "wait"
    moved_on, sight = seen(a_campaign(versions=1), 0.5, added_km2=30.0)  # as large as before, but elsewhere
    assert next_step(moved_on, NOW, sight, RULES).kind == "whole"


def test_a_covered_campaign_is_closed_though_lakes_are_never_seen() -> None:
    covered = a_version(shares={"observed": 0.89, "open water": 0.1, "cloud": 0.01}, expected_share=0.9)
    campaign, sight = seen(a_campaign(versions=1).model_copy(update={"versions": (covered,)}), 0.9)
    assert covered_share(campaign) == pytest.approx(0.89 / 0.9)
    assert next_step(campaign, NOW, sight, RULES).kind == "close"


def test_a_campaign_is_closed_past_its_horizon_after_a_last_look() -> None:
    late = a_campaign().horizon + 5 * DAY
    assert next_step(a_campaign(), late, None, RULES).kind == "look"
    campaign, sight = seen(a_campaign(), 0.0, at=late, why="no scene")
    assert next_step(campaign, late, sight, RULES).kind == "close"
    assert next_step(campaign, late, None, RULES).kind == "close"
    campaign, sight = seen(a_campaign(), 0.6, at=late)
    assert next_step(campaign, late, sight, RULES).kind == "whole", "scenes that came while nobody was looking"


def test_what_is_over_the_budget_is_asked_for() -> None:
    campaign, sight = seen(a_campaign(), 0.5, cost=Cost(requests=6_000))
    step = next_step(campaign, NOW, sight, RULES)
    assert step.kind == "ask"
    assert "quakeslide approve us1" in step.why
    assert next_step(moved(campaign, State.ASKING, "", NOW), NOW, None, RULES).kind == "nothing"


def being_mapped() -> Campaign:
    area = an_area()
    attempt = Attempt(
        begun=NOW, kind="whole", why="first", until=NOW, area_wkt=area.wkt, area_km2=1, products=area.products,
        expected_share=0.5,
    )  # fmt: skip
    return a_campaign(attempt=attempt, area=area, state=State.MAPPING)


def test_an_attempt_is_gone_on_with_until_it_has_failed_often_or_the_area_is_another() -> None:
    campaign = being_mapped()
    assert next_step(campaign, NOW, None, RULES) == Step("whole", "first", resumes=True)
    assert next_step(campaign.model_copy(update={"failures": 3}), NOW, None, RULES).kind == "look"
    other = campaign.model_copy(update={"area": an_area(products=("us/us1 version 2",))})
    assert next_step(other, NOW, None, RULES).kind == "look"


def test_too_many_failures_ask_a_person() -> None:
    failed = a_campaign(failures=8, last_error="the disk is full")
    step = next_step(failed, NOW, None, RULES)
    assert (step.kind, "the disk is full" in step.why) == ("ask", True)


def test_what_the_rule_no_longer_wants_is_closed_unless_something_was_published() -> None:
    unwanted = (a_decision(wanted=False, reason="M 5.1 is below"),)
    assert next_step(a_campaign(decisions=unwanted), NOW, None, RULES) == Step("close", "M 5.1 is below")
    assert next_step(a_campaign(versions=1, decisions=unwanted), NOW, None, RULES).kind == "look"


def test_the_next_look_follows_an_expected_pass() -> None:
    soon = ExpectedPass(satellite="Sentinel-2A", time=NOW + HOUR, orbit=54, share=1.0)
    assert next_look(a_campaign(passes=(soon,)), NOW, RULES) == NOW + HOUR + AFTER_PASS
    assert next_look(a_campaign(), NOW, RULES) == NOW + 6 * HOUR


def test_images_on_their_way_are_looked_for_until_they_are_there_so_that_a_map_waits_little_longer_than_they_took() -> (
    None
):
    flown = ExpectedPass(satellite="Sentinel-2B", time=NOW, orbit=54, share=1.0)
    campaign, now, looks = a_campaign(passes=(flown,)), NOW, 0
    while now < NOW + 24 * HOUR:
        after = next_look(campaign, now, RULES)
        if now > NOW:
            assert after - now <= max(dt.timedelta(minutes=30), (now - NOW) / 8)
            looks += 1
        now = after
    assert looks < 25
    assert next_look(campaign, NOW, RULES) == NOW + AFTER_PASS


def failing(times: int, *, outage: bool = False) -> tuple[Campaign, list[dt.timedelta]]:
    campaign, waits = a_campaign(), []
    for _ in range(times):
        campaign = after_failure(campaign, "no answer", NOW, outage=outage)
        waits.append(campaign.look_after - NOW)
    return campaign, waits


def test_a_failed_step_is_tried_again_ever_later() -> None:
    _, waits = failing(50)
    assert waits == sorted(waits)
    assert waits[0] == dt.timedelta(minutes=1)
    assert waits[-1] == LONGEST_RETRY


def test_a_service_that_is_away_for_days_is_waited_for_and_asks_nobody() -> None:
    campaign, waits = failing(300, outage=True)
    assert waits[0] == dt.timedelta(minutes=1)
    assert waits[-1] == OUTAGE_RETRY, "when it is back, hours are not to pass"
    assert sum(waits, dt.timedelta()) > dt.timedelta(days=5)
    assert next_step(campaign, campaign.look_after, None, RULES).kind == "look"
    assert (campaign.failures, campaign.unanswered) == (0, 300)


def test_failures_of_either_kind_end_an_attempt_and_the_state_of_mapping() -> None:
    campaign = being_mapped()
    assert campaign.attempt is not None
    once = after_failure(campaign, "no answer", NOW, outage=True)
    assert (once.state, once.attempt, once.last_error) == (State.WAITING, campaign.attempt, "no answer")
    twice = after_failure(once, "no room", NOW, outage=False)
    assert (twice.attempt, twice.failures, twice.unanswered) == (campaign.attempt, 1, 1)
    assert after_failure(twice, "no answer", NOW, outage=True).attempt is None


shares = st.floats(0, 1)
sights = st.builds(
    lambda share, scenes, tiles, added, requests: a_sight(
        expected_share=share, scenes=tuple(f"S2/{n}" for n in range(scenes)), tiles=tiles, added_km2=added,
        cost=Cost(requests=requests),
    ),
    shares, st.integers(1, 4), st.integers(1, 60), st.sampled_from([0.0, 0.0, 5.0, 50.0]), st.integers(1, 400),
)  # fmt: skip


@st.composite
def days_of_sights(draw: st.DrawFn) -> list[tuple[dt.datetime, Sight]]:
    moments = sorted(draw(st.lists(st.integers(0, 80 * 24), min_size=1, max_size=25)))
    return [(NOW + hours * HOUR, draw(sights)) for hours in moments]


def played(campaign: Campaign, history: list[tuple[dt.datetime, Sight]]) -> tuple[Campaign, list[Step]]:
    """A campaign that lives through looks: what is wanted is done as the step flow does it."""
    steps: list[Step] = []
    for now, found in history:
        for _ in range(3):  # a version, the rest after a partial one, a wait
            step = next_step(campaign, now, None, RULES)
            if step.kind == "look":
                again = any(note.published == now for note in campaign.versions)
                added = 0.0 if again else found.added_km2
                campaign = campaign.model_copy(
                    update={"sight": found.model_copy(update={"at": now, "added_km2": added})}
                )
                step = next_step(campaign, now, campaign.sight, RULES)
            steps.append(step)
            if step.kind in ("partial", "whole"):
                assert campaign.sight is not None
                note = a_version(
                    len(campaign.versions) + 1, kind=step.kind, why=step.why, published=now,
                    expected_share=campaign.sight.expected_share, scenes_after=campaign.sight.scenes,
                    shares={"observed": campaign.sight.expected_share, "cloud": 1 - campaign.sight.expected_share},
                )  # fmt: skip
                known = campaign.sight.model_copy(update={"added_km2": 0.0})
                campaign = campaign.model_copy(
                    update={"versions": (*campaign.versions, note), "look_after": now, "sight": known}
                )
            elif step.kind == "wait":
                assert step.until is not None
                campaign = campaign.model_copy(update={"look_after": step.until})
            elif step.kind in ("close", "ask"):
                state = State.CLOSED if step.kind == "close" else State.ASKING
                campaign = moved(campaign, state, step.why, now)
    return campaign, steps


@settings(max_examples=200)
@given(days_of_sights())
def test_each_version_shows_more_than_the_one_before_and_every_step_has_a_reason(
    history: list[tuple[dt.datetime, Sight]],
) -> None:
    campaign, steps = played(a_campaign(area=an_area()), history)
    assert all(step.why for step in steps)
    whole = [note for note in campaign.versions if note.kind == "whole"]
    assert len(campaign.versions) - len(whole) <= 1
    added = any(sight.added_km2 for _, sight in history)
    for before, after in itertools.pairwise(whole):
        more = (after.expected_share or 0) - (before.expected_share or 0)
        assert added or more >= RULES.better_share - 1e-9
    if campaign.open and campaign.state is not State.ASKING:
        last = history[-1][0]
        assert campaign.look_after > last or campaign.look_after == last
        assert campaign.look_after <= max(last, campaign.horizon) + RULES.look_hours * HOUR


@given(sights)
def test_the_same_sight_twice_makes_one_version_of_each_kind(sight: Sight) -> None:
    _, steps = played(a_campaign(area=an_area()), [(NOW, sight), (NOW + 7 * HOUR, sight)])
    kinds = [step.kind for step in steps if step.kind in ("partial", "whole")]
    without_new_ground = sight.added_km2 == 0
    assert not without_new_ground or len(kinds) == len(set(kinds))
    assert kinds in ([], ["whole"], ["partial", "whole"], ["whole", "whole"], ["partial", "whole", "whole"])


@given(shares, shares, st.floats(1, 1000), st.floats(1, 1000))
def test_what_is_gained_is_never_more_than_what_is_expected(a: float, b: float, km2: float, before: float) -> None:
    note = a_version(area_km2=before, expected_share=b)
    campaign = a_campaign(area=an_area(area_km2=km2)).model_copy(update={"versions": (note,)})
    assert gained_share(campaign, a_sight(expected_share=a)) <= a + 1e-12

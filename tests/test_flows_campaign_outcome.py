"""flows/campaign/outcome.py: what comes of a look, or of a run that made nothing new."""

from __future__ import annotations

import datetime as dt

from fakes.campaigns import NOW, a_campaign, a_decision, a_sight, an_area

from flows.campaign.look import Look
from flows.campaign.machine import next_step
from flows.campaign.model import Attempt, State
from flows.campaign.outcome import after_look, made_before, without_ground
from flows.settings import CampaignSettings

RULES = CampaignSettings()


def test_a_look_that_finds_too_little_steep_land_closes_a_campaign_without_versions() -> None:
    no = a_decision(wanted=False, reason="3 km² of steep land")
    found = Look(an_area(steep_km2=3.0), a_sight(), (), (no,))
    assert after_look(a_campaign(), found, NOW).state is State.CLOSED
    kept = after_look(a_campaign(versions=1), found, NOW)
    assert (kept.open, kept.area) == (True, found.area)


def test_where_no_ground_can_fail_nothing_is_mapped_but_versions_stay() -> None:
    closed = without_ground(a_campaign(), "the area is at sea", NOW)
    assert (closed.state, closed.history[-1].why) == (State.CLOSED, "the area is at sea")
    kept = without_ground(a_campaign(versions=1, area=an_area()), "the area is at sea", NOW)
    assert next_step(kept, NOW, kept.sight, RULES).kind == "wait"


def test_a_run_that_comes_to_a_version_there_is_already_is_not_made_again() -> None:
    area, sight = an_area(), a_sight(expected_share=0.9)
    attempt = Attempt(
        begun=NOW, kind="whole", why="more", until=NOW, area_wkt=area.wkt, area_km2=area.area_km2,
        products=area.products, expected_share=0.9,
    )  # fmt: skip
    campaign = a_campaign(versions=1, area=area, sight=sight, attempt=attempt, state=State.MAPPING)
    later = NOW + dt.timedelta(minutes=1)
    after = made_before(campaign, 1, attempt, later)
    assert (after.attempt, after.state, after.look_after) == (None, State.WAITING, later)
    assert len(after.versions) == 1
    assert next_step(after, later, sight, RULES).kind == "wait"

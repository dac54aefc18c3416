"""flows/campaign/budget.py and hand.py: a campaign stops at its budget, asks in words, and goes on when it is allowed to."""

from __future__ import annotations

import pytest
from fakes.campaigns import NOW, a_campaign, a_sight
from fakes.plans import map_plan
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.budget import GB, left_eecu_hours, limit_of, over_budget, tile_pixels, used_for
from flows.campaign.hand import approved, closed, reopened
from flows.campaign.machine import next_step
from flows.campaign.model import Approval, Campaign, Cost, State
from flows.campaign.record import moved
from flows.errors import CampaignError
from flows.settings import CampaignSettings
from flows.speed import ASSUMED, NetworkRun

RULES = CampaignSettings(budget_requests=100, budget_gb=1.0, budget_eecu_hours=10.0)


def asking(used: Cost, wanted: Cost) -> Campaign:
    campaign = a_campaign(used=used, sight=a_sight(cost=wanted))
    question = over_budget(campaign, wanted, RULES)
    assert question
    return moved(campaign, State.ASKING, question, NOW).model_copy(
        update={"approval": Approval(asked=NOW, question=question)}
    )


def test_within_the_budget_nothing_is_asked() -> None:
    assert over_budget(a_campaign(used=Cost(requests=60)), Cost(requests=40, bytes=GB, eecu_hours=10), RULES) == ""


def test_over_the_budget_the_question_says_which_limit_how_much_and_what_to_do() -> None:
    question = over_budget(a_campaign(used=Cost(requests=60)), Cost(requests=41, bytes=2 * GB), RULES)
    assert "101 requests to Earth Engine with 60 used, 100 allowed" in question
    assert "2 GB pulled" in question
    assert "quakeslide approve us1" in question
    assert "campaign.budget_requests" in question


def test_no_limit_is_never_reached() -> None:
    free = CampaignSettings(
        budget_requests=0, budget_gb=0, budget_eecu_hours=0, budget_network_minutes=0, budget_stored_gb=0
    )
    much = Cost(requests=10**9, bytes=10**18, eecu_hours=1e9, network_minutes=1e9, stored_bytes=10**18)
    assert over_budget(a_campaign(used=much), much, free) == ""
    assert left_eecu_hours(a_campaign(used=much), free) == 0.0


def test_compute_that_is_left_is_never_said_to_be_without_limit() -> None:
    assert left_eecu_hours(a_campaign(used=Cost(eecu_hours=4)), RULES) == 6.0
    assert 0 < left_eecu_hours(a_campaign(used=Cost(eecu_hours=40)), RULES) < 0.01


def test_what_was_used_of_the_device_is_what_was_measured_and_reckoned_where_nobody_measured() -> None:
    cube = map_plan().cube
    assert used_for(cube, (), NetworkRun(100, 0.1, 90.0)).network_minutes == 1.5
    assert used_for(cube, (), None).network_minutes == tile_pixels(cube) / ASSUMED.px_per_s / 60


costs = st.builds(Cost, requests=st.integers(0, 500), bytes=st.integers(0, 5 * GB), eecu_hours=st.floats(0, 50))


@given(costs, costs)
def test_what_was_asked_for_is_allowed_by_a_plain_approval(used: Cost, wanted: Cost) -> None:
    campaign = a_campaign(used=used, sight=a_sight(cost=wanted))
    if not over_budget(campaign, wanted, RULES):
        return
    after = approved(asking(used, wanted), RULES, "ada", NOW)
    assert (after.state, after.look_after) == (State.WAITING, NOW)
    assert over_budget(after, wanted, RULES) == ""
    assert all(limit_of(after, RULES)[name] >= value for name, value in limit_of(campaign, RULES).items())


def test_an_approval_of_a_number_allows_that_much_more() -> None:
    after = approved(asking(Cost(requests=90), Cost(requests=20)), RULES, "ada", NOW, Cost(requests=15))
    assert limit_of(after, RULES)["requests"] == 105
    assert over_budget(after, Cost(requests=20), RULES) != ""
    assert over_budget(after, Cost(requests=15), RULES) == ""


def test_only_what_asks_can_be_allowed_and_only_what_is_closed_opened_again() -> None:
    with pytest.raises(CampaignError, match="asks for nothing: it is waiting for imagery"):
        approved(a_campaign(), RULES, "ada", NOW)
    ended = closed(a_campaign(), "ada", NOW)
    assert next_step(ended, NOW, None, RULES).kind == "nothing"
    with pytest.raises(CampaignError, match="is closed already"):
        closed(ended, "ada", NOW)
    again = reopened(ended, "ada", NOW, 90.0)
    assert next_step(again, NOW, None, RULES).kind == "look"
    assert again.horizon > ended.horizon
    with pytest.raises(CampaignError, match="only a closed one"):
        reopened(again, "ada", NOW, 1.0)

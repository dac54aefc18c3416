"""What a person may do to a campaign: allow what it asks for, close it, open it again. Pure."""

from __future__ import annotations

import datetime as dt

from flows.campaign.budget import granted_for
from flows.campaign.machine import UNTROUBLED
from flows.campaign.model import Approval, Campaign, Cost, State
from flows.campaign.record import moved
from flows.errors import CampaignError
from flows.settings import CampaignSettings


def approved(
    campaign: Campaign, settings: CampaignSettings, by: str, now: dt.datetime, more: Cost | None = None
) -> Campaign:
    """A campaign that may go on: with what it asked for twice over, or with `more` beside what it has used.

    Raises `CampaignError` for one that asks for nothing.
    """
    if campaign.state is not State.ASKING or campaign.approval is None:
        raise CampaignError(f"campaign {campaign.id} asks for nothing: it is {campaign.state.value}")
    asked = campaign.sight.cost if campaign.sight is not None else Cost()
    limit = granted_for(campaign, asked, settings)
    if more is not None:
        given = campaign.used + more
        limit = limit.model_copy(update={name: getattr(given, name) for name in more.model_fields_set})
    granted = Approval(
        asked=campaign.approval.asked, question=campaign.approval.question, limit=limit, granted=now, by=by
    )
    fresh = {"approval": granted, "look_after": now, **UNTROUBLED}
    return moved(campaign, State.WAITING, f"allowed by {by}", now).model_copy(update=fresh)


def closed(campaign: Campaign, by: str, now: dt.datetime) -> Campaign:
    """A campaign that a person ends. Raises `CampaignError` for one that has ended already."""
    if not campaign.open:
        raise CampaignError(f"campaign {campaign.id} is {campaign.state.value} already")
    after = moved(campaign, State.CLOSED, f"closed by {by}", now)
    return after.model_copy(update={"closed_by": by, "attempt": None})


def reopened(campaign: Campaign, by: str, now: dt.datetime, days: float) -> Campaign:
    """A campaign that a person takes up again, for so many days more at least. Raises `CampaignError` for an open one."""
    if campaign.open or campaign.state is State.WITHDRAWN:
        raise CampaignError(f"campaign {campaign.id} is {campaign.state.value}: only a closed one can be opened again")
    horizon = max(campaign.horizon, now + dt.timedelta(days=days))
    fresh = {"closed_by": "", "look_after": now, "horizon": horizon, **UNTROUBLED}
    return moved(campaign, State.WAITING, f"opened again by {by}", now).model_copy(update=fresh)

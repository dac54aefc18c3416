"""Whose turn it is: the most urgent first, and none waits for ever. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from flows.campaign.model import Campaign, State

PATIENCE = dt.timedelta(hours=1)
"""A campaign that has been due for so long counts four times its urgency, after twice that nine times, and so on."""

SEEN_BEFORE = 4.0
"""A campaign that has a version counts so many times less: of the others not even the most dangerous part is known."""


def is_due(campaign: Campaign, now: dt.datetime) -> bool:
    """Whether a step should look at a campaign: its time has come, nobody works on it, and it waits for no person."""
    held = campaign.lease is not None and campaign.lease.until > now
    return campaign.state in (State.WAITING, State.MAPPING) and campaign.look_after <= now and not held


def weight(campaign: Campaign, now: dt.datetime) -> float:
    """How soon a campaign has its turn, the larger the sooner: its urgency, which grows while it waits."""
    waited = max(dt.timedelta(), now - campaign.look_after) / PATIENCE
    return (1 + campaign.urgency) * (1 + waited) ** 2 / (SEEN_BEFORE if campaign.versions else 1.0)


def ready(campaigns: Sequence[Campaign], now: dt.datetime, at_once: int) -> list[Campaign]:
    """Of those due as many as may be worked on at the same time beside those that a step holds now."""
    held = sum(campaign.lease is not None and campaign.lease.until > now for campaign in campaigns)
    return by_turn(campaigns, now)[: max(0, at_once - held)]


def by_turn(campaigns: Iterable[Campaign], now: dt.datetime) -> list[Campaign]:
    """Those that are due, in the order of their turns."""
    waiting = (campaign for campaign in campaigns if is_due(campaign, now))
    return sorted(waiting, key=lambda campaign: (-weight(campaign, now), campaign.look_after, campaign.id))

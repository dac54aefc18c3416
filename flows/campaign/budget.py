"""What a campaign may use, and when it stops and asks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.campaign.model import Campaign, Cost
from flows.settings import CampaignSettings
from flows.speed import ASSUMED, NetworkRun, Speed
from gee.budget import Account, Budget

if TYPE_CHECKING:
    from flows.planning import MapPlan
    from gee.plan import CubePlan
    from gee.records import TileRecord

GB = 10**9

STORED_SHARE = 0.7
"""Bytes that a cube and its products take in the bucket, to those pulled for it: what simulated and recorded scenes
came to, rounded up."""

_WORDS = {
    "requests": ("requests to Earth Engine", 1.0, "campaign.budget_requests"),
    "bytes": ("GB pulled", float(GB), "campaign.budget_gb"),
    "eecu_hours": ("EECU-hours", 1.0, "campaign.budget_eecu_hours"),
    "network_minutes": ("minutes of the device that maps", 1.0, "campaign.budget_network_minutes"),
    "stored_bytes": ("GB kept in the bucket", float(GB), "campaign.budget_stored_gb"),
}


def limit_of(campaign: Campaign, settings: CampaignSettings) -> dict[str, float]:
    """What a campaign may use in all, field by field of `Cost`: what a person granted, else the settings; inf for no limit."""
    granted = campaign.approval.limit if campaign.approval and campaign.approval.granted else None
    own = {
        "requests": float(settings.budget_requests),
        "bytes": settings.budget_gb * GB,
        "eecu_hours": settings.budget_eecu_hours,
        "network_minutes": settings.budget_network_minutes,
        "stored_bytes": settings.budget_stored_gb * GB,
    }
    if granted is not None:
        own = {name: max(value, float(getattr(granted, name))) if value else 0.0 for name, value in own.items()}
    return {name: value or math.inf for name, value in own.items()}


def over_budget(campaign: Campaign, cost: Cost, settings: CampaignSettings) -> str:
    """The question to a person when a version would take the campaign over its budget; empty when it would not."""
    whole = campaign.used + cost
    limits = limit_of(campaign, settings)
    over = [name for name in _WORDS if getattr(whole, name) > limits[name]]
    if not over:
        return ""
    told = [_told(name, campaign.used, whole, limits[name]) for name in over]
    settings_named = ", ".join(_WORDS[name][2] for name in over)
    return (
        f"the next version takes the campaign over its budget: {'; '.join(told)}. Allow it with `quakeslide approve "
        f"{campaign.id}`, or raise {settings_named}"
    )


def granted_for(campaign: Campaign, cost: Cost, settings: CampaignSettings, times: float = 2.0) -> Cost:
    """What a plain approval allows in all: what is used, and `times` what is asked for; never less than the budget."""
    limits = limit_of(campaign, settings)
    values = {}
    for name in Cost.model_fields:
        wanted = getattr(campaign.used, name) + times * getattr(cost, name)
        own = 0.0 if math.isinf(limits[name]) else limits[name]
        values[name] = max(wanted, own)
    return Cost(
        requests=math.ceil(values["requests"]), bytes=math.ceil(values["bytes"]), eecu_hours=values["eecu_hours"],
        network_minutes=values["network_minutes"], stored_bytes=math.ceil(values["stored_bytes"]),
    )  # fmt: skip


def left_eecu_hours(campaign: Campaign, settings: CampaignSettings) -> float:
    """Compute that the next cube may cost, 0 for no limit."""
    limit = limit_of(campaign, settings)["eecu_hours"]
    return 0.0 if math.isinf(limit) else max(limit - campaign.used.eecu_hours, 1e-3)


def cost_of_plan(plan: MapPlan, speed: Speed = ASSUMED) -> Cost:
    """What a plan takes when no tile of it has arrived yet; tiles of earlier cubes are taken over and cost no request.

    `speed` is that of the network, see `flows.known_speed`. EECU-hours are those of `gee.budget`, assumed.
    """
    cube, to_pull = plan.cube, plan.to_pull
    pulled = sum(cube.request_bytes(tile) for tile in to_pull)
    hours = Account(cube, Budget()).estimate().hours if cube.tiles else 0.0
    return Cost(
        requests=len(to_pull), bytes=pulled, eecu_hours=hours * len(to_pull) / max(1, len(cube.tiles)),
        network_minutes=tile_pixels(cube) / speed.px_per_s / 60, stored_bytes=int(STORED_SHARE * cube.total_request_bytes),
    )  # fmt: skip


def used_for(cube: CubePlan, records: Iterable[TileRecord], network: NetworkRun | None) -> Cost:
    """What a cube has cost, by the records of its tiles; requests are those that brought a tile.

    `network` is how long the network has mapped; where nobody measured that, it is reckoned.
    """
    there = tuple(records)
    pulled = [record for record in there if not record.taken_from]
    spent = Account(cube, Budget(), there).estimate()
    minutes = (tile_pixels(cube) / ASSUMED.px_per_s if network is None else network.seconds) / 60
    stored = sum(chunk.size for record in there for chunk in record.chunks.values())
    return Cost(
        requests=len(pulled), bytes=sum(record.pulled_bytes for record in pulled),
        eecu_hours=spent.spent_s / 3600,
        network_minutes=minutes, stored_bytes=stored,
    )  # fmt: skip


def tile_pixels(cube: CubePlan) -> int:
    """Pixels of the tiles of a cube, each counted once whatever its layers."""
    return sum(math.prod(tile.shape_yx) for tile in cube.tiles)


def _told(name: str, used: Cost, whole: Cost, limit: float) -> str:
    words, unit, _ = _WORDS[name]
    return f"{getattr(whole, name) / unit:,.4g} {words} with {getattr(used, name) / unit:,.4g} used, {limit / unit:,.4g} allowed"

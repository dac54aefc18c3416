"""The most dangerous part of a campaign's area, which is published before the rest is done."""

from __future__ import annotations

from flows.area_type import AreaOfInterest
from flows.campaign.look import events_of, plan_of, request_of
from flows.campaign.model import Attempt, Campaign, Cost
from flows.hazard import FloatArray, danger_of, worst_part
from flows.settings import Settings
from flows.usgs import UsgsClient
from gee.session import Session
from gee.terrain import coarse_terrain
from gee.types import Grid

SHARE = 0.25
"""Of the tiles: the most dangerous quarter."""


def held_to_worst(
    campaign: Campaign, attempt: Attempt, settings: Settings, usgs: UsgsClient, session: Session
) -> Attempt:
    """The attempt at the whole area, held to the most dangerous of its tiles.

    Raises `ServiceError` and `GeeError` when a service fails.
    """
    cube = plan_of(request_of(campaign, attempt, None), settings, usgs, session).cube

    def slopes() -> tuple[FloatArray, Grid]:
        _, slope, grid = coarse_terrain(session, cube.dem, cube.geometry)
        return slope, grid

    danger = danger_of(tuple(events_of(campaign, usgs).values()), usgs, cube, slopes)
    part = worst_part(cube, danger, SHARE)
    km2 = AreaOfInterest(part, "the most dangerous part").area_km2
    share = km2 / attempt.area_km2 if attempt.area_km2 else 1.0
    return attempt.model_copy(
        update={
            "kind": "partial", "area_wkt": part.wkt, "area_km2": km2, "cost": scaled(attempt.cost, share),
            "why": f"{attempt.why}; worst by {danger.source}",
        }
    )  # fmt: skip


def scaled(cost: Cost, share: float) -> Cost:
    """A share of a cost."""
    return Cost(
        requests=round(cost.requests * share), bytes=round(cost.bytes * share), eecu_hours=cost.eecu_hours * share,
        network_minutes=cost.network_minutes * share, stored_bytes=round(cost.stored_bytes * share),
    )  # fmt: skip

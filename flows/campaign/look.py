"""What a version of a campaign could show now: its area, the scenes after the event, and what of the area they show."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import shapely

from flows.area_type import AreaOfInterest
from flows.campaign.area import added_km2, area_document, is_outdated, shaken_ground
from flows.campaign.budget import cost_of_plan
from flows.campaign.context import context_of
from flows.campaign.model import Area, Attempt, Campaign, Decision, ExpectedPass, Sight
from flows.campaign.passes import RECENT, expected_passes
from flows.campaign.record import flat_decisions, living, window_end, window_start
from flows.errors import EventDeletedError
from flows.event import EarthquakeEvent
from flows.planning import MapPlan, cube_rules, cut_area, find_event, make_plan
from flows.request import MapRequest
from flows.settings import Settings
from flows.speed import ASSUMED, Speed
from flows.usgs import UsgsClient
from flows.watching.rule import decide
from gee.catalog import asset_exists, list_scenes
from gee.coverage import clear_share
from gee.dem import choose_dem
from gee.errors import NoScenesError
from gee.session import Session
from gee.types import Scene, Window


@dataclass(frozen=True)
class Look:
    """What a look found."""

    area: Area
    """Where landslides are looked for."""
    sight: Sight
    """What a version would show."""
    passes: tuple[ExpectedPass, ...]
    """The next expected passes."""
    decisions: tuple[Decision, ...]
    """What the rule says of its earthquakes now that the steep land is known, where that is news."""


def look(
    campaign: Campaign, now: dt.datetime, settings: Settings, usgs: UsgsClient, session: Session, speed: Speed = ASSUMED
) -> Look:
    """Ask for the area and the scenes of a campaign, and, where there is something new, for how much they show.

    `speed` is the rate of the network by which what they cost is reckoned.

    Raises `AreaError` when no ground that can fail was shaken, `ServiceError` and `GeeError` when a service fails.
    """
    area = campaign.area
    decisions: tuple[Decision, ...] = ()
    added = campaign.sight.added_km2 if campaign.sight else 0.0
    if area is None or is_outdated(campaign):
        area, decisions = _measured(campaign, now, settings, usgs, session)
        added += added_km2(campaign.area, area)
    else:
        decisions = flat_decisions(campaign, settings.watch.minimum_steep_km2, now)
    geometry = shapely.from_wkt(area.wkt)
    start = window_start(campaign)
    listed = _recent_scenes(session, settings, area, min(start, now - RECENT), now)
    passes = expected_passes(listed, geometry, now, campaign.horizon)
    percent = settings.imagery.maximum_scene_cloud_percent
    after = tuple(scene.id for scene in listed if scene.time >= start and (scene.cloud_percent or 0.0) <= percent)
    known = campaign.sight
    settled = known is not None and not known.why and not known.left_out
    if known is not None and settled and known.scenes == after and campaign.area == area:
        return Look(area, known.model_copy(update={"at": now}), passes, decisions)
    if not after:
        why = f"no scene of the area after {start:%Y-%m-%d %H:%M} UTC yet"
        return Look(area, Sight(at=now, added_km2=added, why=why), passes, decisions)
    return Look(area, _seen(campaign, area, now, settings, usgs, session, after, added, speed), passes, decisions)


def request_of(campaign: Campaign, attempt: Attempt, hours: float | None) -> MapRequest:
    """What the mapping flow is asked for an attempt of a campaign; `hours` is what its cube may cost in compute."""
    area = campaign.area
    return MapRequest(
        event_id=campaign.id, area_wkt=attempt.area_wkt, area_reason=area.reason if area else "", cut=False,
        event_time=window_start(campaign), before_time=window_end(campaign), after_time=attempt.until,
        quake=campaign.mainshock, eecu_hours=hours,
        campaign=context_of(campaign, attempt.kind, attempt.why, attempt.expected_share),
    )  # fmt: skip


def plan_of(request: MapRequest, settings: Settings, usgs: UsgsClient, session: Session) -> MapPlan:
    """The plan of a request; raises `NoScenesError` when a phase has no scene."""
    return make_plan(request, find_event(request, usgs), settings, session, usgs)


def events_of(campaign: Campaign, usgs: UsgsClient) -> dict[str, EarthquakeEvent]:
    """Its earthquakes with their products by id; those that the USGS has deleted meanwhile are left to the watch."""
    found = {}
    for quake in living(campaign):
        try:
            found[quake.id] = usgs.event(quake.id)
        except EventDeletedError:
            continue
    return found


def _seen(
    campaign: Campaign, area: Area, now: dt.datetime, settings: Settings, usgs: UsgsClient, session: Session,
    after: tuple[str, ...], added: float, speed: Speed,
) -> Sight:  # fmt: skip
    draft = Attempt(
        begun=now, kind="whole", why="a look", until=now, area_wkt=area.wkt, area_km2=area.area_km2, expected_share=0.0
    )
    request = request_of(campaign.model_copy(update={"area": area}), draft, None)
    try:
        plan = plan_of(request, settings, usgs, session)
    except NoScenesError as error:
        return Sight(at=now, scenes=after, added_km2=added, why=str(error))
    return Sight(
        at=now, scenes=after, left_out=plan.cube.post_scenes.left_out,
        expected_share=clear_share(session, plan.cube)["both"], tiles=len(plan.cube.tiles),
        cost=cost_of_plan(plan, speed), speed=str(speed), added_km2=added,
    )  # fmt: skip


def _measured(
    campaign: Campaign, now: dt.datetime, settings: Settings, usgs: UsgsClient, session: Session
) -> tuple[Area, tuple[Decision, ...]]:
    """The area by the newest ShakeMaps, cut to what can fail, and the rule asked again with it."""
    events = events_of(campaign, usgs)

    def cut(area: AreaOfInterest) -> AreaOfInterest:
        dem = choose_dem(session, settings.imagery.dems, area.geometry)
        return cut_area(area, dem, settings, session)

    found, products = shaken_ground(tuple(events.values()), usgs, settings.area, cut)
    area = area_document(found, products, now)
    asked = {known: decide(event, settings, now, steep_km2=area.steep_km2) for known, event in events.items()}
    # Under the id that the campaign knows: the USGS may prefer another since.
    return area, tuple(one.model_copy(update={"event_id": known}) for known, one in asked.items())


def _recent_scenes(
    session: Session, settings: Settings, area: Area, start: dt.datetime, now: dt.datetime
) -> list[Scene]:
    """The scenes of the first collection that has some, cloudy ones too: their passes come again."""
    for collection in cube_rules(settings).collections:
        if asset_exists(session, collection):
            found = list_scenes(session, collection, shapely.from_wkt(area.wkt), Window(start, now))
            if found:
                return found
    return []

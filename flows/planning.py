"""From a request to a plan: which event, which area, which scenes, which tiles, which network. Nothing is launched here."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from flows.area import AreaOfInterest, area_of_event, cut_to_land_and_slopes, given_area
from flows.campaign.model import Quake
from flows.errors import EventError
from flows.event import EarthquakeEvent
from flows.geology import map_rules
from flows.layout import EventLayout, RunIdentity, RunLayout
from flows.product_set import sha256_of
from flows.request import MapRequest
from flows.selection import expected, may_map, weights_named, zoo_of
from flows.settings import Settings
from flows.usgs import UsgsClient
from flows.watching.rule import decide
from gee.before import choose_before
from gee.dem import DemChoice, choose_dem
from gee.grid import serves
from gee.masks import CloudMask, CloudScorePlus, Qa60, S2Cloudless, SceneClassification
from gee.phases import ImageryChoice
from gee.plan import CubePlan, CubeRules, plan_cube
from gee.reuse import NOTHING, Takeover, find_takeover, settled_crs
from gee.session import Session
from gee.terrain import coarse_terrain
from gee.types import Tile, Window
from gee.windows import candidates

GIVEN = "given"
"""Status of an event that the USGS does not know: its area and time were given by hand."""

_WHEN = {"pre": "before", "post": "after"}


@dataclass(frozen=True)
class MapPlan:
    """Everything that is decided before the first tile is pulled."""

    event: EarthquakeEvent
    """The earthquake."""
    area: AreaOfInterest
    """Where landslides are looked for."""
    cube: CubePlan
    """What is pulled from Earth Engine, and in which tiles."""
    model: str
    """Name or path of the weights that will map, as far as can be told before the scene is there."""
    weights_hash: str
    """SHA-256 of the weights file, or of all models among which will be chosen."""
    run: RunLayout
    """Where the run lies in the bucket."""
    notes: tuple[str, ...]
    """What a reader of the report should know about the choices made."""
    takeover: Takeover = NOTHING
    """Tiles that earlier cubes of the event hold: they are not pulled."""
    worst_first: tuple[str, ...] = ()
    """Names of the tiles, the most dangerous first: the order in which they are pulled; empty for any order."""

    @property
    def to_pull(self) -> tuple[Tile, ...]:
        """The tiles that take a request, when none of them has arrived yet."""
        return tuple(tile for tile in self.cube.tiles if tile.name not in self.takeover.names)


def code_version() -> str:
    """The installed version of quakeslide."""
    return importlib.metadata.version("quakeslide")


def find_event(request: MapRequest, client: UsgsClient) -> EarthquakeEvent:
    """The event of a request: from the USGS, or as given when area and time are both given.

    Raises `EventError` for an unknown or withdrawn event, `ServiceError` when the USGS cannot be reached.
    """
    if request.area_wkt is not None and request.quake is not None:
        return _known_event(request.event_id, request.quake, request.event_time or request.quake.time)
    if request.area_wkt is not None and request.event_time is not None:
        return _given_event(request.event_id, request.area_wkt, request.event_time)
    event = client.event(request.event_id)
    return event if request.event_time is None else replace(event, time=request.event_time)


def _given_event(event_id: str, area_wkt: str, time: dt.datetime) -> EarthquakeEvent:
    centre = shapely.from_wkt(area_wkt).centroid
    title = f"Event {event_id}, area and time given by hand"
    return EarthquakeEvent(
        id=event_id, ids=(event_id,), time=time, updated=time, lon=centre.x, lat=centre.y, depth_km=None,
        magnitude=math.nan, magnitude_type="", place="", title=title, status=GIVEN, alert=None,
    )  # fmt: skip


def _known_event(event_id: str, quake: Quake, time: dt.datetime) -> EarthquakeEvent:
    """The event as a campaign knows it, under the id of the campaign, without products."""
    return EarthquakeEvent(
        id=event_id, ids=tuple(sorted({event_id, *quake.ids})), time=time, updated=quake.updated, lon=quake.lon,
        lat=quake.lat, depth_km=quake.depth_km, magnitude=quake.magnitude, magnitude_type="", place="",
        title=quake.title, status=quake.status, alert=None, simulated=quake.simulated,
    )  # fmt: skip


def check_rule(event: EarthquakeEvent, request: MapRequest, settings: Settings) -> str:
    """Why the event is mapped; raises `EventError` saying why it is not."""
    if request.campaign is not None:
        return request.campaign.why
    if request.event_time is not None and request.area_wkt is not None:
        return "area and time given by hand"
    decision = decide(event, settings, dt.datetime.now(dt.UTC))
    if decision.wanted or request.force:
        return decision.reason if decision.wanted else f"{decision.reason}; mapped all the same on request"
    raise EventError(f"{decision.reason}: not mapped. Use --force to map it all the same")


def make_plan(
    request: MapRequest, event: EarthquakeEvent, settings: Settings, session: Session, client: UsgsClient
) -> MapPlan:
    """Decide area, elevation model, scenes, grid, tiles and network for an event.

    Raises `AreaError` when nothing that can fail is left of the area, `NoScenesError` when a phase has no scene.
    """
    asked = area_of_event(event, client, settings.area) if request.area_wkt is None else given_area(
        request.area_wkt, request.area_reason
    )  # fmt: skip
    imagery = settings.imagery
    dem = choose_dem(session, imagery.dems, asked.geometry)
    area = cut_area(asked, dem, settings, session) if request.cut else asked
    layout, endpoint = EventLayout(f"gs://{settings.storage.bucket}", event.id), settings.storage.endpoint
    lattice = settings.cube.lattice
    settled = settled_crs(layout.cubes, settings.cube.pixel_m, endpoint) if lattice and not request.crs else ""
    crs = request.crs or (settled if serves(settled, area.geometry) else "")
    draft, window_note = plan_scenes(
        event, area, settings, session, request.before_time, request.after_time, lattice=lattice, crs=crs
    )
    cube = replace(draft, uri=layout.cube(draft.plan_hash))
    takeover = find_takeover(cube, endpoint) if lattice else NOTHING
    zoo, layers = zoo_of(settings.model), tuple(layer.name for layer in cube.layers)
    likely, weights_hash = expected(zoo, layers)
    rules = map_rules(settings.model, likely.bands)
    rules.require_possible(may_map(zoo, likely, layers), layers)
    identity = RunIdentity(
        event_id=event.id,
        area=area.geometry.wkt,
        scene_ids=cube.scene_ids,
        settings={
            "cube": draft.plan_hash,
            "alignment": settings.alignment.model_dump(mode="json"),
            "model": settings.model.model_dump(mode="json", exclude={"weights", "rules", "zoo"}),
            "rules": rules.to_json(),
            "truth": None if request.truth is None else sha256_of(Path(request.truth)),
        },
        weights_hash=weights_hash,
        code_version=code_version(),
    )
    notes = tuple(note for note in (window_note, _dem_note(dem), *_cube_notes(cube)) if note)
    run = layout.run(identity.key)
    return MapPlan(event, area, cube, weights_named(likely), weights_hash, run, notes, takeover)


def cut_area(asked: AreaOfInterest, dem: DemChoice, settings: Settings, session: Session) -> AreaOfInterest:
    """The part of an area that can fail, by a coarse look at its terrain; raises `AreaError` when nothing can."""
    elevation_m, slope_deg, coarse = coarse_terrain(session, dem, asked.geometry)
    return cut_to_land_and_slopes(
        asked, elevation_m, slope_deg, transform=coarse.affine, crs=coarse.crs,
        minimum_slope_deg=settings.area.minimum_slope_deg, reach_m=settings.area.slope_reach_m,
        maximum_area_km2=settings.area.maximum_area_km2,
    )  # fmt: skip


def _dem_note(dem: DemChoice) -> str:
    return f"elevation from {dem.id}: {dem.why}" if dem.why else ""


def cube_rules(settings: Settings) -> CubeRules:
    """What the settings say of a cube."""
    imagery = settings.imagery
    masks: dict[str, CloudMask] = {
        "cloud-score-plus": CloudScorePlus(imagery.cloud_score_threshold, imagery.cloud_score_band),
        "s2cloudless": S2Cloudless(imagery.cloud_probability_percent),
        "scl": SceneClassification(),
        "qa60": Qa60(),
    }
    choice = ImageryChoice(
        tuple(masks[name] for name in imagery.cloud_masks), imagery.reasons, imagery.composite_before,
        imagery.composite_after,
    )  # fmt: skip
    return CubeRules(
        imagery.collections, choice, imagery.dems, imagery.maximum_scene_cloud_percent, imagery.terrain, imagery.radar,
        settings.cube.pixel_m, settings.cube.tile_px,
    )  # fmt: skip


def plan_scenes(
    event: EarthquakeEvent,
    area: AreaOfInterest,
    settings: Settings,
    session: Session,
    before: dt.datetime | None = None,
    until: dt.datetime | None = None,
    *,
    lattice: bool = False,
    crs: str = "",
) -> tuple[CubePlan, str]:
    """The plan of an event's cube, without its address, and why its window before the event was taken.

    `before` is the end of the windows before, where an earlier earthquake shook the area already; `until` that after.
    `lattice` and `crs` are as in `gee.plan.make_plan`.
    """
    imagery, rules = settings.imagery, replace(cube_rules(settings), lattice=lattice)
    latest = event.time + dt.timedelta(days=imagery.days_after)
    after = Window(event.time, latest if until is None else min(latest, until))
    windows = candidates(
        event.time if before is None else min(event.time, before), days_before=imagery.days_before,
        days_after=imagery.days_after, years=imagery.same_season_years,
    )  # fmt: skip
    chosen = choose_before(
        session, rules.collections, area.geometry, rules.imagery, windows, after, pixel_m=rules.pixel_m,
        maximum_cloud_percent=rules.maximum_cloud_percent, minimum_clear=imagery.minimum_clear_before,
        ndvi_drop=imagery.leafless_ndvi_drop,
    )  # fmt: skip
    plan = plan_cube(
        session, uri="", geometry=area.geometry, pre=chosen.candidate.window, post=after, rules=rules,
        code_version=code_version(), crs=crs,
    )  # fmt: skip
    return plan, chosen.why


def _cube_notes(cube: CubePlan) -> Iterator[str]:
    for phase in cube.scenes:
        if phase.mask is None:
            yield f"no cloud mask exists for the scenes of the {phase.phase} phase: clouds in them are not masked"
        elif phase.why:
            yield f"clouds {_WHEN[phase.phase]} the event: {phase.why}"
        if phase.untold:
            yield f"not told apart {_WHEN[phase.phase]} the event: {'; '.join(phase.untold)}"
        if any(dict(scene.properties).get("quakeslide:time_assumed") for scene in phase.scenes):
            yield f"the acquisition dates of the {phase.phase} phase were not recorded and are assumed"
    if cube.radar is not None:
        yield cube.radar.rule
    elif cube.radar_why:
        yield f"without radar layers: {cube.radar_why}"

"""What is said about a run, gathered once: the facts, and from them the pictures and the report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas
import numpy as np

from flows.alignment import Alignment
from flows.asset_names import asset_containers
from flows.decimate import busiest_window
from flows.facts import (
    EventFacts,
    Imagery,
    Provenance,
    ReportFacts,
    Scores,
    coverage,
    inventory_facts,
    landslides_of,
)
from flows.layout import short_hash
from flows.mapping import Sides
from flows.pictures import Picture, map_layers, preview_png, report_pictures
from flows.planning import GIVEN, MapPlan, code_version
from flows.report import render_report
from flows.scene import FloatArray, Scene, Slices
from flows.settings import Settings
from flows.stated_settings import stated_settings
from gee.sentinel2 import PhaseScenes
from gee.types import Window
from modeling.model import LandslideModel

DETAIL_PX = 320
"""Side of the before-and-after picture, in pixels of the map."""
SENTINEL_NOTICE = "Contains modified Copernicus Sentinel data"
"""What the Copernicus terms ask a user of the data to say."""
EVENT_PAGES = "https://earthquake.usgs.gov/earthquakes/eventpage"
"""Where the USGS has a page for each of its events."""
EPOCH = dt.date(1970, 1, 1)


_CHANGING = ("area", "imagery", "cube", "alignment", "model")


def make_facts(
    plan: MapPlan,
    settings: Settings,
    model: LandslideModel,
    cube_hash: str,
    sides: Sides,
    inventory: geopandas.GeoDataFrame,
    scores: tuple[Scores, ...],
    alignment: Alignment | None = None,
) -> ReportFacts:
    """Everything that is said about a run of the flow."""
    event, cube = plan.event, plan.cube
    stated = stated_settings(
        settings, _CHANGING, model=model.name, rules=settings.model.rules.partition(":")[0]
    )  # fmt: skip
    return ReportFacts(
        event=EventFacts(
            id=event.id, title=event.title, time=event.time,
            magnitude=None if np.isnan(event.magnitude) else event.magnitude, depth_km=event.depth_km,
            lon=event.lon, lat=event.lat, simulated=event.simulated,
            url="" if event.simulated or event.status == GIVEN else f"{EVENT_PAGES}/{event.id}",
        ),
        coverage=coverage(sides.counts, cube.grid.pixel_m),
        inventory=inventory_facts(landslides_of(inventory)),
        imagery=(
            _imagery("pre", cube.pre_scenes, cube.pre, sides),
            _imagery("post", cube.post_scenes, cube.post, sides),
        ),
        provenance=Provenance(
            run_key=plan.run.run_key, code_version=code_version(), model=model.name, band_set=model.bands.name,
            weights_hash=model.weights_hash, threshold=model.threshold, cube_hash=cube_hash, dem=cube.dem.id,
            mask_rule=cube.mask_rule, area_reason=plan.area.description, settings_hash=short_hash(stated),
            settings=stated,
            attribution=attribution(plan), trained_on_simulated=trained_on_simulated(model),
        ),
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        scores=scores,
        notes=(*plan.area.notes, *plan.notes),
        alignment=alignment,
        earth_engine_assets=asset_containers(event.id, settings),
    )  # fmt: skip


_MADE_BY = {
    "median": "median of the clear observations",
    "medoid": "the clear observation nearest to their median (medoid)",
    "earliest_clear": "the earliest clear observation of each pixel",
    "least_cloudy": "one pass, the one that saw most",
}
_TERRAIN_NOTICES = {
    "AW3D30": "AW3D30 © JAXA",
    "GLO30": "Copernicus WorldDEM-30 © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018, provided under "
    "COPERNICUS by the European Union and ESA; all rights reserved",
}


def trained_on_simulated(model: LandslideModel) -> bool:
    """Whether the model's card says that it has seen simulated landslides only, as that of every shipped model does."""
    return "simulated data only" in str(model.card.get("about", ""))


def attribution(plan: MapPlan) -> tuple[str, ...]:
    """Notices that the sources' licences ask for; none for scenes that are simulated."""
    if plan.event.simulated:
        return ()
    cube = plan.cube
    scenes = (*cube.pre_scenes.scenes, *cube.post_scenes.scenes)
    own = {str(dict(scene.properties).get("attribution", "")) for scene in scenes} - {""}
    years = sorted({scene.time.year for scene in scenes})
    notice = f"{SENTINEL_NOTICE} {', '.join(map(str, years))}"
    terrain = next(
        (words for part, words in _TERRAIN_NOTICES.items() if part in cube.dem.id), f"Elevation: {cube.dem.id}"
    )
    return (notice, terrain, *sorted(own))


def _imagery(phase: str, scenes: PhaseScenes, window: Window, sides: Sides) -> Imagery:
    used = sides.days.get(phase)
    dates = [EPOCH + dt.timedelta(days=day) for day in used] if used else [None, None]
    return Imagery(
        phase=phase, scenes=tuple(scene.id for scene in scenes.scenes),
        window=f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}", cloud_masked=scenes.mask is not None,
        first_date=dates[0], last_date=dates[1],
        dates_assumed=any(dict(scene.properties).get("quakeslide:time_assumed") for scene in scenes.scenes),
        made_by=_MADE_BY[scenes.made_by], mask_rule=scenes.rule.partition(": ")[2],
    )  # fmt: skip


def write_pages(
    facts: ReportFacts, scene: Scene, inventory: geopandas.GeoDataFrame, folder: Path, extra: Sequence[Picture] = ()
) -> None:
    """Write preview.png and report.html into `folder`, which holds probability.tif and observed.tif.

    `extra` are pictures of a kind that not every report has.
    """

    def read(window: Slices) -> Mapping[str, FloatArray]:
        return scene.read_tile(*window).layers

    with_pre = "red_pre" in scene.layer_names
    place = (read, scene.grid, folder / "probability.tif", folder / "observed.tif", inventory)
    overview = map_layers(*place, with_pre=with_pre)
    detail = None
    if len(inventory) and with_pre:
        window = busiest_window(scene.grid, inventory, DETAIL_PX)
        detail = map_layers(*place, window=window)
    heading = "" if facts.selection is None else facts.selection.heading
    title = f"{facts.event.title}\n{heading}: expect more errors" if heading else facts.event.title
    (folder / "preview.png").write_bytes(preview_png(overview, title))
    pictures = report_pictures(overview, detail, simulated=facts.event.simulated)
    (folder / "report.html").write_text(render_report(facts, (*pictures, *extra)), encoding="utf-8")

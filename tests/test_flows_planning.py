"""flows/planning.py: everything is decided before the first tile, and the same decisions have the same name."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from fakes.plans import EVENT
from fakes.quakes import EVENT_ID, SmallQuake
from fakes.weights import untrained
from rasterio.warp import transform_bounds

from flows.errors import EventError
from flows.planning import MapPlan, check_rule, find_event, make_plan
from flows.reaching import connected
from flows.request import MapRequest
from flows.settings import ImagerySettings, Settings, load_settings
from flows.usgs import UsgsClient
from gee.coverage import clear_share
from modeling.errors import BandSetError
from modeling.geology.rules import GeologyRules
from modeling.geology.rules_file import LearntRules, write_rules

DAY = dt.datetime(2022, 9, 5, tzinfo=dt.UTC)
BOX = shapely.box(102.07, 29.59, 102.09, 29.61).wkt


def test_the_rule_decides_unless_it_is_overruled() -> None:
    settings, request = Settings(), MapRequest(event_id="us1")
    assert check_rule(EVENT, request, settings) == "M 6.6 is not below the rule's 5.5"
    weak = replace(EVENT, magnitude=4.9)
    with pytest.raises(EventError, match=r"M 4.9 is below the rule's 5.5: not mapped. Use --force"):
        check_rule(weak, request, settings)
    assert check_rule(weak, MapRequest(event_id="us1", force=True), settings).endswith("mapped all the same on request")
    by_hand = MapRequest(event_id="us1", area_wkt=BOX, event_time=DAY)
    assert check_rule(weak, by_hand, settings) == "area and time given by hand"


def test_area_and_time_by_hand_need_no_usgs() -> None:
    with UsgsClient("http://127.0.0.1:9") as nobody:
        event = find_event(MapRequest(event_id="my-hill", area_wkt=BOX, event_time=DAY), nobody)
    assert (event.id, event.time, event.simulated) == ("my-hill", DAY, False)
    assert (event.lon, event.lat) == pytest.approx((102.08, 29.6))


def plan_of(request: MapRequest, **imagery: object) -> MapPlan:
    settings = load_settings()
    if imagery:
        settings = settings.model_copy(update={"imagery": ImagerySettings(**imagery)})  # type: ignore[arg-type]
    with UsgsClient(settings.usgs.url) as usgs, connected(settings) as session:
        return make_plan(request, find_event(request, usgs), settings, session, usgs)


def test_rules_that_no_network_for_the_scene_allows_are_refused_before_anything_is_pulled(
    services: dict[str, str], small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = LearntRules(GeologyRules(600.0), 10.0, "m", "ab" * 32, {"iburi": ("iburi-1",)}, True, {}, ())
    write_rules(tmp_path / "rules.json", rules)
    monkeypatch.setenv("QUAKESLIDE_MODEL__RULES", f"learnt:{tmp_path / 'rules.json'}")
    for bands, refused in (("ten-band", True), ("rgb", False)):
        weights = untrained(small_quake.region, tmp_path, f"of-{bands}", bands, share=0.05)
        monkeypatch.setenv("QUAKESLIDE_MODEL__WEIGHTS", str(weights))
        expected = pytest.raises(BandSetError, match=f"which of-{bands} on this scene does not allow")
        with expected if refused else nullcontext():
            plan_of(MapRequest(event_id=EVENT_ID))


def test_a_plan_is_the_same_every_time_and_another_network_is_another_run(
    services: dict[str, str], small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = plan_of(MapRequest(event_id=EVENT_ID)), plan_of(MapRequest(event_id=f"{EVENT_ID}.alias"))
    assert first.run == again.run, "an alias is the same event"
    assert first.cube == again.cube
    assert first.cube.uri == f"gs://{services['QUAKESLIDE_STORAGE__BUCKET']}/events/{EVENT_ID}/cubes/" + (
        f"{first.cube.plan_hash[:16]}.zarr"
    )
    assert [scene.time > first.event.time for scene in first.cube.post_scenes.scenes] == [True] * 3
    assert [scene.time < first.event.time for scene in first.cube.pre_scenes.scenes] == [True] * 3
    assert first.cube.dem.id == "USGS/SRTMGL1_003"
    assert "cs >= 0.6" in first.cube.mask_rule
    monkeypatch.setenv("QUAKESLIDE_MODEL__MINIMUM_AREA_M2", "900")
    assert plan_of(MapRequest(event_id=EVENT_ID)).run != first.run, "a setting that changes the result"
    monkeypatch.delenv("QUAKESLIDE_MODEL__MINIMUM_AREA_M2")
    monkeypatch.setenv("QUAKESLIDE_ALIGNMENT__RADIOMETRY", "histogram")
    matched = plan_of(MapRequest(event_id=EVENT_ID))
    assert matched.run != first.run, "another image before"
    assert matched.cube == first.cube, "made of the same cube"
    monkeypatch.delenv("QUAKESLIDE_ALIGNMENT__RADIOMETRY")
    other = untrained(small_quake.region, tmp_path / "other", "other", "rgb", share=0.05)
    monkeypatch.setenv("QUAKESLIDE_MODEL__WEIGHTS", str(other))
    third = plan_of(MapRequest(event_id=EVENT_ID))
    assert third.run != first.run
    assert third.cube == first.cube, "the scenes are the same"


def test_a_window_without_scenes_is_made_longer_and_the_report_says_so(
    services: dict[str, str], small_quake: SmallQuake
) -> None:
    region = small_quake.region
    bounds = (
        region.transform[2] + 800,
        region.transform[5] - 1760,
        region.transform[2] + 1760,
        region.transform[5] - 800,
    )
    wkt = shapely.box(*transform_bounds(region.crs, "EPSG:4326", *bounds)).wkt
    moment = region.event.time + dt.timedelta(days=1)
    request = MapRequest(event_id="by-hand", area_wkt=wkt, event_time=moment)
    plan = plan_of(request, days_before=1, cloud_masks=())
    assert any("only 0% of the area is clear in the 1 days before" in note for note in plan.notes)
    assert sum("clouds in them are not masked" in note for note in plan.notes) == 2
    # What was looked for is part of the cube's name, so that its window is told with it.
    assert plan.cube.pre.start < min(scene.time for scene in plan.cube.pre_scenes.scenes)


def test_the_clear_share_is_estimated_by_one_coarse_request(services: dict[str, str]) -> None:
    plan = plan_of(MapRequest(event_id=EVENT_ID))
    with connected(load_settings()) as session:
        share = clear_share(session, plan.cube)
    assert set(share) == {"before", "after", "both"}
    assert 0 < share["both"] <= min(share["before"], share["after"]) < 1
    assert share["before"] < 0.9, "the west lies in a swath gap"


def test_a_request_is_plain_json() -> None:
    request = MapRequest(event_id="us1", area_wkt=BOX, event_time=DAY, force=True)
    assert MapRequest.model_validate(json.loads(request.model_dump_json())) == request

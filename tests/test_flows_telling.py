"""flows/telling.py: the facts of a run are those of its plan, its pixels and its network."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import pytest
import torch
from fakes.plans import GIVEN_EVENT, map_plan
from fakes.products import GRID, polygons, write_rasters
from fakes.scenes import DAY_AFTER, DAY_BEFORE, ArrayScene, array_scene

from flows.facts import ReportFacts
from flows.mapping import Sides
from flows.planning import MapPlan
from flows.settings import Settings
from flows.telling import EPOCH, attribution, make_facts, write_pages
from gee.types import Observed
from modeling.bands import band_set
from modeling.data.normalise import Normalisation
from modeling.model import LandslideModel
from modeling.vectors.inventory import empty_inventory

MODEL = LandslideModel(
    "mine", "msf-litenet", torch.nn.Identity(), band_set("ten-band"), Normalisation("standardise", (), (), (), (-5, 5)),
    1.0, 0.4, "cd" * 32, {"about": "trained on simulated data only"},
)  # fmt: skip
SHAPE = (20, 30)


def facts(plan: MapPlan, model: LandslideModel = MODEL, **sides: Any) -> ReportFacts:
    seen = Sides(
        Path("observed.tif"), {Observed.CLEAR: 540, Observed.CLOUD: 60},
        {"pre": (DAY_BEFORE, DAY_BEFORE), "post": (DAY_AFTER, DAY_AFTER + 10)},
    )  # fmt: skip
    return make_facts(plan, Settings(), model, "ef" * 32, replace(seen, **sides), empty_inventory("EPSG:32654"), ())


def test_event_coverage_imagery_and_provenance_are_told() -> None:
    plan = map_plan()
    told = facts(plan)
    assert told.event.url.endswith("/us2000h8ty")
    assert (told.coverage.observed_percent, told.coverage.area_km2) == (pytest.approx(90), pytest.approx(0.06))
    pre, post = told.imagery
    assert (pre.first_date, pre.last_date) == (day(DAY_BEFORE), day(DAY_BEFORE))
    assert (post.first_date, post.last_date) == (day(DAY_AFTER), day(DAY_AFTER + 10))
    assert (pre.cloud_masked, post.cloud_masked) == (True, False)
    assert pre.scenes == ("COPERNICUS/S2_HARMONIZED/a", "COPERNICUS/S2_HARMONIZED/b")
    source = told.provenance
    assert (source.run_key, source.cube_hash, source.weights_hash) == (plan.run.run_key, "ef" * 32, "cd" * 32)
    assert source.trained_on_simulated
    assert source.settings["cube.pixel_m"] == "10.0"
    assert told.notes == ("a note on the area", "a note on the plan")
    assert told.earth_engine_assets["mask"].endswith("/quakeslide/us2000h8ty/mask")
    assert ReportFacts.from_json(told.to_json()) == told


def day(number: int) -> dt.date:
    return EPOCH + dt.timedelta(days=number)


def test_a_phase_of_which_nothing_was_observed_has_no_dates() -> None:
    told = facts(map_plan(), days={})
    assert [(imagery.first_date, imagery.last_date) for imagery in told.imagery] == [(None, None)] * 2


def test_assumed_dates_and_licences_are_passed_on() -> None:
    plan = map_plan()
    assumed = (("attribution", "Cut by somebody"), ("quakeslide:time_assumed", True))
    scenes = tuple(replace(scene, properties=assumed) for scene in plan.cube.post_scenes.scenes)
    changed = replace(plan, cube=replace(plan.cube, post_scenes=replace(plan.cube.post_scenes, scenes=scenes)))
    assert [imagery.dates_assumed for imagery in facts(changed).imagery] == [False, True]
    assert attribution(changed) == (
        "Contains modified Copernicus Sentinel data 2018", "Elevation: USGS/SRTMGL1_003", "Cut by somebody"
    )  # fmt: skip


def test_an_event_by_hand_has_no_usgs_page_and_a_simulated_one_no_attribution() -> None:
    by_hand = facts(map_plan(**GIVEN_EVENT)).event
    assert (by_hand.url, by_hand.magnitude) == ("", None)
    simulated = facts(map_plan(simulated=True))
    assert (simulated.event.url, simulated.provenance.attribution) == ("", ())


def test_a_network_that_does_not_say_so_was_not_trained_on_simulations() -> None:
    assert not facts(map_plan(), replace(MODEL, card={})).provenance.trained_on_simulated


@pytest.mark.parametrize("found", [polygons(), polygons(0)], ids=["some", "none"])
@pytest.mark.parametrize("colours", [("red", "green", "blue"), ("red", "green", "blue", "nir")], ids=len)
def test_the_pages_are_written_whatever_was_found(
    tmp_path: Path, found: geopandas.GeoDataFrame, colours: tuple[str, ...]
) -> None:
    write_rasters(tmp_path)
    scene: ArrayScene = array_scene((120, 160), colours)
    write_pages(facts(map_plan()), replace(scene, grid=GRID), found, tmp_path)
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "M 6.6" in (tmp_path / "report.html").read_text()

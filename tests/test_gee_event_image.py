"""One code for each pixel and phase: which of the things that scenes saw is told, and what that costs in landslides."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.cubes import area_in
from fakes.servers import serve
from shapely.geometry import box

from gee.catalog import list_scenes
from gee.errors import CubeError
from gee.grid import geometry_mask, grid_for
from gee.masks import MASKS, CloudScorePlus, SceneClassification
from gee.phases import ImageryChoice, choose_phases
from gee.pixels import fetch_pixels
from gee.reasons import REASONS, Reason
from gee.sentinel2 import PhaseScenes, event_image, phase_image
from gee.session import Session, open_session
from gee.types import PHASES, Grid, Observed, Scene, Window
from infra.local.earthengine import create_app
from infra.local.recorded import IBURI_EVENT_TIME, IBURI_TIMES, iburi_catalogue
from infra.local.scenes import SENTINEL2, SRTM
from infra.local.simulated import write_simulated
from modeling.simulate import Region, domain, simulate_region
from modeling.simulate.landcover import CLASSES

SR = "COPERNICUS/S2_SR_HARMONIZED"
EVENT = dt.datetime(2022, 9, 5, 4, 52, tzinfo=dt.UTC)
COLOURS = ("green", "red", "nir", "swir1")
BANDS = ("B3", "B4", "B8", "B11")
STATES = {4: Observed.CLEAR, 11: Observed.SNOW, 2: Observed.TERRAIN_SHADOW, 3: Observed.SHADOW, 9: Observed.CLOUD}
"""Class of SCL -> what it says."""
NO_DATA = 0
CLASSES_SEEN = (*STATES, NO_DATA)
PAIRS = list(product(CLASSES_SEEN, repeat=2))
"""What two scenes see of a pixel: every combination, a column each."""
GRID = Grid("EPSG:32647", (10.0, 0.0, 600_000.0, 0.0, -10.0, 3_270_000.0), (6, len(PAIRS)))
LAND, WATER, MUD = (700, 600, 3000, 2000), (900, 500, 200, 60), (900, 1100, 1300, 800)
LAKE, DAMMED, BURIED, SHADE = slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)
"""Rows: water before and after, after only, before only, and the look of water on a slope."""

AROUND_ATSUMA = box(141.90, 42.69, 142.02, 42.76)
"""Inside the recorded scenes of the 2018 Iburi earthquake."""


def scene(index: str, days: float, **properties: object) -> Scene:
    kept = {"PROCESSING_BASELINE": "04.00", **properties}
    return Scene(
        f"{SR}/{index}", EVENT + dt.timedelta(days=days), None, (*BANDS, "SCL"), "POINT EMPTY",
        tuple(sorted(kept.items())), GRID,
    )  # fmt: skip


FIRST, SECOND, THIRD = scene("p", 3), scene("q", 8), scene("a", -5)


def dn(water_rows: tuple[slice, ...]) -> dict[str, npt.NDArray[np.uint16]]:
    bands = {band: np.full(GRID.shape_yx, value, np.uint16) for band, value in zip(BANDS, LAND, strict=True)}
    for rows in water_rows:
        for band, value in zip(BANDS, WATER, strict=True):
            bands[band][rows] = value
    return bands


def write_catalogue(catalogue: CatalogueWriter) -> None:
    for number, one in enumerate((FIRST, SECOND)):
        scl = np.broadcast_to(np.array([pair[number] for pair in PAIRS], np.uint16), GRID.shape_yx)
        water = dn((LAKE, DAMMED, SHADE))
        for band, value in zip(BANDS, MUD, strict=True):
            water[band][BURIED] = value
        catalogue.image(one.id, {**water, "SCL": scl}, GRID, one.time, dict(one.properties), masked=False)
    clear = np.full(GRID.shape_yx, 4, np.uint16)
    catalogue.image(THIRD.id, {**dn((LAKE, BURIED, SHADE)), "SCL": clear}, GRID, THIRD.time, masked=False)
    y = np.arange(30)[:, None] + np.zeros((1, 30))
    height = np.where(y < 11, 100.0, 100 + (y - 11) * 3.0).astype(np.float32)  # level, then 17 degrees
    dem = Grid(GRID.crs, (10.0, 0.0, 599_950.0, 0.0, -10.0, 3_270_090.0), (30, 30))
    catalogue.image("DEM/ramp", {"elevation": height}, dem)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(folder))
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def fetched(session: Session, image: ee.Image, grid: Grid, colours: tuple[str, ...] = COLOURS) -> dict[str, Any]:
    both = {f"{colour}_{phase}": "int16" for phase in PHASES for colour in colours}
    both |= {f"observed_{phase}": "uint8" for phase in PHASES} | {f"date_{phase}": "int32" for phase in PHASES}
    expression = ee.serializer.encode(image, for_cloud_api=True)
    return fetch_pixels(session, expression, grid, both)


def after(*reasons: Reason, **changes: Any) -> PhaseScenes:
    return PhaseScenes("post", (FIRST, SECOND), SceneClassification(), reasons=reasons, **changes)


def before(*reasons: Reason) -> PhaseScenes:
    return PhaseScenes("pre", (THIRD,), SceneClassification(), reasons=reasons)


def told(pair: tuple[int, int], reasons: tuple[Reason, ...]) -> Observed:
    """The better of what two scenes saw."""
    better = [Observed.CLEAR, Observed.SNOW, Observed.TERRAIN_SHADOW, Observed.SHADOW, Observed.CLOUD]
    known = [STATES[one] for one in pair if one != NO_DATA]
    for code, reason in ((Observed.SNOW, "snow"), (Observed.TERRAIN_SHADOW, "terrain_shadow")):
        if reason not in reasons:
            known = [Observed.CLEAR if one == code else one for one in known]
    return min(known, key=better.index, default=Observed.SWATH_GAP)


@pytest.mark.parametrize("reasons", [(), ("snow",), ("snow", "terrain_shadow")])
def test_of_all_that_was_seen_the_best_is_told(session: Session, reasons: tuple[Reason, ...]) -> None:
    got = fetched(session, event_image(before(), after(*reasons), COLOURS), GRID)
    wanted = [told(pair, reasons) for pair in PAIRS]
    np.testing.assert_array_equal(got["observed_post"], np.broadcast_to(wanted, GRID.shape_yx))
    clear = got["observed_post"] == Observed.CLEAR
    np.testing.assert_array_equal(got["red_post"] > 0, clear)
    np.testing.assert_array_equal(got["date_post"] > 0, clear)


@pytest.mark.parametrize("composite", ["median", "medoid", "earliest_clear"])
def test_the_codes_do_not_depend_on_the_composite(session: Session, composite: Any) -> None:
    got = fetched(session, event_image(before(), after("snow", composite=composite), COLOURS), GRID)
    wanted = [told(pair, ("snow",)) for pair in PAIRS]
    np.testing.assert_array_equal(got["observed_post"], np.broadcast_to(wanted, GRID.shape_yx))


def test_only_water_that_both_phases_see_is_taken_out(session: Session) -> None:
    got = fetched(session, event_image(before("water"), after("water"), COLOURS), GRID)
    clear = np.array([told(pair, ()) == Observed.CLEAR for pair in PAIRS])
    for phase in PHASES:
        code = got[f"observed_{phase}"]
        seen = clear if phase == "post" else np.ones_like(clear)
        assert (code[LAKE][:, clear] == Observed.WATER).all()
        assert (code[DAMMED][:, seen] == Observed.CLEAR).all(), "a lake that a landslide has dammed"
        assert (code[BURIED][:, seen] == Observed.CLEAR).all(), "a river that a landslide has buried"
        assert (code[4:][:, seen] == Observed.CLEAR).all()
        assert (got[f"green_{phase}"][LAKE][:, clear] == 900).all(), "what water looked like stays known"
    assert not (fetched(session, event_image(before("water"), after(), COLOURS), GRID)["observed_pre"] == 8).any()


def test_water_lies_level(session: Session) -> None:
    image = event_image(before("water"), after("water"), COLOURS, ee.Image("DEM/ramp"))
    code = fetched(session, image, replace(GRID, shape_yx=(6, 12)))["observed_pre"]
    clear = np.array([told(pair, ()) == Observed.CLEAR for pair in PAIRS])[:12]
    assert (code[LAKE][:, clear] == Observed.WATER).all()
    assert (code[SHADE] == Observed.CLEAR).all(), "a slope that looks like water"


def test_terrain_shadow_needs_an_elevation_model() -> None:
    with pytest.raises(CubeError, match="give an elevation model"):
        phase_image(PhaseScenes("post", (FIRST,), CloudScorePlus(), reasons=("terrain_shadow",)), COLOURS)


def test_a_phase_alone_has_the_same_bands_and_no_water(session: Session) -> None:
    alone = phase_image(before("water"), COLOURS).addBands(phase_image(after("water"), COLOURS))
    both = fetched(session, event_image(before(), after(), COLOURS), GRID)
    for name, values in fetched(session, alone, GRID).items():
        np.testing.assert_array_equal(values, both[name], err_msg=name)


REGIONS = {
    "iburi": domain("iburi"),
    "gorge": domain("luding"),
    "winter": replace(domain("luding"), event_date="2022-12-20", snow_line_winter=300.0),
}


@pytest.mark.parametrize("name", REGIONS)
def test_telling_reasons_apart_costs_few_landslides(name: str, tmp_path: Path) -> None:
    made = simulate_region(
        REGIONS[name], seed=4, shape_yx=(256, 256), dates_pre=2, dates_post=2, bands=("B3", "B4", "B8", "B11")
    )
    write_simulated(made, tmp_path / "catalogue", tmp_path / "usgs", event_id="sim0004")
    with (
        serve(create_app(tmp_path / "catalogue", tmp_path / "state")) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        plain, whole = (observed(opened, made, reasons) for reasons in ((), REASONS))
    known = (plain == Observed.CLEAR).all(axis=0)
    lost = known & (whole != Observed.CLEAR).any(axis=0)
    truth, water = made.truth & known, (made.landcover == CLASSES.index("water")) & known & ~made.truth
    assert truth.sum() > 500
    snow = (whole == Observed.SNOW).any(axis=0)
    assert (lost & truth & ~snow).sum() <= 0.01 * truth.sum(), "landslides without snow on them"
    if name == "winter":
        assert snow.mean() > 0.1
        return
    assert not snow.any()
    # Narrow rivers are mixed with their banks, and a model of 30 m has them on slopes: then they stay in the map.
    assert (whole[1] == Observed.WATER)[water].mean() > {"iburi": 0.3, "gorge": 0.1}[name]
    land = known & ~water & ~made.truth & ~snow
    assert (whole[1] == Observed.WATER)[land].mean() < 0.01


def observed(session: Session, made: Region, reasons: tuple[Reason, ...]) -> npt.NDArray[np.uint8]:
    """Codes (phase, y, x) of a simulated region."""
    grid = Grid(made.crs, made.transform, made.shape_yx)
    area = area_in(grid, 1, 1, grid.shape_yx[1] - 1, grid.shape_yx[0] - 1)
    windows = (
        Window(made.event.time - dt.timedelta(days=90), made.event.time),
        Window(made.event.time, made.event.time + dt.timedelta(days=60)),
    )
    pre, post = (list_scenes(session, SENTINEL2, area, window) for window in windows)
    choice = ImageryChoice((CloudScorePlus(),), reasons)
    phases = choose_phases(session, pre, post, choice, area)
    assert phases[1].reasons == reasons
    image = event_image(*phases, COLOURS, ee.Image(SRTM).select("elevation"))
    got = fetched(session, image, grid)
    return np.stack([got[f"observed_{phase}"] for phase in PHASES])


def test_of_the_recorded_pair_nothing_but_its_gap_is_told(shared_data: Path, tmp_path: Path) -> None:
    iburi_catalogue(shared_data, tmp_path / "catalogue")
    grid, area = grid_for(AROUND_ATSUMA, 100.0), AROUND_ATSUMA
    start = IBURI_TIMES["pre"] - dt.timedelta(days=1)
    windows = (Window(start, IBURI_EVENT_TIME), Window(IBURI_EVENT_TIME, IBURI_EVENT_TIME + dt.timedelta(days=60)))
    with (
        serve(create_app(tmp_path / "catalogue", tmp_path / "state")) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        listed = [list_scenes(opened, SENTINEL2, area, window) for window in windows]
        choice = ImageryChoice(tuple(kind() for kind in MASKS.values()))
        pre, post = choose_phases(opened, *listed, choice, area)
        got = fetched(opened, event_image(pre, post, ("red",)), grid, ("red",))
    for phase in (pre, post):
        assert (phase.mask, phase.reasons) == (None, ())
        assert phase.untold == (
            "snow (without B8, B11)", "water (without B8, B11)", "terrain shadow (without the sun's place)",
        )  # fmt: skip
        assert "cloud-score-plus for 0, s2cloudless for 0, scl for 0, qa60 for 0 of 1 scenes" in phase.rule
    inside = geometry_mask(grid, area)
    assert set(np.unique(got["observed_pre"][inside])) == {Observed.CLEAR, Observed.SWATH_GAP}
    assert 0.2 < (got["observed_pre"][inside] == Observed.SWATH_GAP).mean() < 0.7
    assert (got["observed_post"][inside] == Observed.CLEAR).all()

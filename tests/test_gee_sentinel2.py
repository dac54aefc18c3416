"""The two composites against a pixel-by-pixel reference in numpy, through the real client and the real wire."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from pyproj import Transformer

from gee.masks import CloudScorePlus
from gee.pixels import fetch_pixels
from gee.sentinel2 import BANDS, PhaseScenes, common_colours, phase_image
from gee.session import Session, open_session
from gee.types import Grid, Observed, Scene
from infra.local.earthengine import create_app

COLLECTION = "COPERNICUS/S2_HARMONIZED"
SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
COLOURS = ("blue", "green", "red", "nir")
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (24, 30))
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
MASK = CloudScorePlus(0.6)
DAYS = {"a": -40, "b": -21, "c": -20.5, "d": -6, "p": 4, "q": 9, "r": 14, "s": 15}
"""Scene index -> days from the event. `d` and `s` have no cloud score."""


def made_scene(index: str) -> tuple[dict[str, npt.NDArray[np.uint16]], npt.NDArray[np.float32]]:
    """DN of a scene (0 = not imaged; even, so that medians are whole) and its cloud score."""
    rng = np.random.default_rng(ord(index))
    shape = GRID.shape_yx
    bands = {BANDS[colour]: rng.integers(50, 2000, shape).astype(np.uint16) * 2 for colour in COLOURS}
    swath = (np.arange(shape[1])[None, :] + ord(index) * 7) % 41 < 29
    for values in bands.values():
        values[~np.broadcast_to(swath, shape)] = 0
        values[-1, :4] = 0  # imaged by none of them
    bands["B8"][3:5, ord(index) % 20] = 0  # a defect of one detector: no whole observation there
    bands["B2"][10, 10] = 65_534  # brighter than int16
    return bands, rng.random(shape, np.float32)


def scene(index: str) -> Scene:
    time = EVENT.replace(microsecond=0) + dt.timedelta(days=DAYS[index])
    return Scene(f"{COLLECTION}/{index}", time, 10.0, tuple(made_scene(index)[0]), "POINT EMPTY", (), GRID)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(folder))
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def write_catalogue(catalogue: CatalogueWriter) -> None:
    for index in DAYS:
        bands, score = made_scene(index)
        catalogue.image(f"{COLLECTION}/{index}", bands, GRID, scene(index).time)
        if index not in "ds":
            catalogue.image(f"{SCORES}/{index}", {"cs": score, "cs_cdf": score / 2}, GRID, scene(index).time)
    zeros = {BANDS[colour]: np.zeros(GRID.shape_yx, np.uint16) for colour in COLOURS}
    zeros["B4"][5:] = 2
    catalogue.image("S2_UNMASKED/z", zeros, GRID, EVENT, masked=False)


def fetch(session: Session, phase: PhaseScenes, grid: Grid = GRID, colours: Sequence[str] = COLOURS) -> dict[str, Any]:
    bands = {f"{colour}_{phase.phase}": "int16" for colour in colours}
    bands |= {f"observed_{phase.phase}": "uint8", f"date_{phase.phase}": "int32"}
    expression = ee.serializer.encode(phase_image(phase, colours), for_cloud_api=True)
    return fetch_pixels(session, expression, grid, bands)


def reference(phase: PhaseScenes) -> dict[str, npt.NDArray[Any]]:
    """What `phase_image` says, pixel by pixel."""
    result: dict[str, npt.NDArray[Any]] = {}
    values, imaged, clear, days, shadows = [], [], [], [], []
    for used in phase.scenes:
        bands, score = made_scene(used.id[-1])
        stack = np.stack([bands[BANDS[colour]] for colour in COLOURS])
        values.append(np.minimum(stack, 32_767))
        imaged.append((stack > 0).all(axis=0))
        clear.append(imaged[-1] & ((score >= np.float32(0.6)) if phase.mask else True))
        green, nir = stack[COLOURS.index("green")].astype(float), stack[COLOURS.index("nir")].astype(float)
        shadows.append(imaged[-1] & (nir < 1500) & (green - nir < 0.3 * np.maximum(green + nir, 1)))
        days.append((used.time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).days)
    seen, any_clear = np.array(clear), np.any(clear, axis=0)
    stacked = np.where(seen[:, None], np.array(values, float), np.nan)
    if phase.phase == "pre":
        filled = np.where(any_clear, stacked, 0.0)
        composite = np.nanmedian(filled, axis=0)
        date = np.max(np.where(seen, np.array(days)[:, None, None], -1), axis=0)
    else:
        first = np.argmax(seen, axis=0)
        composite = np.take_along_axis(stacked, first[None, None], axis=0)[0]
        date = np.where(any_clear, np.array(days)[first], -1)
    for colour, layer in zip(COLOURS, composite, strict=True):
        result[f"{colour}_{phase.phase}"] = np.where(any_clear, layer, -32_768)
    code = np.where(np.any(imaged, axis=0), Observed.CLOUD, Observed.SWATH_GAP)
    code = np.where(np.any(shadows, axis=0), Observed.SHADOW, code)
    result[f"observed_{phase.phase}"] = np.where(any_clear, Observed.CLEAR, code)
    result[f"date_{phase.phase}"] = date
    return result


@pytest.mark.parametrize("mask", [MASK, None])
@pytest.mark.parametrize(("phase", "indices"), [("pre", "abc"), ("pre", "a"), ("post", "pqr"), ("post", "q")])
def test_a_phase_equals_its_reference(session: Session, phase: str, indices: str, mask: CloudScorePlus | None) -> None:
    scenes = PhaseScenes(phase, tuple(scene(index) for index in indices), mask)
    wanted, got = reference(scenes), fetch(session, scenes)
    assert got.keys() == wanted.keys()
    for name, values in got.items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    codes = set(np.unique(got[f"observed_{phase}"]))
    assert codes == ({1, 2, 3, 6} if mask else {1, 6}), "the case holds every kind of pixel"


def test_after_the_event_all_bands_of_a_pixel_come_from_one_scene(session: Session) -> None:
    scenes = PhaseScenes("post", tuple(scene(index) for index in "pqr"), MASK)
    got = fetch(session, scenes)
    days = {(used.time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).days: used.id[-1] for used in scenes.scenes}
    for day, index in days.items():
        here = got["date_post"] == day
        assert here.any()
        bands, _ = made_scene(index)
        for colour in COLOURS:
            np.testing.assert_array_equal(got[f"{colour}_post"][here], np.minimum(bands[BANDS[colour]][here], 32_767))


def test_a_scene_that_was_not_listed_is_not_used(session: Session) -> None:
    gap = PhaseScenes("pre", (scene("a"), scene("c")), MASK)  # `b` lies between them in time
    np.testing.assert_array_equal(fetch(session, gap)["red_pre"], reference(gap)["red_pre"])


def test_a_swath_gap_is_told_from_ground_that_no_scene_reaches(session: Session) -> None:
    wide = Grid(GRID.crs, (10.0, 0.0, 599_900.0, 0.0, -10.0, 4_730_100.0), (44, 50))
    got = fetch(session, PhaseScenes("post", (scene("p"),), MASK), wide)
    reached = np.zeros(wide.shape_yx, bool)
    reached[10:34, 10:40] = True
    held = np.zeros(wide.shape_yx, bool)
    held[10:34, 10:40] = (np.stack(list(made_scene("p")[0].values())) > 0).all(axis=0)
    assert (got["red_post"][~held] == -32_768).all()
    assert (got["date_post"][~held] == -1).all()
    assert (got["observed_post"][~reached] == Observed.NO_PASS).all()
    assert (got["observed_post"][reached & ~held] == Observed.SWATH_GAP).all()
    assert not np.isin(got["observed_post"][held], (Observed.NO_PASS, Observed.SWATH_GAP)).any()


def test_rasters_of_other_zones_reach_to_the_pixel(session: Session) -> None:
    # The zone to the east holds the same ground turned and shifted: a pixel belongs to the raster that its centre is in.
    east = Grid("EPSG:32655", (10.0, 0.0, 108_610.0, 0.0, -10.0, 4_740_550.0), (60, 50))
    used = replace(scene("p"), grid=east)
    west = Grid(GRID.crs, (10.0, 0.0, 599_000.0, 0.0, -10.0, 4_731_000.0), (220, 240))
    got = fetch(session, PhaseScenes("post", (used,), MASK), west)
    y, x = np.mgrid[:220, :240] + 0.5
    turned = Transformer.from_crs("EPSG:32654", "EPSG:32655", always_xy=True)
    ex, ey = turned.transform(599_000 + 10 * x, 4_731_000 - 10 * y)
    left, bottom, right, top = east.bounds
    inside = (ex > left) & (ex < right) & (ey > bottom) & (ey < top)
    unseen = np.isin(got["observed_post"], (Observed.NO_PASS, Observed.SWATH_GAP))
    assert 500 < inside[unseen].sum() < inside[unseen].size - 500
    np.testing.assert_array_equal(got["observed_post"][unseen] == Observed.SWATH_GAP, inside[unseen])


def test_without_its_raster_a_scene_cannot_tell_a_gap(session: Session) -> None:
    got = fetch(session, PhaseScenes("post", (replace(scene("p"), grid=None),), MASK))
    assert set(np.unique(got["observed_post"])) == {Observed.NO_PASS, Observed.CLEAR, Observed.CLOUD, Observed.SHADOW}


def test_zero_in_all_bands_is_no_data_and_in_one_it_is_dark_ground(session: Session) -> None:
    dark = Scene("S2_UNMASKED/z", EVENT, None, tuple(BANDS.values()), "POINT EMPTY")
    got = fetch(session, PhaseScenes("post", (dark,)))
    assert (got["observed_post"][:5] == Observed.NO_PASS).all()
    assert (got["observed_post"][5:] == Observed.CLEAR).all()
    assert (got["blue_post"][5:] == 0).all()


def test_only_colours_that_all_scenes_have_are_used() -> None:
    three = Scene("x/y", EVENT, None, ("B4", "B2", "B3", "QA60"), "POINT EMPTY")
    assert common_colours([scene("a"), scene("p")]) == COLOURS
    assert common_colours([scene("a"), three]) == ("blue", "green", "red")


def test_the_catalogue_of_this_test_is_small(tmp_path: Path) -> None:
    write_catalogue(CatalogueWriter(tmp_path))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.tif")) < 200_000

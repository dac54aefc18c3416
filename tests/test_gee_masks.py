"""Cloud and its shadow by four ways, on scenes whose answer is known to the pixel, over the real wire."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve

from gee.masks import (
    MASKS,
    CloudLook,
    CloudMask,
    CloudScorePlus,
    Qa60,
    S2Cloudless,
    SceneClassification,
    link,
    look,
    mask_from_dict,
    mask_to_dict,
    method_of,
    own_support,
)
from gee.pixels import fetch_pixels
from gee.session import Session, open_session
from gee.types import Grid, Scene
from infra.local.earthengine import create_app
from modeling.simulate import DOMAINS, simulate_region

TOA, SR = "COPERNICUS/S2_HARMONIZED", "COPERNICUS/S2_SR_HARMONIZED"
SCORES, PROBABILITY = CloudScorePlus().collection, S2Cloudless().collection
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (200, 240))
SHAPE = GRID.shape_yx
TIME = dt.datetime(2018, 9, 10, 1, 30, tzinfo=dt.UTC)
SUN_AZIMUTH = 150.0
CLOUD = (slice(80, 110), slice(100, 140))
SPECK = (slice(20, 22), slice(200, 202))
POND = (slice(60, 80), slice(70, 100))
"""Water right where the cloud's shadow falls."""
MASKED = (slice(180, 200), slice(0, 30))
"""No probability and no score here."""

Bools = npt.NDArray[np.bool_]


def in_shadow(reach_m: float = 1000.0) -> Bools:
    """Pixels from which `CLOUD` lies towards the sun, within reach: the geometry of the thing, not of a transform."""
    cloud = np.zeros(SHAPE, bool)
    cloud[CLOUD] = True
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    found = np.zeros(SHAPE, bool)
    azimuth = math.radians(SUN_AZIMUTH)
    for metres in range(0, int(reach_m) + 1, 5):
        row, col = np.rint(y - metres / 10 * math.cos(azimuth)), np.rint(x + metres / 10 * math.sin(azimuth))
        inside = (row >= 0) & (row < SHAPE[0]) & (col >= 0) & (col < SHAPE[1])
        found |= inside & cloud[np.clip(row, 0, SHAPE[0] - 1).astype(int), np.clip(col, 0, SHAPE[1] - 1).astype(int)]
    return found & ~cloud


def write_catalogue(catalogue: CatalogueWriter) -> None:
    probability = np.full(SHAPE, 10, np.int16)
    probability[CLOUD], probability[SPECK], probability[MASKED] = 90, 90, -32_768
    catalogue.image(f"{PROBABILITY}/a", {"probability": probability}, GRID, TIME)
    score = np.full(SHAPE, 0.8, np.float32)
    score[CLOUD], score[MASKED] = 0.59, np.nan
    catalogue.image(f"{SCORES}/a", {"cs": score, "cs_cdf": score - 0.3}, GRID, TIME)
    shadow = in_shadow()
    nir = np.where(shadow, 800, 3000).astype(np.uint16)
    nir[CLOUD] = 6000
    nir[150:160, 40:60] = 900  # dark, but no cloud is near it towards the sun
    nir[POND] = 200
    green = np.full(SHAPE, 700, np.uint16)
    scl = np.full(SHAPE, 4, np.uint16)
    scl[CLOUD], scl[shadow], scl[POND] = 9, 3, 6
    scl[0, :12] = np.arange(12)
    flags = np.zeros(SHAPE, np.uint16)
    flags[CLOUD], flags[SPECK], flags[5, 5] = 1 << 10, 1 << 11, 1
    sun = {"MEAN_SOLAR_AZIMUTH_ANGLE": SUN_AZIMUTH, "MEAN_SOLAR_ZENITH_ANGLE": 45.0}
    toa = {"B3": green, "B8": nir, "QA60": flags}
    catalogue.image(f"{TOA}/a", toa, GRID, TIME, sun, masked=False)
    catalogue.image(f"{SR}/a", {**toa, "SCL": scl}, GRID, TIME, sun, masked=False)
    catalogue.image("ONLY/VISIBLE/a", {"B3": green}, GRID, TIME)
    catalogue.image("MASKED/QA60/a", {"B3": green, "QA60": np.zeros(SHAPE, np.uint16)}, GRID, TIME)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> CatalogueWriter:
    writer = CatalogueWriter(tmp_path_factory.mktemp("catalogue"))
    write_catalogue(writer)
    return writer


@pytest.fixture(scope="module")
def session(catalogue: CatalogueWriter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with (
        serve(create_app(catalogue.root, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


BANDS = {TOA: frozenset({"B3", "B8", "QA60"}), SR: frozenset({"B3", "B8", "QA60", "SCL"})}


def seen(
    session: Session, mask: CloudMask, collection: str = TOA, grid: Grid = GRID, bands: frozenset[str] | None = None
) -> dict[str, Bools]:
    """The layers of a mask's look, as arrays."""
    bands = bands or BANDS.get(collection, frozenset({"B3", "QA60"}))
    image = ee.Image(link(ee.ImageCollection(collection), mask, bands).first())
    found: CloudLook = look(image, mask, bands)
    layers = {field.name: getattr(found, field.name) for field in fields(found)}
    known = {name: layer for name, layer in layers.items() if layer is not None}
    image = ee.Image.cat([layer.toUint8().rename(name) for name, layer in known.items()])
    image = image.addBands(image.mask().reduce(ee.Reducer.min()).toUint8().rename("filled"))
    expression = ee.serializer.encode(image, for_cloud_api=True)
    got = fetch_pixels(session, expression, grid, dict.fromkeys([*known, "filled"], "uint8"))
    assert got.pop("filled").all(), "a look is known everywhere"
    return {name: values > 0 for name, values in got.items()}


def box(*where: tuple[slice, slice]) -> Bools:
    found = np.zeros(SHAPE, bool)
    for one in where:
        found[one] = True
    return found


def near(found: Bools, pixels: int) -> Bools:
    """Within so many pixels, in a square."""
    wide = np.pad(found, pixels)
    grown = np.zeros_like(found)
    for dy in range(2 * pixels + 1):
        for dx in range(2 * pixels + 1):
            grown |= wide[dy : dy + found.shape[0], dx : dx + found.shape[1]]
    return grown


@pytest.mark.parametrize("collection", [TOA, SR])
def test_cloud_score_plus_masks_what_is_below_the_threshold_or_unknown(session: Session, collection: str) -> None:
    got = seen(session, CloudScorePlus(0.6), collection)
    np.testing.assert_array_equal(got["cloud"], box(CLOUD, MASKED))
    np.testing.assert_array_equal(seen(session, CloudScorePlus(0.55), collection)["cloud"], box(MASKED))
    by_history = seen(session, CloudScorePlus(0.55, "cs_cdf"), collection)
    assert (by_history["cloud"] ^ by_history["shadow"]).all()


def test_of_what_cloud_score_plus_hides_dark_ground_is_in_shadow_and_water_is_not(session: Session) -> None:
    everything = seen(session, CloudScorePlus(0.9))
    dark = in_shadow() | box((slice(150, 160), slice(40, 60)))
    np.testing.assert_array_equal(everything["shadow"], dark & ~box(POND, MASKED), err_msg="where there is no score")
    np.testing.assert_array_equal(everything["cloud"], ~everything["shadow"])
    assert not seen(session, CloudScorePlus(0.9, dark_nir=0.05))["shadow"].any()
    assert not seen(session, CloudScorePlus(0.9, water_ndwi=-0.2))["shadow"].any(), "its NDWI is -0.13"
    assert list(seen(session, CloudScorePlus(), "ONLY/VISIBLE")) == ["cloud"], "without B8 there is one class for all"


@pytest.mark.parametrize("name", ["iburi", "palu"])
def test_shadows_of_simulated_clouds_are_told_from_them(
    session: Session, catalogue: CatalogueWriter, name: str
) -> None:
    one = simulate_region(DOMAINS[name], seed=3, shape_yx=(192, 192), dates_pre=4, dates_post=1)
    grid = Grid("EPSG:32654", GRID.transform, (192, 192))
    cloudy = max(one.passes, key=lambda one: (one.shadow & one.observed & (one.cs < 0.6)).sum())
    index = f"simulated_{name}"
    bands = {band: cloudy.dn[one.bands.index(band)] for band in ("B3", "B8")}
    catalogue.image(f"SIMULATED/{name.upper()}/{index}", bands, grid, TIME)
    catalogue.image(f"{SCORES}/{index}", {"cs": cloudy.cs}, grid, TIME)
    got = seen(session, CloudScorePlus(), f"SIMULATED/{name.upper()}", grid, frozenset(bands))
    hidden = cloudy.observed & (cloudy.cs < 0.6)
    shadow, told = cloudy.shadow & hidden, got["shadow"] & hidden
    assert shadow.sum() > 1000
    assert (told & shadow).sum() > 0.7 * shadow.sum()
    assert (told & shadow).sum() > 0.9 * told.sum()


@pytest.mark.parametrize("collection", [TOA, SR])
def test_s2cloudless_finds_cloud_and_the_shadow_it_throws(session: Session, collection: str) -> None:
    got = seen(session, S2Cloudless(), collection)
    cloud, shadow = box(CLOUD), in_shadow() & ~box(POND)
    assert got["cloud"][CLOUD].all()
    np.testing.assert_array_equal(got["cloud"] & ~near(cloud, 12), box(MASKED), err_msg="a speck is no cloud")
    assert (got["cloud"] & ~cloud & ~box(MASKED)).any(), "widened"
    core = ~near(~shadow, 14)  # away from what the 100 m grid and the widening blur
    assert core.sum() > 500
    assert got["shadow"][core].all()
    assert not (got["shadow"] & ~near(shadow, 14)).any(), "dark ground away from a shadow, or beyond reach, is none"


def test_water_in_the_way_of_a_shadow_is_no_shadow(session: Session) -> None:
    for collection in (TOA, SR):
        inner = box((slice(66, 74), slice(78, 92)))
        assert not seen(session, S2Cloudless(buffer_m=20.0), collection)["shadow"][inner].any()


def test_the_reach_of_shadows_is_a_setting(session: Session) -> None:
    far = seen(session, S2Cloudless())["shadow"]
    short = seen(session, S2Cloudless(reach_m=300.0))["shadow"]
    assert short.sum() < 0.6 * far.sum()
    assert not (short & ~near(in_shadow(300.0), 14)).any()
    assert list(seen(session, S2Cloudless(shadows=False))) == ["cloud"]


def test_s2cloudless_is_the_same_in_whatever_tile_it_is_asked_for(session: Session) -> None:
    whole = seen(session, S2Cloudless())
    a, b, c, d, e, f = GRID.transform
    for y, x, height, width in ((0, 0, 97, 113), (97, 113, 103, 127), (40, 60, 31, 53)):
        part = seen(session, S2Cloudless(), grid=Grid(GRID.crs, (a, b, c + a * x, d, e, f + e * y), (height, width)))
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][y : y + height, x : x + width], err_msg=name)


@pytest.mark.parametrize("collection", [TOA, SR])
def test_scene_classes_tell_cloud_shadow_and_no_data(session: Session, collection: str) -> None:
    got = seen(session, SceneClassification(), collection)
    assert np.flatnonzero(got["cloud"][0, :12]).tolist() == [8, 9, 10]
    assert np.flatnonzero(got["shadow"][0, :12]).tolist() == [3]
    assert np.flatnonzero(got["defective"][0, :12]).tolist() == [0, 1]
    np.testing.assert_array_equal(got["cloud"][1:], box(CLOUD)[1:])
    np.testing.assert_array_equal(got["shadow"][1:], (in_shadow() & ~box(POND))[1:])


@pytest.mark.parametrize("collection", [TOA, SR])
def test_qa60_masks_opaque_cloud_and_cirrus(session: Session, collection: str) -> None:
    got = seen(session, Qa60(), collection)
    assert list(got) == ["cloud"]
    np.testing.assert_array_equal(got["cloud"], box(CLOUD, SPECK))


def test_where_qa60_is_masked_nothing_is_clear(session: Session) -> None:
    assert seen(session, Qa60(), "MASKED/QA60")["cloud"].all()


def scene(time: dt.datetime = TIME, *bands: str, sun: bool = True) -> Scene:
    properties = (("MEAN_SOLAR_AZIMUTH_ANGLE", 150.0),) if sun else ()
    return Scene(f"{TOA}/x", time, None, bands, "POINT EMPTY", properties)


def test_what_a_scene_must_carry_itself() -> None:
    toa, sr, visible = scene(TIME, "B3", "B8", "QA60"), scene(TIME, "B8", "SCL"), scene(TIME, "B2", "B3", "B4")
    assert [own_support(CloudScorePlus(), one) for one in (toa, sr, visible)] == [None, None, None]
    assert [own_support(SceneClassification(), one) for one in (toa, sr)] == [None, True]
    assert [own_support(S2Cloudless(), one) for one in (toa, sr, visible)] == [None, None, False]
    assert own_support(S2Cloudless(), scene(TIME, "B3", "B8", sun=False)) is False
    assert own_support(S2Cloudless(shadows=False), visible) is None
    assert [own_support(Qa60(), one) for one in (toa, sr)] == [True, False]


@pytest.mark.parametrize(
    ("day", "there"),
    [("2022-01-24", True), ("2022-01-25", False), ("2023-06-01", False), ("2024-02-28", False), ("2024-02-29", True)],
)
def test_qa60_has_a_gap_of_two_years(day: str, there: bool) -> None:
    time = dt.datetime.fromisoformat(day).replace(hour=12, tzinfo=dt.UTC)
    assert own_support(Qa60(), scene(time, "QA60")) is there


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_survives_json_and_travels(name: str) -> None:
    mask = MASKS[name]()
    assert method_of(mask) == name
    assert mask_from_dict(json.loads(json.dumps(mask_to_dict(mask)))) == mask
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert hash(mask) == hash(MASKS[name]())
    assert str(mask)


def test_no_mask_and_unknown_masks() -> None:
    assert mask_from_dict(mask_to_dict(None)) is None
    with pytest.raises(KeyError):
        mask_from_dict({"method": "guess"})
    with pytest.raises(TypeError):
        mask_from_dict({"method": "qa60", "threshold": 1})


def test_a_mask_says_its_choices() -> None:
    assert str(CloudScorePlus(0.65, "cs_cdf")) == f"cs_cdf >= 0.65 of {SCORES}"
    words: dict[str, Any] = {"reach": str(S2Cloudless(reach_m=1500)), "plain": str(S2Cloudless(40, shadows=False))}
    assert words["reach"] == f"probability > 50 % of {PROBABILITY}, shadows within 1500 m where B8 < 0.15"
    assert words["plain"] == f"probability > 40 % of {PROBABILITY}"

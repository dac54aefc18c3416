"""Four ways to make one image of many, each against its definition pixel by pixel in numpy, over the real wire."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve

from gee.composites import COMPOSITES, Composite
from gee.masks import CloudScorePlus
from gee.pixels import fetch_pixels
from gee.sentinel2 import BANDS, PhaseScenes, phase_image
from gee.session import Session, open_session
from gee.types import Grid, Observed, Scene
from infra.local.earthengine import create_app

COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
COLOURS = ("green", "red", "nir")
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (24, 30))
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
DAYS = {"a": 3, "b": 8, "c": 13, "d": 18, "e": 23}
"""Scene index -> days from the event."""
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def scene(index: str) -> Scene:
    time = EVENT.replace(microsecond=0) + dt.timedelta(days=DAYS[index])
    return Scene(f"{COLLECTION}/{index}", time, None, ("B3", "B4", "B8"), "POINT EMPTY", (), GRID)


def day(index: str) -> int:
    return (scene(index).time - EPOCH).days


def made_scene(index: str) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """DN (band, y, x) and cloud score; few values, so that observations are often equally far from the median."""
    rng = np.random.default_rng(ord(index))
    dn = rng.integers(1, 40, (3, *GRID.shape_yx)) * 100
    score = np.where(rng.random(GRID.shape_yx) < 0.6, 0.9, 0.1)
    return dn.astype(np.uint16), score.astype(np.float32)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue = CatalogueWriter(folder)
    for index in DAYS:
        dn, score = made_scene(index)
        bands = dict(zip((BANDS[colour] for colour in COLOURS), dn, strict=True))
        catalogue.image(f"{COLLECTION}/{index}", bands, GRID, scene(index).time)
        catalogue.image(f"{CloudScorePlus().collection}/{index}", {"cs": score}, GRID, scene(index).time)
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def fetched(
    session: Session, phase: str, composite: Composite | None, indices: str = "abcde"
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(DN (band, y, x), day, code) of a phase."""
    scenes = PhaseScenes(phase, tuple(scene(index) for index in indices), CloudScorePlus(), composite=composite)
    bands = {f"{colour}_{phase}": "int16" for colour in COLOURS}
    bands |= {f"observed_{phase}": "uint8", f"date_{phase}": "int32"}
    expression = ee.serializer.encode(phase_image(scenes, COLOURS), for_cloud_api=True)
    got = fetch_pixels(session, expression, GRID, bands)
    values = np.stack([got[f"{colour}_{phase}"] for colour in COLOURS])
    return values, got[f"date_{phase}"], got[f"observed_{phase}"]


def stacked(indices: str = "abcde") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """DN (scene, band, y, x), NaN where it is not clear, and where each scene is clear."""
    dn = np.stack([made_scene(index)[0] for index in indices]).astype(float)
    clear = np.stack([made_scene(index)[1] > 0.6 for index in indices])
    return np.where(clear[:, None], dn, np.nan), clear


def taken(values: npt.NDArray[Any], which: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The observation number `which` (y, x) of (scene, band, y, x)."""
    found: npt.NDArray[Any] = np.take_along_axis(values, which[None, None], axis=0)[0]
    return found


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_the_median_is_that_of_each_band_and_its_day_the_latest(session: Session, phase: str) -> None:
    values, date, code = fetched(session, phase, "median")
    wanted, clear = stacked()
    seen = clear.any(axis=0)
    np.testing.assert_array_equal(code == Observed.CLEAR, seen)
    np.testing.assert_array_equal(values[:, seen], np.floor(np.nanmedian(wanted[:, :, seen], axis=0) + 0.5))
    days = np.array([day(index) for index in DAYS])[:, None, None]
    np.testing.assert_array_equal(date, np.where(seen, np.where(clear, days, -1).max(axis=0), -1))
    assert (values[:, ~seen] == -32_768).all()
    assert (~seen).any()


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_the_earliest_clear_observation_is_taken_whole(session: Session, phase: str) -> None:
    values, date, _ = fetched(session, phase, "earliest_clear")
    wanted, clear = stacked()
    seen, first = clear.any(axis=0), clear.argmax(axis=0)
    np.testing.assert_array_equal(values[:, seen], taken(wanted, first)[:, seen])
    np.testing.assert_array_equal(date[seen], np.array([day(index) for index in DAYS])[first][seen])


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_the_medoid_is_the_observation_nearest_to_the_median(session: Session, phase: str) -> None:
    values, date, _ = fetched(session, phase, "medoid")
    wanted, clear = stacked()
    seen = clear.any(axis=0)
    distance = ((wanted - np.nanmedian(np.where(seen, wanted, 0), axis=0)) ** 2).sum(axis=1)
    distance[~clear] = np.inf
    # Of equals the one nearest to the event: the latest before it, the earliest after it.
    last, first = len(DAYS) - 1 - distance[::-1].argmin(axis=0), distance.argmin(axis=0)
    which = last if phase == "pre" else first
    ties = (distance == distance.min(axis=0)).sum(axis=0) > 1
    assert (ties & seen).sum() > 20, "two observations are always equally near to their median"
    np.testing.assert_array_equal(values[:, seen], taken(wanted, which)[:, seen])
    np.testing.assert_array_equal(date[seen], np.array([day(index) for index in DAYS])[which][seen])


def test_of_one_pass_everything_comes_from_one_day(session: Session) -> None:
    values, date, code = fetched(session, "post", "least_cloudy", "c")
    wanted, clear = stacked("c")
    assert set(np.unique(date)) == {-1, day("c")}
    np.testing.assert_array_equal(values[:, clear[0]], wanted[0][:, clear[0]])
    np.testing.assert_array_equal(code == Observed.CLEAR, clear[0])


def test_each_phase_has_its_usual_composite(session: Session) -> None:
    for phase, usual in (("pre", "median"), ("post", "earliest_clear")):
        default, named = fetched(session, phase, None), fetched(session, phase, usual)  # type: ignore[arg-type]
        for a, b in zip(default, named, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_real_observation_is_one_of_those_that_were_made(session: Session) -> None:
    wanted, clear = stacked()
    for composite in COMPOSITES[1:3]:
        values, _, code = fetched(session, "post", composite)
        same = (np.nan_to_num(wanted) == values[None]).all(axis=1) & clear
        assert same.any(axis=0)[code == Observed.CLEAR].all(), composite

"""What the catalogue has, in as few requests as possible, and why a collection was taken."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import httpx
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from gee.catalog import _described, asset_exists, find_scenes, in_pages, linked_scenes, list_scenes
from gee.errors import NoScenesError, PermanentError
from gee.session import Session, open_session
from gee.types import Grid, Scene, Window
from infra.local.earthengine import create_app

COLLECTION = "COPERNICUS/S2_HARMONIZED"
SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
SRTM = "USGS/SRTMGL1_003"
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
BEFORE = Window(EVENT - dt.timedelta(days=90), EVENT)
AFTER = Window(EVENT, EVENT + dt.timedelta(days=60))
AREA = box(142.0, 42.6, 142.1, 42.7)
NEAR = Grid("EPSG:4326", (0.01, 0.0, 141.95, 0.0, -0.01, 42.75), (20, 20))
FAR = Grid("EPSG:4326", (0.01, 0.0, 150.0, 0.0, -0.01, 42.75), (20, 20))
FIJI = MultiPolygon([box(179.9, -17.0, 180.0, -16.9), box(-180.0, -17.0, -179.95, -16.9)])


def days(count: float) -> dt.datetime:
    return EVENT.replace(microsecond=0) + dt.timedelta(days=count)


def write_catalogue(catalogue: CatalogueWriter) -> None:
    ones = np.ones((20, 20), np.uint16)
    visible = {"B2": ones, "B3": ones, "B4": ones}

    def put(index: str, when: float, cloud: float | None, grid: Grid = NEAR, **more: Any) -> None:
        properties = {"MGRS_TILE": "54TXN"} | ({} if cloud is None else {"CLOUDY_PIXEL_PERCENTAGE": cloud})
        catalogue.image(f"{COLLECTION}/{index}", visible | more, grid, days(when), properties)

    put("late", -1, 5.0)
    put("early", -60, 20.5, B8=ones)
    put("cloudy", -30, 95.0)
    put("unrated", -40, None)
    put("too_early", -91, 1.0)
    put("elsewhere", -10, 1.0, FAR)
    put("east", -9, 1.0, Grid("EPSG:4326", (0.01, 0.0, 179.9, 0.0, -0.01, -16.85), (20, 9)))
    put("west", -8, 1.0, Grid("EPSG:4326", (0.01, 0.0, -179.99, 0.0, -0.01, -16.85), (20, 9)))
    put("after", 4, 3.0)
    put("on_the_minute", 0, 1.0)
    for index in ("late", "early"):
        catalogue.image(f"{SCORES}/{index}", {"cs": ones.astype(np.float32)}, NEAR, EVENT)
    catalogue.collection("EMPTY/COLLECTION")
    catalogue.image("ONLY/BEFORE/x", visible, NEAR, days(-3))
    heights = np.full((20, 20), 100, np.int16)
    catalogue.image(SRTM, {"elevation": heights}, NEAR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(root))
    return root


@pytest.fixture(scope="module")
def session(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def requests_of(session: Session) -> list[str]:
    log = httpx.get(f"{session.config.url}/_standin/log", trust_env=False).json()["requests"]
    return [entry["path"] for entry in log]


def names(scenes: Any) -> list[str]:
    return [scene.id.rpartition("/")[2] for scene in scenes]


def test_scenes_come_in_one_request_sorted_by_time(session: Session) -> None:
    httpx.delete(f"{session.config.url}/_standin/log", trust_env=False)
    scenes = list_scenes(session, COLLECTION, AREA, BEFORE)
    assert names(scenes) == ["early", "unrated", "cloudy", "late"]
    assert requests_of(session) == ["/v1/projects/local/value:compute"]


def test_a_scene_is_described(session: Session) -> None:
    early = list_scenes(session, COLLECTION, AREA, BEFORE)[0]
    assert early.id == f"{COLLECTION}/early"
    assert early.time == days(-60)
    assert early.cloud_percent == 20.5
    assert early.bands == ("B2", "B3", "B4", "B8")
    assert dict(early.properties) == {"MGRS_TILE": "54TXN"}
    assert "POLYGON" in early.footprint_wkt


def test_a_scene_knows_its_raster(session: Session) -> None:
    assert {scene.grid for scene in list_scenes(session, COLLECTION, AREA, BEFORE)} == {NEAR}


def test_a_scene_survives_json(session: Session) -> None:
    for scene in list_scenes(session, COLLECTION, AREA, BEFORE):
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
        assert pickle.loads(pickle.dumps(scene)) == scene
        assert scene.id == f"{COLLECTION}/{scene.index}"


def test_only_what_a_scene_holds_travels(session: Session) -> None:
    scene = session.compute(
        ee.ImageCollection([ee.Image(f"{COLLECTION}/early")]).map(
            lambda image: _described(image, ["MGRS_TILE", "gone"])
        )
    )
    (described,) = scene["features"]
    assert set(described["properties"]) == {"MGRS_TILE", "system:index", "system:footprint"}
    assert "system:asset_size" in session.compute(ee.Image(f"{COLLECTION}/early"))["properties"]


@pytest.mark.parametrize("page", [2, 3, 4])
def test_a_list_longer_than_a_page_is_asked_for_in_parts(session: Session, page: int) -> None:
    httpx.delete(f"{session.config.url}/_standin/log", trust_env=False)
    assert names(list_scenes(session, COLLECTION, AREA, BEFORE, page=page)) == ["early", "unrated", "cloudy", "late"]
    assert 1 < len(requests_of(session)) < 40


def test_more_scenes_at_one_instant_than_a_page_holds_are_refused(session: Session) -> None:
    with pytest.raises(PermanentError, match="1 scenes or more share the time"):
        list_scenes(session, COLLECTION, AREA, BEFORE, page=1)


@settings(max_examples=25, deadline=None)
@given(
    times=st.lists(st.integers(0, 5_000), max_size=60, unique=True),
    page=st.integers(2, 20),
    length=st.integers(1, 5_000),
)
def test_pages_hold_every_scene_of_the_window_once(times: list[int], page: int, length: int) -> None:
    def ask(start: int, end: int) -> list[int]:
        return [time for time in times if start <= time < end][:page]

    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    window = Window(epoch, epoch + dt.timedelta(milliseconds=length))
    assert sorted(in_pages(ask, window, page)) == sorted(time for time in times if time < length)


def test_the_window_is_half_open(session: Session) -> None:
    start = days(0)
    assert names(list_scenes(session, COLLECTION, AREA, Window(start, AFTER.end))) == ["on_the_minute", "after"]
    assert "on_the_minute" not in names(list_scenes(session, COLLECTION, AREA, Window(BEFORE.start, start)))


def test_cloudy_scenes_are_left_out_and_unrated_ones_kept(session: Session) -> None:
    assert names(list_scenes(session, COLLECTION, AREA, BEFORE, maximum_cloud_percent=50)) == [
        "early",
        "unrated",
        "late",
    ]
    assert names(list_scenes(session, COLLECTION, AREA, BEFORE, maximum_cloud_percent=20.5))[0] == "early"


def test_an_area_across_the_antimeridian_finds_scenes_on_both_sides(session: Session) -> None:
    assert names(list_scenes(session, COLLECTION, FIJI, BEFORE)) == ["east", "west"]
    assert names(list_scenes(session, COLLECTION, box(179.8, -17, 179.85, -16.9), BEFORE)) == []


def test_a_footprint_that_only_its_box_meets_is_left_out(session: Session) -> None:
    around = box(141.0, 42.0, 143.0, 43.5).difference(box(141.9, 42.5, 142.2, 42.8))
    assert list_scenes(session, COLLECTION, around, BEFORE) == []


def test_a_collection_that_does_not_exist_is_named(session: Session) -> None:
    with pytest.raises(PermanentError, match="NO/SUCH"):
        list_scenes(session, "NO/SUCH", AREA, BEFORE)


def test_the_first_collection_with_both_phases_is_used(session: Session) -> None:
    found = find_scenes(session, ["NO/SUCH", "ONLY/BEFORE", COLLECTION], AREA, BEFORE, AFTER, maximum_cloud_percent=90)
    assert found.collection == COLLECTION
    assert (names(found.pre), names(found.post)) == (["early", "unrated", "late"], ["on_the_minute", "after"])


def test_without_scenes_it_is_said_what_each_collection_has(session: Session) -> None:
    with pytest.raises(NoScenesError) as caught:
        find_scenes(session, ["NO/SUCH", "ONLY/BEFORE", "EMPTY/COLLECTION"], AREA, BEFORE, AFTER)
    words = str(caught.value)
    assert "NO/SUCH does not exist here" in words
    assert "ONLY/BEFORE has 1 scenes before and 0 after" in words
    assert "EMPTY/COLLECTION has 0 scenes before and 0 after" in words
    assert "2018-06-07 to 2018-09-05" in words


def test_linked_scenes_are_those_with_an_image_of_the_same_index(session: Session) -> None:
    scenes = list_scenes(session, COLLECTION, AREA, BEFORE)
    assert linked_scenes(session, SCORES, scenes) == {f"{COLLECTION}/late", f"{COLLECTION}/early"}
    assert linked_scenes(session, "EMPTY/COLLECTION", scenes) == frozenset()
    assert linked_scenes(session, "NO/SUCH", scenes) == frozenset()
    assert linked_scenes(session, "", scenes) == frozenset()
    assert linked_scenes(session, SCORES, []) == frozenset()


def test_assets_exist_or_not(session: Session) -> None:
    assert asset_exists(session, COLLECTION)
    assert asset_exists(session, SRTM)
    assert asset_exists(session, "EMPTY/COLLECTION")
    assert not asset_exists(session, "NO/SUCH")
    assert not asset_exists(session, "projects/local/assets/nothing")

"""Results become assets once, are never replaced, and a lost answer or a second run does no harm."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ee
import httpx
import numpy as np
import pytest
import rasterio
from fakes.servers import serve
from rasterio.transform import Affine

from gee.assets import HASH_PROPERTY, ensure_folder, import_cog_image, import_table
from gee.catalog import asset_info
from gee.errors import AssetError
from gee.pixels import fetch_pixels
from gee.session import Session, open_session
from gee.store import open_store
from gee.types import Grid
from infra.local.earthengine import create_app as create_earth_engine
from infra.local.storage import create_app as create_storage

ROOT = "projects/local/assets"
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (40, 50))
SEEN = dt.datetime(2018, 9, 9, 1, 16, 31, tzinfo=dt.UTC)
PROPERTIES = {"event_id": "us2000h8ty", "version": 1, "observed_fraction": 0.75}


@dataclass
class World:
    """Both stand-ins and a session on them."""

    session: Session
    endpoint: str

    def upload(self, key: str, body: bytes) -> str:
        open_store("gs://quakeslide", self.endpoint).write(key, body)
        return f"gs://quakeslide/{key}"

    def fault(self, **fault: Any) -> None:
        httpx.post(f"{self.session.config.url}/_standin/faults", json=fault, trust_env=False).raise_for_status()

    def asked(self, path: str) -> int:
        log = httpx.get(f"{self.session.config.url}/_standin/log", trust_env=False).json()["requests"]
        return sum(entry["path"].endswith(path) for entry in log)

    def forget(self) -> None:
        for what in ("log", "faults"):
            httpx.delete(f"{self.session.config.url}/_standin/{what}", trust_env=False)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folders = [tmp_path_factory.mktemp(name) for name in ("bucket", "catalogue", "state")]
    with serve(create_storage(folders[0])) as endpoint:
        httpx.post(f"{endpoint}/storage/v1/b", params={"project": "p"}, json={"name": "quakeslide"}, trust_env=False)
        app = create_earth_engine(folders[1], folders[2], storage_endpoint=endpoint, operation_s=0.05)
        with serve(app) as url, open_session(url, "local", timeout_s=30.0, max_attempts=3) as session:
            yield World(session, endpoint)


@pytest.fixture
def world(running: World) -> World:
    running.forget()
    return running


@pytest.fixture
def cog(world: World, tmp_path: Path) -> str:
    """A COG of two bands in the bucket."""
    path = tmp_path / "map.tif"
    profile = {"count": 2, "height": 40, "width": 50, "dtype": "float32", "crs": GRID.crs, "nodata": np.nan}
    with rasterio.open(path, "w", driver="COG", transform=Affine(*GRID.transform), **profile) as file:
        file.write(np.stack([np.full((40, 50), 0.25), np.arange(2000.0).reshape(40, 50)]).astype(np.float32))
    return world.upload("events/e/map.tif", path.read_bytes())


@pytest.fixture
def table(world: World) -> str:
    """A CSV of two polygons in the bucket."""
    square = json.dumps({"type": "Polygon", "coordinates": [[[142, 42], [142.1, 42], [142.1, 42.1], [142, 42]]]})
    quoted = '"' + square.replace('"', '""') + '"'
    return world.upload(
        "events/e/slides.csv", f"slide_id,area_m2,geometry\n1,400.5,{quoted}\n2,900,{quoted}\n".encode()
    )


def image(world: World, cog: str, name: str, content_hash: str = "abc") -> bool:
    bands = ["probability", "place"]
    return import_cog_image(world.session, name, cog, bands, PROPERTIES, start=SEEN, content_hash=content_hash)


def test_folders_are_made_with_those_above_them_and_once(world: World) -> None:
    for _ in range(2):
        ensure_folder(world.session, f"{ROOT}/quakeslide/us2000h8ty/v1")
    assert world.asked("/assets") == 3
    info = asset_info(world.session, f"{ROOT}/quakeslide/us2000h8ty")
    assert info is not None
    assert info["type"] == "FOLDER"


def test_two_runs_may_make_the_same_folder_at_once(world: World) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure_folder(world.session, f"{ROOT}/at/once/four"), range(4)))


def test_a_cog_becomes_an_image_with_its_names_and_times(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/images")
    assert image(world, cog, f"{ROOT}/images/map")
    info = asset_info(world.session, f"{ROOT}/images/map")
    assert info is not None
    assert info["type"] == "IMAGE"
    assert [band["id"] for band in info["bands"]] == ["probability", "place"]
    assert info["properties"].items() >= {**PROPERTIES, HASH_PROPERTY: "abc"}.items()
    assert info["startTime"].startswith("2018-09-09T01:16:31")
    expression = ee.serializer.encode(ee.Image(f"{ROOT}/images/map"), for_cloud_api=True)
    pixels = fetch_pixels(world.session, expression, GRID, {"place": "float32"})
    np.testing.assert_array_equal(pixels["place"], np.arange(2000.0).reshape(40, 50))


def test_the_same_content_is_written_once(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/once")
    assert image(world, cog, f"{ROOT}/once/map")
    assert not image(world, cog, f"{ROOT}/once/map")
    assert world.asked("image:importExternal") == 1


def test_other_content_under_a_taken_name_is_refused(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/taken")
    image(world, cog, f"{ROOT}/taken/map")
    with pytest.raises(AssetError, match=r"taken by other content.*'abc', not 'xyz'.*new version"):
        image(world, cog, f"{ROOT}/taken/map", "xyz")


def test_a_lost_answer_does_not_write_twice_or_fail(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/lost")
    world.fault(match="importExternal", cut_after=10)
    assert image(world, cog, f"{ROOT}/lost/map") is False, "the second attempt finds what the first one wrote"
    assert asset_info(world.session, f"{ROOT}/lost/map") is not None


def test_a_passing_failure_is_waited_for(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/busy")
    world.fault(match="importExternal", status=503)
    assert image(world, cog, f"{ROOT}/busy/map")


def test_a_missing_source_or_folder_is_said_with_earth_engines_words(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/wrong")
    with pytest.raises(AssetError, match=r"wrong/map could not be written.*HTTP 4.*nothing\.tif"):
        image(world, "gs://quakeslide/nothing.tif", f"{ROOT}/wrong/map")
    with pytest.raises(AssetError, match=r"no_folder/map could not be written: HTTP 4"):
        image(world, cog, f"{ROOT}/no_folder/map")


def test_a_table_becomes_features(world: World, table: str) -> None:
    ensure_folder(world.session, f"{ROOT}/tables")
    name = f"{ROOT}/tables/slides"
    write = write_table(world, table, name)
    assert write()
    assert not write(), "the same content is there"
    assert world.asked("table:import") == 1
    features = ee.FeatureCollection(name)
    assert world.session.compute(features.aggregate_array("area_m2")) == [400.5, 900]
    assert world.session.compute(features.geometry().bounds().area(1)) > 5e7
    info = asset_info(world.session, name)
    assert info is not None
    assert (info["type"], info["properties"][HASH_PROPERTY]) == ("TABLE", "abc")


def test_a_table_that_cannot_be_read_is_said(world: World) -> None:
    ensure_folder(world.session, f"{ROOT}/broken")
    with pytest.raises(AssetError, match=r"broken/slides could not be written: its ingestion failed: .*nothing\.csv"):
        write_table(world, "gs://quakeslide/nothing.csv", f"{ROOT}/broken/slides")()


def test_a_table_that_takes_too_long_can_be_waited_for_later(world: World, table: str) -> None:
    ensure_folder(world.session, f"{ROOT}/slow")
    with pytest.raises(AssetError, match=r"not there yet.*run again later"):
        write_table(world, table, f"{ROOT}/slow/slides", deadline_s=0.0)()
    write_table(world, table, f"{ROOT}/slow/slides")()
    assert asset_info(world.session, f"{ROOT}/slow/slides") is not None


@pytest.mark.parametrize("name", ["quakeslide/map", "projects/local/map", "projects/local/assets/", "a//b"])
def test_a_name_that_is_none_is_refused(world: World, name: str) -> None:
    with pytest.raises(AssetError, match="no asset name"):
        ensure_folder(world.session, name)


def test_a_folder_that_is_an_image_is_refused(world: World, cog: str) -> None:
    ensure_folder(world.session, f"{ROOT}/mixed")
    image(world, cog, f"{ROOT}/mixed/map")
    with pytest.raises(AssetError, match=r"mixed/map is no folder but IMAGE"):
        ensure_folder(world.session, f"{ROOT}/mixed/map/below")


def write_table(world: World, uri: str, name: str, deadline_s: float = 20.0) -> Callable[[], bool]:
    return lambda: import_table(
        world.session, name, uri, PROPERTIES, start=SEEN, content_hash="abc", deadline_s=deadline_s
    )

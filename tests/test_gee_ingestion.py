"""gee/ingestion.py: results become assets once, are never replaced, and a lost answer or a second run does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ee
import numpy as np
import pytest
from fakes.assets import BANDS, GRID, PROPERTIES, ROOT, AssetWorld, asset_world, image, table

from gee import operations
from gee.assets import ensure_collection, ensure_folder, find_asset
from gee.catalog import asset_info
from gee.errors import AssetError
from gee.ingestion import (
    HASH_PROPERTY,
    MAX_VERTICES,
    WRITTEN_PROPERTY,
    check_table,
    manifest_of,
    write_assets,
)
from gee.pixels import fetch_pixels

WAIT_S = 120.0
"""The wait ends when the work does: only a machine with too much to do needs so long."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssetWorld]:
    with asset_world(tmp_path_factory.mktemp("world")) as world:
        ensure_folder(world.session, f"{ROOT}/t")
        yield world


@pytest.fixture
def world(running: AssetWorld, monkeypatch: pytest.MonkeyPatch) -> AssetWorld:
    monkeypatch.setattr(operations, "POLL_S", 0.05)
    running.forget()
    return running


def place(world: AssetWorld, name: str) -> np.ndarray:
    expression = ee.serializer.encode(ee.Image(f"{ROOT}/{name}").unmask(-1), for_cloud_api=True)
    return np.asarray(fetch_pixels(world.session, expression, GRID, {"place": "float32"})["place"])


COUNTED = np.arange(2000.0).reshape(40, 50)


def test_a_cog_becomes_an_image_with_its_names_and_times(world: AssetWorld) -> None:
    uri = world.cog()
    assert write_assets(world.session, [image("t/map", uri)], WAIT_S) == (f"{ROOT}/t/map",)
    info = asset_info(world.session, f"{ROOT}/t/map")
    assert info is not None
    assert info["type"] == "IMAGE"
    assert [band["id"] for band in info["bands"]] == list(BANDS)
    assert info["properties"].items() >= {**PROPERTIES, HASH_PROPERTY: "abc"}.items()
    assert info["startTime"].startswith("2018-09-09T01:16:31")
    assert info["cloudStorageLocation"]["uris"][0].startswith(f"{uri}#")
    np.testing.assert_array_equal(place(world, "t/map"), COUNTED)


def test_an_ingested_image_needs_its_source_no_longer(world: AssetWorld) -> None:
    uri = world.cog("events/e/copied.tif")
    write_assets(world.session, [image("t/copied", uri, ingested=True, missing=(7,))], WAIT_S)
    world.remove("events/e/copied.tif")
    found = place(world, "t/copied")
    assert found[0, 7] == -1, "masked"
    np.testing.assert_array_equal(np.delete(found, 7), np.delete(COUNTED, 7))


def test_a_manifest_says_how_a_pyramid_is_made_of_codes() -> None:
    codes = manifest_of(image("t/x", "gs://b/x.tif", bands=("mask",), ingested=True, categories=True, missing=(255,)))
    assert codes["bands"] == [{"id": "mask", "tilesetId": "0", "tilesetBandIndex": 0, "pyramidingPolicy": "MODE"}]
    assert codes["missingData"] == {"values": [255]}
    backed = manifest_of(image("t/x", "gs://b/x.tif", categories=True, missing=(255,)))
    assert "pyramidingPolicy" not in backed["bands"][0], "a COG brings its own overviews"
    assert "missingData" not in backed


def test_images_of_one_collection_are_read_by_their_properties(world: AssetWorld) -> None:
    ensure_collection(world.session, f"{ROOT}/t/probability")
    uri = world.cog()
    images = [image(f"t/probability/run{n}", uri, properties={"run_key": f"r{n}", "version": n}) for n in (1, 2)]
    write_assets(world.session, [*images, image("t/probability/unpublished", uri)], WAIT_S)
    versions = ee.ImageCollection(f"{ROOT}/t/probability").filter(ee.Filter.notNull(["version"]))
    assert world.session.compute(versions.aggregate_array("version")) == [1, 2]
    latest = ee.Image(versions.sort("version", False).first())
    assert world.session.compute(latest.get("run_key")) == "r2"


def test_the_same_content_is_written_once_and_is_touched(world: AssetWorld) -> None:
    uri = world.cog()
    write_assets(world.session, [image("t/once", uri)], WAIT_S)
    first = find_asset(world.session, f"{ROOT}/t/once")
    assert write_assets(world.session, [image("t/once", uri)], WAIT_S) == ()
    second = find_asset(world.session, f"{ROOT}/t/once")
    assert world.asked("image:importExternal") == 1
    assert first is not None
    assert second is not None
    assert str(second.properties[WRITTEN_PROPERTY]) > str(first.properties[WRITTEN_PROPERTY])


def test_other_content_under_a_taken_name_is_refused_before_anything_is_written(world: AssetWorld) -> None:
    uri = world.cog()
    write_assets(world.session, [image("t/taken", uri)], WAIT_S)
    with pytest.raises(AssetError, match=r"taken by other content.*'abc', not 'xyz'.*another name"):
        write_assets(world.session, [image("t/free", uri), image("t/taken", uri, "xyz")], WAIT_S)
    assert find_asset(world.session, f"{ROOT}/t/free") is None


@pytest.mark.parametrize("ingested", [False, True])
def test_a_lost_answer_does_not_write_twice_or_fail(world: AssetWorld, ingested: bool) -> None:
    name = f"t/lost{ingested}"
    world.fault(match="image:import", cut_after=10)
    write_assets(world.session, [image(name, world.cog(), ingested=ingested)], WAIT_S)
    np.testing.assert_array_equal(place(world, name), COUNTED)
    operations_begun = world.session.call("GET", "/v1/projects/local/operations")["operations"]
    assert sum(name in operation["metadata"]["description"] for operation in operations_begun) == ingested


def test_a_passing_failure_is_waited_for(world: AssetWorld) -> None:
    world.fault(match="importExternal", status=503)
    assert write_assets(world.session, [image("t/busy", world.cog())], WAIT_S)


def test_two_runs_write_the_same_at_the_same_time(world: AssetWorld) -> None:
    assets = [image("t/race", world.cog()), image("t/race_in", world.cog(), ingested=True), table("t/rt", world.csv())]
    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(write_assets, world.session, assets, WAIT_S) for _ in range(3)]:
            future.result()
    begun = world.session.call("GET", "/v1/projects/local/operations")["operations"]
    for name in ("t/race_in", "t/rt"):
        assert sum(f'{ROOT}/{name}"' in operation["metadata"]["description"] for operation in begun) == 1
    np.testing.assert_array_equal(place(world, "t/race"), COUNTED)


def test_a_missing_source_or_folder_is_said_with_earth_engines_words(world: AssetWorld) -> None:
    with pytest.raises(AssetError, match=r"t/wrong could not be written: .*HTTP 4.*nothing\.tif"):
        write_assets(world.session, [image("t/wrong", "gs://quakeslide/nothing.tif")], WAIT_S)
    with pytest.raises(AssetError, match=r"no_folder/map could not be written: HTTP 4"):
        write_assets(world.session, [image("no_folder/map", world.cog())], WAIT_S)


def test_one_that_fails_does_not_keep_the_others_from_being_written(world: AssetWorld) -> None:
    assets = [
        image("t/bad", "gs://quakeslide/nothing.tif"), table("t/bad_table", "gs://quakeslide/nothing.csv"),
        image("t/good", world.cog()), table("t/good_table", world.csv()),
    ]  # fmt: skip
    with pytest.raises(AssetError, match=r"t/bad could not.*t/bad_table could not .*FAILED: .*nothing\.csv") as caught:
        write_assets(world.session, assets, WAIT_S)
    assert "good" not in str(caught.value)
    for name in ("good", "good_table"):
        assert find_asset(world.session, f"{ROOT}/t/{name}") is not None


def test_a_table_becomes_features(world: AssetWorld) -> None:
    asset = table("t/slides", world.csv())
    assert write_assets(world.session, [asset], WAIT_S)
    assert not write_assets(world.session, [asset], WAIT_S), "the same content is there"
    assert world.asked("table:import") == 1
    features = ee.FeatureCollection(asset.name)
    assert world.session.compute(features.aggregate_array("area_m2")) == [400.5, 900]
    assert world.session.compute(features.geometry().bounds().area(1)) > 5e7
    info = asset_info(world.session, asset.name)
    assert info is not None
    assert (info["type"], info["properties"][HASH_PROPERTY]) == ("TABLE", "abc")
    assert info["startTime"].startswith("2018-09-09")


def test_a_table_without_rows_is_refused_by_earth_engine(world: AssetWorld) -> None:
    with pytest.raises(AssetError, match="no features"):
        write_assets(world.session, [table("t/empty", world.upload("empty.csv", b"a,geometry\n"))], WAIT_S)


def test_what_failed_once_may_succeed_later(world: AssetWorld) -> None:
    asset = table("t/later", "gs://quakeslide/later.csv")
    for _ in range(2):
        with pytest.raises(AssetError, match=r"later\.csv"):
            write_assets(world.session, [asset], WAIT_S)
    world.csv("later.csv")
    assert write_assets(world.session, [asset], WAIT_S) == (asset.name,)


@pytest.mark.parametrize(
    ("rows", "columns", "vertices", "text", "words"),
    [
        (1, 1001, 4, 9, "1,001 columns"), (1, 9, MAX_VERTICES + 1, 9, "1,000,001 vertices in one geometry"),
        (1, 9, 4, 100_001, "100,001 characters"), (100_000_001, 9, 4, 9, "100,000,001 rows"),
    ],
)  # fmt: skip
def test_a_table_that_earth_engine_would_refuse_is_told_beforehand(
    rows: int, columns: int, vertices: int, text: int, words: str
) -> None:
    check_table(1, 1000, MAX_VERTICES, 100_000)
    with pytest.raises(AssetError, match=f"the table has {words}.*simplify"):
        check_table(rows, columns, vertices, text)


class TestTakingLong:
    """An ingestion that takes longer than a run waits for it."""

    @pytest.fixture
    def slow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AssetWorld]:
        monkeypatch.setattr(operations, "POLL_S", 0.05)
        with asset_world(tmp_path, operation_s=1.0) as world:
            ensure_folder(world.session, f"{ROOT}/t")
            yield world

    def test_a_later_run_goes_on_waiting_for_the_same_operations(self, slow: AssetWorld) -> None:
        assets = [table("t/slides", slow.csv()), image("t/map", slow.cog(), ingested=True)]
        pattern = r"t/slides could not be written: its ingestion is (PENDING|RUNNING) since 20.*operations/.*t/map"
        with pytest.raises(AssetError, match=pattern) as caught:
            write_assets(slow.session, assets, 0.1)
        assert "a later run goes on waiting" in str(caught.value)
        assert write_assets(slow.session, assets, WAIT_S) == tuple(asset.name for asset in assets)
        assert len(slow.session.call("GET", "/v1/projects/local/operations")["operations"]) == 2

    def test_a_cancelled_ingestion_is_told_and_begun_anew(self, slow: AssetWorld) -> None:
        asset = table("t/slides", slow.csv())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(write_assets, slow.session, [asset], WAIT_S)
            while not (begun := slow.session.call("GET", "/v1/projects/local/operations").get("operations")):
                pass
            slow.session.call("POST", f"/v1/{begun[0]['name']}:cancel", {})
            with pytest.raises(AssetError, match=r"its ingestion has CANCELLED: Cancelled\."):
                waiting.result()
        assert write_assets(slow.session, [asset], WAIT_S) == (asset.name,)

    def test_a_result_that_was_deleted_is_made_again(self, slow: AssetWorld) -> None:
        asset = table("t/slides", slow.csv())
        write_assets(slow.session, [asset], WAIT_S)
        slow.session.call("DELETE", f"/v1/{asset.name}")
        assert write_assets(slow.session, [asset], WAIT_S) == (asset.name,)


class TestFull:
    """Nothing more may be kept, or may wait."""

    def test_no_room_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        with asset_world(tmp_path, max_assets=3) as world:
            ensure_folder(world.session, f"{ROOT}/t")
            assets = [image(f"t/{n}", world.cog()) for n in range(3)]
            words = (
                r"project 'local' has no room for 3 more assets.*1 of 3 assets.*quakeslide tidy.*ask for more at http"
            )
            with pytest.raises(AssetError, match=words):
                write_assets(world.session, assets, WAIT_S)
            assert world.asked("importExternal") == 0
            assert write_assets(world.session, assets[:2], WAIT_S)

    def test_bytes_count_for_what_is_ingested_only(self, tmp_path: Path) -> None:
        with asset_world(tmp_path, max_bytes=500) as world:
            ensure_folder(world.session, f"{ROOT}/t")
            uri = world.cog()
            assert write_assets(world.session, [image("t/backed", uri, size_bytes=10_000)], WAIT_S)
            with pytest.raises(AssetError, match=r"no room for 1 more assets of 0\.01 MB: .*0 of 5e-07 GB"):
                write_assets(world.session, [image("t/copied", uri, ingested=True, size_bytes=10_000)], WAIT_S)
            # A size that nobody knew beforehand: Earth Engine says it at the end.
            with pytest.raises(
                AssetError, match=r"FAILED: Asset storage quota exceeded.*holds 1?.* of .*Delete assets"
            ):
                write_assets(world.session, [image("t/copied", uri, ingested=True)], WAIT_S)
            assert not list((tmp_path / "state" / "rasters").iterdir()), "what was copied in vain is removed"

    @pytest.mark.parametrize("status", [400, 429])
    def test_earth_engines_word_on_quota_is_explained(self, world: AssetWorld, status: int) -> None:
        words = "Asset count quota exceeded for 'projects/local'."
        world.fault(match="importExternal", status=status, count=1000, message=words)
        with pytest.raises(AssetError, match=r"Asset count quota exceeded.*holds \d+ of 10,000 assets.*Delete assets"):
            write_assets(world.session, [image("t/over", world.cog())], WAIT_S)

    def test_a_full_queue_is_waited_for_and_told_at_the_deadline(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "POLL_S", 0.05)
        with asset_world(tmp_path, operation_s=1.0, max_queued=1) as world:
            ensure_folder(world.session, f"{ROOT}/t")
            assets = [table("t/one", world.csv()), table("t/two", world.csv())]
            words = r"t/two could not be.*Too many tasks already in the queue \(1\).*exports of project.*cancel them"
            with pytest.raises(AssetError, match=words):
                write_assets(world.session, assets, 0.2)
            assert write_assets(world.session, assets, WAIT_S)
            for asset in assets:
                assert find_asset(world.session, asset.name) is not None

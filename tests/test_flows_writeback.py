"""flows/writeback.py: versions as images of a collection, whoever is killed or races; the table as Earth Engine reads it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ee
import httpx
import numpy as np
import pystac
import pytest
from fakes.assets import AssetWorld
from fakes.scenes import array_scene
from fakes.written import Desk, desk, desks
from shapely.geometry import shape

from flows import map_event
from flows.asset_names import asset_containers, asset_names
from flows.layout import FACTS
from flows.publish import find_publication, make_visible
from flows.settings import EarthEngineSettings, Settings
from flows.storage import Store
from flows.writeback import check_targets, write_csv
from gee import operations
from gee.assets import delete_asset
from gee.errors import AssetError
from modeling.vectors.inventory import SCHEMA, empty_inventory, vectorise


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AssetWorld, Store]]:
    with desks(tmp_path_factory.mktemp("world")) as both:
        yield both


@pytest.fixture
def at(running: tuple[AssetWorld, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with an event of its own."""
    monkeypatch.setattr(operations, "POLL_S", 0.05)
    running[0].forget()
    return desk(*running, tmp_path)


def versions(at: Desk, name: str = "probability") -> dict[str, int]:
    """Version by last part of the name, of what readers see."""
    return {
        asset.label: int(asset.properties["version"])
        for asset in at.assets()[name]
        if "version" in asset.properties
    }  # fmt: skip


def test_names_are_known_by_event_run_and_digest() -> None:
    settings = Settings(earthengine=EarthEngineSettings(project="p", asset_root="/maps/quakes/"))
    folder = "projects/p/assets/maps/quakes/us1"
    kinds = ("probability", "mask", "observed", "landslides")
    assert asset_containers("us1", settings) == {name: f"{folder}/{name}" for name in kinds}
    assert asset_names("us1", settings, "ab", "cd") == {name: f"{folder}/{name}/ab_cd" for name in kinds}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("readers", ("everybody",), "'everybody' is nobody"), ("asset_root", "two words", "'two words' may hold")],
)
def test_settings_that_earth_engine_would_refuse_are_told_at_the_start(field: str, value: Any, words: str) -> None:
    check_targets("us1", Settings(earthengine=EarthEngineSettings(project="p", readers=("allUsers",))))
    with pytest.raises(AssetError, match=words):
        check_targets("us1", Settings(earthengine=EarthEngineSettings(**{"project": "p", field: value})))


def test_a_version_is_an_image_of_each_collection_and_a_table(at: Desk) -> None:
    one = at.attempt()
    names = one.write()
    assert at.labels() == at.each(one.label)
    assert versions(at) == {}, "nobody knows the number before it is published"
    publication = one.publish()
    assert one.stamp(publication) == ()
    for kind in names:
        assert versions(at, kind) == {one.label: 1}
    (image,) = at.assets()["observed"]
    source = one.facts.provenance
    told = {
        "event_id": at.event.event_id, "version": 1, "run_key": source.run_key, "model": source.model,
        "weights_sha256": source.weights_hash, "cube_hash": source.cube_hash, "simulated": "false",
        "landslide_count": 3, "quake_time": "2018-09-05T18:07:59+00:00", "table": names["landslides"],
        "item": publication.item_uri, "digest": publication.digest,
    }  # fmt: skip
    assert image.properties.items() >= told.items()
    assert image.properties["observed_fraction"] == pytest.approx(14 / 18, abs=1e-6)
    compute = at.world.session.compute
    collection = ee.ImageCollection(asset_containers(at.event.event_id, at.settings)["mask"])
    latest = ee.Image(collection.filter(ee.Filter.notNull(["version"])).sort("version", False).first())
    assert compute(latest.bandNames()) == ["mask"]
    assert compute(latest.date().format("YYYY-MM-dd")) == "2018-09-05"
    assert compute(ee.FeatureCollection(names["landslides"]).size()) == 3


def test_the_stac_item_names_exactly_these_assets(at: Desk) -> None:
    one = at.attempt()
    names = one.write()
    item = pystac.Item.from_dict(json.loads(at.store.read_bytes(one.uploaded.layout.item)))
    assert item.properties["quakeslide:earth_engine_assets"] == names


def test_a_run_killed_before_publishing_takes_up_what_it_has_written(at: Desk) -> None:
    before = at.attempt().write()
    at.world.forget()
    again = at.attempt()
    assert again.write() == before
    assert at.world.asked("importExternal") + at.world.asked("table:import") == 0
    again.stamp(again.publish())
    assert {kind: len(found) for kind, found in at.labels().items()} == dict.fromkeys(before, 1)
    assert at.tidy(hours=1000) == ()


def test_a_run_killed_in_the_middle_of_writing_writes_the_rest(at: Desk) -> None:
    at.world.fault(match="importExternal", status=403, skip=1, count=1, message="Killed here.")
    with pytest.raises(AssetError, match=r"mask/\S+ could not be written: HTTP 403: Killed here"):
        at.attempt().write()
    one = at.attempt()
    one.finish()
    assert at.labels() == at.each(one.label)
    assert at.world.asked("importExternal") == 4, "three and the one that failed"


def test_a_run_killed_before_stamping_is_stamped_by_the_next(at: Desk) -> None:
    one = at.attempt()
    one.write()
    one.publish()
    assert versions(at) == {}
    found = find_publication(at.store, at.event, one.plan.run.run_key)
    assert found is not None
    for _ in range(2):
        assert one.stamp(found) == ()
    assert versions(at) == {one.label: 1}


def test_a_stamp_killed_half_way_is_finished_by_the_next(at: Desk) -> None:
    one = at.attempt()
    one.write()
    publication = one.publish()
    at.world.fault(match="/observed/", method="PATCH", status=403, message="Killed here.")
    with pytest.raises(AssetError, match="Killed here"):
        one.stamp(publication)
    assert [len(versions(at, kind)) for kind in ("probability", "mask", "observed", "landslides")] == [1, 1, 0, 0]
    one.stamp(publication)
    assert [len(versions(at, kind)) for kind in ("probability", "mask", "observed", "landslides")] == [1, 1, 1, 1]


def test_versions_stand_side_by_side_and_a_later_one_replaces_nothing(at: Desk) -> None:
    first = at.attempt(1)
    first.finish()
    before = at.assets()
    second = at.attempt(2)
    second.finish()
    assert versions(at) == {first.label: 1, second.label: 2}
    assert {kind: found[:1] for kind, found in at.assets().items()} == before, "not even touched"
    at.attempt(1).write()
    for kind, found in at.assets().items():
        assert found[0].properties.items() >= {"version": 1}.items(), kind


def test_two_processes_at_one_run_write_one_set(at: Desk) -> None:
    attempts = [at.attempt() for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        publications = list(pool.map(lambda each: each.finish(), attempts))
    assert publications[0] == publications[1]
    assert at.labels() == at.each(attempts[0].label)
    assert versions(at) == {attempts[0].label: 1}


def test_two_processes_whose_bytes_differ_leave_the_published_one(at: Desk) -> None:
    attempts = [at.attempt(note="a"), at.attempt(note="b")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.write(), attempts))
    publications = [each.publish() for each in attempts]
    assert publications[0] == publications[1]
    for each in attempts:
        each.stamp(publications[0])
    assert versions(at) == {attempts[0].label: 1}
    assert at.tidy() == (), "without knowing who is at work, one waits"
    assert len(at.tidy(lost=frozenset({attempts[1].label}))) == 4
    assert at.labels() == at.each(attempts[0].label)


def test_who_comes_second_does_not_fail_for_what_the_first_has_cleared_away(at: Desk) -> None:
    late = at.attempt(note="late")
    (late.folder / FACTS).write_text(late.facts.to_json())
    arguments = (late.plan, at.settings, late.folder, late.uploaded)
    at.world.fault(match="importExternal", status=400, count=6, message="The object is gone.")
    with pytest.raises(AssetError, match="The object is gone"):
        map_event.write_assets.fn(*arguments)
    published = make_visible(at.store, at.attempt(note="first").uploaded)
    assert map_event.write_assets.fn(*arguments) == {}
    assert late.publish() == published


def test_nothing_found_makes_no_table(at: Desk) -> None:
    one = at.attempt(count=0)
    names = one.write()
    assert set(names) == {"probability", "mask", "observed"}
    assert one.stamp(one.publish()) == ()
    assert at.labels()["landslides"] == []
    assert "table" not in at.assets()["mask"][0].properties
    item = pystac.Item.from_dict(json.loads(at.store.read_bytes(one.uploaded.layout.item)))
    assert item.properties["quakeslide:earth_engine_assets"] == names


def test_what_somebody_has_deleted_is_told(at: Desk) -> None:
    one = at.attempt()
    names = one.write()
    publication = one.publish()
    for kind in ("mask", "landslides"):
        delete_asset(at.world.session, names[kind])
    assert one.stamp(publication) == (names["mask"], names["landslides"])
    assert versions(at) == {one.label: 1}


def test_readers_may_read_when_it_is_published(
    running: tuple[AssetWorld, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "POLL_S", 0.05)
    at = desk(*running, tmp_path, readers=("allUsers", "user:a@b.c"))
    one = at.attempt()
    names = one.write()
    shared = [*asset_containers(at.event.event_id, at.settings).values(), names["landslides"]]

    def readers(name: str) -> list[str]:
        answer = httpx.post(f"{at.world.url}/v1/{name}:getIamPolicy", json={}, trust_env=False).json()
        return next((held["members"] for held in answer["bindings"] if held["role"] == "roles/viewer"), [])

    assert [readers(name) for name in shared] == [[]] * 5
    publication = one.publish()
    for _ in range(2):
        one.stamp(publication)
    assert [readers(name) for name in shared] == [["allUsers", "user:a@b.c"]] * 5
    assert readers(names["mask"]) == ["allUsers", "user:a@b.c"], "the collection's"
    at.attempt(2).write()
    assert readers(names["landslides"].replace(one.label, at.attempt(2).label)) == [], "not published"


def test_images_may_be_ingested(
    running: tuple[AssetWorld, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "POLL_S", 0.05)
    at = desk(*running, tmp_path, image_assets="ingested")
    running[0].forget()
    one = at.attempt()
    names = one.write()
    assert running[0].asked("image:import") == 3
    one.stamp(one.publish())
    for kind in ("probability", "mask", "observed"):
        at.store.delete(one.uploaded.uri(kind))
    counted = ee.Image(names["observed"]).reduceRegion(ee.Reducer.sum(), scale=10, crs="EPSG:32654").getInfo()
    assert counted == {"observed": 120 * 160}


def test_the_table_is_wgs84_with_every_column_and_blanks_for_what_is_unknown(tmp_path: Path) -> None:
    scene = array_scene((40, 50))
    probability = np.full((40, 50), 0.1, np.float32)
    probability[10:15, 10:20] = 0.9
    scene.layers["slope"][:] = np.nan
    inventory = vectorise(
        probability, threshold=0.5, transform=scene.grid.affine, crs=scene.grid.crs, slope_deg=scene.layers["slope"],
        elevation_m=scene.layers["elevation"], pre_date_days=np.full((40, 50), -1, np.int32),
        post_date_days=scene.date[1], observed=scene.observed[1], event_id="us1", version="1", model="ab",
        minimum_area_m2=0,
    )  # fmt: skip
    write_csv(inventory, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [set(row) for row in rows] == [set(SCHEMA)]
    row = rows[0]
    assert (row["event_id"], float(row["area_m2"]), row["observed_post"]) == ("us1", 5000.0, "2018-09-10")
    assert (row["slope_mean_deg"], row["observed_pre"]) == ("", "")
    outline = shape(json.loads(row["geometry"]))
    assert (outline.centroid.x, outline.centroid.y) == pytest.approx(
        (float(row["centroid_lon"]), float(row["centroid_lat"])), abs=1e-6
    )


def test_a_table_of_nothing_has_its_columns(tmp_path: Path) -> None:
    write_csv(empty_inventory("EPSG:32654"), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().strip().split(",") == [
        *(n for n in SCHEMA if n != "geometry"),
        "geometry",
    ]

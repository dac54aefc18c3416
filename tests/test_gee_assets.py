"""gee/assets.py: containers are made once however many make them, properties are set one by one, listings are whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.assets import PROPERTIES, ROOT, AssetWorld, asset_world, image

import gee.assets as assets
from gee.assets import (
    delete_asset,
    ensure_collection,
    ensure_folder,
    find_asset,
    list_assets,
    set_properties,
    split_name,
)
from gee.errors import AssetError
from gee.ingestion import write_assets


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssetWorld]:
    with asset_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(running: AssetWorld) -> AssetWorld:
    running.forget()
    return running


def test_folders_are_made_with_those_above_them_and_once(world: AssetWorld) -> None:
    for _ in range(2):
        ensure_folder(world.session, f"{ROOT}/quakeslide/us2000h8ty/landslides")
    assert world.asked("/assets", "POST") == 3
    for name in ("quakeslide", "quakeslide/us2000h8ty", "quakeslide/us2000h8ty/landslides"):
        found = find_asset(world.session, f"{ROOT}/{name}")
        assert found is not None
        assert found.kind == "FOLDER"


def test_a_container_that_is_there_costs_one_look(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/a/b/c/d")
    world.forget()
    ensure_folder(world.session, f"{ROOT}/a/b/c/d")
    assert world.asked("", "GET") == 1
    assert world.asked("", "POST") == 0


def test_a_collection_is_made_with_its_folders_and_says_what_it_is(world: AssetWorld) -> None:
    name = f"{ROOT}/events/us1/probability"
    ensure_collection(world.session, name, {"event_id": "us1"})
    ensure_collection(world.session, name, {"event_id": "something else"})
    found = find_asset(world.session, name)
    assert found is not None
    assert (found.kind, found.properties) == ("IMAGE_COLLECTION", {"event_id": "us1"})


def test_runs_may_make_the_same_container_at_once(world: AssetWorld) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure_collection(world.session, f"{ROOT}/at/once/four"), range(4)))
    assert [found.name for found in list_assets(world.session, f"{ROOT}/at/once")] == [f"{ROOT}/at/once/four"]


def test_a_container_that_is_something_else_is_refused(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/mixed")
    write_assets(world.session, [image("mixed/map", world.cog())], 20)
    with pytest.raises(AssetError, match=r"mixed/map is no folder but IMAGE"):
        ensure_folder(world.session, f"{ROOT}/mixed/map/below")
    with pytest.raises(AssetError, match=r"mixed is no image collection but FOLDER"):
        ensure_collection(world.session, f"{ROOT}/mixed")


def test_a_folder_that_earth_engine_refuses_is_told_in_its_words(world: AssetWorld) -> None:
    world.fault(match="/assets$", method="POST", status=403, message="Caller may not write here.")
    with pytest.raises(AssetError, match=r"the folder .*/refused could not be made: HTTP 403: Caller may not write"):
        ensure_folder(world.session, f"{ROOT}/refused")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quakeslide/map", "should read"), ("projects/local/map", "should read"), ("a//b", "should read"),
        ("projects/local/assets/", "should read"), ("projects/p/assets/two words", "'two words' may hold letters"),
        ("projects/p/assets/a/é", "'é' may hold"), (f"projects/p/assets/{'x' * 101}", "100 at most"),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(AssetError, match=f"no asset name.*{words}"):
        split_name(name)


def test_a_property_is_set_and_the_others_stay(world: AssetWorld) -> None:
    ensure_collection(world.session, f"{ROOT}/stamped")
    write_assets(world.session, [image("stamped/one", world.cog())], 20)
    before = find_asset(world.session, f"{ROOT}/stamped/one")
    assert set_properties(world.session, f"{ROOT}/stamped/one", {"version": 3})
    after = find_asset(world.session, f"{ROOT}/stamped/one")
    assert before is not None
    assert after is not None
    assert after.properties == {**before.properties, "version": 3}
    assert after.properties.items() >= PROPERTIES.items()
    assert after.updated >= before.updated


def test_a_property_of_nothing_is_told(world: AssetWorld) -> None:
    assert not set_properties(world.session, f"{ROOT}/nothing", {"version": 3})
    world.fault(match="refused$", method="PATCH", status=403, message="You may not.")
    with pytest.raises(AssetError, match=r"the properties version of .*/refused could not be set: HTTP 403: You may"):
        set_properties(world.session, f"{ROOT}/refused", {"version": 3})


def test_two_properties_set_at_once_are_both_kept(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/both")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: set_properties(world.session, f"{ROOT}/both", {f"p{n}": n}), range(8)))
    found = find_asset(world.session, f"{ROOT}/both")
    assert found is not None
    assert found.properties == {f"p{n}": n for n in range(8)}


def test_a_listing_goes_over_pages(world: AssetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "PAGE", 2)
    for n in range(5):
        ensure_folder(world.session, f"{ROOT}/pages/f{n}")
    world.forget()
    assert [found.label for found in list_assets(world.session, f"{ROOT}/pages")] == [f"f{n}" for n in range(5)]
    assert world.asked(":listAssets") == 3
    assert list_assets(world.session, f"{ROOT}/not/there") == ()


def test_what_is_deleted_is_gone_and_may_be_deleted_again(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/gone/below")
    with pytest.raises(AssetError, match=r"gone could not be deleted: HTTP 400.*children"):
        delete_asset(world.session, f"{ROOT}/gone")
    assert delete_asset(world.session, f"{ROOT}/gone/below")
    assert delete_asset(world.session, f"{ROOT}/gone")
    assert not delete_asset(world.session, f"{ROOT}/gone")


def test_a_time_with_nanoseconds_is_read() -> None:
    record = assets._record({"name": "n", "type": "IMAGE", "updateTime": "2024-05-06T07:08:09.123456789Z"})
    assert record.updated == dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)

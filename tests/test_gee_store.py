"""gee/store.py: the same verbs over a folder and a bucket; all of an object or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.servers import HTTP, serve

from gee.errors import StorageError
from gee.store import Store, open_store
from infra.local.storage import create_app


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(create_app(tmp_path_factory.mktemp("storage"))) as url:
        HTTP.post(f"{url}/storage/v1/b?project=p", json={"name": "store"}).raise_for_status()
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, endpoint: str, tmp_path: Path) -> Store:
    return (
        open_store(str(tmp_path)) if request.param == "folder" else open_store(f"gs://store/{tmp_path.name}", endpoint)
    )


def test_what_is_written_in_parts_is_read_whole(store: Store) -> None:
    store.write("a/b/1", b"one", b"", b"\r\n\x00two")
    store.write_many({"a/2": (b"2",), "a/b/3": (b"thr", b"ee"), "a/4": ()})
    assert store.read("a/b/1") == b"one\r\n\x00two"
    assert store.read_many(["a/2", "a/b/3", "a/4", "a/none"]) == {"a/2": b"2", "a/b/3": b"three", "a/4": b""}
    assert store.sizes("a") == {"a/b/1": 9, "a/2": 1, "a/b/3": 5, "a/4": 0}
    assert store.sizes("nothing") == {}


def test_children_are_one_level_only(store: Store) -> None:
    assert store.children() == store.children("nothing") == ()
    store.write_many({"a/b/1": (b"1",), "a/2": (b"2",), "c": (b"3",)})
    assert store.children() == ("a", "c")
    assert store.children("a") == ("a/2", "a/b")
    assert store.children("c") in ((), ("c",)), "an object has none, but may name itself"


def test_an_object_can_be_replaced_but_not_created_twice(store: Store) -> None:
    store.write("x", b"1")
    store.write("x", b"22")
    assert not store.create("x", b"333")
    assert store.read("x") == b"22"
    store.delete("x")
    store.delete("x")
    assert not store.exists("x")
    assert store.create("x", b"333")
    assert store.sizes("") == {"x": 3}


def test_what_is_not_there_is_told_apart_from_what_cannot_be_reached(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("none")
    assert store.read_many([]) == {}


def test_a_bucket_that_is_not_there_is_named_whatever_is_done(endpoint: str) -> None:
    nowhere = open_store("gs://nowhere/x", endpoint)
    for attempt in (
        lambda: nowhere.write("a", b""),
        lambda: nowhere.write_many({"a": (b"",)}),
        lambda: nowhere.create("a", b""),
        lambda: nowhere.sizes("a"),
    ):
        with pytest.raises(StorageError, match=r"gs://nowhere/x.*bucket does not exist"):
            attempt()


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = open_store(str(tmp_path))
    for attempt in (lambda: store.write("file/a", b"1"), lambda: store.create("file/a", b"1")):
        with pytest.raises(StorageError, match="file/a cannot be used"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

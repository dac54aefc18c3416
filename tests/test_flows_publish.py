"""flows/publish.py over a real socket: a version is visible complete or not at all, once, whoever races or crashes."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pystac
import pytest
from fakes.products import FOOTPRINT, facts, write_products

from flows.errors import PublicationError
from flows.layout import PRODUCTS, EventLayout
from flows.product_set import sha256_of
from flows.publish import (
    Publication,
    UploadedRun,
    find_publication,
    make_visible,
    read_versions,
    refresh_catalog,
    upload_products,
)
from flows.storage import Store

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def event(store: Store) -> EventLayout:
    return EventLayout(store.bucket_url, "us2000h8ty")


def key(number: int) -> str:
    return f"{number:016x}"


def upload(store: Store, event: EventLayout, folder: Path, number: int = 1, note: str = "") -> UploadedRun:
    write_products(folder, note=note)
    return upload_products(store, event.run(key(number)), folder, facts(run_key=key(number)), FOOTPRINT)


def publish(store: Store, event: EventLayout, folder: Path, number: int = 1, note: str = "") -> Publication:
    return make_visible(store, upload(store, event, folder, number, note), now=lambda: NOW)


def test_an_upload_alone_is_not_visible(store: Store, event: EventLayout, tmp_path: Path) -> None:
    uploaded = upload(store, event, tmp_path)
    assert store.exists(uploaded.uri("probability"))
    assert read_versions(store, event) == ()
    assert find_publication(store, event, key(1)) is None
    assert not store.exists(event.catalog)


def test_a_version_has_all_its_assets_with_the_checksums_of_the_files(
    store: Store, event: EventLayout, tmp_path: Path
) -> None:
    publication = publish(store, event, tmp_path)
    assert (publication.version, publication.published) == (1, NOW)
    assert read_versions(store, event) == (publication,)
    assert set(publication.assets) == {name for name, product in PRODUCTS.items() if product.required}
    item = json.loads(store.read_bytes(publication.item_uri))
    for name, uri in publication.assets.items():
        path = tmp_path / PRODUCTS[name].filename
        assert store.read_bytes(uri) == path.read_bytes()
        assert item["assets"][name]["file:checksum"] == f"1220{sha256_of(path)}"
        assert item["assets"][name]["href"] == f"./{path.name}"


def test_publishing_the_same_run_again_returns_its_version(store: Store, event: EventLayout, tmp_path: Path) -> None:
    first = publish(store, event, tmp_path / "a", 1)
    publish(store, event, tmp_path / "b", 2)
    before = store.list(event.root)
    assert publish(store, event, tmp_path / "a", 1) == first
    assert find_publication(store, event, key(1)) == first
    assert store.list(event.root) == before


def test_another_result_of_a_published_run_does_not_replace_it(
    store: Store, event: EventLayout, tmp_path: Path
) -> None:
    first = publish(store, event, tmp_path / "a", 1)
    report = store.read_bytes(first.assets["report"])
    assert publish(store, event, tmp_path / "b", 1, note="another processor, another rounding") == first
    assert store.read_bytes(first.assets["report"]) == report


def test_races_number_every_run_once_and_lose_none(store: Store, event: EventLayout, tmp_path: Path) -> None:
    runs = [1, 2, 3, 4, 5, 1, 2, 3]

    def one(index: int) -> Publication:
        with Store(store.bucket_url, store.address) as own:
            return publish(own, event, tmp_path / str(index), runs[index], note=f"attempt {index}")

    with ThreadPoolExecutor(len(runs)) as pool:
        publications = list(pool.map(one, range(len(runs))))
    versions = read_versions(store, event)
    assert [version.version for version in versions] == [1, 2, 3, 4, 5]
    assert {version.run_key for version in versions} == {key(run) for run in runs}
    assert all(publication in versions for publication in publications)
    assert [publications[i] for i in range(3)] == [publications[i] for i in range(5, 8)]
    links = [link for link in json.loads(store.read_bytes(event.catalog))["links"] if link["rel"] == "item"]
    assert [link["title"] for link in links] == [f"Version {n}" for n in range(1, 6)]


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the program catches it."""


class MortalStore(Store):
    """A store whose process dies at its n-th write, before or after the bucket has done it."""

    def __init__(self, alive: Store, lives: int, *, after: bool) -> None:
        super().__init__(alive.bucket_url, alive.address)
        self._lives, self._after = lives, after

    def write_bytes(self, *args: Any, **kwargs: Any) -> int:
        return self._mortal(super().write_bytes, *args, **kwargs)

    def upload_file(self, *args: Any, **kwargs: Any) -> int:
        return self._mortal(super().upload_file, *args, **kwargs)

    def _mortal(self, write: Any, *args: Any, **kwargs: Any) -> int:
        self._lives -= 1
        if self._lives < 0 and not self._after:
            raise Killed
        generation: int = write(*args, **kwargs)
        if self._lives < 0:
            raise Killed
        return generation


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_nothing_half_is_visible_and_a_new_run_finishes(
    store: Store, tmp_path: Path, after: bool
) -> None:
    writes = sum(product.required for product in PRODUCTS.values()) + 3  # the item, versions.json, catalog.json
    for lives in range(writes):
        event = EventLayout(store.bucket_url, f"kill-{lives}")
        folder = tmp_path / str(lives)
        told = facts(run_key=key(1))
        told = type(told).from_json(told.to_json().replace("us2000h8ty", event.event_id))
        write_products(folder)
        with MortalStore(store, lives, after=after) as mortal, pytest.raises(Killed):
            make_visible(mortal, upload_products(mortal, event.run(key(1)), folder, told, FOOTPRINT))
        there = {info.uri for info in store.list(event.root)}
        for version in read_versions(store, event):
            assert {version.item_uri, *version.assets.values()} <= there
        finished = make_visible(store, upload_products(store, event.run(key(1)), folder, told, FOOTPRINT))
        assert read_versions(store, event) == (finished,)
        assert finished.version == 1
        assert store.exists(event.catalog)


class ForgetfulStore(Store):
    """A store whose answers to writes are lost: the client tries again and is told that somebody else was there."""

    def write_bytes(self, *args: Any, **kwargs: Any) -> int:
        super().write_bytes(*args, **kwargs)
        return super().write_bytes(*args, **kwargs)


def test_a_swap_whose_answer_was_lost_finds_itself(store: Store, event: EventLayout, tmp_path: Path) -> None:
    with ForgetfulStore(store.bucket_url, store.address) as forgetful:
        publication = publish(forgetful, event, tmp_path)
    assert publication.version == 1
    assert read_versions(store, event) == (publication,)


def test_a_run_whose_upload_was_damaged_does_not_become_visible(
    store: Store, event: EventLayout, tmp_path: Path
) -> None:
    uploaded = upload(store, event, tmp_path)
    store.delete(uploaded.uri("landslides_gpkg"))
    with pytest.raises(PublicationError, match=r"landslides\.gpkg is missing or damaged"):
        make_visible(store, uploaded)
    assert read_versions(store, event) == ()


def test_an_incomplete_folder_is_refused_before_anything_is_uploaded(
    store: Store, event: EventLayout, tmp_path: Path
) -> None:
    write_products(tmp_path)
    (tmp_path / "mask.tif").unlink()
    with pytest.raises(PublicationError, match=r"mask\.tif is missing"):
        upload_products(store, event.run(key(1)), tmp_path, facts(run_key=key(1)), FOOTPRINT)
    assert store.list(event.root) == ()


def test_facts_of_another_run_are_refused(store: Store, event: EventLayout, tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match="not of run 0000000000000002"):
        upload_products(store, event.run(key(2)), write_products(tmp_path), facts(run_key=key(1)), FOOTPRINT)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"not json", "is damaged"),
        (b'{"versions": [{"version": 2}]}', "is damaged"),
        (b'{"format": 1, "versions": {}, "x": 1}', "is damaged"),
        (b'{"format": 9, "versions": []}', "has format 9"),
    ],
)
def test_a_list_of_versions_that_cannot_be_read_is_never_overwritten(
    store: Store, event: EventLayout, tmp_path: Path, text: bytes, complaint: str
) -> None:
    store.write_bytes(event.versions, text)
    with pytest.raises(PublicationError, match=complaint):
        publish(store, event, tmp_path)
    assert store.read_bytes(event.versions) == text


def test_fields_of_a_later_program_survive_a_publication(store: Store, event: EventLayout, tmp_path: Path) -> None:
    publish(store, event, tmp_path / "a", 1)
    document = json.loads(store.read_bytes(event.versions))
    document["withdrawn"] = {"reason": "deleted by the USGS"}
    document["versions"][0]["note"] = "kept"
    store.write_bytes(event.versions, json.dumps(document).encode())
    publish(store, event, tmp_path / "b", 2)
    kept = json.loads(store.read_bytes(event.versions))
    assert kept["withdrawn"] == document["withdrawn"]
    assert kept["versions"][0]["note"] == "kept"
    assert len(kept["versions"]) == 2


def test_a_catalogue_that_a_crash_left_behind_is_renewed(store: Store, event: EventLayout, tmp_path: Path) -> None:
    publish(store, event, tmp_path / "a", 1)
    store.write_bytes(event.catalog, b"stale")
    refresh_catalog(store, event)
    catalog = pystac.Catalog.from_dict(json.loads(store.read_bytes(event.catalog)))
    assert len(catalog.get_links("item")) == 1


def test_the_catalogue_in_the_bucket_leads_to_valid_items(store: Store, event: EventLayout, tmp_path: Path) -> None:
    publish(store, event, tmp_path / "a", 1)
    publish(store, event, tmp_path / "b", 2)
    catalog = pystac.Catalog.from_dict(json.loads(store.read_bytes(event.catalog)))
    catalog.validate()
    items = [link.href.removeprefix("./") for link in catalog.get_links("item")]
    for href in items:
        url = f"{store.address}/storage/v1/b/bucket/o/{quote(f'{event.root}/{href}'[len('gs://bucket/') :], safe='')}"
        pystac.Item.from_dict(httpx.get(f"{url}?alt=media").json()).validate()

"""flows/copies.py: folders that appear complete or not at all."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pystac
import pytest
from fakes.products import FOOTPRINT, SOURCE, facts, write_products
from fakes.servers import serve

from flows.copies import download_version, folder_run_key, publish_to_folder
from flows.errors import PublicationError
from flows.layout import EventLayout
from flows.out_folder import require_free_folder
from flows.publish import Publication, make_visible, upload_products
from flows.storage import Store
from infra.local.storage import create_app


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serve(create_app(tmp_path_factory.mktemp("bucket"))) as address, Store("gs://bucket", address) as opened:
        opened.ensure_bucket()
        yield opened


@pytest.fixture(scope="module")
def publication(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Publication:
    run = EventLayout(store.bucket_url, "us2000h8ty").run(SOURCE.run_key)
    folder = write_products(tmp_path_factory.mktemp("run"))
    return make_visible(store, upload_products(store, run, folder, facts(), FOOTPRINT))


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def test_a_download_is_the_version_and_its_item_is_valid_where_it_lies(
    store: Store, publication: Publication, tmp_path: Path
) -> None:
    folder = download_version(store, publication, tmp_path)
    assert folder == tmp_path / "us2000h8ty" / "v0001"
    item = pystac.Item.from_file(str(folder / "item.json"))
    item.validate()
    item.make_asset_hrefs_absolute()
    assert all(Path(asset.href).is_file() for asset in item.assets.values())
    assert hidden(tmp_path) == []


def test_a_copy_that_is_there_is_kept(store: Store, publication: Publication, tmp_path: Path) -> None:
    folder = download_version(store, publication, tmp_path)
    (folder / "project.qgz").write_text("the user's own work")
    assert download_version(store, publication, tmp_path) == folder
    assert (folder / "project.qgz").is_file()


def test_downloads_at_the_same_time_give_one_copy(store: Store, publication: Publication, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: download_version(store, publication, tmp_path), range(4)))
    assert len(set(folders)) == 1
    assert folder_run_key(folders[0]) == publication.run_key
    assert hidden(tmp_path) == []


def test_what_killed_attempts_left_behind_is_removed(store: Store, publication: Publication, tmp_path: Path) -> None:
    leftover = tmp_path / "us2000h8ty" / ".v0001.0123abcd"
    leftover.mkdir(parents=True)
    (leftover / "probability.tif").write_bytes(b"half")
    other = tmp_path / "us2000h8ty" / ".v0002.0123abcd"
    other.mkdir()
    download_version(store, publication, tmp_path)
    assert hidden(tmp_path) == [other]


def test_a_damaged_object_is_told_and_no_folder_appears(store: Store, tmp_path: Path) -> None:
    run = EventLayout(store.bucket_url, "us-damaged").run(SOURCE.run_key)
    told = type(facts()).from_json(facts().to_json().replace("us2000h8ty", "us-damaged"))
    broken = make_visible(store, upload_products(store, run, write_products(tmp_path / "run"), told, FOOTPRINT))
    store.write_bytes(broken.assets["landslides_gpkg"], b"something else")
    with pytest.raises(PublicationError, match=r"landslides\.gpkg does not have the checksum"):
        download_version(store, broken, tmp_path / "out")
    assert list((tmp_path / "out" / "us-damaged").iterdir()) == []


def test_rasters_of_a_user_become_a_folder_with_a_valid_item(tmp_path: Path) -> None:
    out = publish_to_folder(write_products(tmp_path / "run"), tmp_path / "out", facts(), FOOTPRINT)
    pystac.Item.from_file(str(out / "item.json")).validate()
    assert {path.name for path in out.iterdir()} >= {"item.json", "probability.tif", "report.html"}
    assert publish_to_folder(tmp_path / "run", out, facts(), FOOTPRINT) == out
    assert hidden(tmp_path) == []


def test_an_empty_folder_may_receive_a_map(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = publish_to_folder(write_products(tmp_path / "run"), tmp_path / "out", facts(), FOOTPRINT)
    assert folder_run_key(out) == SOURCE.run_key


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_user_has_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    with pytest.raises(PublicationError, match=r"name a(nother| new) one"):
        require_free_folder(out)
    with pytest.raises(PublicationError, match=r"name a(nother| new) one"):
        publish_to_folder(write_products(tmp_path / "run"), out, facts(), FOOTPRINT)
    assert hidden(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(PublicationError, match="No space left on device"):
        publish_to_folder(write_products(tmp_path / "run"), tmp_path / "out", facts(), FOOTPRINT)
    assert not (tmp_path / "out").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"properties": {}})])
def test_a_folder_without_a_readable_item_holds_no_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "item.json").write_text(text)
    assert folder_run_key(tmp_path) is None

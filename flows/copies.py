"""Versions in local folders: a download of a published one, or a map of a user's own rasters.

Both are staged in a hidden folder beside the final one and appear by a single rename, complete or not at all.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.layout import ITEM_NAME, PRODUCTS, version_name
from flows.out_folder import require_free_folder
from flows.product_set import gather, sha256_of
from flows.publish import Publication
from flows.stac import multihash
from flows.storage import Store

_RUN_KEY = "quakeslide:run_key"
_TOKEN_BYTES = 4


def download_version(store: Store, publication: Publication, out: Path) -> Path:
    """Copy a version to `out/<event_id>/v0001`, every file's SHA-256 checked; returns that folder.

    A copy that is there already is kept as it is. Raises `PublicationError` when a file does not have its checksum,
    when the disk is full, or when something else has the folder's name.
    """
    target = out / publication.event_id / version_name(publication.version)
    if folder_run_key(target) == publication.run_key:
        return target
    with _staged(target, publication.run_key) as staging:
        item = staging / ITEM_NAME
        store.download_file(publication.item_uri, item)
        _require(sha256_of(item) == publication.item_sha256, publication.item_uri)
        described = json.loads(item.read_bytes())["assets"]
        for key, uri in publication.assets.items():
            path = staging / PRODUCTS[key].filename
            store.download_file(uri, path)
            _require(multihash(sha256_of(path)) == described[key]["file:checksum"], uri)
    return target


def publish_to_folder(folder: Path, out: Path, facts: ReportFacts, footprint: BaseGeometry) -> Path:
    """Make the products in `folder` and their STAC item appear as the folder `out`, which must be new or empty.

    `footprint` is the mapped area in WGS84. When `out` already holds the same run it is kept as it is.
    """
    if folder_run_key(out) == facts.provenance.run_key:
        return out
    products = gather(folder)
    item = products.item_json(facts, footprint)
    with _staged(out, facts.provenance.run_key) as staging:
        for file in products.files.values():
            shutil.copyfile(folder / file.href, staging / file.href)
        (staging / ITEM_NAME).write_bytes(item)
    return out


def folder_run_key(folder: Path) -> str | None:
    """The run key of the version in `folder`, None when there is no version."""
    try:
        return str(json.loads((folder / ITEM_NAME).read_bytes())["properties"][_RUN_KEY])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _staged(target: Path, run_key: str) -> Iterator[Path]:
    """A new hidden folder beside `target` that is renamed to it at the end of the block, or removed on failure.

    When somebody else has put the same run there in the meantime theirs stays, and the block counts as done.
    """
    staging = target.parent / f".{target.name}.{secrets.token_hex(_TOKEN_BYTES)}"
    try:
        staging.mkdir(parents=True)
        yield staging
        staging.rename(target)
    except OSError as error:
        if folder_run_key(target) != run_key:
            require_free_folder(target)
            raise PublicationError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _remove_leftovers(target)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed attempts at the same folder have staged."""
    leftover = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    for path in target.parent.iterdir():
        if leftover.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _require(sound: bool, uri: str) -> None:
    if not sound:
        raise PublicationError(f"{uri} does not have the checksum that was published: it was damaged or replaced")

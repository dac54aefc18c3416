"""Publishing: upload where nobody looks, then one conditional write that makes the version visible.

`versions.json` is the only document that readers look at. It is replaced by compare-and-swap on its generation, and
the version's number is taken in the same write; so versions are numbered without gaps, none is lost, and one run is
published once however often it is tried, retried after a crash, or run twice at the same time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapely.geometry.base import BaseGeometry

from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.layout import ITEM_NAME, PRODUCTS, EventLayout, ProductLayout, RunLayout
from flows.product_set import gather, json_bytes
from flows.stac import VersionLink, make_catalog
from flows.storage import PreconditionFailedError, Store
from flows.swapping import MAX_SWAPS, pause

FORMAT = 1
"""Format of versions.json; raise it when old readers would misread a new document."""

_JSON, _GEOJSON = "application/json", "application/geo+json"


@dataclass(frozen=True)
class Publication:
    """One visible version of one event."""

    event_id: str
    """The event."""
    version: int
    """Number, from 1, without gaps."""
    run_key: str
    """The run that made it."""
    item_uri: str
    """Its STAC item."""
    item_sha256: str
    """SHA-256 of the item, which holds the checksums of the assets."""
    assets: Mapping[str, str]
    """URI by key of `flows.layout.PRODUCTS`."""
    published: dt.datetime
    """When it became visible, UTC."""

    @property
    def digest(self) -> str:
        """Short hash of the products' checksums: which of several attempts at the run became visible."""
        return self.item_uri.split("/")[-2]


@dataclass(frozen=True)
class UploadedRun:
    """Products that lie in the bucket, complete, and that nobody sees yet."""

    layout: ProductLayout
    """Where they lie."""
    title: str
    """The event's title."""
    item_sha256: str
    """SHA-256 of the item."""
    sha256: Mapping[str, str]
    """SHA-256 by key of `PRODUCTS`."""

    def uri(self, key: str) -> str:
        """Where the product called `key` lies."""
        return self.layout.uri(PRODUCTS[key].filename)


def utc_now() -> dt.datetime:
    """The present, UTC."""
    return dt.datetime.now(dt.UTC)


def upload_products(
    store: Store, run: RunLayout, folder: Path, facts: ReportFacts, footprint: BaseGeometry
) -> UploadedRun:
    """Upload the products in `folder` and their STAC item; nothing becomes visible. Run it again at any time.

    `footprint` is the area of interest in WGS84. Objects are created, never overwritten. Raises `PublicationError` for
    an incomplete folder or facts of another run, `ServiceError` when the bucket cannot be reached.
    """
    if (facts.event.id, facts.provenance.run_key) != (run.event.event_id, run.run_key):
        raise PublicationError(
            f"the facts are those of run {facts.provenance.run_key} of event {facts.event.id}, "
            f"not of run {run.run_key} of event {run.event.event_id}"
        )
    products = gather(folder)
    layout = run.products(products.digest)
    item = products.item_json(facts, footprint)
    for key, file in products.files.items():
        store.upload_file(folder / file.href, layout.uri(file.href), PRODUCTS[key].media_type, file.sha256)
    stored = _create(store, layout.item, item, _GEOJSON)
    checksums = {key: file.sha256 for key, file in products.files.items()}
    return UploadedRun(layout, facts.event.title, hashlib.sha256(stored).hexdigest(), checksums)


def make_visible(store: Store, uploaded: UploadedRun, now: Callable[[], dt.datetime] = utc_now) -> Publication:
    """Give the run the next version number and make it visible in one conditional write; then renew the catalogue.

    A run that is visible already keeps its number: the existing version is returned. Raises `PublicationError` when
    the upload is not complete, or when other writers win `MAX_SWAPS` times.
    """
    _require_complete(store, uploaded)
    event = uploaded.layout.run.event
    for attempt in range(MAX_SWAPS):
        document, generation = _read_document(store, event)
        if found := _find(event, document, uploaded.layout.run.run_key):
            break
        entry = _entry(uploaded, len(document["versions"]) + 1, now())
        swapped = {**document, "title": uploaded.title, "versions": [*document["versions"], entry]}
        try:
            store.write_bytes(event.versions, json_bytes(swapped), _JSON, if_generation_match=generation)
        except PreconditionFailedError:
            pause(attempt)
            continue
        found = _publication(event, entry)
        break
    else:
        raise PublicationError(f"{event.versions} was written by others {MAX_SWAPS} times in a row: run it again")
    refresh_catalog(store, event)
    return found


def read_versions(store: Store, event: EventLayout) -> tuple[Publication, ...]:
    """The visible versions of an event, oldest first; empty when there is none."""
    document, _ = _read_document(store, event)
    return tuple(_publication(event, entry) for entry in document["versions"])


def find_publication(store: Store, event: EventLayout, run_key: str) -> Publication | None:
    """The version that the run `run_key` has become, None when it has not been published: ask before working."""
    document, _ = _read_document(store, event)
    return _find(event, document, run_key)


def refresh_catalog(store: Store, event: EventLayout) -> None:
    """Derive catalog.json from versions.json; the newest list wins however many writers do this at once."""
    for _ in range(MAX_SWAPS):
        # The catalogue's generation is read first: a list that changes later makes another writer's swap follow ours.
        present, generation = store.read_with_generation(event.catalog)
        document, _generation = _read_document(store, event)
        links = [VersionLink(int(entry["version"]), str(entry["item"])) for entry in document["versions"]]
        title = str(document.get("title") or event.event_id)
        wanted = json_bytes(make_catalog(event.event_id, title, links, document.get("withdrawn")))
        if present == wanted:
            return
        try:
            store.write_bytes(event.catalog, wanted, _JSON, if_generation_match=generation)
        except PreconditionFailedError:
            continue
        return
    raise PublicationError(f"{event.catalog} was written by others {MAX_SWAPS} times in a row: run it again")


def set_withdrawn(store: Store, event: EventLayout, mark: Mapping[str, str] | None) -> None:
    """Mark an event's versions as withdrawn (`reason`, `at`), or, with None, no longer; a standing mark is kept.

    The versions and their products stay as they are. An event without a visible version is left alone.
    """
    for attempt in range(MAX_SWAPS):
        document, generation = _read_document(store, event)
        if generation == 0 or (mark is None) == ("withdrawn" not in document):
            break
        others = {key: value for key, value in document.items() if key != "withdrawn"}
        swapped = others if mark is None else {**others, "withdrawn": dict(mark)}
        try:
            store.write_bytes(event.versions, json_bytes(swapped), _JSON, if_generation_match=generation)
        except PreconditionFailedError:
            pause(attempt)
            continue
        break
    else:
        raise PublicationError(f"{event.versions} was written by others {MAX_SWAPS} times in a row: run it again")
    if generation != 0:
        refresh_catalog(store, event)


def _create(store: Store, uri: str, data: bytes, content_type: str) -> bytes:
    """Create an object, or keep the one that an earlier attempt created; returns what is there."""
    try:
        store.write_bytes(uri, data, content_type, if_generation_match=0)
    except PreconditionFailedError:
        store.touch(uri)
        return store.read_bytes(uri)
    return data


def _require_complete(store: Store, uploaded: UploadedRun) -> None:
    there = {info.uri: info.sha256 for info in store.list(f"{uploaded.layout.root}/")}
    wrong = [uploaded.uri(key) for key, sha256 in uploaded.sha256.items() if there.get(uploaded.uri(key)) != sha256]
    if uploaded.layout.item not in there:
        wrong.append(uploaded.layout.item)
    if wrong:
        raise PublicationError(f"{wrong[0]} is missing or damaged ({len(wrong)} objects in all): upload the run again")


def _entry(uploaded: UploadedRun, version: int, published: dt.datetime) -> dict[str, Any]:
    """One version as versions.json holds it; hrefs relative to that document."""
    item = uploaded.layout.item_href
    prefix = item.removesuffix(ITEM_NAME)
    return {
        "version": version,
        "run_key": uploaded.layout.run.run_key,
        "item": item,
        "item_sha256": uploaded.item_sha256,
        "assets": {key: f"{prefix}{PRODUCTS[key].filename}" for key in uploaded.sha256},
        "published": published.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _find(event: EventLayout, document: dict[str, Any], run_key: str) -> Publication | None:
    entries = (entry for entry in document["versions"] if entry["run_key"] == run_key)
    return next((_publication(event, entry) for entry in entries), None)


def _publication(event: EventLayout, entry: dict[str, Any]) -> Publication:
    return Publication(
        event_id=event.event_id,
        version=int(entry["version"]),
        run_key=str(entry["run_key"]),
        item_uri=_absolute(event, entry["item"]),
        item_sha256=str(entry["item_sha256"]),
        assets={str(key): _absolute(event, href) for key, href in entry["assets"].items()},
        published=dt.datetime.fromisoformat(entry["published"]),
    )


def _absolute(event: EventLayout, href: str) -> str:
    return f"{event.root}/{href.removeprefix('./')}"


def _read_document(store: Store, event: EventLayout) -> tuple[dict[str, Any], int]:
    """versions.json and its generation; a new one with generation 0 when there is none. Unknown fields are kept."""
    data, generation = store.read_with_generation(event.versions)
    if generation == 0:
        return {"format": FORMAT, "event_id": event.event_id, "versions": []}, 0
    try:
        document = json.loads(data)
        entries = [_publication(event, entry) for entry in document["versions"]]
        numbers = [entry.version for entry in entries]
        sound = isinstance(document["versions"], list) and numbers == list(range(1, len(entries) + 1))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PublicationError(f"{event.versions} is damaged ({error!r}): restore it, then run again") from error
    if document.get("format") != FORMAT:
        raise PublicationError(f"{event.versions} has format {document.get('format')!r}, this program writes {FORMAT}")
    if not sound:
        raise PublicationError(f"{event.versions} is damaged: its versions are not numbered 1, 2, 3, …")
    return document, generation

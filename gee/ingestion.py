"""Rasters and tables in Cloud Storage become Earth Engine assets: COG-backed images, ingested images, tables.

An asset carries the hash of its content. Writing the same content again does nothing; other content under a name that
is taken is refused, because someone may be reading it. Ingestion takes minutes: all of it is begun first, then waited
for with one deadline, after which a later run goes on waiting for the same operations.

A COG-backed image stays in the bucket and costs no storage in Earth Engine. The bucket must lie in US, us-central1 or a
dual region with it; the object must stay as it is (Earth Engine keeps its generation) and its readers need access to
it. An ingested image needs its source no longer.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gee.asset_quota import explain, queue_is_full, require_room
from gee.assets import Properties, find_asset, rfc3339, set_properties
from gee.errors import AssetError, PermanentError, TransientError
from gee.operations import Operation, operation_of, pauses_s, start_operation, wait_for
from gee.session import Session

HASH_PROPERTY = "content_hash"
"""Property of every asset written here: a hash of its content."""
WRITTEN_PROPERTY = "written"
"""Property: when a run last made sure that the asset is there, UTC."""

MAX_COLUMNS = 1_000
"""Columns of a table (https://developers.google.com/earth-engine/guides/table_upload)."""
MAX_VERTICES = 1_000_000
"""Vertices of one geometry of a table."""
MAX_TEXT = 100_000
"""Characters of one text of a table."""
MAX_FEATURES = 100_000_000
"""Rows of a table."""


@dataclass(frozen=True)
class ImageAsset:
    """An image that is to be, from one raster in Cloud Storage; its folder or collection must exist."""

    name: str
    """`projects/PROJECT/assets/PATH`."""
    uri: str
    """`gs://` address of the raster, a COG when it is to stay there."""
    bands: tuple[str, ...]
    """Names of the raster's bands, in order."""
    content_hash: str
    """Hash of the raster."""
    properties: Properties
    """What is said about it."""
    start: dt.datetime
    """`system:time_start`."""
    end: dt.datetime | None = None
    """`system:time_end`."""
    ingested: bool = False
    """Copied into Earth Engine; otherwise backed by the COG."""
    categories: bool = False
    """Whether the values are codes, which a pyramid must not average."""
    missing: tuple[float, ...] = ()
    """Values without meaning; only for ingested images, besides the file's own."""
    size_bytes: int = 0
    """Size of the raster, counted against the quota when it is ingested."""


@dataclass(frozen=True)
class TableAsset:
    """A table that is to be, from a CSV in Cloud Storage with GeoJSON in the column `geometry`; its folder must exist."""

    name: str
    """`projects/PROJECT/assets/PATH`."""
    uri: str
    """`gs://` address of the CSV (UTF-8)."""
    content_hash: str
    """Hash of its content."""
    properties: Properties
    """What is said about it."""
    start: dt.datetime
    """`system:time_start`."""
    end: dt.datetime | None = None
    """`system:time_end`."""
    size_bytes: int = 0
    """Size of the CSV, counted against the quota."""


Asset = ImageAsset | TableAsset


def write_assets(session: Session, assets: Sequence[Asset], deadline_s: float) -> tuple[str, ...]:
    """Write those assets that are not there yet and wait for them; returns the names of those.

    Nothing is replaced. What is there with the same content gets a fresh `written`, so that nobody takes it for a
    leftover. Raises `AssetError` before anything is written when there is no room for all, or a name is taken by other
    content; and, after the others have ended, for each that Earth Engine refuses, in its words, or that is not there
    after `deadline_s`.
    """
    end = time.monotonic() + deadline_s
    new = [asset for asset in assets if not _there(session, asset)]
    if new:
        held = (asset.size_bytes for asset in new if not isinstance(asset, ImageAsset) or asset.ingested)
        require_room(session, len(new), sum(held))
    for asset in assets:
        if asset not in new:
            set_properties(session, asset.name, {WRITTEN_PROPERTY: rfc3339(dt.datetime.now(dt.UTC))})
    waiting: dict[str, Operation] = {}
    problems: dict[str, str] = {}
    for asset in new:
        try:
            if operation := _start(session, asset, end):
                waiting[asset.name] = operation
        except PermanentError as error:
            problems[asset.name] = str(error)
    for name, operation in wait_for(session, waiting, end).items():
        if not operation.done:
            problems[name] = f"its ingestion is {operation.words}; a later run goes on waiting for it"
        elif operation.problem:
            problems[name] = f"its ingestion has {operation.state}: {operation.problem}"
    _require(session, new, problems, end)
    return tuple(asset.name for asset in new)


def manifest_of(asset: Asset) -> dict[str, Any]:
    """The image or table manifest of the REST interface."""
    described = {
        "name": asset.name,
        "properties": {
            **asset.properties,
            HASH_PROPERTY: asset.content_hash,
            WRITTEN_PROPERTY: rfc3339(dt.datetime.now(dt.UTC)),
        },
        "startTime": rfc3339(asset.start),
        **({"endTime": rfc3339(asset.end)} if asset.end else {}),
    }
    if isinstance(asset, TableAsset):
        source = {"uris": [asset.uri], "charset": "UTF-8", "primaryGeometryColumn": "geometry"}
        return {**described, "sources": [source]}
    bands = [
        {"id": band, "tilesetId": "0", "tilesetBandIndex": index}
        | ({"pyramidingPolicy": "MODE" if asset.categories else "MEAN"} if asset.ingested else {})
        for index, band in enumerate(asset.bands)
    ]
    missing = {"missingData": {"values": list(asset.missing)}} if asset.ingested and asset.missing else {}
    return {**described, **missing, "tilesets": [{"id": "0", "sources": [{"uris": [asset.uri]}]}], "bands": bands}


def check_table(rows: int, columns: int, vertices: int, text: int) -> None:
    """Raise `AssetError` for a table that Earth Engine would refuse: `vertices` and `text` are those of its worst row."""
    for what, found, allowed in (
        ("rows", rows, MAX_FEATURES),
        ("columns", columns, MAX_COLUMNS),
        ("vertices in one geometry", vertices, MAX_VERTICES),
        ("characters in one text", text, MAX_TEXT),
    ):
        if found > allowed:
            raise AssetError(
                f"the table has {found:,} {what}, Earth Engine takes {allowed:,}: simplify it, or split it into parts"
            )


def _start(session: Session, asset: Asset, end: float) -> Operation | None:
    """Begin to write an asset; None when it is written at once, or has been written by another run meanwhile."""
    for pause in pauses_s():
        try:
            return _begin(session, asset)
        except (PermanentError, TransientError) as error:
            if _there(session, asset):  # another run, or an attempt of this one whose answer was lost
                return None
            full = queue_is_full(str(error))
            if isinstance(error, TransientError) and not full:
                raise
            if not full or time.monotonic() + pause > end:
                raise PermanentError(str(error)) from error
        time.sleep(pause)
    return None


def _begin(session: Session, asset: Asset) -> Operation | None:
    manifest = manifest_of(asset)
    if isinstance(asset, ImageAsset) and not asset.ingested:
        request = {"imageManifest": manifest, "overwrite": False}
        answer = session.call("POST", f"{session.project_path}/image:importExternal", request)
        return operation_of(answer) if "/operations/" in str(answer.get("name", "")) else None
    kind = "image" if isinstance(asset, ImageAsset) else "table"
    request = {f"{kind}Manifest": manifest, "overwrite": False}
    key = f"{asset.name}#{asset.content_hash}"
    return start_operation(session, f"{session.project_path}/{kind}:import", request, key)


def _require(session: Session, assets: Sequence[Asset], problems: dict[str, str], end: float) -> None:
    """Raise one error for all that is not there; an asset that a rival has written meanwhile is there."""
    for asset in assets:
        there = _there(session, asset)
        for pause in pauses_s():  # what was accepted is seen a moment later
            if there or asset.name in problems or time.monotonic() + pause > end:
                break
            time.sleep(pause)
            there = _there(session, asset)
        if there:
            problems.pop(asset.name, None)
        else:
            problems.setdefault(asset.name, "it was accepted but is not there yet: run again later to look for it")
    if problems:
        told = "; ".join(f"{name} could not be written: {words}" for name, words in problems.items())
        raise AssetError(explain(session, told))


def _there(session: Session, asset: Asset) -> bool:
    """Whether the asset is there with this content. Raises `AssetError` when the name is taken by other content."""
    record = find_asset(session, asset.name)
    if record is None:
        return False
    held = record.properties.get(HASH_PROPERTY)
    if held == asset.content_hash:
        return True
    raise AssetError(
        f"{asset.name} is taken by other content ({HASH_PROPERTY} {held!r}, not {asset.content_hash!r}): "
        "publish under another name, or delete the asset"
    )

"""Results written back to Earth Engine: folders, COG-backed images, tables. Nothing is shared, nothing is replaced.

An asset carries the hash of its content. Writing the same content again does nothing; other content under a name that
is taken is refused, because someone may be reading it: versions have names of their own.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gee.catalog import asset_info
from gee.errors import AssetError, GeeError, PermanentError
from gee.session import Session

HASH_PROPERTY = "quakeslide:content_hash"
"""Property of every asset written here."""
POLL_S = 1.0
"""First pause between looks at an operation; grows to `MAX_POLL_S`."""
MAX_POLL_S = 15.0
"""Longest pause between looks at an operation."""

Properties = Mapping[str, str | int | float | bool]


def ensure_folder(session: Session, name: str) -> None:
    """Make the folder `projects/P/assets/A/B...` and those above it, where they are not there yet.

    Raises `AssetError` when something else has that name, or Earth Engine refuses.
    """
    root, parts = _split(name)
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        info = asset_info(session, f"{root}/{path}")
        if info is None:
            _create_folder(session, root, path)
        elif info["type"] != "FOLDER":
            raise AssetError(f"{root}/{path} is no folder but {info['type']}: choose another asset root")


def import_cog_image(
    session: Session,
    name: str,
    gs_uri: str,
    bands: Sequence[str],
    properties: Properties,
    *,
    start: dt.datetime,
    end: dt.datetime | None = None,
    content_hash: str,
    deadline_s: float = 120.0,
) -> bool:
    """Make an image asset that is backed by a COG in Cloud Storage; its folder must exist. True when it was made.

    `bands` names the bands of the COG in order; `start` and `end` (UTC) become the image's times. Raises `AssetError`.
    """
    if not _is_new(session, name, content_hash):
        return False
    manifest = {
        "name": name,
        "tilesets": [{"id": "0", "sources": [{"uris": [gs_uri]}]}],
        "bands": [{"id": band, "tilesetId": "0", "tilesetBandIndex": index} for index, band in enumerate(bands)],
        **_description(properties, content_hash, start, end),
    }
    request = {"imageManifest": manifest, "overwrite": False}
    return _import(session, "image:importExternal", request, content_hash, deadline_s)


def import_table(
    session: Session,
    name: str,
    gs_uri: str,
    properties: Properties,
    *,
    start: dt.datetime,
    content_hash: str,
    deadline_s: float = 600.0,
) -> bool:
    """Make a table asset from a CSV in Cloud Storage with GeoJSON geometries in the column `geometry`. True when made.

    Waits until Earth Engine has ingested it. Raises `AssetError` with Earth Engine's words, or after the deadline.
    """
    if not _is_new(session, name, content_hash):
        return False
    manifest = {
        "name": name,
        "sources": [{"uris": [gs_uri], "charset": "UTF-8", "primaryGeometryColumn": "geometry"}],
        **_description(properties, content_hash, start, None),
    }
    # The same content asks with the same id: after a crash the ingestion that still runs is found, not doubled.
    request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}#{content_hash}"))
    request = {"tableManifest": manifest, "requestId": request_id, "overwrite": False}
    return _import(session, "table:import", request, content_hash, deadline_s)


def _import(session: Session, method: str, request: dict[str, Any], content_hash: str, deadline_s: float) -> bool:
    end = time.monotonic() + deadline_s
    name = next(value["name"] for key, value in request.items() if key.endswith("Manifest"))
    try:
        answer = session.call("POST", f"{session.project_path}/{method}", request)
        if "operations/" in str(answer.get("name", "")):
            _wait(session, answer, end, name)
        _wait_for_asset(session, name, end)
    except PermanentError as error:
        # Another run, or an attempt of this one whose answer was lost, may have written it in the meantime.
        if not _is_new(session, name, content_hash):
            return False
        raise AssetError(f"{name} could not be written: {error}") from error
    return True


def _wait(session: Session, operation: dict[str, Any], end: float, name: str) -> None:
    pause = POLL_S
    while not operation.get("done"):
        if time.monotonic() + pause > end:
            state = operation.get("metadata", {}).get("state", "unknown")
            raise AssetError(f"{name} is not there yet, its ingestion is {state}: run again later to go on waiting")
        time.sleep(pause)
        pause = min(MAX_POLL_S, pause * 1.5)
        operation = session.call("GET", f"/v1/{operation['name']}")
    if "error" in operation:
        raise PermanentError(f"its ingestion failed: {operation['error'].get('message', operation['error'])}")


def _wait_for_asset(session: Session, name: str, end: float) -> None:
    while asset_info(session, name) is None:
        if time.monotonic() + POLL_S > end:
            raise AssetError(f"{name} was accepted but is not there yet: run again later to look for it")
        time.sleep(POLL_S)


def _is_new(session: Session, name: str, content_hash: str) -> bool:
    _split(name)
    info = asset_info(session, name)
    if info is None:
        return True
    there = info.get("properties", {}).get(HASH_PROPERTY)
    if there == content_hash:
        return False
    raise AssetError(
        f"{name} is taken by other content ({HASH_PROPERTY} {there!r}, not {content_hash!r}): "
        "publish under a new version, or delete the asset"
    )


def _create_folder(session: Session, root: str, path: str) -> None:
    try:
        session.call("POST", f"/v1/{root}?assetId={path}", {"type": "FOLDER"})
    except GeeError as error:
        if asset_info(session, f"{root}/{path}") is None:  # else another run was quicker
            raise AssetError(f"the folder {root}/{path} could not be made: {error}") from error


def _split(name: str) -> tuple[str, list[str]]:
    """`projects/P/assets` and the parts of the path below it."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "projects" or parts[2] != "assets" or not all(parts):
        raise AssetError(f"{name!r} is no asset name: it should read projects/PROJECT/assets/PATH")
    return "/".join(parts[:3]), parts[3:]


def _description(
    properties: Properties, content_hash: str, start: dt.datetime, end: dt.datetime | None
) -> dict[str, Any]:
    times = {"startTime": _rfc3339(start)} | ({"endTime": _rfc3339(end)} if end else {})
    return {"properties": {**properties, HASH_PROPERTY: content_hash}, **times}


def _rfc3339(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

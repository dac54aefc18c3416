"""What lies in Earth Engine under a project: names, folders and collections, properties, listing and deleting.

Writing images and tables is in `gee.ingestion`, who may read them in `gee.access`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

from gee.catalog import asset_info
from gee.errors import AssetError, GeeError, PermanentError
from gee.session import Session

Properties = Mapping[str, str | int | float]
"""Properties of an asset; Earth Engine knows text and numbers only."""
Kind = Literal["FOLDER", "IMAGE_COLLECTION", "IMAGE", "TABLE"]
"""Types of assets that are used here."""

PAGE = 1000
"""Assets asked for at a time in a listing."""

_PART = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NANOSECONDS = re.compile(r"\.\d+")


@dataclass(frozen=True)
class AssetRecord:
    """One asset as Earth Engine describes it."""

    name: str
    """`projects/PROJECT/assets/PATH`."""
    kind: str
    """One of `Kind`, or another type of Earth Engine."""
    properties: Properties
    """Its properties, without times."""
    updated: dt.datetime
    """When it was written or its properties were last changed, UTC."""

    @property
    def label(self) -> str:
        """The last part of the name, which is an image's `system:index`."""
        return self.name.rpartition("/")[2]


def split_name(name: str) -> tuple[str, list[str]]:
    """`projects/P/assets` and the parts of the path below it. Raises `AssetError` for a name that is none."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "projects" or parts[2] != "assets" or not all(parts):
        raise AssetError(f"{name!r} is no asset name: it should read projects/PROJECT/assets/PATH")
    if wrong := next((part for part in parts[3:] if not _PART.fullmatch(part)), None):
        raise AssetError(
            f"{name!r} is no asset name: {wrong!r} may hold letters, digits, '-' and '_' only, 100 at most"
        )
    return "/".join(parts[:3]), parts[3:]


def ensure_folder(session: Session, name: str) -> None:
    """Make the folder `projects/P/assets/A/B...` and those above it, where they are not there yet.

    Runs that do this at the same time do not disturb each other. Raises `AssetError` when something else has that
    name, or Earth Engine refuses.
    """
    root, parts = split_name(name)
    if _is_there(session, name, "FOLDER"):
        return
    for depth in range(1, len(parts)):
        path = "/".join(parts[:depth])
        if not _is_there(session, f"{root}/{path}", "FOLDER"):
            _create(session, root, path, "FOLDER", {})
    _create(session, root, "/".join(parts), "FOLDER", {})


def ensure_collection(session: Session, name: str, properties: Properties | None = None) -> None:
    """Make an image collection and the folders above it, where they are not there yet; `properties` for a new one.

    Raises `AssetError` as `ensure_folder` does.
    """
    root, parts = split_name(name)
    if _is_there(session, name, "IMAGE_COLLECTION"):
        return
    if len(parts) > 1:
        ensure_folder(session, name.rpartition("/")[0])
    _create(session, root, "/".join(parts), "IMAGE_COLLECTION", properties or {})


def find_asset(session: Session, name: str) -> AssetRecord | None:
    """The asset of this name, None when there is none that this account may see."""
    split_name(name)
    info = asset_info(session, name)
    return None if info is None else _record(info)


def list_assets(session: Session, parent: str) -> tuple[AssetRecord, ...]:
    """Everything directly in a folder or collection, in Earth Engine's order; nothing when that is not there."""
    split_name(parent)
    found: list[AssetRecord] = []
    query = {"pageSize": str(PAGE)}
    while True:
        try:
            answer = session.call("GET", f"/v1/{quote(parent)}:listAssets?{urlencode(query)}")
        except PermanentError as error:
            if error.status == 404:
                return ()
            raise
        found += [_record(info) for info in answer.get("assets", ())]
        if not answer.get("nextPageToken"):
            return tuple(found)
        query["pageToken"] = answer["nextPageToken"]


def set_properties(session: Session, name: str, properties: Properties) -> bool:
    """Set some properties of an asset and leave the others; False when there is no such asset.

    Content, times and access stay as they are, and whoever reads the pixels meanwhile is not disturbed. Raises
    `AssetError` when Earth Engine refuses.
    """
    split_name(name)
    # Naming only `properties` would replace them all.
    mask = [f'properties."{key}"' for key in properties]
    body = {"asset": {"properties": dict(properties)}, "updateMask": {"paths": mask}}
    try:
        session.call("PATCH", f"/v1/{quote(name)}", body)
    except PermanentError as error:
        if error.status == 404:
            return False
        raise AssetError(f"the properties {', '.join(properties)} of {name} could not be set: {error}") from error
    return True


def delete_asset(session: Session, name: str) -> bool:
    """Delete an image, a table or an empty container; False when there was none. Raises `AssetError` when refused."""
    split_name(name)
    try:
        session.call("DELETE", f"/v1/{quote(name)}")
    except PermanentError as error:
        if error.status == 404:
            return False
        raise AssetError(f"{name} could not be deleted: {error}") from error
    return True


def rfc3339(time: dt.datetime) -> str:
    """A time as the REST interface takes it."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _is_there(session: Session, name: str, kind: Kind) -> bool:
    info = asset_info(session, name)
    if info is not None and info["type"] != kind:
        noun = kind.replace("_", " ").lower()
        raise AssetError(f"{name} is no {noun} but {info['type']}: choose another asset root")
    return info is not None


def _create(session: Session, root: str, path: str, kind: Kind, properties: Properties) -> None:
    body = {"type": kind} | ({"properties": dict(properties)} if properties else {})
    try:
        session.call("POST", f"/v1/{root}?assetId={quote(path)}", body)
    except GeeError as error:
        if not _is_there(session, f"{root}/{path}", kind):  # else another run was quicker
            raise AssetError(f"the {kind.lower()} {root}/{path} could not be made: {error}") from error


def _record(info: dict[str, Any]) -> AssetRecord:
    # Earth Engine writes nanoseconds, which Python does not read; nothing here needs parts of a second.
    updated = _NANOSECONDS.sub("", str(info.get("updateTime") or "1970-01-01T00:00:00Z"))
    return AssetRecord(
        str(info["name"]), str(info["type"]), info.get("properties") or {}, dt.datetime.fromisoformat(updated)
    )

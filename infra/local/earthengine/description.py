"""The JSON file that describes one image of a catalogue folder, read with distrust.

What is wrong is said with the file, the field and the value. Nothing outside the catalogue folder is read, and rasters
are opened as GeoTIFF only, whatever they are called.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from infra.local.earthengine import geometry as geometries
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.records import BandRecord, ImageRecord
from infra.local.earthengine.sources import POLICIES
from infra.local.earthengine.values import Date

MAX_JSON_BYTES = 4 * 2**20
FIELDS = ("id", "time_start", "time_end", "properties", "bands", "footprint")
BAND_FIELDS = ("id", "file", "band", "missing", "pyramid", "scale", "offset")
ASSET_ID = re.compile(r"[\w.-]+(/[\w.-]+)*")
BAND_ID = re.compile(r"[\w.-]+")


class DescriptionError(ArgumentError):
    """A JSON file of the catalogue is wrong; the message names the file and the field."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"The catalogue file '{path}' cannot be used: {what}.")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. DescriptionError when there is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DescriptionError(path, f"it is larger than {MAX_JSON_BYTES} bytes")
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DescriptionError(path, f"it is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise DescriptionError(path, f"it holds a {type(body).__name__}, an object is needed")
    return body


def read_image(path: Path, root: Path, version: int) -> ImageRecord:
    """The image that a file below the catalogue folder `root` describes. DescriptionError when it is wrong."""
    body = read_json(path)
    _known(path, body, FIELDS, "")
    default = (path.parent / path.stem).relative_to(root).as_posix()
    asset = _text(path, body.get("id", default), "id")
    if not ASSET_ID.fullmatch(asset) or ".." in asset.split("/"):
        raise DescriptionError(
            path, f"id '{asset}' is not an asset id such as 'COPERNICUS/S2_HARMONIZED/20180906T0130'"
        )
    properties = body.get("properties", {})
    if not isinstance(properties, dict):
        raise DescriptionError(path, f"properties must be an object, got {properties!r}")
    bands = body.get("bands")
    if not isinstance(bands, list) or not bands:
        raise DescriptionError(path, f"bands must be a list of at least one band, got {bands!r}")
    records = tuple(_band(path, root, b, i) for i, b in enumerate(bands))
    names = [b.id for b in records]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DescriptionError(path, f"bands: the id '{twice[0]}' comes twice")
    return ImageRecord(
        asset,
        records,
        _time(path, body, "time_start"),
        _time(path, body, "time_end"),
        properties,
        _footprint(path, body.get("footprint")),
        version,
    )


def _known(path: Path, body: dict[str, Any], fields: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(body) - set(fields)):
        raise DescriptionError(path, f"{where}unknown field '{unknown[0]}'; known are {', '.join(fields)}")


def _text(path: Path, value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise DescriptionError(path, f"{field} must be text, got {value!r}")
    return value


def _time(path: Path, body: dict[str, Any], field: str) -> str | None:
    value = body.get(field)
    if value is None:
        return None
    try:
        Date.parse(_text(path, value, field))
    except ArgumentError as error:
        raise DescriptionError(
            path, f"{field} must be ISO 8601 such as '2018-09-06T01:30:31Z', got '{value}'"
        ) from error
    return str(value)


def _footprint(path: Path, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        if not isinstance(value, dict):
            raise ArgumentError(f"{value!r} is not an object")
        geometries.from_json(value)
    except (ArgumentError, KeyError, TypeError) as error:
        raise DescriptionError(path, f"footprint is not a GeoJSON geometry: {error}") from error
    return value


def _band(path: Path, root: Path, body: Any, place: int) -> BandRecord:
    where = f"bands[{place}]"
    if not isinstance(body, dict):
        raise DescriptionError(path, f'{where} must be an object such as {{"id": "B4", "file": "x.tif"}}, got {body!r}')
    _known(path, body, BAND_FIELDS, f"{where}: ")
    name = _text(path, body.get("id"), f"{where}.id")
    if not BAND_ID.fullmatch(name):
        raise DescriptionError(path, f"{where}.id '{name}' must consist of letters, digits, '_', '-' and '.'")
    number = body.get("band", 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise DescriptionError(path, f"{where}.band must be a number from 1 on, got {number!r}")
    missing = body.get("missing", [])
    if not isinstance(missing, list) or not all(_is_number(v) for v in missing):
        raise DescriptionError(path, f"{where}.missing must be a list of numbers, got {missing!r}")
    pyramid = body.get("pyramid", "MEAN")
    if pyramid not in POLICIES:
        raise DescriptionError(path, f"{where}.pyramid must be one of {', '.join(POLICIES)}, got {pyramid!r}")
    for field in ("scale", "offset"):
        if field in body and not _is_number(body[field]):
            raise DescriptionError(path, f"{where}.{field} must be a number, got {body[field]!r}")
    return BandRecord(
        name,
        str(_inside(path, root, body.get("file"), where)),
        number,
        tuple(float(v) for v in missing),
        pyramid,
        float(body.get("scale", 1.0)),
        float(body.get("offset", 0.0)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inside(path: Path, root: Path, file: Any, where: str) -> Path:
    """The raster's path, which must lie in the catalogue folder."""
    name = _text(path, file, f"{where}.file")
    found = Path(os.path.normpath(path.parent / name))
    if Path(name).is_absolute() or "\x00" in name or not found.is_relative_to(os.path.normpath(root)):
        raise DescriptionError(path, f"{where}.file '{name}' leaves the catalogue folder; put the raster into it")
    if not found.is_file():
        raise DescriptionError(path, f"{where}.file '{name}' does not exist; it is looked for beside the JSON file")
    return found

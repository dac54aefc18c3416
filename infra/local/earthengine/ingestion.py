"""Rasters and tables in Cloud Storage that become assets.

A COG-backed image (`image:importExternal`) stays where it is: every read goes to its `gs://` address. An ingested image
(`image:import`) and an ingested table (`table:import`) are copied into the state folder first.
"""

from __future__ import annotations

import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape

from infra.local.earthengine import objects, tables
from infra.local.earthengine.assets import asset_id, describe_image
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.library import AssetLibrary
from infra.local.earthengine.records import BandRecord, ImageRecord, to_image
from infra.local.earthengine.sources import POLICIES, Reader

Manifest = dict[str, Any]

MAX_COLUMNS, MAX_VERTICES, MAX_TEXT = 1_000, 1_000_000, 100_000
"""What the service takes of a table: columns, vertices of one geometry, characters of one text."""


def _manifest(body: dict[str, Any], key: str) -> tuple[Manifest, str]:
    manifest = body.get(key)
    if not isinstance(manifest, dict) or not manifest.get("name"):
        raise ArgumentError(f"The request has no '{key}' with a 'name'.")
    return manifest, asset_id(str(manifest["name"]))


def _sources(manifest: Manifest) -> dict[str, str]:
    """The one `gs://` address of each tileset by the tileset's id."""
    prefix = str(manifest.get("uriPrefix") or "")
    found: dict[str, str] = {}
    tilesets = manifest.get("tilesets") or []
    if not tilesets:
        raise ArgumentError("The image manifest has no tilesets.")
    for i, tileset in enumerate(tilesets):
        uris = [f"{prefix}{u}" for s in tileset.get("sources", ()) for u in s.get("uris", ())]
        if len(uris) != 1:
            raise ArgumentError(
                f"Tileset {i} has {len(uris)} sources; the local stand-in takes one raster for each tileset."
            )
        objects.split(uris[0])
        found[str(tileset.get("id", "" if len(tilesets) == 1 else i))] = uris[0]
    return found


def _missing(part: Manifest) -> tuple[float, ...]:
    return tuple(float(v) for v in (part.get("missingData") or {}).get("values", ()))


def _policy(manifest: Manifest, band: Manifest) -> str:
    """How the coarse levels of a band are made."""
    asked = (band.get("pyramidingPolicy"), manifest.get("pyramidingPolicy"))
    policy = next((p for p in asked if p and p != "PYRAMIDING_POLICY_UNSPECIFIED"), "MEAN")
    if policy not in POLICIES:
        raise ArgumentError(f"Invalid pyramiding policy '{policy}': use one of {', '.join(POLICIES)}.")
    return str(policy)


def _bands(manifest: Manifest, files: dict[str, str], reader: Reader) -> tuple[BandRecord, ...]:
    """The bands that the manifest names, or all bands of its files as b1, b2, …"""
    default = _missing(manifest)
    declared = manifest.get("bands") or []
    if not declared:
        numbered = [(uri, i) for uri in files.values() for i in range(1, len(reader.describe(uri).dtypes) + 1)]
        return tuple(BandRecord(f"b{n}", uri, i, default) for n, (uri, i) in enumerate(numbered, 1))
    made = []
    for n, band in enumerate(declared):
        tileset = str(band.get("tilesetId", next(iter(files)) if len(files) == 1 else ""))
        if tileset not in files:
            raise ArgumentError(f"Band '{band.get('id')}' refers to the unknown tileset '{tileset}'.")
        place = int(band.get("tilesetBandIndex", n if len(files) == 1 else 0)) + 1
        count = len(reader.describe(files[tileset]).dtypes)
        if not 1 <= place <= count:
            raise ArgumentError(f"Band '{band.get('id')}' is number {place} of '{files[tileset]}', which has {count}.")
        name = str(band.get("id") or f"b{n + 1}")
        made.append(BandRecord(name, files[tileset], place, _missing(band) or default, _policy(manifest, band)))
    return tuple(made)


def _time(value: Any) -> str | None:
    """A time of a manifest: text, or seconds since 1970."""
    if isinstance(value, dict):
        return datetime.fromtimestamp(float(value["seconds"]), UTC).isoformat()
    return str(value) if value else None


def _record(manifest: Manifest, name: str, bands: tuple[BandRecord, ...]) -> ImageRecord:
    return ImageRecord(
        name,
        bands,
        _time(manifest.get("startTime")),
        _time(manifest.get("endTime")),
        dict(manifest.get("properties") or {}),
    )


def import_external(library: AssetLibrary, reader: Reader, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make a COG-backed image asset, and show it."""
    manifest, name = _manifest(body, "imageManifest")
    library.check_writable(library.view(), name, overwrite=bool(body.get("overwrite")))
    files = _sources(manifest)
    for uri in files.values():
        reader.renew(uri)
    record = _record(manifest, name, _bands(manifest, files, reader))
    described = describe_image(to_image(record, reader))
    generations = {uri: objects.generation(endpoint, uri) for uri in files.values()}
    kept = {
        "cloudStorageLocation": {"uris": [f"{uri}#{generation}" for uri, generation in generations.items()]},
        "generations": generations,
        "described": {field: described[field] for field in ("bands", "geometry", "sizeBytes")},
    }
    library.put_image(record, kept, overwrite=bool(body.get("overwrite")))
    return library.view().describe(name)


def check_image(library: AssetLibrary, body: dict[str, Any]) -> str:
    """The asset's id, when the manifest can be ingested as far as can be seen without reading the rasters."""
    manifest, name = _manifest(body, "imageManifest")
    library.check_writable(library.view(), name, overwrite=bool(body.get("overwrite")))
    _sources(manifest)
    return name


def import_image(library: AssetLibrary, reader: Reader, endpoint: str, body: dict[str, Any]) -> list[str]:
    """Copy the rasters of a manifest and make the image asset."""
    manifest, name = _manifest(body, "imageManifest")
    files: dict[str, str] = {}
    try:
        for tileset, uri in _sources(manifest).items():
            target = library.state / "rasters" / f"{uuid.uuid4().hex}.tif"
            files[tileset] = str(target)
            objects.download(endpoint, uri, target)
        library.require_room(name, sum(Path(path).stat().st_size for path in files.values()))
        bands = _bands(manifest, files, reader)
        library.put_image(_record(manifest, name, bands), overwrite=bool(body.get("overwrite")))
    except ArgumentError:
        for path in files.values():
            Path(path).unlink(missing_ok=True)
        raise
    return [name]


def check_table(library: AssetLibrary, body: dict[str, Any]) -> str:
    """The asset's id, when the manifest can be ingested as far as can be seen without reading the table."""
    manifest, name = _manifest(body, "tableManifest")
    library.check_writable(library.view(), name, overwrite=bool(body.get("overwrite")))
    if not [u for s in manifest.get("sources", ()) for u in s.get("uris", ())]:
        raise ArgumentError("The table manifest has no sources.")
    return name


def import_table(library: AssetLibrary, endpoint: str, body: dict[str, Any]) -> list[str]:
    """Read the sources of a manifest and make the table asset."""
    manifest, name = _manifest(body, "tableManifest")
    features: list[dict[str, Any]] = []
    size = 0
    for source in manifest["sources"]:
        for uri in source.get("uris", ()):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "source"
                objects.download(endpoint, uri, path)
                size += path.stat().st_size
                features += tables.read(path, uri, source)
    _require_ingestible(features)
    library.require_room(name, size)
    numbered = [{**f, "id": str(f.get("id", i))} for i, f in enumerate(features)]
    times = {field: _time(manifest.get(field)) for field in ("startTime", "endTime") if manifest.get(field)}
    properties = dict(manifest.get("properties") or {})
    library.put_table(name, numbered, properties, times, overwrite=bool(body.get("overwrite")))
    return [name]


def _require_ingestible(features: list[dict[str, Any]]) -> None:
    """ArgumentError for a table that the service does not take."""
    if not features:
        raise ArgumentError("The table has no features.")
    columns = {name for feature in features for name in feature["properties"]}
    if len(columns) > MAX_COLUMNS:
        raise ArgumentError(f"The table has {len(columns)} columns, the maximum is {MAX_COLUMNS}.")
    for row, feature in enumerate(features, 1):
        vertices = 0 if feature["geometry"] is None else int(shapely.get_num_coordinates(shape(feature["geometry"])))
        if vertices > MAX_VERTICES:
            raise ArgumentError(f"Row {row}: the geometry has {vertices} vertices, the maximum is {MAX_VERTICES}.")
        for name, value in feature["properties"].items():
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise ArgumentError(f"Row {row}: '{name}' has {len(value)} characters, the maximum is {MAX_TEXT}.")

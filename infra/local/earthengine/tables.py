"""Features as CSV and GeoJSON, and tables from CSV and shapefiles."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pyogrio
import shapely
from shapely.geometry import mapping

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.values import Collection, Feature, to_json

MAX_UNZIPPED_BYTES = 2 * 2**30
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
GEOMETRY_COLUMNS = ("geometry", ".geo", "geo", "WKT")
"""Names under which a CSV's geometry is looked for."""

GeoJson = dict[str, Any]


def as_geojson(feature: Any) -> GeoJson:
    """A feature as GeoJSON in longitude and latitude with planar edges."""
    geometry = getattr(feature, "geometry", None)
    shown = None
    if isinstance(geometry, Geometry) and not geometry.unbounded:
        shown = Geometry(geometry.lonlat(), geodesic=True).to_json()
    properties = {k: to_json(v) for k, v in feature.properties.items()}
    return {"type": "Feature", "id": feature.id or "0", "geometry": shown, "properties": properties}


def page(collection: Collection, size: Any, token: Any) -> dict[str, Any]:
    """Some of the features, with the token of the next page when there is one."""
    start, count = int(token or 0), int(size or 1000)
    features = [as_geojson(f) for f in collection.elements[start : start + count]]
    body: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    return {**body, "nextPageToken": str(start + count)} if start + count < len(collection.elements) else body


def to_bytes(collection: Collection, file_format: str, selectors: list[str] | None = None) -> tuple[bytes, str]:
    """All features in a file format, and its content type."""
    features = [as_geojson(f) for f in collection.elements]
    if file_format in ("GEO_JSON", "GEOJSON", "JSON"):
        return json.dumps({"type": "FeatureCollection", "features": features}).encode(), "application/geo+json"
    if file_format == "CSV":
        return _csv(features, selectors), "text/csv"
    raise ArgumentError(f"The table format '{file_format}' is not known to the local stand-in; use CSV or GEO_JSON.")


def _csv(features: list[GeoJson], selectors: list[str] | None) -> bytes:
    names = selectors or [
        "system:index",
        *sorted({k for f in features for k in f["properties"]} - {"system:index"}),
        ".geo",
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    for feature in features:
        geometry = "" if feature["geometry"] is None else json.dumps(feature["geometry"])
        index = feature["properties"].get("system:index", feature["id"])
        writer.writerow({**feature["properties"], "system:index": index, ".geo": geometry})
    return text.getvalue().encode()


def read(path: Path, name: str, source: dict[str, Any]) -> list[GeoJson]:
    """Features of a table file by the manifest's source: a CSV, or a zipped shapefile. ArgumentError otherwise."""
    suffix = Path(name).suffix.lower()
    if suffix == ".csv":
        return read_csv(path, source)
    if suffix == ".zip":
        return read_zipped_shapefile(path)
    raise ArgumentError(f"Table source '{name}' is not supported: use a .csv or a zipped shapefile (.zip).")


def read_csv(path: Path, source: dict[str, Any]) -> list[GeoJson]:
    """Features of a CSV whose geometry column holds GeoJSON or WKT, or that has columns of longitude and latitude."""
    csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding=str(source.get("charset") or "utf-8"), newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, LookupError, csv.Error) as error:
        raise ArgumentError(f"The CSV table cannot be read: {error}.") from error
    if not rows:
        return []
    names = [n for n in rows[0] if n is not None]
    wanted = source.get("primaryGeometryColumn")
    column = wanted if wanted in names else next((n for n in GEOMETRY_COLUMNS if n in names), None)
    x, y = str(source.get("xColumn") or "longitude"), str(source.get("yColumn") or "latitude")
    numeric = {n: _numeric([r[n] for r in rows]) for n in names if n != column}
    features = []
    for i, row in enumerate(rows):
        geometry: GeoJson | None = None
        if column is not None:
            geometry = _geometry(row[column], i)
        elif x in names and y in names:
            geometry = {"type": "Point", "coordinates": [float(row[x]), float(row[y])]}
        values = {n: _value(row[n], numeric[n]) for n in names if n != column and row[n] not in ("", None)}
        index = values.pop("system:index", None)
        features.append({"id": str(i if index is None else index), "geometry": geometry, "properties": values})
    return features


def _numeric(values: list[str | None]) -> bool:
    try:
        return all(v in ("", None) or float(str(v)) is not None for v in values)
    except ValueError:
        return False


def _value(text: str, numeric: bool) -> Any:
    if not numeric:
        return text
    number = float(text)
    return int(number) if text.lstrip("+-").isdigit() else number


def _geometry(text: str | None, row: int) -> GeoJson | None:
    if not text:
        return None
    try:
        if text.lstrip().startswith("{"):
            parsed: GeoJson = json.loads(text)
            return parsed
        made: GeoJson = mapping(shapely.from_wkt(text))
        return made
    except (ValueError, shapely.errors.ShapelyError) as error:
        raise ArgumentError(f"Row {row + 1} of the table has no valid geometry: {error}.") from error


def read_zipped_shapefile(path: Path) -> list[GeoJson]:
    """Features of the one shapefile in a zip archive, in longitude and latitude."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            members = [m for m in archive.infolist() if Path(m.filename).suffix.lower() in SHAPEFILE_PARTS]
            if sum(m.file_size for m in members) > MAX_UNZIPPED_BYTES:
                raise ArgumentError(f"The shapefile is larger than {MAX_UNZIPPED_BYTES} bytes when unzipped.")
            stems = {Path(m.filename).stem for m in members if m.filename.lower().endswith(".shp")}
            if len(stems) != 1:
                raise ArgumentError(f"The zip archive must hold one shapefile, found {len(stems)}.")
            for member in members:
                # The name inside the archive is not trusted: only its suffix is used.
                target = Path(folder) / f"table{Path(member.filename).suffix.lower()}"
                target.write_bytes(archive.read(member))
            frame = pyogrio.read_dataframe(Path(folder) / "table.shp")
    except (zipfile.BadZipFile, pyogrio.errors.DataSourceError) as error:
        raise ArgumentError(f"The zipped shapefile cannot be read: {error}.") from error
    if frame.crs is not None:
        frame = frame.to_crs("EPSG:4326")
    features: list[GeoJson] = json.loads(frame.to_json(na="drop"))["features"]
    return features


def from_collection(collection: Collection) -> list[GeoJson]:
    """The features of a collection as a table asset keeps them."""
    kept = []
    for i, feature in enumerate(collection.elements):
        if not isinstance(feature, Feature):
            raise ArgumentError("Only features can be written to a table.")
        body = as_geojson(feature)
        body["properties"].pop("system:index", None)
        kept.append({**body, "id": feature.id or str(i)})
    return kept

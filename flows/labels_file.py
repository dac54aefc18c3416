"""Reads the polygons that an analyst has drawn: any vector format, any coordinate system, each with its class.

The class stands in a property called `class` or `label` (any case). For a landslide it is landslide, slide, yes, true or 1; for
other ground not-landslide, no-landslide, non-landslide, background, other, none, no, false or 0 (any case; blanks and
underscores count as dashes). The file is outside input: its format is told by its first bytes, what it may hold is capped.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow
import pyogrio
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from flows.errors import EventError, FlowError
from flows.usgs_geojson import parse_json
from modeling.data.drawn_class import LANDSLIDE, OTHER, PROPERTIES, is_missing, plain

LEAST_POLYGONS = 5
"""Fewer say too little to adapt a network, and to judge what came of it."""
MOST_POLYGONS = 500
"""More are a data set: train on them."""
MAX_BYTES = 64 * 2**20
MAX_VERTICES = 1_000_000

_SQLITE, _PARQUET, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"PAR1", b"fgb", b"\x00\x00\x27\x0a"
_UNREADABLE = (
    EventError, CRSError, shapely.errors.ShapelyError,
    KeyError, TypeError, ValueError, AttributeError, RecursionError,
)  # fmt: skip
_LONGEST_TEXT = 60


class LabelsError(FlowError):
    """A file of drawn polygons cannot be used; the message names the feature."""


@dataclass(frozen=True)
class DrawnPolygon:
    """One polygon that an analyst has drawn."""

    number: int
    """Its place in the file, from 1."""
    landslide: bool
    """Whether it is a landslide, or ground that is none."""
    geometry: BaseGeometry
    """A valid polygon or multipolygon, flat."""


@dataclass(frozen=True)
class Labels:
    """What an analyst has drawn."""

    polygons: tuple[DrawnPolygon, ...]
    """In the order of the file."""
    crs: str
    """Of their coordinates: a code, or WKT."""
    name: str
    """File name, for messages and the report."""

    @property
    def sha256(self) -> str:
        """Of what was drawn (classes, coordinates, coordinate system), not of how it was written down."""
        told = [[polygon.landslide, shapely.to_wkb(polygon.geometry, hex=True)] for polygon in self.polygons]
        return hashlib.sha256(json.dumps([self.crs, told]).encode()).hexdigest()

    def count(self, landslide: bool) -> int:
        """How many polygons have that class."""
        return sum(polygon.landslide == landslide for polygon in self.polygons)

    def to_crs(self, crs: str) -> Labels:
        """The same in another coordinate system; raises `LabelsError` naming the first that cannot be there."""
        if CRS(self.crs).equals(CRS(crs), ignore_axis_order=True):
            return self
        transformer = Transformer.from_crs(self.crs, crs, always_xy=True)
        moved = []
        for one in self.polygons:
            try:
                geometry = shapely.transform(
                    one.geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
                )
            except ProjError as error:
                raise LabelsError(f"{self.feature(one)}: its coordinates cannot be turned into {crs}") from error
            if not np.isfinite(shapely.get_coordinates(geometry)).all():
                raise LabelsError(
                    f"{self.feature(one)}: its coordinates cannot be turned into {crs}: is its CRS right?"
                )
            moved.append(DrawnPolygon(one.number, one.landslide, geometry))
        return Labels(tuple(moved), crs, self.name)

    def feature(self, polygon: DrawnPolygon) -> str:
        """A polygon, as messages name it."""
        return f"feature {polygon.number} of {self.name}"


def read_labels(path: Path) -> Labels:
    """The polygons of a file with their classes.

    Raises `LabelsError` naming the feature for one without a class, with an unknown one, that is no polygon, or that
    crosses itself; and for a file that cannot be read, with too few or too many polygons, or without one of the classes.
    """
    if not path.is_file():
        raise LabelsError(f"there is no file {path}: give the polygons that were drawn on the map")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise LabelsError(f"{path.name} has {size:,} bytes: a file of 1 to {MAX_BYTES:,} with polygons is expected")
    rows, crs = _read(path)
    name = path.name
    polygons = tuple(_polygon(number, *row, name) for number, row in enumerate(rows, start=1))
    if sum(shapely.get_num_coordinates(polygon.geometry) for polygon in polygons) > MAX_VERTICES:
        raise LabelsError(f"{name} has more than {MAX_VERTICES:,} vertices: simplify the polygons")
    labels = Labels(polygons, crs, name)
    if len(polygons) < LEAST_POLYGONS:
        raise LabelsError(f"{name} has {len(polygons)} polygons: draw at least {LEAST_POLYGONS}, of both classes")
    for landslide, what in ((True, "landslide"), (False, "not-landslide")):
        if labels.count(landslide) == 0:
            raise LabelsError(f"{name} has no polygon of class {what}: draw at least two, far from each other")
    return labels


Row = tuple[BaseGeometry | None, Mapping[str, Any]]


def _polygon(number: int, geometry: BaseGeometry | None, properties: Mapping[str, Any], name: str) -> DrawnPolygon:
    where = f"feature {number} of {name}"
    if geometry is None or geometry.is_empty:
        raise LabelsError(f"{where} has no geometry: draw it, or take it out")
    if geometry.geom_type not in {"Polygon", "MultiPolygon"}:
        raise LabelsError(f"{where} is a {geometry.geom_type}: a polygon is needed")
    flat = shapely.force_2d(geometry)
    if not np.isfinite(shapely.get_coordinates(flat)).all():
        raise LabelsError(f"{where} has coordinates that are no numbers: draw it again")
    if not flat.is_valid:
        raise LabelsError(f"{where} is no valid polygon ({shapely.is_valid_reason(flat)}): draw it again")
    return DrawnPolygon(number, _class(properties, where), flat)


def _class(properties: Mapping[str, Any], where: str) -> bool:
    """Whether properties say landslide."""
    found = [value for key, value in properties.items() if str(key).lower() in PROPERTIES]
    if len(found) != 1 or is_missing(found[0]):
        raise LabelsError(f"{where} has no class: give it a property `class`, landslide or not-landslide")
    said = plain(found[0])
    if said not in LANDSLIDE | OTHER:
        shown = str(found[0])[:_LONGEST_TEXT]
        raise LabelsError(f"{where} has the unknown class {shown!r}: landslide and not-landslide are possible")
    return said in LANDSLIDE


def _read(path: Path) -> tuple[list[Row], str]:
    """Geometry and properties of each feature, and their coordinate system."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _read_geojson(path)
    if head.startswith((_SQLITE, _FLATGEOBUF, _SHAPEFILE, _PARQUET)):
        frame = _read_parquet(path) if head.startswith(_PARQUET) else _read_ogr(path)
        if len(frame) > MOST_POLYGONS:
            raise LabelsError(f"{path.name} has more than {MOST_POLYGONS} features: train on so many instead")
        if frame.crs is None:
            raise LabelsError(
                f"{path.name} has no coordinate system: write one into the file (the .prj of a shapefile)"
            )
        rows = frame.drop(columns=frame.geometry.name).to_dict("records")
        properties = [{str(name): value for name, value in row.items()} for row in rows]
        return list(zip(frame.geometry, properties, strict=True)), CRS(frame.crs).to_string()
    raise LabelsError(
        f"{path.name} is no file of polygons: give GeoJSON, GeoPackage, GeoParquet, FlatGeobuf or a shapefile"
    )


def _read_geojson(path: Path) -> tuple[list[Row], str]:
    """In degrees, or in the system that a `crs` member of the older specification names."""
    try:
        value = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), path.name)
        rows = list(_geojson_rows(value))
        named = value.get("crs")
        crs = CRS.from_user_input(str(named["properties"]["name"])[:100]) if named is not None else CRS("OGC:CRS84")
    except _UNREADABLE as error:
        raise LabelsError(f"{path.name} is not GeoJSON that can be read: {str(error)[:150]}") from error
    return rows, crs.to_string()


def _geojson_rows(value: Any) -> Iterator[Row]:
    features = value["features"] if isinstance(value, dict) and value.get("type") == "FeatureCollection" else None
    if not isinstance(features, list):
        raise TypeError("it is no FeatureCollection")
    if len(features) > MOST_POLYGONS:
        raise ValueError(f"it has more than {MOST_POLYGONS} features: train on so many instead")
    for feature in features:
        geometry, properties = feature["geometry"], feature.get("properties") or {}
        if not isinstance(properties, dict):
            raise TypeError("the properties of a feature are no object")
        yield (None if geometry is None else shape(geometry)), properties


def _read_parquet(path: Path) -> geopandas.GeoDataFrame:
    try:
        return geopandas.read_parquet(path)
    except (pyarrow.ArrowException, ValueError, KeyError, TypeError, OSError, shapely.errors.ShapelyError) as error:
        raise LabelsError(f"{path.name} is not GeoParquet that can be read: {str(error)[:150]}") from error


def _read_ogr(path: Path) -> geopandas.GeoDataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # GDAL's remark that the name does not fit the format
            layers = [str(name) for name, kind in pyogrio.list_layers(path.resolve()) if kind is not None]
            if len(layers) != 1:
                raise LabelsError(f"{path.name} has {len(layers)} layers of geometries: give a file with one")
            frame = pyogrio.read_dataframe(path.resolve(), layer=layers[0], max_features=MOST_POLYGONS + 1)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FieldError,
        ValueError,
    ) as error:
        raise LabelsError(f"{path.name} cannot be read: {str(error)[:150]}") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise LabelsError(f"{path.name} is a table without geometry: give a file with polygons")
    return frame

"""Reads an area that a user gives as a file: GeoJSON, GeoPackage, GeoParquet, FlatGeobuf or shapefile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
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

from flows.area_type import AreaOfInterest, area_from_geometry
from flows.errors import AreaError, EventError
from flows.usgs_geojson import parse_json

MAX_BYTES = 64 * 2**20
MAX_FEATURES = 100_000
MAX_VERTICES = 2_000_000
_SQLITE, _PARQUET, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"PAR1", b"fgb", b"\x00\x00\x27\x0a"

_UNREADABLE = (
    EventError, CRSError, shapely.errors.ShapelyError,
    KeyError, TypeError, ValueError, AttributeError, RecursionError,
)  # fmt: skip
"""What hostile or broken GeoJSON makes its readers raise."""


def area_from_file(path: Path) -> AreaOfInterest:
    """The polygons of a file as an area in WGS84, whatever its coordinate system.

    The format is told by the first bytes, not by the name, so that no other driver is let loose on the file. Raises
    `AreaError` for a file that is missing, too large, of another kind, without a coordinate system, empty, or without
    polygons.
    """
    if not path.is_file():
        raise AreaError(f"there is no file {path}: check the path given with --aoi")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise AreaError(
            f"{path.name} has {size:,} bytes, more than the {MAX_BYTES:,} that are read: simplify the polygons"
        )
    if size == 0:
        raise AreaError(f"{path.name} is empty: give a file with polygons")
    geometries, crs = _read(path)
    if sum(shapely.get_num_coordinates(geometry) for geometry in geometries) > MAX_VERTICES:
        raise AreaError(f"{path.name} has more than {MAX_VERTICES:,} vertices: simplify the polygons")
    present = [geometry for geometry in geometries if geometry is not None and not geometry.is_empty]
    if not present:
        raise AreaError(f"{path.name} holds no geometry: give a file with polygons")
    degrees = [_to_degrees(geometry, crs, path.name) for geometry in present]
    return area_from_geometry(shapely.GeometryCollection(degrees), f"given by file {path.name}")


def _read(path: Path) -> tuple[list[BaseGeometry], CRS]:
    """The geometries of a file and their coordinate system."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_PARQUET):
        return _read_parquet(path)
    if head.startswith((_SQLITE, _FLATGEOBUF, _SHAPEFILE)):
        return _read_ogr(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _read_geojson(path)
    raise AreaError(
        f"{path.name} is no file of polygons: give GeoJSON, GeoPackage, GeoParquet, FlatGeobuf or a shapefile"
    )


def _read_geojson(path: Path) -> tuple[list[BaseGeometry], CRS]:
    """GeoJSON in degrees, or in the system that a `crs` member of the older specification names."""
    try:
        value = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), path.name)
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
        named = value.get("crs")
        crs = CRS.from_user_input(str(named["properties"]["name"])[:100]) if named is not None else CRS("OGC:CRS84")
        return [shape(geometry) for geometry in _geojson_geometries(value)], crs
    except _UNREADABLE as error:
        raise AreaError(f"{path.name} is not GeoJSON that can be read: {str(error)[:150]}") from error


def _geojson_geometries(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The geometry objects of a FeatureCollection, a Feature or a geometry."""
    kind = value.get("type")
    if kind == "FeatureCollection":
        features = value["features"]
        if not isinstance(features, list) or len(features) > MAX_FEATURES:
            raise ValueError(f"`features` is not a list of at most {MAX_FEATURES}")
        yield from (feature["geometry"] for feature in features if feature["geometry"] is not None)
    elif kind == "Feature":
        if value["geometry"] is not None:
            yield value["geometry"]
    elif "coordinates" in value or "geometries" in value:
        yield value
    else:
        raise ValueError(f"its type is {str(kind)[:50]!r}")


def _read_parquet(path: Path) -> tuple[list[BaseGeometry], CRS]:
    try:
        frame = geopandas.read_parquet(path)
    except (pyarrow.ArrowException, ValueError, KeyError, TypeError, OSError, shapely.errors.ShapelyError) as error:
        raise AreaError(f"{path.name} is not GeoParquet that can be read: {str(error)[:150]}") from error
    return _geometries(frame, path.name)


def _read_ogr(path: Path) -> tuple[list[BaseGeometry], CRS]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # GDAL's remark that the name does not fit the format
            layers = [str(name) for name, kind in pyogrio.list_layers(path.resolve()) if kind is not None]
            if len(layers) > 1:
                raise AreaError(
                    f"{path.name} has {len(layers)} layers ({', '.join(layers)[:150]}): give a file with one"
                )
            frame = pyogrio.read_dataframe(path.resolve(), columns=[], max_features=MAX_FEATURES + 1)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FieldError,
        ValueError,
    ) as error:
        raise AreaError(f"{path.name} cannot be read: {str(error)[:150]}") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise AreaError(f"{path.name} is a table without geometry: give a file with polygons")
    if len(frame) > MAX_FEATURES:
        raise AreaError(f"{path.name} has more than {MAX_FEATURES:,} features: simplify it")
    return _geometries(frame, path.name)


def _geometries(frame: geopandas.GeoDataFrame, name: str) -> tuple[list[BaseGeometry], CRS]:
    if frame.crs is None:
        raise AreaError(
            f"{name} has no coordinate system: write one into the file (for a shapefile, the .prj beside it)"
        )
    return list(frame.geometry), CRS(frame.crs)


def _to_degrees(geometry: BaseGeometry, crs: CRS, name: str) -> BaseGeometry:
    """The geometry in lon/lat."""
    flat = shapely.force_2d(geometry)
    if crs.equals(CRS("OGC:CRS84"), ignore_axis_order=True) or crs.equals(CRS("EPSG:4326"), ignore_axis_order=True):
        return flat
    try:
        transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        return shapely.transform(flat, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    except ProjError as error:
        raise AreaError(f"{name}: its coordinates cannot be turned into degrees: {str(error)[:150]}") from error

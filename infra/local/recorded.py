"""Real rasters of the 2018 Hokkaido Eastern Iburi earthquake as a catalogue for the Earth Engine stand-in.

The files are downloads from Earth Engine: a Sentinel-2 pair (red, green and blue only; the image before the event ends
at the edge of its swath) and the AW3D30 surface model. Their acquisition dates were not recorded, so the catalogue
assumes some and says so in every image's properties.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from shapely import MultiPoint, Polygon, convex_hull
from shapely.geometry import mapping
from shapely.geometry.polygon import orient

from infra.local.scenes import AW3D30, SENTINEL2, write_collection, write_image

IBURI_EVENT_TIME = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
IBURI_TIMES = {
    # Leafless forest, bare fields, and snow left in gullies and on north slopes: the thaw, long before the event.
    # `days_before` has to be 160 or more for a window that reaches it.
    "pre": dt.datetime(2018, 4, 12, 1, 30, tzinfo=dt.UTC),
    # Scars are there, broad-leaved forest has turned red, fields are harvested, shadows are long: October.
    "post": dt.datetime(2018, 10, 20, 1, 30, tzinfo=dt.UTC),
}
"""When the pair is assumed to have been taken. Only the season can be seen in the pictures."""

DEM_CELLS_PER_DEGREE = 3600
MAX_PIXELS = 50_000_000
_BANDS = ("B2", "B3", "B4")
_SENTINEL2_ATTRIBUTION = "Contains modified Copernicus Sentinel data 2018"
_AW3D30_ATTRIBUTION = "AW3D30: (c) JAXA"


class RecordedDataError(ValueError):
    """The recorded files are missing or not what they should be; the message names the file."""


def iburi_catalogue(shared_data: Path, out: Path) -> None:
    """Write the catalogue below `out` from `shared_data`/iburi2018; raises `RecordedDataError`."""
    folder = shared_data / "iburi2018"
    write_collection(out, SENTINEL2, {"attribution": _SENTINEL2_ATTRIBUTION})
    for phase, time in IBURI_TIMES.items():
        _write_scene(folder, phase, time, out)
    write_collection(out, AW3D30, {"attribution": _AW3D30_ATTRIBUTION})
    elevation, transform = native_dem(folder / "dsm_aw3d30.tif")
    write_image(
        out,
        f"{AW3D30}/iburi2018",
        {"DSM": elevation},
        crs="EPSG:4326",
        transform=transform,
        nodata=-32768,
        properties={"attribution": _AW3D30_ATTRIBUTION, "quakeslide:cut": "the part around Atsuma only"},
    )


def _write_scene(folder: Path, phase: str, time: dt.datetime, out: Path) -> None:
    rasters = [_read(folder / f"s2_{phase}_{band}.tif") for band in _BANDS]
    crs, transform = rasters[0][1], rasters[0][2]
    write_image(
        out,
        f"{SENTINEL2}/iburi2018_{phase}",
        {band: values for band, (values, _, _) in zip(_BANDS, rasters, strict=True)},
        crs=crs,
        transform=transform,
        nodata=0,
        time=time,
        properties={
            "attribution": _SENTINEL2_ATTRIBUTION,
            "quakeslide:time_assumed": True,
        },
        footprint=mapping(_footprint(rasters[0][0] > 0, transform)),
    )


def native_dem(path: Path) -> tuple[npt.NDArray[np.int16], Affine]:
    """(elevation (y, x) in metres, transform) of a recorded DEM on its own grid of 1/3600 degree.

    The recorded file is a nearest-neighbour resample to slightly smaller pixels, in which some columns and rows come
    twice. Raises `RecordedDataError` when the columns and rows that should be twins differ.
    """
    values, crs, transform = _read(path)
    if crs != "EPSG:4326":
        raise RecordedDataError(f"{path} is in {crs}, not in EPSG:4326")
    height, width = values.shape
    columns = np.floor((transform.c + (np.arange(width) + 0.5) * transform.a) * DEM_CELLS_PER_DEGREE).astype(int)
    rows = np.floor(-(transform.f + (np.arange(height) + 0.5) * transform.e) * DEM_CELLS_PER_DEGREE).astype(int)
    first_columns, column_of = np.unique(columns, return_index=True)
    first_rows, row_of = np.unique(rows, return_index=True)
    native = values[np.ix_(row_of, column_of)]
    rebuilt = native[np.ix_(rows - first_rows[0], columns - first_columns[0])]
    if not np.array_equal(rebuilt, values):
        raise RecordedDataError(f"{path} is not a nearest-neighbour resample of a 1/{DEM_CELLS_PER_DEGREE} degree grid")
    cell = 1 / DEM_CELLS_PER_DEGREE
    return native, Affine(cell, 0, first_columns[0] * cell, 0, -cell, -first_rows[0] * cell)


def _read(path: Path) -> tuple[npt.NDArray[Any], str, Affine]:
    if not path.is_file():
        raise RecordedDataError(f"{path} is missing: point to the folder that holds iburi2018")
    try:
        with rasterio.open(path, driver="GTiff") as source:
            if source.width * source.height > MAX_PIXELS:
                raise RecordedDataError(f"{path} has {source.width}x{source.height} pixels: too many")
            return source.read(1), str(source.crs), source.transform
    except rasterio.errors.RasterioIOError as error:
        raise RecordedDataError(f"{path} is not a readable GeoTIFF: {error}") from None


def _footprint(valid: npt.NDArray[np.bool_], transform: Affine) -> Polygon:
    """The convex hull of the pixels that hold data: a swath is convex, so its edge is the hull's."""
    first = valid.argmax(axis=1)
    last = valid.shape[1] - valid[:, ::-1].argmax(axis=1)
    corners = [
        transform @ (float(column), float(row + below))
        for row in np.flatnonzero(valid.any(axis=1))
        for column in (first[row], last[row])
        for below in (0, 1)
    ]
    hull = convex_hull(MultiPoint(corners))
    if not isinstance(hull, Polygon):
        raise RecordedDataError("a recorded scene holds no data")
    return orient(hull)

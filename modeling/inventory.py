"""From probability to polygons: the landslide inventory, its one schema, and how it is measured.

Bodies are connected over pixel edges, not corners (4-connected): then every body is one simple, valid polygon with exactly
the area of its pixels, and two slides that only touch at a corner, where no debris of a pixel's width could pass,
stay two. All statistics come from one pass over the pixels of landslides only, so that the cost follows their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio.features
import shapely
from affine import Affine
from pyproj import CRS
from scipy import ndimage

from modeling.errors import InventoryError
from modeling.zonal import Bodies

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Column:
    """One column of an inventory."""

    dtype: str
    """pandas dtype; `str` for text."""
    about: str
    """What it holds, with its unit."""
    nullable: bool = False
    """Whether a row may lack it."""


SCHEMA: Mapping[str, Column] = {
    "landslide_id": Column("int32", "1 to n, the largest first"),
    "event_id": Column("str", "the earthquake, as USGS names it"),
    "version": Column("int32", "number of the map version"),
    "area_m2": Column("float64", "area of the polygon's pixels, in square metres"),
    "perimeter_m": Column("float64", "length of the outline along pixel edges, holes included, in metres"),
    "length_m": Column("float64", "longer side of the smallest rectangle around the polygon, in metres"),
    "width_m": Column("float64", "mean width: area over length, in metres"),
    "centroid_lon": Column("float64", "longitude of the centroid, degrees WGS84; it may lie outside a bent polygon"),
    "centroid_lat": Column("float64", "latitude of the centroid, degrees WGS84"),
    "slope_mean_deg": Column("float64", "mean slope, in degrees", nullable=True),
    "elevation_min_m": Column("float64", "lowest elevation, in metres", nullable=True),
    "elevation_max_m": Column("float64", "highest elevation, in metres", nullable=True),
    "elevation_range_m": Column("float64", "highest minus lowest elevation, in metres", nullable=True),
    "probability_mean": Column("float64", "mean landslide probability, 0 to 1"),
    "probability_max": Column("float64", "highest landslide probability, 0 to 1"),
    "observed_pre": Column(
        "str", "ISO date, before the event, that most pixels come from, the earliest of equals", nullable=True
    ),
    "observed_post": Column(
        "str", "ISO date, after the event, that most pixels come from, the earliest of equals", nullable=True
    ),
    "touches_unobserved": Column("bool", "true if it borders on ground that was not seen: its area is a lower bound"),
    "model": Column("str", "hash of the weights"),
    "geometry": Column("geometry", "polygon in the grid's projected CRS"),
}
"""The columns of an inventory, in order."""

_CLEAR = 1


def empty_inventory(crs: str) -> gpd.GeoDataFrame:
    """An inventory without a landslide and with every column: what a map that found nothing publishes."""
    columns = {name: pd.Series([], dtype=kind.dtype) for name, kind in SCHEMA.items() if name != "geometry"}
    return validate_inventory(gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries([], crs=crs), crs=crs))


def vectorise(
    probability: FloatArray,
    *,
    threshold: float,
    transform: Affine | tuple[float, float, float, float, float, float],
    crs: str,
    slope_deg: FloatArray,
    elevation_m: FloatArray,
    pre_date_days: IntArray,
    post_date_days: IntArray,
    observed: IntArray,
    event_id: str,
    version: int,
    model: str,
    minimum_area_m2: float,
) -> gpd.GeoDataFrame:
    """Polygons of the pixels whose probability is at least `threshold`, with the columns of `SCHEMA`.

    All arrays are (y, x) on one north-up grid in a projected `crs` (metres); they may be memory-mapped. `probability` is NaN where
    not observed, `slope_deg` and `elevation_m` where unknown; dates are days since 1970-01-01, negative for none; `observed`
    is 1 where both phases saw the ground. `model` is the hash of the weights. Bodies smaller than `minimum_area_m2` are
    dropped. Raises `InventoryError` when shapes differ or the CRS is not projected.
    """
    rasters = {
        "slope_deg": slope_deg, "elevation_m": elevation_m, "pre_date_days": pre_date_days,
        "post_date_days": post_date_days, "observed": observed,
    }  # fmt: skip
    for name, raster in rasters.items():
        if raster.shape != probability.shape:
            raise InventoryError(f"{name} has shape {raster.shape}, the probability {probability.shape}")
    grid = Affine(*tuple(transform)[:6])
    labels = _label(probability, threshold, minimum_area_m2 / abs(grid.a * grid.e))
    body = Bodies.of(labels)
    if body.count == 0:
        return empty_inventory(crs)
    polygons = _polygons(labels, grid, body.count)
    area = body.pixels() * abs(grid.a * grid.e)
    length = _longer_side(polygons)
    centroids = gpd.GeoSeries(shapely.centroid(polygons), crs=crs).to_crs("EPSG:4326")
    lowest, highest = body.range(elevation_m)
    frame = gpd.GeoDataFrame(
        {
            "landslide_id": np.arange(1, body.count + 1, dtype=np.int32),
            "event_id": event_id,
            "version": np.int32(version),
            "area_m2": area,
            "perimeter_m": shapely.length(polygons),
            "length_m": length,
            "width_m": area / length,
            "centroid_lon": centroids.x.to_numpy(),
            "centroid_lat": centroids.y.to_numpy(),
            "slope_mean_deg": body.mean(slope_deg),
            "elevation_min_m": lowest,
            "elevation_max_m": highest,
            "elevation_range_m": highest - lowest,
            "probability_mean": body.mean(probability),
            "probability_max": body.range(probability)[1],
            "observed_pre": _iso_dates(body.most_common(pre_date_days)),
            "observed_post": _iso_dates(body.most_common(post_date_days)),
            "touches_unobserved": body.any_neighbour_differs(observed, _CLEAR),
            "model": model,
        },
        geometry=polygons,
        crs=crs,
    )
    return validate_inventory(frame[list(SCHEMA)].astype({"event_id": "str", "model": "str"}))


def validate_inventory(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return `frame` if it is an inventory; raise `InventoryError` naming the first thing that is not as `SCHEMA` says."""
    if list(frame.columns) != list(SCHEMA):
        raise InventoryError(f"an inventory has the columns {', '.join(SCHEMA)}, this has {', '.join(frame.columns)}")
    if frame.crs is None or not CRS(frame.crs).is_projected:
        raise InventoryError(f"an inventory is measured in metres: its CRS must be projected, not {frame.crs}")
    for name, kind in SCHEMA.items():
        _check_dtype(name, frame[name], kind.dtype)
        if not kind.nullable and frame[name].isna().any():
            raise InventoryError(f"column {name} of an inventory must have a value in every row")
    if list(frame["landslide_id"]) != list(range(1, len(frame) + 1)) or not frame["area_m2"].is_monotonic_decreasing:
        raise InventoryError("landslide_id must count from 1, the largest landslide first")
    if not ((frame.geom_type == "Polygon") & frame.is_valid).all():
        raise InventoryError("every geometry of an inventory must be one valid polygon")
    if not np.allclose(frame["area_m2"], frame.area, rtol=1e-6):
        raise InventoryError("area_m2 is not the area of the geometry")
    probability = frame[["probability_mean", "probability_max"]].to_numpy()
    if not ((probability >= 0) & (probability <= 1)).all():
        raise InventoryError("a probability of an inventory is not between 0 and 1")
    return frame


def _check_dtype(name: str, column: pd.Series[Any], dtype: str) -> None:
    fits = pd.api.types.is_string_dtype(column.dtype) if dtype == "str" else str(column.dtype) == dtype
    if not fits:
        raise InventoryError(f"column {name} of an inventory is {dtype}, not {column.dtype}")


def _label(probability: FloatArray, threshold: float, minimum_px: float) -> npt.NDArray[np.int32]:
    """Number the bodies of at least `minimum_px` pixels from 1, the largest first (of equals, the northernmost), 0 elsewhere."""
    # NaN compares as false: unobserved ground is never a landslide.
    labels: npt.NDArray[np.int32]
    labels, count = ndimage.label(probability >= threshold, output=np.int32)
    pixels = np.flatnonzero(labels)
    flat = labels.reshape(-1)
    sizes = np.bincount(flat[pixels], minlength=count + 1)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    kept = order[sizes[order] >= max(minimum_px, 1)]
    renumbered = np.zeros(count + 1, np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1, dtype=np.int32)
    flat[pixels] = renumbered[flat[pixels]]
    return labels


def _polygons(labels: npt.NDArray[np.int32], transform: Affine, count: int) -> npt.NDArray[np.object_]:
    """The outline of every body along its pixel edges, holes included: index i holds label i + 1."""
    polygons = np.empty(count, object)
    for outline, label in rasterio.features.shapes(labels, mask=labels > 0, connectivity=4, transform=transform):
        polygons[int(label) - 1] = shapely.geometry.shape(outline)
    return polygons


def _longer_side(polygons: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Longer side of each polygon's minimum rotated rectangle."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(polygons)).reshape(len(polygons), 5, 2)
    sides = np.hypot(*np.moveaxis(np.diff(corners[:, :3], axis=1), -1, 0))
    longest: npt.NDArray[np.float64] = sides.max(axis=1)
    return longest


def _iso_dates(days: IntArray) -> pd.Series[Any]:
    """Days since 1970-01-01 as ISO dates, null where negative."""
    dates = np.datetime_as_string(days.astype("datetime64[D]"))
    return pd.Series(dates, dtype="str").where(days >= 0)

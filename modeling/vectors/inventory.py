"""From probability to polygons: the landslide inventory, its one schema, and how it is measured.

Bodies are connected over pixel edges, not corners (4-connected): then every body is one simple, valid polygon with
exactly the area of its pixels, and two slides that only touch at a corner, where no debris of a pixel's width could
pass, stay two. Polygons and statistics come window by window from the pixels of landslides only (`modeling.vectors.vectorise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from affine import Affine
from pyproj import CRS

from modeling.errors import InventoryError
from modeling.vectors.rectangle import rectangle_sides
from modeling.vectors.vectorise import Vectoriser

SlicesYX = tuple[slice, slice]
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
    "version": Column("str", "the map version, or the run that made it"),
    "area_m2": Column("float64", "area of the polygon's pixels, in square metres"),
    "perimeter_m": Column("float64", "length of the outline along pixel edges, holes included, in metres"),
    "length_m": Column("float64", "longer side of the smallest rectangle around the polygon, in metres"),
    "width_m": Column("float64", "mean width: area over length, in metres"),
    "length_width_ratio": Column("float64", "longer over shorter side of the smallest rectangle around the polygon"),
    "centroid_x_m": Column("float64", "easting of the centroid in the projected CRS, in metres"),
    "centroid_y_m": Column("float64", "northing of the centroid in the projected CRS, in metres"),
    "centroid_lon": Column("float64", "longitude of the centroid, degrees WGS84; it may lie outside a bent polygon"),
    "centroid_lat": Column("float64", "latitude of the centroid, degrees WGS84"),
    "slope_mean_deg": Column("float64", "mean slope, in degrees", nullable=True),
    "slope_p95_deg": Column("float64", "slope that 95 % of the pixels do not exceed, in whole degrees", nullable=True),
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

STEEP_SHARE = 0.95
"""Share of a landslide's pixels that are not steeper than its `slope_p95_deg`."""

_CLEAR = 1
_ROWS_PX = 512


def empty_inventory(crs: str) -> gpd.GeoDataFrame:
    """An inventory without a landslide and with every column: what a map that found nothing publishes."""
    columns = {name: pd.Series([], dtype=kind.dtype) for name, kind in SCHEMA.items() if name != "geometry"}
    return validate_inventory(gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries([], crs=crs), crs=crs))


class InventoryMaker:
    """Makes an inventory of a map that comes window by window: `add` each, then `finish`.

    Windows come from left to right and from top to bottom, in rows of one height each, and cover the map; memory follows
    the landslides and the width of a row, not the map.
    """

    def __init__(
        self,
        shape_yx: tuple[int, int],
        *,
        threshold: float,
        transform: Affine | tuple[float, float, float, float, float, float],
        crs: str,
        minimum_area_m2: float,
    ) -> None:
        """Landslides are where the probability is at least `threshold`, of `minimum_area_m2` and more; `crs` is projected
        and `transform` north-up."""
        grid = Affine(*tuple(transform)[:6])
        self._threshold, self._crs, self._pixel_m2 = threshold, crs, abs(grid.a * grid.e)
        self._bodies = Vectoriser(shape_yx, grid, minimum_px=minimum_area_m2 / self._pixel_m2)

    def add(
        self,
        where: SlicesYX,
        probability: FloatArray,
        *,
        slope_deg: FloatArray,
        elevation_m: FloatArray,
        pre_date_days: IntArray,
        post_date_days: IntArray,
        observed: IntArray,
    ) -> None:
        """Take a window; all arrays are (y, x).

        `probability` is NaN where not observed, `slope_deg` and `elevation_m` where unknown; dates are days since
        1970-01-01, negative for none; `observed` is 1 where both phases saw the ground. Raises `InventoryError` when
        shapes differ or a window does not follow the one before it.
        """
        self._bodies.add(
            where,
            # NaN compares as false: unobserved ground is never a landslide.
            probability >= self._threshold,
            quantities={"probability": probability, "slope_deg": slope_deg, "elevation_m": elevation_m},
            codes={
                "pre_date_days": pre_date_days,
                "post_date_days": post_date_days,
                "slope_deg": whole_degrees(slope_deg),
            },
            seen=observed == _CLEAR,
        )

    def finish(self, *, event_id: str, version: str, model: str) -> gpd.GeoDataFrame:
        """The inventory, with the columns of `SCHEMA`; `model` is the hash of the weights. Raises `InventoryError` when
        windows are missing or the CRS is not projected."""
        found = self._bodies.finish()
        if not len(found.polygons):
            return empty_inventory(self._crs)
        bodies, polygons = found.attributes, found.polygons
        area, (length, width) = bodies.pixels * self._pixel_m2, rectangle_sides(polygons)
        centroids = shapely.centroid(polygons)
        geographic = gpd.GeoSeries(centroids, crs=self._crs).to_crs("EPSG:4326")
        probability, elevation = bodies.moments["probability"], bodies.moments["elevation_m"]
        frame = gpd.GeoDataFrame(
            {
                "landslide_id": np.arange(1, len(polygons) + 1, dtype=np.int32),
                "event_id": event_id,
                "version": version,
                "area_m2": area,
                "perimeter_m": shapely.length(polygons),
                "length_m": length,
                "width_m": area / length,
                "length_width_ratio": length / width,
                "centroid_x_m": shapely.get_x(centroids),
                "centroid_y_m": shapely.get_y(centroids),
                "centroid_lon": geographic.x.to_numpy(),
                "centroid_lat": geographic.y.to_numpy(),
                "slope_mean_deg": bodies.moments["slope_deg"].mean,
                "slope_p95_deg": bodies.votes["slope_deg"].quantile(STEEP_SHARE),
                "elevation_min_m": elevation.min,
                "elevation_max_m": elevation.max,
                "elevation_range_m": elevation.max - elevation.min,
                "probability_mean": probability.mean,
                "probability_max": probability.max,
                "observed_pre": _iso_dates(bodies.votes["pre_date_days"].most_common),
                "observed_post": _iso_dates(bodies.votes["post_date_days"].most_common),
                "touches_unobserved": bodies.cut,
                "model": model,
            },
            geometry=polygons,
            crs=self._crs,
        )
        return validate_inventory(frame[list(SCHEMA)].astype({"event_id": "str", "version": "str", "model": "str"}))


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
    version: str,
    model: str,
    minimum_area_m2: float,
) -> gpd.GeoDataFrame:
    """The inventory of a whole map; all arrays are (y, x), and may be memory-mapped. See `InventoryMaker`."""
    rasters = {
        "slope_deg": slope_deg, "elevation_m": elevation_m, "pre_date_days": pre_date_days,
        "post_date_days": post_date_days, "observed": observed,
    }  # fmt: skip
    for name, raster in rasters.items():
        if raster.shape != probability.shape:
            raise InventoryError(f"{name} has shape {raster.shape}, the probability {probability.shape}")
    height, width = probability.shape
    maker = InventoryMaker(
        (height, width), threshold=threshold, transform=transform, crs=crs, minimum_area_m2=minimum_area_m2
    )
    for top in range(0, height, _ROWS_PX):
        where = slice(top, min(top + _ROWS_PX, height)), slice(0, width)
        maker.add(
            where, probability[where], slope_deg=slope_deg[where], elevation_m=elevation_m[where],
            pre_date_days=pre_date_days[where], post_date_days=post_date_days[where], observed=observed[where],
        )  # fmt: skip
    return maker.finish(event_id=event_id, version=version, model=model)


def whole_degrees(slope_deg: FloatArray) -> npt.NDArray[np.int16]:
    """Slope in degrees, rounded, -1 where unknown: codes whose quantiles a `Vectoriser` can tell of each body."""
    return np.rint(np.nan_to_num(slope_deg, nan=-1.0)).astype(np.int16)


def validate_inventory(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return `frame` if it is an inventory; raise `InventoryError` naming the first thing that breaks `SCHEMA`."""
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


def _iso_dates(days: IntArray) -> pd.Series[Any]:
    """Days since 1970-01-01 as ISO dates, null where negative."""
    dates = np.datetime_as_string(days.astype("datetime64[D]"))
    return pd.Series(dates, dtype="str").where(days >= 0)

"""From probability to polygons: the landslide inventory, its one schema, how it is measured and written.

Bodies are connected over pixel edges, not corners (4-connected): then every body is one simple, valid polygon with
exactly the area of its pixels, and two slides that only touch at a corner, where no debris of a pixel's width could
pass, stay two. All statistics come from one pass over the pixels of landslides only, so that the cost follows their
number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyogrio
import pyogrio.errors
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
    "version": Column("str", "the map version, or the run that made it"),
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

LAYER = "landslides"
"""Name of the layer inside the GeoPackage."""

_WRITE_ERRORS = (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pa.ArrowException)


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
    version: str,
    model: str,
    minimum_area_m2: float,
) -> gpd.GeoDataFrame:
    """Polygons of the pixels whose probability is at least `threshold`, with the columns of `SCHEMA`.

    All arrays are (y, x) on one north-up grid in a projected `crs` (metres); they may be memory-mapped. `probability`
    is NaN where not observed, `slope_deg` and `elevation_m` where unknown; dates are days since 1970-01-01, negative
    for none; `observed` is 1 where both phases saw the ground. `model` is the hash of the weights. Bodies smaller
    than `minimum_area_m2` are dropped. Raises `InventoryError` when shapes differ or the CRS is not projected.
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
            "version": version,
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
    return validate_inventory(frame[list(SCHEMA)].astype({"event_id": "str", "version": "str", "model": "str"}))


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


def _label(probability: FloatArray, threshold: float, minimum_px: float) -> npt.NDArray[np.int32]:
    """Number the bodies of at least `minimum_px` pixels from 1, the largest (of equals the northernmost) first."""
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


def write_inventory(frame: gpd.GeoDataFrame, folder: Path | str, stem: str) -> dict[str, Path]:
    """Write `folder/stem.gpkg`, `.parquet` and `.geojson`; returns `{"gpkg": path, "parquet": path, "geojson": path}`.

    GeoPackage and GeoParquet are in the inventory's own CRS. GeoJSON follows RFC 7946: WGS84, exterior rings
    counterclockwise, cut at the antimeridian, 7 decimals (a centimetre). Files are written beside the target, read
    back, and renamed all at the end. Raises `InventoryError` when `frame` is no inventory or a file cannot be
    written; then older files stay.
    """
    validate_inventory(frame)
    home = Path(folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=f".{stem}-", ignore_cleanup_errors=True) as beside:
            made = {kind: Path(beside) / f"{stem}.{kind}" for kind in _WRITERS}
            for kind, path in made.items():
                _WRITERS[kind](frame, path)
                _check(kind, path, frame)
            return {kind: _publish(path, home / path.name) for kind, path in made.items()}
    except _WRITE_ERRORS as error:
        raise InventoryError(f"the inventory cannot be written to {home / stem}.*: {error}") from error


def _publish(made: Path, target: Path) -> Path:
    return made.replace(target)


def _write_gpkg(frame: gpd.GeoDataFrame, path: Path) -> None:
    # The geometry type is stated because an empty frame cannot tell it.
    pyogrio.write_dataframe(frame, path, driver="GPKG", layer=LAYER, geometry_type="Polygon")


def _write_parquet(frame: gpd.GeoDataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


def _write_geojson(frame: gpd.GeoDataFrame, path: Path) -> None:
    pyogrio.write_dataframe(frame, path, driver="GeoJSON", RFC7946="YES", COORDINATE_PRECISION=7)


_WRITERS: Mapping[str, Callable[[gpd.GeoDataFrame, Path], None]] = {
    "gpkg": _write_gpkg,
    "parquet": _write_parquet,
    "geojson": _write_geojson,
}


def _check(kind: str, path: Path, frame: gpd.GeoDataFrame) -> None:
    """Read the file's own account of itself: a full disk can leave one that opens and lacks something."""
    if kind == "parquet":
        read = gpd.read_parquet(path, columns=["landslide_id", "geometry"])
        rows, crs = len(read), read.crs
    else:
        info = pyogrio.read_info(path, force_feature_count=True)
        rows, crs = info["features"], info["crs"]
        # The spatial index comes last: SQLite can lose it to a full disk and report success.
        if kind == "gpkg" and not info["capabilities"]["fast_spatial_filter"]:
            raise InventoryError(
                f"{path.name} cannot be written in full, its spatial index is not there: is the disk full?"
            )
    expected = CRS("EPSG:4326") if kind == "geojson" else CRS(frame.crs)
    if rows != len(frame) or crs is None or not CRS(crs).equals(expected, ignore_axis_order=True):
        raise InventoryError(
            f"{path.name} cannot be written in full, it has {rows} rows in {crs}, not {len(frame)} in {expected}: "
            "is the disk full?"
        )

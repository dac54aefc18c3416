"""From a mask to polygons, and statistics of a raster over them, on a map with some 9,000 bodies.

*Polygons*: megapixels a second from a mask in memory to shapely polygons along pixel edges, 4-connected. GDAL is
`rasterio.features.shapes` and `shapely.geometry.shape`. *Zonal*: polygons a second, mean, standard deviation, minimum and
maximum of a raster in memory; exactextract is asked with both of its strategies, as a table. *Attributes*: both in one,
megapixels a second from mask and raster to polygons with the four figures, which is what the inventory does: the figures
come with the runs, and nothing is burnt. After the clock has stopped, polygons are compared by number, validity and
area, each with its pixels, and figures with exactextract's. The last group is the peak of a process that vectorises a map
of so many rows of 8192 pixels window by window, a quarter of the rows being the limit: 1 would be flat, but the polygons
themselves, four times as many, stay.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource

from modeling.vectors.inventory import vectorise
from modeling.vectors.vectorise import Found, Vectoriser, mask_polygons
from modeling.vectors.zonal import Moments, polygon_moments

from . import maps
from .cases import BenchError, Case, Group, Setting, elapsed
from .peak import peak_bytes, peak_mb

WINDOW_PX = 512
OPERATIONS = ("mean", "stdev", "min", "max")

Array = npt.NDArray[Any]


def groups(setting: Setting) -> Iterator[Group]:
    """Polygons, zonal statistics, both, the whole inventory, memory."""
    side = 1024 if setting.quick else 8192
    mask, raster = maps.bodies(side), maps.heights(side)
    pixels = mask.size / 1e6
    polygons = mask_polygons(mask, maps.GRID)
    table = gpd.GeoDataFrame(geometry=polygons, crs=maps.CRS)
    expected = _exactextract(raster, table, "feature-sequential")

    def polygons_of(make: Callable[[], Array]) -> Callable[[], float]:
        return lambda: pixels / _timed(make, lambda found: _check_polygons(found, mask))

    def figures_of(make: Callable[[], Moments | Array], unit: float) -> Callable[[], float]:
        return lambda: unit / _timed(make, lambda found: _check_figures(_columns(found), expected))

    yield Group(
        f"polygons of {len(polygons)} bodies, {side} px", "Mpx/s",
        (
            Case("quakeslide", "ours", polygons_of(lambda: mask_polygons(mask, maps.GRID))),
            Case("quakeslide, window by window", "ours", polygons_of(lambda: _windows(mask).polygons)),
            Case("rasterio.features.shapes", "peer", polygons_of(lambda: _by_gdal(mask))),
        ),
        warm=True,
    )  # fmt: skip
    exact = {
        f"exactextract, {strategy}": _thunk(_exactextract, raster, table, strategy)
        for strategy in ("feature-sequential", "raster-sequential")
    }
    ours = _thunk(polygon_moments, polygons, raster.__getitem__, raster.shape, maps.GRID)
    yield Group(
        f"zonal, {len(polygons)} polygons, {side} px", "polygons/s",
        (
            Case("quakeslide", "ours", figures_of(ours, len(polygons))),
            *(Case(who, "peer", figures_of(make, len(polygons))) for who, make in exact.items()),
        ),
        warm=True,
    )  # fmt: skip

    def by_both() -> Array:
        found = gpd.GeoDataFrame(geometry=_by_gdal(mask), crs=maps.CRS)
        figures = _exactextract(raster, found, "raster-sequential")
        return figures[_largest_first(found.geometry.to_numpy())]

    yield Group(
        f"attributes, {len(polygons)} bodies, {side} px", "Mpx/s",
        (
            Case("quakeslide", "ours", figures_of(lambda: _windows(mask, raster).attributes.moments["x"], pixels)),
            Case("rasterio and exactextract", "peer", figures_of(by_both, pixels)),
            Case("the whole inventory", "fact", lambda: pixels / elapsed(lambda: _inventory(side))),
        ),
        warm=True,
    )  # fmt: skip
    width, rows = (1024, 4096) if setting.quick else (8192, 16384)

    def peak(height: int) -> Callable[[], float]:
        return lambda: peak_mb(__name__, (height, width))

    cases = (Case(f"{rows // 4} rows", "limit", peak(rows // 4)), Case(f"{rows} rows", "ours", peak(rows)))
    yield Group(f"peak of {width} columns, window by window", "MB", cases, less_is_better=True, repetitions=1)


def _thunk(work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: work(*arguments)


def _timed(make: Callable[[], Any], check: Callable[[Any], None]) -> float:
    """Seconds that it takes to make something, which is checked afterwards."""
    made: list[Any] = []
    seconds = elapsed(lambda: made.append(make()))
    check(made[0])
    return seconds


def _windows(mask: Array, raster: Array | None = None) -> Found:
    vectoriser = Vectoriser(mask.shape, maps.GRID)
    for top in range(0, mask.shape[0], WINDOW_PX):
        for left in range(0, mask.shape[1], WINDOW_PX):
            window = slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)
            quantities = {} if raster is None else {"x": raster[window]}
            vectoriser.add(window, mask[window], quantities=quantities)
    return vectoriser.finish()


def _by_gdal(mask: Array) -> Array:
    found = rasterio.features.shapes(mask.view(np.uint8), mask=mask, connectivity=4, transform=maps.GRID)
    return np.array([shapely.geometry.shape(outline) for outline, _ in found], object)


def _exactextract(raster: Array, table: gpd.GeoDataFrame, strategy: str) -> Array:
    """(polygon, figure)."""
    height, width = raster.shape
    (left, top), (right, bottom) = maps.GRID @ (0, 0), maps.GRID @ (width, height)
    source = NumPyRasterSource(raster, xmin=left, ymin=bottom, xmax=right, ymax=top, srs_wkt=table.crs.to_wkt())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = exact_extract(source, table, list(OPERATIONS), output="pandas", strategy=strategy)
    return np.asarray(found[list(OPERATIONS)], np.float64)


def _inventory(side: int) -> gpd.GeoDataFrame:
    days = np.full((side, side), 17_800, np.int32)
    return vectorise(
        maps.probability(side), threshold=0.5, transform=maps.GRID, crs=maps.CRS, slope_deg=maps.heights(side),
        elevation_m=maps.heights(side), pre_date_days=days, post_date_days=days,
        observed=np.ones((side, side), np.uint8), event_id="x", version="x", model="x", minimum_area_m2=2000,
    )  # fmt: skip


def _columns(found: Moments | Array) -> Array:
    if isinstance(found, Moments):
        return np.column_stack([found.mean, found.std, found.min, found.max])
    return found


def _largest_first(polygons: Array) -> Array:
    """The order of ours: by area, and of equals by the first pixel in reading order."""
    top = shapely.bounds(polygons)[:, 3]
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    at_top = points[:, 1] == top[owner]
    left = np.full(len(polygons), np.inf)
    np.minimum.at(left, owner[at_top], points[at_top, 0])
    return np.lexsort((left, -top, -shapely.area(polygons)))


def _check_polygons(polygons: Array, mask: Array) -> None:
    pixel = abs(maps.GRID.a * maps.GRID.e)
    if shapely.area(polygons).sum() != pixel * np.count_nonzero(mask) or not shapely.is_valid(polygons).all():
        raise BenchError("the polygons are not those of the mask")


def _check_figures(found: Array, expected: Array) -> None:
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-5, equal_nan=True):
        raise BenchError("the figures are not those of exactextract")


def main() -> None:
    """Vectorise a map window by window and tell the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    asked = parser.parse_args()
    mask, raster = (each[:WINDOW_PX, :WINDOW_PX] for each in (maps.bodies(2 * WINDOW_PX), maps.heights(2 * WINDOW_PX)))
    vectoriser = Vectoriser((asked.height, asked.width), maps.GRID)
    for top in range(0, asked.height, WINDOW_PX):
        for left in range(0, asked.width, WINDOW_PX):
            window = slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)
            vectoriser.add(window, mask, quantities={"x": raster})
    vectoriser.finish()
    sys.stdout.write(str(peak_bytes()))


if __name__ == "__main__":
    main()

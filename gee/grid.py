"""The pixel grid: one snapped UTM grid per area, cut into tiles, and what a request for a tile weighs. Pure.

Arrays are (y, x), north up. Geometries come in as WGS84 lon/lat; one that crosses the antimeridian comes as a
MultiPolygon with parts on both sides of 180 degrees (RFC 7946), and is treated as the connected area that it is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from gee.errors import GridError
from gee.types import Grid, Tile

MAX_REQUEST_BYTES = 50_331_648
"""Earth Engine refuses to compute more uncompressed bytes in one request, one mask byte a pixel and band counted in."""
MAX_SIDE_PX = 32_768
"""Earth Engine refuses a request that is longer on a side."""
MAX_BANDS = 1_024
"""Earth Engine refuses a request with more bands."""
MAX_EXTENT_M = 1_000_000.0
"""Wider than this an area has left the zone in which UTM is a map one can measure on."""

_EDGE_DEG = 0.05
"""Edges are cut to this length before they are projected: a long straight edge in degrees is a curve in UTM."""


def utm_crs(lon: float, lat: float) -> str:
    """The EPSG code of the UTM zone at a point: `EPSG:326zz` north of the equator, `EPSG:327zz` south of it.

    The exceptions of Norway and Svalbard are left out: the plain six-degree zones are valid there too.
    Raises `GridError` beyond 84 degrees north and 80 degrees south, where UTM ends.
    """
    if not -80.0 <= lat <= 84.0:
        raise GridError(f"latitude {lat:.3f} is outside UTM (80 S to 84 N): such an area cannot be mapped")
    zone = math.floor((wrap_longitude(lon) + 180.0) / 6.0) + 1
    return f"EPSG:{326 if lat >= 0 else 327}{zone:02d}"


def serves(crs: str, geometry_wgs84: BaseGeometry, beyond_deg: float = 3.0) -> bool:
    """Whether a UTM zone is a map of an area: none of it lies farther than `beyond_deg` outside the zone's six degrees.

    There a length is 0.5 % too long at most, at the equator.
    """
    if len(crs) != len("EPSG:326zz") or not crs[5:].isdigit():
        return False
    meridian = 6.0 * int(crs[-2:]) - 183.0
    west, _, east, _ = unwrap(geometry_wgs84).bounds
    turn = 360.0 * round((meridian - (west + east) / 2) / 360.0)
    return bool(meridian - 3.0 - beyond_deg <= west + turn and east + turn <= meridian + 3.0 + beyond_deg)


def wrap_longitude(lon: float) -> float:
    """`lon` in [-180, 180)."""
    return (lon + 180.0) % 360.0 - 180.0


def crosses_antimeridian(geometry: BaseGeometry) -> bool:
    """Whether a lon/lat geometry has its parts on both sides of 180 degrees rather than of 0."""
    west, _, east, _ = geometry.bounds
    return bool(east - west > 180.0)


def unwrap(geometry: BaseGeometry) -> BaseGeometry:
    """The same area with longitudes that run on beyond 180 when it crosses the antimeridian."""
    if not crosses_antimeridian(geometry):
        return geometry

    def eastward(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        moved = coordinates.copy()
        moved[moved[:, 0] < 0, 0] += 360.0
        return moved

    return shapely.transform(geometry, eastward)


def to_grid_crs(geometry_wgs84: BaseGeometry, crs: str) -> BaseGeometry:
    """A lon/lat geometry in the coordinates of `crs` (metres); parts on both sides of 180 degrees meet again."""
    return _projected(geometry_wgs84.wkb, crs, threading.get_ident())


@lru_cache(maxsize=64)
def _projected(wkb: bytes, crs: str, thread: int) -> BaseGeometry:
    # An area of thousands of vertices is asked for once a tile: project it once. One for each thread, because GEOS
    # writes into a prepared geometry while it is asked: two threads that ask the same one at once crash the process.
    transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    def project(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(transformer.transform(coordinates[:, 0], coordinates[:, 1]))

    projected = shapely.transform(shapely.segmentize(shapely.from_wkb(wkb), _EDGE_DEG), project)
    shapely.prepare(projected)
    return projected


def grid_for(geometry_wgs84: BaseGeometry, pixel_m: float = 10.0, *, crs: str = "", snap_px: int = 1) -> Grid:
    """The smallest grid that holds the area: UTM zone of its centroid, edges snapped outward to multiples of `pixel_m`.

    With `snap_px` the edges lie on multiples of so many pixels, counted from the origin of the coordinate system: cut
    into tiles of that side, every area has its tiles out of one lattice, and an area that grows keeps those it has.
    `crs` asks for another zone than that of the centroid, so that they stay the same when the centroid moves.
    Raises `GridError` when the area is empty, wider than `MAX_EXTENT_M`, or outside UTM.
    """
    if geometry_wgs84.is_empty:
        raise GridError("the area is empty: there is no grid for it")
    if not pixel_m > 0:
        raise GridError(f"a pixel of {pixel_m} m is not possible: give a positive size")
    if snap_px < 1:
        raise GridError(f"edges cannot be snapped to {snap_px} px: give 1 or more")
    centre = unwrap(geometry_wgs84).centroid
    crs = crs or utm_crs(centre.x, centre.y)
    west, south, east, north = to_grid_crs(geometry_wgs84, crs).bounds
    if not max(east - west, north - south) <= MAX_EXTENT_M:  # also refuses the infinities of a failed projection
        raise GridError(
            f"the area spans {(east - west) / 1000:.0f} x {(north - south) / 1000:.0f} km in {crs}: "
            f"at most {MAX_EXTENT_M / 1000:.0f} km fit one UTM grid; cut it into several areas"
        )
    left, right = _snapped(west, east, pixel_m, snap_px)
    bottom, top = _snapped(south, north, pixel_m, snap_px)
    transform = (pixel_m, 0.0, left * pixel_m, 0.0, -pixel_m, top * pixel_m)
    return Grid(crs, transform, (top - bottom, right - left))


def _snapped(low: float, high: float, pixel_m: float, snap_px: int) -> tuple[int, int]:
    """The pixels from `low` to `high` (metres), outward to whole steps of `snap_px`, at least one of them."""
    first, last = math.floor(low / pixel_m) // snap_px, -(-math.ceil(high / pixel_m) // snap_px)
    return first * snap_px, max(last, first + 1) * snap_px


def lattice_offset_px(grid: Grid, step_px: int) -> tuple[int, int]:
    """How far (y, x) the first pixel of a grid lies into a lattice of `step_px` squares that starts at the CRS's origin.

    (0, 0) for a grid that `grid_for` has snapped to that step.
    """
    _, _, c, _, _, f = grid.transform
    return round(-f / grid.pixel_m) % step_px, round(c / grid.pixel_m) % step_px


def coarse_grid_for(geometry_wgs84: BaseGeometry, pixel_m: float, about_px: int) -> Grid:
    """A grid of the area for a coarse look: pixels are the whole multiple of `pixel_m` that gives `about_px` or fewer.

    The rounding of its edges may add a row and a column. Raises `GridError` as `grid_for` does.
    """
    height, width = grid_for(geometry_wgs84, pixel_m).shape_yx
    return grid_for(geometry_wgs84, pixel_m * max(1, math.ceil(math.sqrt(height * width / about_px))))


def tiles(grid: Grid, tile_px: int) -> tuple[Tile, ...]:
    """The grid cut into squares of `tile_px`, row by row; smaller at the right and bottom edge."""
    if not 1 <= tile_px <= MAX_SIDE_PX:
        raise GridError(f"a tile of {tile_px} px is not possible: choose 1 to {MAX_SIDE_PX}")
    height, width = grid.shape_yx
    return tuple(
        Tile(y0 // tile_px, x0 // tile_px, y0, x0, (min(tile_px, height - y0), min(tile_px, width - x0)))
        for y0 in range(0, height, tile_px)
        for x0 in range(0, width, tile_px)
    )


def tiles_over(grid: Grid, tile_px: int, geometry_wgs84: BaseGeometry) -> tuple[Tile, ...]:
    """Those of `tiles` that meet the area."""
    area = to_grid_crs(geometry_wgs84, grid.crs)
    cut = tiles(grid, tile_px)
    edges = np.array([grid.window(tile).bounds for tile in cut])
    meets = shapely.intersects(area, shapely.box(*edges.T))
    return tuple(tile for tile, wanted in zip(cut, meets, strict=True) if wanted)


def request_bytes(shape_yx: tuple[int, int], dtypes: Iterable[npt.DTypeLike]) -> int:
    """What a request counts against `MAX_REQUEST_BYTES`: the pixels of every band and one mask byte for each."""
    return shape_yx[0] * shape_yx[1] * sum(np.dtype(dtype).itemsize + 1 for dtype in dtypes)


def geometry_mask(grid: Grid, geometry_wgs84: BaseGeometry) -> npt.NDArray[np.bool_]:
    """Which pixels of the grid have their centre inside the area: bool (y, x)."""
    area = to_grid_crs(geometry_wgs84, grid.crs)
    west, south, east, north = grid.bounds
    if shapely.contains_properly(area, shapely.box(west, south, east, north)):
        return np.ones(grid.shape_yx, dtype=bool)
    # The area is not cut to the window first: a new corner would bend an edge by a rounding, and a pixel centre on that
    # edge would be inside in one tiling and outside in another.
    # Not rasterised by GDAL: rasterio silences a warning while it does, in a way that threads disturb each other.
    inside: npt.NDArray[np.bool_] = shapely.contains_xy(area, *np.meshgrid(*pixel_centres(grid)))
    return inside


def pixel_centres(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The coordinates x (width) and y (height) of the pixel centres, in metres."""
    a, _, c, _, e, f = grid.transform
    height, width = grid.shape_yx
    columns, rows = np.arange(width, dtype=np.float64) + 0.5, np.arange(height, dtype=np.float64) + 0.5
    return np.asarray(c + a * columns, np.float64), np.asarray(f + e * rows, np.float64)

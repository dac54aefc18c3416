"""Projections, pixel grids, and where the pixels of one fall in another.

Positions are anchored to the coordinate system and not to the request: a pixel has the same position in a source
whether it is asked for in one large tile or in many small ones.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from infra.local.earthengine.errors import ArgumentError

Six = tuple[float, float, float, float, float, float]
Array = NDArray[Any]

METRES_PER_DEGREE = 111319.49079327358
"""Length of a degree at the equator of WGS84 (2 pi 6378137 / 360), as Earth Engine takes it for nominal scales."""

MESH = 4
"""Coordinates are transformed exactly every MESH pixels and bilinearly between: below 0.1 mm for 10 m pixels."""

MESH_LIMIT_M = 100.0
"""Grids with larger pixels are transformed pixel by pixel."""


ALIASES = {"SR-ORG:6627": "EPSG:3857"}
"""Codes of Earth Engine's own that PROJ does not know; this one, maps mercator, is what clients stretch colours in."""


@functools.lru_cache(maxsize=256)
def parse_crs(code: str) -> CRS:
    """The coordinate system of a code or a WKT string."""
    try:
        return CRS.from_user_input(ALIASES.get(code, code))
    except CRSError as error:
        raise ArgumentError(f"Projection: The CRS of a map projection could not be parsed: '{code}'.") from error


@functools.lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """Coordinates (x, y) of one system into (x, y) of another, always easting or longitude first."""
    return Transformer.from_crs(parse_crs(source), parse_crs(target), always_xy=True)


@functools.lru_cache(maxsize=256)
def metres_per_unit(crs: str) -> float:
    """Length in metres of one unit of the coordinate system."""
    parsed = parse_crs(crs)
    if parsed.is_geographic:
        return METRES_PER_DEGREE
    factor = parsed.axis_info[0].unit_conversion_factor if parsed.axis_info else 1.0
    return float(factor or 1.0)


@dataclass(frozen=True)
class Projection:
    """A coordinate system and the affine transform of its pixels."""

    crs: str
    """Code such as `EPSG:32654`, or WKT."""
    transform: Six
    """a, b, c, d, e, f: x = a col + b row + c, y = d col + e row + f."""

    @property
    def affine(self) -> Affine:
        """Pixel corner to coordinates."""
        return Affine(*self.transform)

    @property
    def nominal_scale(self) -> float:
        """Metres per pixel."""
        return self.pixel_size * metres_per_unit(self.crs)

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in units of the system."""
        a, b, _, d, e, _ = self.transform
        return math.sqrt(abs(a * e - b * d))

    def at_scale(self, metres: float) -> Projection:
        """The same system with square pixels of the given size, origin at the system's origin."""
        if metres <= 0:
            raise ArgumentError(f"Projection.atScale: The scale must be positive, got {metres}.")
        size = metres / metres_per_unit(self.crs)
        return Projection(self.crs, (size, 0.0, 0.0, 0.0, -size, 0.0))

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        return {"type": "Projection", "crs": self.crs, "transform": list(self.transform)}


DEFAULT_PROJECTION = Projection("EPSG:4326", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
"""What a composite or a constant has: WGS84 with pixels of one degree, which means no pixels of its own."""


@dataclass(frozen=True)
class PixelGrid:
    """A rectangle of pixels: what is asked of a node."""

    projection: Projection
    """Where the top left corner of the rectangle is the origin of the transform."""
    shape_yx: tuple[int, int]
    """Height and width in pixels."""

    @property
    def crs(self) -> str:
        """The coordinate system."""
        return self.projection.crs

    @property
    def affine(self) -> Affine:
        """Pixel corner to coordinates."""
        return self.projection.affine

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the coordinate system."""
        height, width = self.shape_yx
        a, b, c, d, e, f = self.projection.transform
        xs = [a * col + b * row + c for col in (0, width) for row in (0, height)]
        ys = [d * col + e * row + f for col in (0, width) for row in (0, height)]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, row: int, col: int, height: int, width: int) -> PixelGrid:
        """A part of the grid; `row` and `col` may be negative, to look beyond its edges."""
        return PixelGrid(shifted(self.projection, row, col), (height, width))


def shifted(projection: Projection, row: float, col: float) -> Projection:
    """The same pixels, counted from another one."""
    a, b, c, d, e, f = projection.transform
    return Projection(projection.crs, (a, b, a * col + b * row + c, d, e, d * col + e * row + f))


def inverse(transform: Six) -> Six:
    """Coordinates back to pixels."""
    a, b, c, d, e, f = transform
    det = a * e - b * d
    if det == 0:
        raise ArgumentError(f"Projection: The transform {list(transform)} has no extent.")
    if b == 0 and d == 0:
        return 1 / a, 0.0, -c / a, 0.0, 1 / e, -f / e
    return e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det


def offset(grid: PixelGrid, projection: Projection) -> tuple[int, int] | None:
    """Row and column in a projection of the grid's first pixel, when all pixels of the grid are pixels of it."""
    if not _same(grid.crs, projection.crs):
        return None
    own, asked = projection.transform, grid.projection.transform
    if any(abs(own[i] - asked[i]) > 1e-9 * projection.pixel_size for i in (0, 1, 3, 4)):
        return None
    a, b, c, d, e, f = inverse(own)
    col, row = a * asked[2] + b * asked[5] + c, d * asked[2] + e * asked[5] + f
    if abs(col - round(col)) >= 1e-6 or abs(row - round(row)) >= 1e-6:
        return None
    return round(row), round(col)


def aligned(grid: PixelGrid, projection: Projection) -> bool:
    """True when the pixels of the grid are pixels of the projection."""
    return offset(grid, projection) is not None


@dataclass(frozen=True)
class Positions:
    """Where the centres of a grid's pixels fall in a projection, in its pixels (0.5 = centre of the first)."""

    rows: Array
    """(h, w), or (h, 1) where the row depends on the row only."""
    cols: Array
    """(h, w), or (1, w) where the column depends on the column only."""

    @property
    def separable(self) -> bool:
        """True when rows and columns are independent of each other."""
        return bool(self.rows.shape[1] == 1 and self.cols.shape[0] == 1)


def coordinates(grid: PixelGrid, crs: str) -> tuple[Array, Array]:
    """x and y of the pixel centres in another coordinate system, each (h, w) or broadcastable to it."""
    height, width = grid.shape_yx
    a, b, c, d, e, f = grid.projection.transform
    if b or d:
        cols, rows = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
        return _transformed(grid.crs, crs, a * cols + b * rows + c, d * cols + e * rows + f)
    (col, part_x), (row, part_y) = _counted(c, a), _counted(f, e)
    if _same(grid.crs, crs):
        x = a * (np.arange(col, col + width) + (part_x + 0.5))
        y = e * (np.arange(row, row + height) + (part_y + 0.5))
        return x[None, :], y[:, None]
    if grid.projection.nominal_scale > MESH_LIMIT_M:
        x = a * (np.arange(col, col + width) + (part_x + 0.5))
        y = e * (np.arange(row, row + height) + (part_y + 0.5))
        return _transformed(
            grid.crs, crs, np.broadcast_to(x, grid.shape_yx), np.broadcast_to(y[:, None], grid.shape_yx)
        )
    # Exact at the nodes of a mesh that is anchored to the coordinate system, bilinear between them.
    first_col, first_row = col - col % MESH, row - row % MESH
    node_x = a * (np.arange(first_col, col + width + MESH, MESH) + part_x)
    node_y = e * (np.arange(first_row, row + height + MESH, MESH) + part_y)
    shape = (node_y.size, node_x.size)
    x, y = _transformed(grid.crs, crs, np.broadcast_to(node_x, shape), np.broadcast_to(node_y[:, None], shape))
    cols = (np.arange(width) + (0.5 + col - first_col)) / MESH
    rows = (np.arange(height) + (0.5 + row - first_row)) / MESH
    return _between(x, rows, cols), _between(y, rows, cols)


def _counted(origin: float, step: float) -> tuple[int, float]:
    """An origin as whole pixels from the system's origin and the rest of one.

    The rest is rounded to a millionth of a pixel: all tiles of a grid then have the same one, to the last bit.
    """
    whole = round(origin / step)
    return whole, round(origin / step - whole, 6)


def _same(a: str, b: str) -> bool:
    return a == b or bool(parse_crs(a) == parse_crs(b))


def _transformed(source: str, target: str, x: Array, y: Array) -> tuple[Array, Array]:
    if _same(source, target):
        return x, y
    found_x, found_y = transformer(source, target).transform(x, y)
    return np.asarray(found_x), np.asarray(found_y)


def _between(nodes: Array, rows: Array, cols: Array) -> Array:
    r, c = rows.astype(int), cols.astype(int)
    wr, wc = (rows - r)[:, None], (cols - c)[None, :]
    across = nodes[:, c] * (1 - wc) + nodes[:, c + 1] * wc
    return np.asarray(across[r] * (1 - wr) + across[r + 1] * wr)


def positions(xy: tuple[Array, Array], projection: Projection) -> Positions:
    """Coordinates in the projection's system as positions in its pixels.

    Rounded to a millionth of a pixel, so that a centre that falls on a pixel's edge falls to the same side in every
    tile, whatever the noise of floating point.
    """
    x, y = xy
    a, b, c, d, e, f = inverse(projection.transform)
    if b == 0 and d == 0:
        return Positions(np.round(e * y + f, 6), np.round(a * x + c, 6))
    return Positions(np.round(d * x + e * y + f, 6), np.round(a * x + b * y + c, 6))

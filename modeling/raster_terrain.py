"""Elevation, slope and hillshade of a user's elevation model, window by window on another grid.

Slope is taken on the model's own grid and only then resampled bilinearly, as the cube does it: the slope of a resampled
model is smoother than what the networks learnt from. A model finer than the grid is first averaged to about the
grid's pixel, for the same reason: the slope of a 1 m model is roughness.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from modeling.errors import RasterError
from modeling.raster import RasterGrid, is_metric
from modeling.terrain import EARTH_RADIUS_M, hillshade, slope_deg, spacing_m

FloatArray = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]

TERRAIN_LAYERS = ("elevation", "slope", "hillshade")
_PLAUSIBLE_M = (-1_000.0, 9_500.0)  # below and above lie undeclared fill values such as -9999 and -32768
_MARGIN_PX = 3  # one for the differences, one for the bilinear kernel, one for the approximate bounds
_KNOT_PX = 16


@dataclass(frozen=True)
class TerrainReader:
    """Terrain layers of an open elevation model on windows of another grid."""

    file: Any
    """An open dataset; band 1 is elevation in metres."""
    reduce: int
    """How many pixels of the model, along each axis, are averaged to one first."""

    @classmethod
    def of(cls, path: str, file: Any, grid: RasterGrid) -> TerrainReader:
        """Check the model against the metric grid that will be asked for.

        Raises `RasterError` when it lies elsewhere, or its own grid is neither geographic in degrees nor true in metres.
        """
        own = RasterGrid.of(file)
        if not file.crs.is_geographic and not is_metric(own):
            raise RasterError(f"{path}: slope cannot be taken on {own.crs[:60]}, which is not in true metres: use UTM")
        left, bottom, right, top = transform_bounds(grid.crs, file.crs, *grid.bounds, densify_pts=21)
        if left >= own.bounds[2] or right <= own.bounds[0] or bottom >= own.bounds[3] or top <= own.bounds[1]:
            raise RasterError(f"{path} does not cover the images: it spans {own.bounds} in {own.crs[:60]}")
        pixel_m = own.transform[0] * (np.deg2rad(EARTH_RADIUS_M) if file.crs.is_geographic else 1.0)
        return cls(file, max(1, floor(grid.transform[0] / pixel_m + 1e-6)))

    def read(self, grid: RasterGrid) -> dict[str, FloatArray]:
        """`TERRAIN_LAYERS` on `grid`, each (y, x): metres, degrees, 0 to 255; NaN where the model knows nothing."""
        native, at = self._native(transform_bounds(grid.crs, self.file.crs, *grid.bounds, densify_pts=21))
        if native.size == 0:
            return {name: np.full(grid.shape_yx, np.nan, np.float32) for name in TERRAIN_LAYERS}
        dx_m, dy_m = spacing_m(at, native.shape[0], geographic=self.file.crs.is_geographic)
        layers = np.stack([native, slope_deg(native, dx_m, dy_m), hillshade(native, dx_m, dy_m)])
        found = _bilinear(layers, *_positions(grid, self.file.crs, at))
        return dict(zip(TERRAIN_LAYERS, found, strict=True))

    def _native(self, bounds: tuple[float, float, float, float]) -> tuple[FloatArray, Affine]:
        """The part of the model within `bounds` and a margin, reduced, with its transform."""
        left, bottom, right, top = bounds
        a, _, c, _, e, f = tuple(self.file.transform)[:6]
        step = self.reduce
        columns = _span(left - c, right - c, a * step, self.file.width // step)
        rows = _span(top - f, bottom - f, e * step, self.file.height // step)
        shape = rows.stop - rows.start, columns.stop - columns.start
        at = Affine(a * step, 0.0, c + a * step * columns.start, 0.0, e * step, f + e * step * rows.start)
        if min(shape) <= 0:
            return np.empty((0, 0), np.float32), at
        window = Window(columns.start * step, rows.start * step, shape[1] * step, shape[0] * step)
        found = self.file.read(1, window=window, out_shape=shape, masked=True, resampling=Resampling.average)
        elevation: FloatArray = found.astype(np.float32).filled(np.nan)
        elevation[(elevation < _PLAUSIBLE_M[0]) | (elevation > _PLAUSIBLE_M[1])] = np.nan
        return elevation, at


def _positions(grid: RasterGrid, crs: Any, at: Affine) -> tuple[_Doubles, _Doubles]:
    """Row and column, in pixels of `at` counted from its first pixel centre, of every pixel centre of `grid`: each (y, x).

    Exact every `_KNOT_PX` pixels and linear between: over 160 m a map projection bends by less than a millimetre. (GDAL's
    own approximation may be off by an eighth of a pixel, differently in each window.)
    """
    height, width = grid.shape_yx
    knots_y, knots_x = (np.arange(0, size + _KNOT_PX, _KNOT_PX) for size in (height, width))
    a, _, c, _, e, f = grid.transform
    x, y = np.meshgrid(c + a * (knots_x + 0.5), f + e * (knots_y + 0.5))
    there = pyproj.Transformer.from_crs(grid.crs, pyproj.CRS.from_wkt(crs.to_wkt()), always_xy=True).transform(x, y)
    row, column = (there[1] - at.f) / at.e - 0.5, (there[0] - at.c) / at.a - 0.5
    return _refine(row, height, width), _refine(column, height, width)


def _refine(knots: _Doubles, height: int, width: int) -> _Doubles:
    """Bilinear between values that stand every `_KNOT_PX` pixels."""
    (y, dy), (x, dx) = (np.divmod(np.arange(size), _KNOT_PX) for size in (height, width))
    down, right = dy[:, np.newaxis] / _KNOT_PX, dx / _KNOT_PX
    rows: _Doubles = knots[y] * (1 - down) + knots[y + 1] * down
    return rows[:, x] * (1 - right) + rows[:, x + 1] * right


def _bilinear(layers: FloatArray, row: _Doubles, column: _Doubles) -> FloatArray:
    """Sample (layer, y, x) at fractional positions (y, x); NaN where less than half the weight falls on known pixels."""
    height, width = layers.shape[1:]
    top, left = np.floor(row).astype(np.intp), np.floor(column).astype(np.intp)
    down, right = row - top, column - left
    total = np.zeros((len(layers), *row.shape))
    weight = np.zeros_like(total)
    for y, x, share in (
        (top, left, (1 - down) * (1 - right)),
        (top, left + 1, (1 - down) * right),
        (top + 1, left, down * (1 - right)),
        (top + 1, left + 1, down * right),
    ):
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        values = layers[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        part = np.where(inside & ~np.isnan(values), share, 0.0)
        total += part * np.nan_to_num(values)
        weight += part
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight >= 0.5).astype(np.float32)


def _span(start: float, stop: float, step: float, size: int) -> slice:
    """Indices of pixels of width `step` between two distances from the origin, and a margin, within `size`."""
    return slice(max(0, floor(start / step) - _MARGIN_PX), min(size, ceil(stop / step) + _MARGIN_PX))

"""One grid's pixels on another grid, window by window, and the same whatever the windows are.

GDAL's warper approximates positions and kernel widths anew for each window, so that a pixel's value, and at a gap even
whether it has one, depends on the tile it was read with. Here positions are exact and the kernel is the bilinear one
over four pixels, as Earth Engine resamples; a source that is at least twice as fine is averaged by whole pixels first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from rasterio.warp import transform_bounds

from modeling.rasters.raster import RasterGrid, SlicesYX

FloatArray = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Index = npt.NDArray[np.intp]

_MARGIN_PX = 3  # one for differences of neighbours, one for the bilinear kernel, one for bounds that bulge
_KNOT_PX = 16
_STRIP_PX = 512


@dataclass(frozen=True)
class Resampler:
    """From arrays on `source` to windows of a target grid."""

    source: RasterGrid
    """The grid that is read."""
    reduce_yx: tuple[int, int]
    """How many source pixels are averaged to one first, along y and x."""

    @classmethod
    def between(cls, source: RasterGrid, target: RasterGrid) -> Resampler:
        """The reduction is that at the target's centre, rounded down: never coarser than the target."""
        height, width = target.shape_yx
        middle = target.window((slice(height // 2, height // 2 + 1), slice(width // 2, width // 2 + 1)))
        left, bottom, right, top = transform_bounds(target.crs, source.crs, *middle.bounds)
        ratio_y, ratio_x = (top - bottom) / -source.transform[4], (right - left) / source.transform[0]
        return cls(source, (max(1, floor(ratio_y + 0.01)), max(1, floor(ratio_x + 0.01))))

    def native(
        self, grid: RasterGrid, read: Callable[[SlicesYX], FloatArray], layers: int
    ) -> tuple[FloatArray, Affine]:
        """The part of the source that `grid` needs, with a margin: (layer, y, x), NaN where unknown, and its transform.

        `read` gives (layer, y, x) of a part of the source. Where nothing is known the result may be empty.
        """
        a, _, c, _, e, f = self.source.transform
        down, across = self.reduce_yx
        left, bottom, right, top = transform_bounds(grid.crs, self.source.crs, *grid.bounds, densify_pts=21)
        rows = _span((top - f) / e, (bottom - f) / e, down, self.source.shape_yx[0])
        columns = _span((left - c) / a, (right - c) / a, across, self.source.shape_yx[1])
        at = Affine(a * across, 0.0, c + a * columns.start, 0.0, e * down, f + e * rows.start)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return np.empty((layers, 0, 0), np.float32), at
        step = max(1, _STRIP_PX // down) * down
        strips = [
            _average(read((slice(top_row, min(top_row + step, rows.stop)), columns)), down, across)
            for top_row in range(rows.start, rows.stop, step)
        ]
        return np.concatenate(strips, axis=1), at

    def sample(self, layers: FloatArray, at: Affine, grid: RasterGrid) -> FloatArray:
        """`layers` (layer, y, x) with transform `at`, sampled bilinearly on `grid`."""
        if layers.size == 0:
            return np.full((len(layers), *grid.shape_yx), np.nan, np.float32)
        return _bilinear(layers, *_positions(grid, self.source.crs, at))


def _span(start: float, stop: float, step: int, size: int) -> slice:
    """Pixels from `start` to `stop` and a margin, in whole steps, within `size`."""
    low = max(0, floor(start / step) - _MARGIN_PX) * step
    return slice(low, min(size // step, ceil(stop / step) + _MARGIN_PX) * step)


def _average(layers: FloatArray, down: int, across: int) -> FloatArray:
    """Mean of the known pixels of each `down` x `across` block; NaN where none is."""
    if (down, across) == (1, 1):
        return layers
    count, height, width = layers.shape
    blocks = layers.reshape(count, height // down, down, width // across, across)
    known = ~np.isnan(blocks)
    number = known.sum(axis=(2, 4))
    total = blocks.sum(axis=(2, 4), where=known, dtype=np.float64)
    mean: FloatArray = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0).astype(np.float32)
    return mean


def _positions(grid: RasterGrid, crs: str, at: Affine) -> tuple[_Doubles, _Doubles]:
    """Row and column, in pixels of `at` from its first pixel centre, of every pixel centre of `grid`: each (y, x).

    Exact every `_KNOT_PX` pixels and linear between: over 160 m a map projection bends by less than a millimetre. The
    exact places are the same ones for every window of a grid.
    """
    a, _, c, _, e, f = grid.transform
    rows, columns = (
        np.arange(size) + round(start) % _KNOT_PX for size, start in zip(grid.shape_yx, (f / e, c / a), strict=True)
    )
    knots_y, knots_x = (np.arange(0, at_px[-1] + _KNOT_PX + 1, _KNOT_PX) - at_px[0] for at_px in (rows, columns))
    x, y = np.meshgrid(c + a * (knots_x + 0.5), f + e * (knots_y + 0.5))
    there = pyproj.Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    row, column = (there[1] - at.f) / at.e - 0.5, (there[0] - at.c) / at.a - 0.5
    return _refine(row, rows, columns), _refine(column, rows, columns)


def _refine(knots: _Doubles, rows: _Index, columns: _Index) -> _Doubles:
    """Values at `rows` and `columns`, bilinear between `knots` (y, x), which stand every `_KNOT_PX` pixels from 0."""
    (y, dy), (x, dx) = (np.divmod(at_px, _KNOT_PX) for at_px in (rows, columns))
    down, right = dy[:, np.newaxis] / _KNOT_PX, dx / _KNOT_PX
    between: _Doubles = knots[y] * (1 - down) + knots[y + 1] * down
    return between[:, x] * (1 - right) + between[:, x + 1] * right


def _bilinear(layers: FloatArray, row: _Doubles, column: _Doubles) -> FloatArray:
    """Sample (layer, y, x) at fractional positions (y, x); NaN where known pixels have less than half the weight."""
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

"""Nodes with a grid of their own: reprojection, resampling, and what is computed on a native grid.

Each of them asks its input for a window of its own grid and samples it at the centres of the pixels asked for. Where
the grid asked for is coarser than twice its own, it takes a grid coarsened by a power of two (as a map tile at low
zoom does), so that a request never computes more pixels than it shows by a large factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, Projection, aligned, shifted
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run, full
from infra.local.earthengine.sources import pyramid_level

MAX_WINDOW_PIXELS = 64_000_000
"""A window larger than this is refused, as Earth Engine refuses a reprojection that is too large."""


def scaled(projection: Projection, factor: float) -> Projection:
    """The same system with pixels larger by a factor."""
    a, b, c, d, e, f = projection.transform
    return Projection(projection.crs, (a * factor, b * factor, c, d * factor, e * factor, f))


@dataclass(frozen=True, eq=False)
class OwnGrid(Node):
    """A node that is computed on its own grid only, and sampled from there."""

    source: Node
    """What is computed."""
    projection: Projection
    """The own grid."""
    type: PixelType
    """The type of the result: floating point when interpolated."""
    extent_yx: tuple[int, int] | None = None
    """Rows and columns of the own grid that can hold data; None when unknown."""
    mode: str = "nearest"
    """`nearest`, or `bilinear` or `bicubic` between the 4 or 16 nearest pixel centres.

    A pixel is valid only where all of them are (those that count nothing excepted)."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        if aligned(grid, self.projection):
            return run.pixels(self.source, grid)
        factor = 1 << pyramid_level(grid, self.projection)
        own = scaled(self.projection, factor) if factor > 1 else self.projection
        place = run.positions(grid, own)
        before, after, weigh = KERNELS[self.mode]
        offset = 0.0 if weigh is None else 0.5
        rows, cols = place.rows - offset, place.cols - offset
        usable = np.isfinite(rows) & np.isfinite(cols)
        if self.extent_yx is not None:
            height, width = (side / factor for side in self.extent_yx)
            usable = usable & (place.rows >= 0) & (place.rows < height) & (place.cols >= 0) & (place.cols < width)
        if not usable.any():
            return Raster(full(grid, 0, self.type.dtype), full(grid, False, bool))
        rows, cols = np.where(np.isfinite(rows), rows, 0), np.where(np.isfinite(cols), cols, 0)
        if place.separable:
            row_in, col_in = usable.any(1, keepdims=True), usable.any(0, keepdims=True)
        else:
            row_in = col_in = usable
        r0, c0 = int(np.floor(rows[row_in].min())) - before, int(np.floor(cols[col_in].min())) - before
        extra = after + 1
        shape = int(np.floor(rows[row_in].max())) - r0 + extra, int(np.floor(cols[col_in].max())) - c0 + extra
        if shape[0] * shape[1] > MAX_WINDOW_PIXELS:
            raise ArgumentError(f"Reprojection output too large ({shape[1]}x{shape[0]} pixels).")
        window = run.pixels(self.source, PixelGrid(shifted(own, r0, c0), shape))
        rows = np.clip(rows - r0, before, shape[0] - extra + 0.999999)
        cols = np.clip(cols - c0, before, shape[1] - extra + 0.999999)
        if weigh is None:
            found = _nearest(window, rows, cols, usable)
        else:
            found = _interpolated(window, rows, cols, usable, range(-before, after + 1), weigh)
        return Raster(pixeltype.cast(found.values, self.type), found.mask, found.fraction)


def linear(part: Array, step: int) -> Array:
    """Weight of the neighbour `step` (0, 1) pixels on, for a place so far beyond a pixel centre."""
    return np.asarray(1 - np.abs(part - step))


def cubic(part: Array, step: int) -> Array:
    """Weight of the neighbour `step` (-1 to 2) pixels on: cubic convolution with a = -1/2 (Keys 1981, eq. 15).

    Earth Engine's documentation does not say which cubic kernel it takes; this is the usual one, as in GDAL.
    """
    x = np.abs(part - step)
    return np.where(x <= 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0.0))


KERNELS: dict[str, tuple[int, int, Callable[[Array, int], Array] | None]] = {
    "nearest": (0, 0, None),
    "bilinear": (0, 1, linear),
    "bicubic": (1, 2, cubic),
}
"""For each mode: neighbours before and after the pixel that a place falls into, and their weights."""


def _nearest(window: Raster, rows: Array, cols: Array, usable: Array) -> Raster:
    at = (rows.astype(np.int64), cols.astype(np.int64))
    fraction = None if window.fraction is None else window.fraction[at]
    return Raster(window.values[at], window.mask[at] & usable, fraction)


def _interpolated(
    window: Raster, rows: Array, cols: Array, usable: Array, steps: range, weigh: Callable[[Array, int], Array]
) -> Raster:
    r, c = rows.astype(np.int64), cols.astype(np.int64)
    # Weights in single precision would move values of 1e4 by 1e-3: interpolate in double.
    values = np.zeros(np.broadcast_shapes(r.shape, c.shape))
    mask = np.ones(values.shape, bool)
    across = {dc: weigh(cols - c, dc) for dc in steps}
    for dr in steps:
        down = weigh(rows - r, dr)
        for dc in steps:
            weight = down * across[dc]
            at = (r + dr, c + dc)
            counts = np.abs(weight) > 1e-6
            valid = window.mask[at]
            values += np.where(counts & valid, window.values[at], 0) * weight
            mask &= valid | ~counts
    return Raster(values, mask & usable)


@dataclass(frozen=True, eq=False)
class Neighbourhood(Node):
    """A function of the pixels around each pixel, on whichever grid it is asked for."""

    inputs: tuple[Node, ...]
    """What the function looks at."""
    radius: int
    """How many pixels it looks beyond the grid on each side."""
    function: Callable[[PixelGrid, list[Raster]], Raster]
    """Takes the grid and the inputs on the grid widened by `radius`; gives the grid's pixels."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        height, width = grid.shape_yx
        k = self.radius
        wide = grid.window(-k, -k, height + 2 * k, width + 2 * k)
        return self.function(grid, [run.pixels(node, wide) for node in self.inputs])

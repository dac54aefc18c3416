"""Functions of the pixels around each pixel, on the grid that is asked for, and aggregation to coarser pixels.

As in Earth Engine, a focal operation works on the pixels of the output, whatever their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms import reducers as constructors
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, shifted
from infra.local.earthengine.image import Band, Image, mapped
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run
from infra.local.earthengine.reducers import Reducer

MAX_RADIUS = 256


def footprint(radius: float, kind: str) -> Array:
    """Which pixels around a pixel count: (2k + 1, 2k + 1) bool for a radius in pixels."""
    k = math.floor(radius)
    dy, dx = np.mgrid[-k : k + 1, -k : k + 1]
    shapes: dict[str, Array] = {
        "circle": dx**2 + dy**2 <= radius**2,
        "square": np.ones(dx.shape, bool),
        "cross": (np.abs(dx) == np.abs(dy)),
        "plus": (dx == 0) | (dy == 0),
        "octagon": np.abs(dx) + np.abs(dy) <= radius * math.sqrt(2),
        "diamond": np.abs(dx) + np.abs(dy) <= radius,
    }
    if kind not in shapes:
        raise ArgumentError(f"The kernel '{kind}' is not known to the local stand-in; use one of {', '.join(shapes)}.")
    return shapes[kind]


@dataclass(frozen=True, eq=False)
class Focal(Node):
    """A reducer over the valid pixels around each pixel."""

    source: Node
    """What is looked at."""
    radius: float
    """In pixels, or in metres."""
    metres: bool
    """Whether the radius is in metres."""
    kernel: str
    """Shape of what counts."""
    reducer: Reducer
    """What reduces it."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        radius = self.radius / grid.projection.nominal_scale if self.metres else self.radius
        if radius > MAX_RADIUS:
            raise ArgumentError(f"A focal radius of {radius:.0f} pixels is too large (at most {MAX_RADIUS}).")
        where = footprint(radius, self.kernel)
        k = where.shape[0] // 2
        height, width = grid.shape_yx
        values, mask = run.pixels(self.source, grid.window(-k, -k, height + 2 * k, width + 2 * k))
        shifts = [(slice(r, r + height), slice(c, c + width)) for r, c in zip(*np.nonzero(where), strict=True)]
        stack, valid = np.stack([values[s] for s in shifts]), np.stack([mask[s] for s in shifts])
        found, known = self.reducer.pixels([stack], valid)[0]
        return Raster(pixeltype.cast(np.asarray(found), self.type), known)


def _focal(
    image: Image,
    radius: float = 1.5,
    kernelType: str = "circle",
    units: str = "pixels",
    iterations: int = 1,
    kernel: Any = None,
    *,
    reducer: Reducer,
) -> Image:
    if kernel is not None:
        raise ArgumentError("Focal operations with a Kernel are not known to the local stand-in; give radius and type.")
    if units not in ("pixels", "meters"):
        raise ArgumentError(f"Focal operations: Unknown units '{units}'; use 'pixels' or 'meters'.")

    def changed(band: Band) -> Band:
        kind = reducer.kind([band.type], 1)
        node = Focal(band.node, radius, units == "meters", kernelType, reducer, kind)
        return replace(band, node=node, type=kind)

    for _ in range(iterations):
        image = mapped(image, changed)
    return image


_FOCAL: dict[str, Callable[[], Reducer]] = {
    "Min": constructors.minimum,
    "Max": constructors.maximum,
    "Median": constructors.median,
    "Mode": constructors.mode,
    "Mean": lambda: constructors.SIMPLE["mean"],
}
for _name, _make in _FOCAL.items():
    for _alias in (f"focal{_name}", f"focal_{_name.lower()}"):
        register(f"Image.{_alias}", partial(_focal, reducer=_make()))


@dataclass(frozen=True, eq=False)
class Aggregated(Node):
    """A reducer over the pixels of a finer grid that lie in each pixel of the grid asked for."""

    band: Band
    """The finer pixels."""
    reducer: Reducer
    """What reduces them."""
    limit: int
    """At most so many of them for one pixel."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        ratio = grid.projection.nominal_scale / self.band.projection.nominal_scale
        n = max(1, math.ceil(ratio - 1e-6))
        if n * n > self.limit:
            raise ArgumentError(
                f"Image.reduceResolution: Too many input pixels per output pixel: {n * n}, maxPixels is {self.limit}."
            )
        if n == 1:
            values, mask = run.pixels(self.band.node, grid)
            return Raster(pixeltype.cast(values, self.type), mask)
        a, b, c, d, e, f = grid.projection.transform
        fine = shifted(replace(grid.projection, transform=(a / n, b / n, c, d / n, e / n, f)), 0, 0)
        height, width = grid.shape_yx
        values, mask = run.pixels(self.band.node, PixelGrid(fine, (height * n, width * n)))
        stack = np.moveaxis(values.reshape(height, n, width, n), (1, 3), (0, 1)).reshape(n * n, height, width)
        valid = np.moveaxis(mask.reshape(height, n, width, n), (1, 3), (0, 1)).reshape(n * n, height, width)
        found, known = self.reducer.pixels([stack], valid)[0]
        return Raster(pixeltype.cast(np.asarray(found), self.type), known)


@algorithm("Image.reduceResolution")
def reduce_resolution(image: Image, reducer: Reducer, bestEffort: bool = False, maxPixels: int = 64) -> Image:
    """Aggregated by a reducer, instead of sampled, where the grid asked for is coarser than the image's own.

    Each pixel is cut in n x n parts of about the image's own size, and these are reduced with equal weight.
    """
    if reducer.inputs != 1 or len(reducer.outputs) != 1:
        raise ArgumentError("Image.reduceResolution: A reducer of one input and one output is needed.")
    limit = 1 << 20 if bestEffort else maxPixels

    def changed(band: Band) -> Band:
        kind = reducer.kind([band.type], 1)
        return replace(band, node=Aggregated(band, reducer, limit, kind), type=kind)

    return mapped(image, changed)

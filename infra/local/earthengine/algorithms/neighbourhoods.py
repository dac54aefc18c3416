"""Functions of the pixels around each pixel, on the grid that is asked for, and aggregation to coarser pixels.

As in Earth Engine, a focal operation works on the pixels of the output, whatever their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms import reducers as constructors
from infra.local.earthengine.algorithms.kernels import Reduced, named
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, shifted
from infra.local.earthengine.image import Band, Image, mapped
from infra.local.earthengine.kernel import Kernel
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run
from infra.local.earthengine.reducers import Reducer


def _focal(
    image: Image,
    radius: float = 1.5,
    kernelType: str = "circle",
    units: str = "pixels",
    iterations: int = 1,
    kernel: Kernel | None = None,
    *,
    reducer: Reducer,
) -> Image:
    """A reducer over the pixels around each pixel; a masked pixel with valid ones around it gets a value."""
    if kernel is None:
        kernel = named(kernelType, radius, units)

    def changed(band: Band) -> Band:
        kind = reducer.kind([band.type], 1)
        node = Reduced((band.node,), kernel, reducer, 0, "kernel", False, kind)
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
    output: int
    """Which of its outputs."""
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
            own = run.pixels(self.band.node, grid)
            found, known = self.reducer.pixels([own.values[None]], own.mask[None], own.weights[None])[self.output]
            return Raster(pixeltype.cast(np.asarray(found), self.type), known & own.mask, own.fraction)
        a, b, c, d, e, f = grid.projection.transform
        fine = shifted(replace(grid.projection, transform=(a / n, b / n, c, d / n, e / n, f)), 0, 0)
        height, width = grid.shape_yx
        inner = run.pixels(self.band.node, PixelGrid(fine, (height * n, width * n)))

        def stacked(values: Array) -> Array:
            return np.moveaxis(values.reshape(height, n, width, n), (1, 3), (0, 1)).reshape(n * n, height, width)

        whole = inner.fraction is None and bool(inner.mask.all())
        weights = None if whole else stacked(inner.weights)
        found, known = self.reducer.pixels([stacked(inner.values)], stacked(inner.mask), weights)[self.output]
        fraction = None if weights is None else weights.mean(axis=0, dtype="float32")
        part = known if fraction is None else known & (fraction > 0)
        return Raster(pixeltype.cast(np.asarray(found), self.type), part, fraction)


@algorithm("Image.reduceResolution")
def reduce_resolution(image: Image, reducer: Reducer, bestEffort: bool = False, maxPixels: int = 64) -> Image:
    """Aggregated by a reducer, instead of sampled, where the grid asked for is coarser than the image's own.

    Each pixel is cut in n x n parts of about the image's own size, which count by their masks; the mask of the result is
    the mean of theirs. Bands keep their names, or get the output's name appended when there are several.
    """
    if reducer.inputs != 1:
        raise ArgumentError("Image.reduceResolution: The local stand-in takes reducers of one input only.")
    limit = 1 << 20 if bestEffort else maxPixels
    bands: list[Band] = []
    for band in image.bands:
        kind = reducer.kind([band.type], 1)
        for i, output in enumerate(reducer.outputs):
            name = band.id if len(reducer.outputs) == 1 else f"{band.id}_{output}"
            bands.append(replace(band, id=name, node=Aggregated(band, reducer, i, limit, kind), type=kind))
    return image.with_bands(bands)

"""Lazy pixels: nodes that are asked for a grid, and the run that asks each of them once.

A mask is a fraction between 0 and 1, as in Earth Engine: above 0 a pixel is valid, and weighted reducers, blending and
pictures take the fraction. Nearly all masks are 0 or 1, so a raster carries a boolean mask, and fractions only where
there are some. A masked pixel's value means nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.grid import Array, PixelGrid, Positions, Projection, coordinates, positions
from infra.local.earthengine.pixeltype import PixelType

RASTER_AXES = 2
"""Axes of a raster whose pixels are numbers."""


@dataclass(frozen=True, eq=False, slots=True)
class Raster:
    """What a node answers for a grid. Unpacks as values and mask."""

    values: Array
    """(h, w) in the dtype of the band's type."""
    mask: Array
    """(h, w) bool, True where the value is valid."""
    fraction: Array | None = None
    """(h, w) float32 in [0, 1], the mask as a fraction; None when it is 1 wherever `mask` is True."""

    def __iter__(self) -> Iterator[Array]:
        yield self.values
        yield self.mask

    @property
    def weights(self) -> Array:
        """The mask as float32 fractions, 0 where it is masked."""
        if self.fraction is None:
            return self.mask.astype("float32")
        return np.where(self.mask, self.fraction, np.float32(0))


def least(rasters: Sequence[Raster]) -> Array | None:
    """The smallest fraction at each pixel: the mask of what is computed of several images. None when none has one."""
    found: Array | None = None
    for raster in rasters:
        if raster.fraction is not None:
            found = raster.fraction if found is None else np.minimum(found, raster.fraction)
    return found


class Node(ABC):
    """One band's pixels, known only as the way to compute them on any grid."""

    @abstractmethod
    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """The pixels on a grid. Ask other nodes through `run.pixels`, never directly."""


@dataclass
class Run:
    """The evaluation of one block of pixels: each node is computed at most once for each grid."""

    reader: Any = None
    """Reads rasters; a `sources.Reader`."""
    memo: dict[tuple[Node, PixelGrid], Raster] = field(default_factory=dict)
    """Pixels computed so far."""
    places: dict[tuple[PixelGrid, str], tuple[Array, Array]] = field(default_factory=dict)
    """Coordinates of grids in other systems."""
    shapes: dict[Any, Array] = field(default_factory=dict)
    """Rasterized geometries."""

    def pixels(self, node: Node, grid: PixelGrid) -> Raster:
        """The pixels of a node on a grid."""
        key = (node, grid)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = node.compute(grid, self)
        return found

    def coordinates(self, grid: PixelGrid, crs: str) -> tuple[Array, Array]:
        """x and y of the pixel centres in a coordinate system."""
        key = (grid, crs)
        if key not in self.places:
            self.places[key] = coordinates(grid, crs)
        return self.places[key]

    def positions(self, grid: PixelGrid, projection: Projection) -> Positions:
        """Where the pixel centres fall in the pixels of a projection."""
        return positions(self.coordinates(grid, projection.crs), projection)


def full(grid: PixelGrid, value: Any, dtype: Any) -> Array:
    """A constant array that takes no memory."""
    return np.broadcast_to(np.asarray(value, dtype), grid.shape_yx)


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """The same value everywhere."""

    value: float
    """The value."""
    type: PixelType
    """Its type."""
    valid: bool = True
    """False: masked everywhere."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        return Raster(full(grid, self.value, self.type.dtype), full(grid, self.valid, bool))


@dataclass(frozen=True, eq=False)
class Pointwise(Node):
    """A function of the values of other nodes at the same pixel, valid where all of them are."""

    inputs: tuple[Node, ...]
    """What the function takes, in order."""
    function: Callable[..., Array]
    """Arrays to an array; may mark pixels as invalid by NaN when `nan_is_masked`."""
    type: PixelType
    """The type of the result."""
    nan_is_masked: bool = False
    """Mask the pixels where the function gives NaN or infinity."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        parts = [run.pixels(node, grid) for node in self.inputs]
        mask = parts[0].mask
        for part in parts[1:]:
            if part.mask is not mask:
                mask = mask & part.mask
        deepest = max(parts, key=lambda part: part.values.ndim)
        axes = deepest.values.ndim
        with np.errstate(all="ignore"):
            # A number goes with every element of an array.
            given = (p.values.reshape(*p.values.shape, *[1] * (axes - p.values.ndim)) for p in parts)
            values = self.function(*given) if axes > RASTER_AXES else self.function(*(p.values for p in parts))
        if axes > RASTER_AXES:
            return replace(
                deepest, values=pixeltype.cast(np.asarray(values), self.type), mask=mask, fraction=least(parts)
            )
        if self.nan_is_masked:
            mask = mask & np.isfinite(values)
        return Raster(pixeltype.cast(np.asarray(values), self.type), mask, least(parts))


@dataclass(frozen=True, eq=False)
class Masked(Node):
    """A node under another one's values as its mask, cut off at 0 and 1; 0 where that other one is masked itself."""

    source: Node
    """Gives the values."""
    condition: Node
    """Gives the mask."""
    keep: bool = True
    """False: the source's own mask is replaced (`Image.mask`), not narrowed (`Image.updateMask`)."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values, mask = run.pixels(self.source, grid)
        chosen, valid = run.pixels(self.condition, grid)
        condition = valid & (chosen > 0)
        fraction: Array | None = None
        if chosen.dtype.kind == "f" and (condition & (chosen < 1)).any():
            fraction = np.clip(np.nan_to_num(chosen), 0, 1).astype("float32")
        if self.keep:
            return Raster(values, mask & condition, fraction)
        # Pixels that become valid have no value of their own.
        return Raster(np.where(mask, values, np.zeros((), values.dtype)), condition, fraction)


@dataclass(frozen=True, eq=False)
class MaskOf(Node):
    """The mask of a node as values between 0 and 1; valid everywhere."""

    source: Node
    """The node whose mask is asked."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        return Raster(run.pixels(self.source, grid).weights, full(grid, True, bool))

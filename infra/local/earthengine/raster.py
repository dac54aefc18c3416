"""Lazy pixels: nodes that are asked for a grid, and the run that asks each of them once.

Masks are binary here; Earth Engine's are fractions between 0 and 1. A masked pixel's value means nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.grid import Array, PixelGrid, Positions, Projection, coordinates, positions
from infra.local.earthengine.pixeltype import PixelType


class Raster(NamedTuple):
    """What a node answers for a grid."""

    values: Array
    """(h, w) in the dtype of the band's type."""
    mask: Array
    """(h, w) bool, True where the value is valid."""


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
        with np.errstate(all="ignore"):
            values = self.function(*(part.values for part in parts))
        if self.nan_is_masked:
            mask = mask & np.isfinite(values)
        return Raster(pixeltype.cast(np.asarray(values), self.type), mask)


@dataclass(frozen=True, eq=False)
class Masked(Node):
    """A node, valid only where another one is valid and not zero."""

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
        condition = valid & (chosen != 0)
        return Raster(values, mask & condition if self.keep else condition)


@dataclass(frozen=True, eq=False)
class MaskOf(Node):
    """The mask of a node as values, 1 where it is valid; valid everywhere."""

    source: Node
    """The node whose mask is asked."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        return Raster(run.pixels(self.source, grid).mask.astype(pixeltype.MASK.dtype), full(grid, True, bool))

"""Looking along one direction: how far it is to the next pixel that is not zero, and what is there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import PixelGrid
from infra.local.earthengine.image import Band, Image
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run

MAX_STEPS = 512
"""Further than this nobody looks for the cloud that throws a shadow."""


@dataclass(frozen=True, eq=False)
class Directional(Node):
    """How far it is to the nearest pixel that is not zero in one direction, or what another band holds there."""

    label: Node
    """Where a pixel that is not zero is looked for."""
    value: Node | None
    """What is taken from there; None: the distance."""
    angle_deg: float
    """Direction of the search: counted from east to north."""
    steps: int
    """How many pixels are looked at."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        height, width = grid.shape_yx
        k = self.steps
        wide = grid.window(-k, -k, height + 2 * k, width + 2 * k)
        label, known = run.pixels(self.label, wide)
        found = known & (label != 0)
        taken = None if self.value is None else run.pixels(self.value, wide).values
        values = np.zeros(grid.shape_yx, self.type.dtype)
        valid = np.zeros(grid.shape_yx, bool)
        angle = math.radians(self.angle_deg)
        for step in range(k + 1):
            row, col = k - round(step * math.sin(angle)), k + round(step * math.cos(angle))
            at = slice(row, row + height), slice(col, col + width)
            new = found[at] & ~valid
            there = np.full(grid.shape_yx, math.hypot(row - k, col - k)) if taken is None else taken[at]
            values[new] = pixeltype.cast(np.asarray(there), self.type)[new]
            valid |= new
        return Raster(values, valid & known[k : k + height, k : k + width])


@algorithm("Image.directionalDistanceTransform")
def directional_distance(source: Image, angle: float, maxDistance: int, labelBand: str | None = None) -> Image:
    """Band `distance`: pixels to the nearest one that is not zero in a direction, masked where there is none.

    The angle is counted from east to north: a shadow looks for its cloud along 90 degrees less the sun's azimuth. The
    line is that of the nearest pixels to equal steps. A pixel that is not zero has the distance 0, a masked one none.
    With a label band the search runs in that band, and the other bands take their values at the pixel that is found.
    """
    if labelBand is None and len(source.bands) != 1:
        raise ArgumentError("Image.directionalDistanceTransform: An image of several bands needs a labelBand.")
    if not 1 <= maxDistance <= MAX_STEPS:
        raise ArgumentError(f"Image.directionalDistanceTransform: maxDistance is {maxDistance}, use 1 to {MAX_STEPS}.")
    label = source.bands[0] if labelBand is None else source.band(labelBand)
    distance = PixelType("float", 0, math.sqrt(2) * maxDistance)

    def made(name: str, band: Band | None, kind: PixelType) -> Band:
        node = Directional(label.node, None if band is None else band.node, angle, maxDistance, kind)
        return replace(label, id=name, node=node, type=kind)

    others = [made(band.id, band, band.type) for band in source.bands if band.id != label.id]
    return source.with_bands([*others, made("distance", None, distance)])

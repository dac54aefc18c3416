"""Kernels: weights around a pixel, in pixels or in metres.

A kernel in metres takes its size in pixels from the grid that it is applied on, by the nominal scale of the grid: in a
geographic system that is the length of a degree at the equator, in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid

MAX_RADIUS = 256
"""Pixels on each side of the focus, as far as Earth Engine goes in one operation (about)."""


@dataclass(frozen=True)
class Weights:
    """The weights of a kernel on a grid."""

    values: Array
    """(h, w) float64."""
    focus_yx: tuple[int, int]
    """Row and column of the pixel that the result belongs to; may lie outside."""

    @property
    def offsets(self) -> list[tuple[int, int, float]]:
        """(rows down, columns right, weight) of every pixel that counts, row by row."""
        row, col = self.focus_yx
        return [(int(r) - row, int(c) - col, float(self.values[r, c])) for r, c in np.argwhere(self.values)]


@dataclass(frozen=True)
class Kernel:
    """A kernel of the server."""

    name: str
    """Its constructor, for example `circle`."""
    make: Callable[[float], Weights]
    """The weights for pixels of so many metres."""

    def on(self, grid: PixelGrid) -> Weights:
        """The weights on a grid. ArgumentError when it is too large there."""
        weights = self.make(grid.projection.nominal_scale)
        if max((max(abs(r), abs(c)) for r, c, _ in weights.offsets), default=0) > MAX_RADIUS:
            raise ArgumentError(
                f"Kernel.{self.name}: The kernel reaches more than {MAX_RADIUS} pixels from its focus on pixels of "
                f"{grid.projection.nominal_scale:g} m; choose a smaller radius."
            )
        return weights


def centred(values: Array) -> Weights:
    """Weights whose focus is the middle pixel; of an even number the one after the middle."""
    return Weights(values, (values.shape[0] // 2, values.shape[1] // 2))


def normalized(values: Array, magnitude: float = 1.0) -> Array:
    """Weights that sum to `magnitude`; those with negative ones among them are moved to sum to zero."""
    if (values < 0).any():
        return np.asarray((values - values.sum() / values.size) * magnitude)
    total = values.sum()
    return np.asarray(values / total * magnitude if total else values)


def _distances(radius: float) -> tuple[Array, Array]:
    k = math.floor(radius)
    if k > MAX_RADIUS:
        raise ArgumentError(f"A kernel of {radius:.0f} pixels is too large (at most {MAX_RADIUS}).")
    dy, dx = np.abs(np.mgrid[-k : k + 1, -k : k + 1])
    return dy, dx


SHAPES: dict[str, Callable[[Array, Array, float], Array]] = {
    "circle": lambda dy, dx, radius: dx**2 + dy**2 <= radius**2,
    "square": lambda dy, dx, radius: np.ones(dx.shape, bool),
    "cross": lambda dy, dx, radius: dx == dy,
    "plus": lambda dy, dx, radius: (dx == 0) | (dy == 0),
    "octagon": lambda dy, dx, radius: dx + dy <= radius * math.sqrt(2),
    "diamond": lambda dy, dx, radius: dx + dy <= radius,
}
"""Which pixels count, from the distances in rows and columns."""


def footprint(radius: float, shape: str) -> Array:
    """Which pixels around a pixel count: (2k + 1, 2k + 1) bool for a radius in pixels."""
    if shape not in SHAPES:
        raise ArgumentError(f"The kernel '{shape}' is not known to the local stand-in; use one of {', '.join(SHAPES)}.")
    dy, dx = _distances(radius)
    return SHAPES[shape](dy, dx, radius)


DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "euclidean": np.hypot,
    "manhattan": np.add,
    "chebyshev": np.maximum,
}
"""Distances from the focus in pixels, from those in rows and columns."""


def distances(radius: float, measure: str) -> Array:
    """Distance of each pixel from the middle, (2k + 1, 2k + 1), in pixels."""
    dy, dx = _distances(radius)
    return np.asarray(DISTANCES[measure](dy, dx), "float64")


def gaussian(radius: float, sigma: float) -> Array:
    """A sampled Gaussian. It has no pixels at the radius itself: a radius of 3 gives 5 x 5 weights, as documented."""
    k = max(0, math.ceil(radius) - 1)
    dy, dx = _distances(k)
    return np.asarray(np.exp(-(dx**2 + dy**2) / (2 * sigma**2)))

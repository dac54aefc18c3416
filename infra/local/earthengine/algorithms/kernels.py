"""Kernels, and what is computed with them: convolution, reducers over a neighbourhood, neighbours as bands.

All of them work on the pixels of the grid that is asked for, as in Earth Engine: reproject first for the native ones.
The published examples of the reference pages are the known answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from infra.local.earthengine import kernel as shapes
from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image, leading, mapped
from infra.local.earthengine.kernel import Kernel, Weights, centred, normalized
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run
from infra.local.earthengine.reducers import Reducer

UNITS = ("pixels", "meters")
STACK_ELEMENTS = 1 << 24
"""Neighbours are stacked in blocks of rows of at most so many values."""
ALIKE = frozenset({"mean", "median", "mode", "percentile", "variance", "stdDev", "min", "max", "minMax", "count"})
"""Reducers that give the same when all weights are multiplied by a number; a sum does not."""


def _sized(name: str, values: Callable[[float], Array], units: str, normalize: bool, magnitude: float) -> Kernel:
    """A kernel whose weights are a function of the pixels in one of its units."""
    if units not in UNITS:
        raise ArgumentError(f"Kernel.{name}: Unknown units '{units}'; use 'pixels' or 'meters'.")

    def make(metres: float) -> Weights:
        found = np.asarray(values(1.0 if units == "pixels" else 1.0 / metres), "float64")
        return centred(normalized(found, magnitude) if normalize else found * magnitude)

    return Kernel(name, make)


def _boolean(radius: float, units: str, normalize: bool, magnitude: float, *, shape: str) -> Kernel:
    """All pixels of a shape alike."""
    return _sized(shape, lambda px: shapes.footprint(radius * px, shape), units, normalize, magnitude)


def _distance(radius: float, units: str, normalize: bool, magnitude: float, *, measure: str) -> Kernel:
    """Weights that are distances to the middle."""
    return _sized(measure, lambda px: shapes.distances(radius * px, measure) / px, units, normalize, magnitude)


def named(shape: str, radius: float, units: str) -> Kernel:
    """The kernel of a focal operation, by its shape."""
    if shape not in shapes.SHAPES:
        known = ", ".join(shapes.SHAPES)
        raise ArgumentError(f"The kernel '{shape}' is not known to the local stand-in; use one of {known}.")
    return _boolean(radius, units, True, 1.0, shape=shape)


for _shape in shapes.SHAPES:
    register(f"Kernel.{_shape}", partial(_boolean, shape=_shape))
for _measure in shapes.DISTANCES:
    register(f"Kernel.{_measure}", partial(_distance, measure=_measure))


@algorithm("Kernel.rectangle")
def rectangle(xRadius: float, yRadius: float, units: str, normalize: bool, magnitude: float) -> Kernel:
    """All pixels within two distances."""

    def values(px: float) -> Array:
        return np.ones((2 * int(yRadius * px) + 1, 2 * int(xRadius * px) + 1))

    return _sized("rectangle", values, units, normalize, magnitude)


@algorithm("Kernel.gaussian")
def gaussian(radius: float, sigma: float, units: str, normalize: bool, magnitude: float) -> Kernel:
    """A sampled Gaussian."""
    return _sized("gaussian", lambda px: shapes.gaussian(radius * px, sigma * px), units, normalize, magnitude)


EDGES: dict[str, list[list[int]]] = {
    "laplacian4": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "laplacian8": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
    "sobel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "prewitt": [[1, 0, -1], [1, 0, -1], [1, 0, -1]],
    "roberts": [[1, 0], [0, -1]],
    "compass": [[1, 1, -1], [1, -2, -1], [1, 1, -1]],
    "kirsch": [[5, -3, -3], [5, 0, -3], [5, -3, -3]],
}
"""The weights of the edge detectors, north on top; of `roberts` the last pixel is the focus."""


def _edges(magnitude: float, normalize: bool, *, name: str) -> Kernel:
    """A fixed kernel that finds edges."""
    return _sized(name, lambda px: np.asarray(EDGES[name]), "pixels", normalize, magnitude)


for _name in EDGES:
    register(f"Kernel.{_name}", partial(_edges, name=_name))


@algorithm("Kernel.fixed")
def fixed(
    weights: list[list[Any]], width: int = -1, height: int = -1, x: int = -1, y: int = -1, normalize: bool = False
) -> Kernel:
    """Weights as they are given, [height] x [width]; the focus is in the middle unless `x` and `y` say otherwise."""
    rows = [list(row) for row in weights]
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise ArgumentError("Kernel.fixed: The weights must be a list of rows of the same length.")
    if (width not in (-1, len(rows[0]))) or (height not in (-1, len(rows))):
        raise ArgumentError(
            f"Kernel.fixed: The weights are {len(rows[0])} x {len(rows)}, width and height say {width} x {height}."
        )
    values = np.asarray(rows, "float64")
    middle = centred(normalized(values) if normalize else values)
    # The reference calls it an offset from the left, the guide's examples give it as a negative number.
    focus = (middle.focus_yx[0] if y == -1 else abs(y), middle.focus_yx[1] if x == -1 else abs(x))
    found = Weights(middle.values, focus)
    return Kernel("fixed", lambda metres: found)


@algorithm("Kernel.add")
def add(kernel1: Kernel, kernel2: Kernel, normalize: bool = False) -> Kernel:
    """The sum of two kernels about their focus."""

    def make(metres: float) -> Weights:
        parts = [offset for kernel in (kernel1, kernel2) for offset in kernel.make(metres).offsets]
        k = max((max(abs(r), abs(c)) for r, c, _ in parts), default=0)
        values = np.zeros((2 * k + 1, 2 * k + 1))
        for row, col, weight in parts:
            values[k + row, k + col] += weight
        return centred(normalized(values) if normalize else values)

    return Kernel("add", make)


@algorithm("Kernel.rotate")
def rotate(kernel: Kernel, rotations: int) -> Kernel:
    """Turned by so many quarter turns, clockwise."""

    def make(metres: float) -> Weights:
        weights = kernel.make(metres)
        values, (row, col) = weights.values, weights.focus_yx
        for _ in range(rotations % 4):
            row, col = col, values.shape[0] - 1 - row
            values = np.rot90(values, -1)
        return Weights(values, (row, col))

    return Kernel("rotate", make)


@algorithm("Kernel.inverse")
def inverse(kernel: Kernel) -> Kernel:
    """One over each weight; zeros stay."""

    def make(metres: float) -> Weights:
        weights = kernel.make(metres)
        values = weights.values
        return Weights(np.divide(1.0, values, out=np.zeros_like(values), where=values != 0), weights.focus_yx)

    return Kernel("inverse", make)


def surrounding(node: Node, grid: PixelGrid, run: Run, weights: Weights) -> tuple[Raster, int]:
    """The pixels of a node on a grid widened to all that the weights reach, and by how many pixels."""
    k = max((max(abs(r), abs(c)) for r, c, _ in weights.offsets), default=0)
    height, width = grid.shape_yx
    return run.pixels(node, grid.window(-k, -k, height + 2 * k, width + 2 * k)), k


@dataclass(frozen=True, eq=False)
class Convolved(Node):
    """The weighted sum of the pixels around each pixel; masked where one that counts is masked."""

    source: Node
    """What is summed."""
    kernel: Kernel
    """The weights."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        weights = self.kernel.on(grid)
        wide, k = surrounding(self.source, grid, run, weights)
        height, width = grid.shape_yx
        total, known = np.zeros(grid.shape_yx), np.ones(grid.shape_yx, bool)
        for row, col, weight in weights.offsets:
            at = (slice(k + row, k + row + height), slice(k + col, k + col + width))
            total += np.where(wide.mask[at], wide.values[at], 0) * weight
            known &= wide.mask[at]
        return Raster(pixeltype.cast(total, self.type), known)


@algorithm("Image.convolve")
def convolve(image: Image, kernel: Kernel) -> Image:
    """Each band's linear combination of the pixels that the kernel covers, not turned over: the weight at the right is
    for the pixel at the right. (What Earth Engine does with masked pixels is not documented: mask them yourself.)
    """
    return mapped(
        image,
        lambda b: replace(b, node=Convolved(b.node, kernel, pixeltype.real(b.type)), type=pixeltype.real(b.type)),
    )


@dataclass(frozen=True, eq=False)
class Reduced(Node):
    """One output of a reducer over the valid pixels around each pixel."""

    sources: tuple[Node, ...]
    """What is reduced, an input of the reducer each."""
    kernel: Kernel
    """Which pixels count, and how much."""
    reducer: Reducer
    """What reduces them."""
    output: int
    """Which of its outputs."""
    weighing: str
    """`kernel`, `mask` or `min`: what weighs a pixel."""
    skip_masked: bool
    """Mask where the pixel itself is masked."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        weights = self.kernel.on(grid)
        parts = [surrounding(node, grid, run, weights) for node in self.sources]
        k, wides = parts[0][1], [part for part, _ in parts]
        height, width = grid.shape_yx
        values, known = np.zeros(grid.shape_yx), np.zeros(grid.shape_yx, bool)
        block = max(1, STACK_ELEMENTS // max(1, width * len(weights.offsets)))
        for top in range(0, height, block):
            rows = min(block, height - top)
            at = [(slice(k + top + r, k + top + r + rows), slice(k + c, k + c + width)) for r, c, _ in weights.offsets]
            valid = np.stack([np.logical_and.reduce([wide.mask[s] for wide in wides]) for s in at])
            stacks = [np.stack([wide.values[s] for s in at]) for wide in wides]
            found, mask = self.reducer.pixels(stacks, valid, self._weights(weights, wides, at, valid))[self.output]
            values[top : top + rows], known[top : top + rows] = found, mask
        if self.skip_masked:
            inner = (slice(k, k + height), slice(k, k + width))
            known = known & np.logical_and.reduce([wide.mask[inner] for wide in wides])
        return Raster(pixeltype.cast(values, self.type), known)

    def _weights(
        self, weights: Weights, wides: list[Raster], at: list[tuple[slice, slice]], valid: Array
    ) -> Array | None:
        """The weight of each pixel of a stack, 0 where it is masked; None where all count alike."""
        of_kernel = np.array([weight for _, _, weight in weights.offsets])[:, None, None]
        if self.weighing == "kernel":
            alike = np.ptp(of_kernel) < 1e-12 and (of_kernel[0] == 1 or self.reducer.name in ALIKE)
            return None if alike else np.asarray(valid * of_kernel)
        of_mask = np.stack([np.minimum.reduce([wide.weights[s] for wide in wides]) for s in at])
        return np.asarray(of_mask if self.weighing == "mask" else np.minimum(of_mask, of_kernel))


@algorithm("Image.reduceNeighborhood")
def reduce_neighborhood(
    image: Image,
    reducer: Reducer,
    kernel: Kernel,
    inputWeight: str = "kernel",
    skipMasked: bool = True,
    optimization: str | None = None,
) -> Image:
    """A reducer over the valid pixels that a kernel covers; outputs are `band_output` for reducers of one input.

    As in Earth Engine a normalized kernel makes `sum` a mean: its weights count. An optimization changes nothing here.
    """
    if inputWeight not in ("mask", "kernel", "min"):
        raise ArgumentError(
            f"Image.reduceNeighborhood: Unknown inputWeight '{inputWeight}'; use 'mask', 'kernel' or 'min'."
        )
    if reducer.inputs not in (1, len(image.bands)):
        raise ArgumentError(
            f"Image.reduceNeighborhood: The reducer takes {reducer.inputs} inputs, the image has {len(image.bands)} bands."
        )
    groups = [image.bands] if reducer.inputs > 1 else [(band,) for band in image.bands]
    made = []
    for group in groups:
        kind = reducer.kind([b.type for b in group], 1)
        for number, output in enumerate(reducer.outputs):
            node = Reduced(tuple(b.node for b in group), kernel, reducer, number, inputWeight, skipMasked, kind)
            name = f"{group[0].id}_{output}" if reducer.inputs == 1 else output
            made.append(replace(leading(*group), id=name, node=node, type=kind))
    return image.with_bands(made)


@dataclass(frozen=True, eq=False)
class Neighbour(Node):
    """The pixel at a distance from each pixel."""

    source: Node
    """What is looked at."""
    offset_yx: tuple[int, int]
    """Rows down and columns right."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        return run.pixels(self.source, grid.window(*self.offset_yx, *grid.shape_yx))


@algorithm("Image.neighborhoodToBands")
def neighborhood_to_bands(image: Image, kernel: Kernel) -> Image:
    """The neighbours that a kernel covers as bands `band_x_y`, x to the right and y down from the focus.

    A kernel in metres has no number of pixels before a grid is asked for, and is refused.
    """
    one, other = kernel.make(1.0), kernel.make(2.0)
    if one.values.shape != other.values.shape:
        raise ArgumentError("Image.neighborhoodToBands: A kernel in metres is not known to the local stand-in.")

    def bands(band: Band) -> list[Band]:
        return [
            replace(band, id=f"{band.id}_{col}_{row}", node=Neighbour(band.node, (row, col)), shape_yx=None)
            for row, col, _ in one.offsets
        ]

    return image.with_bands(neighbour for band in image.bands for neighbour in bands(band))

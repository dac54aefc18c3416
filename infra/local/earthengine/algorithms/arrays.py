"""Images whose pixels are arrays: stacking images or bands, sorting, slicing, reducing and taking them apart.

Pixels of one band may have arrays of different lengths (a collection's array has one row for each image that is valid
there). They are kept side by side, padded to the longest, with their lengths.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.composites import composite
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image, mapped
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run
from infra.local.earthengine.reducers import Reducer
from infra.local.earthengine.values import Collection


@dataclass(frozen=True, eq=False, slots=True)
class ArrayRaster(Raster):
    """Pixels that are arrays: `values` is (h, w, n0, n1, …)."""

    lengths: Array | None = None
    """(h, w, dimensions): how long each pixel's array is along each axis; None: as long as `values`."""

    def length(self, axis: int) -> Array:
        """(h, w) length along an axis."""
        if self.lengths is None:
            return np.full(self.mask.shape, self.values.shape[2 + axis])
        return np.asarray(self.lengths[..., axis])

    def filled(self, axis: int) -> Array:
        """(h, w, n) which positions along an axis are there."""
        return np.arange(self.values.shape[2 + axis]) < self.length(axis)[..., None]

    def with_axis(self, axis: int, values: Array, lengths: Array) -> ArrayRaster:
        """Other values, of other lengths along one axis."""
        every = [self.length(i) for i in range(self.values.ndim - 2)]
        every[axis] = lengths
        return ArrayRaster(values, self.mask, self.fraction, np.stack(every, axis=-1))


@dataclass(frozen=True, eq=False)
class Rearranged(Node):
    """A function of one array band and, at the same pixels, of other bands."""

    source: Node
    """Array pixels."""
    others: tuple[Node, ...]
    """Further inputs."""
    function: Callable[..., Raster]
    """Rasters in order to a raster."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        return self.function(*(run.pixels(node, grid) for node in (self.source, *self.others)))


@dataclass(frozen=True, eq=False)
class Stacked(Node):
    """Rows of bands as a two-dimensional array per pixel; rows with a masked band are left out."""

    rows: tuple[tuple[Node, ...], ...]
    """Nodes by row and column."""
    type: PixelType
    """Type of the elements."""
    columns: bool = True
    """False: rows of one band, as a one-dimensional array."""
    whole: bool = False
    """Mask the pixel where a row is missing."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        rasters = [[run.pixels(node, grid) for node in row] for row in self.rows]
        values = np.stack([np.stack([r.values for r in row], -1) for row in rasters], -2).astype(self.type.dtype)
        valid: Array = np.stack([np.logical_and.reduce([r.mask for r in row]) for row in rasters], -1)
        if self.whole:
            mask, lengths = np.asarray(valid.all(-1)), None
        else:
            order = np.argsort(~valid, axis=-1, kind="stable")
            values = np.take_along_axis(values, order[..., None], axis=-2)
            count = valid.sum(-1)
            mask = np.asarray(count > 0)
            lengths = np.stack([count, np.full(count.shape, values.shape[-1])], axis=-1)
        if not self.columns:
            values = values[..., 0]
            lengths = None if lengths is None else lengths[..., :1]
        return ArrayRaster(values, mask, None, lengths)


def _array(band: Band, caller: str) -> Band:
    if not band.type.dimensions:
        raise ArgumentError(f"{caller}: The band '{band.id}' has numbers as pixels, arrays are needed.")
    return band


def _axis(band: Band, axis: int, caller: str) -> int:
    if not 0 <= axis < _array(band, caller).type.dimensions:
        raise ArgumentError(f"{caller}: Axis {axis} is not one of the {band.type.dimensions} of band '{band.id}'.")
    return axis


@algorithm("Image.toArray")
def to_array(image: Image, axis: int = 0) -> Image:
    """The bands as one array per pixel, band `array`; masked where any band is. Of an array band: with one axis more."""
    kinds = {b.type.dimensions for b in image.bands}
    if kinds == {0} and axis == 0:
        kind = replace(pixeltype.union(b.type for b in image.bands), dimensions=1)
        node: Node = Stacked(tuple((b.node,) for b in image.bands), kind, columns=False, whole=True)
        return image.with_bands([replace(image.bands[0], id="array", node=node, type=kind)])
    if len(image.bands) != 1 or axis != image.bands[0].type.dimensions:
        raise ArgumentError(
            "Image.toArray: The local stand-in stacks bands of numbers along axis 0, or gives one band of arrays another axis."
        )
    band = image.bands[0]
    kind = replace(band.type, dimensions=axis + 1)

    def widened(raster: ArrayRaster) -> Raster:
        every = [raster.length(i) for i in range(axis)]
        return ArrayRaster(raster.values[..., None], raster.mask, None, np.stack([*every, np.ones_like(every[0])], -1))

    return image.with_bands([replace(band, id="array", node=Rearranged(band.node, (), widened), type=kind)])


@algorithm("ImageCollection.toArray")
def collection_to_array(collection: Collection) -> Image:
    """Arrays with a row for each image that is valid in all bands, in their order, and a column for each band."""
    images = [i for i in collection.elements if isinstance(i, Image)]
    if not images or len({len(i.bands) for i in images}) != 1:
        raise ArgumentError("ImageCollection.toArray: All images must have the same number of bands, and at least one.")
    kind = replace(pixeltype.union(b.type for i in images for b in i.bands), dimensions=2)
    node = Stacked(tuple(tuple(b.node for b in i.bands) for i in images), kind)
    return composite([Band("array", node, kind)])


@algorithm("Image.arraySort")
def array_sort(image: Image, keys: Image | None = None) -> Image:
    """Each array in the order of its keys, or of its own values, along the axis that has several."""

    def ordered(raster: ArrayRaster, by: ArrayRaster) -> Raster:
        long = [i for i, n in enumerate(by.values.shape[2:]) if n > 1]
        if len(long) > 1:
            raise ArgumentError("Image.arraySort: The keys may have several elements along one axis only.")
        axis = long[0] if long else 0
        line = by.values.reshape(*by.mask.shape, -1).astype("float64")
        order = np.argsort(np.where(by.filled(axis), line, np.inf), axis=-1, kind="stable")
        shape = [1] * (raster.values.ndim - 2)
        shape[axis] = order.shape[-1]
        values = np.take_along_axis(raster.values, order.reshape(*by.mask.shape, *shape), axis=2 + axis)
        return replace(raster, values=values, mask=raster.mask & by.mask)

    def changed(band: Band) -> Band:
        key = band if keys is None else keys.bands[0]
        node = Rearranged(_array(band, "Image.arraySort").node, (_array(key, "Image.arraySort").node,), ordered)
        return replace(band, node=node)

    return mapped(image, changed)


@algorithm("Image.arraySlice")
def array_slice(
    input: Image, axis: int = 0, start: Image | None = None, end: Image | None = None, step: int = 1
) -> Image:
    """The positions from `start` to before `end` along an axis; negative ones count from each array's own end."""
    if step < 1:
        raise ArgumentError(f"Image.arraySlice: The step must be positive, got {step}.")

    def cut(raster: ArrayRaster, *limits: Raster) -> Raster:
        length = raster.length(axis)
        ends = [np.asarray(x.values).astype("int64") for x in limits]
        first = ends.pop(0) if start is not None else np.zeros_like(length)
        last = ends.pop(0) if end is not None else length
        first, last = (np.clip(np.where(v < 0, v + length, v), 0, length) for v in (first, last))
        count = np.maximum(0, -((first - last) // step))
        longest = int(count.max(initial=0))
        at = np.minimum(first[..., None] + step * np.arange(longest), max(raster.values.shape[2 + axis] - 1, 0))
        shape = [1] * (raster.values.ndim - 2)
        shape[axis] = longest
        values = np.take_along_axis(raster.values, at.reshape(*raster.mask.shape, *shape), axis=2 + axis)
        return raster.with_axis(axis, values, count)

    others = tuple(i.bands[0].node for i in (start, end) if i is not None)

    def changed(band: Band) -> Band:
        _axis(band, axis, "Image.arraySlice")
        return replace(band, node=Rearranged(band.node, others, cut))

    return mapped(input, changed)


@algorithm("Image.arrayProject")
def array_project(input: Image, axes: list[int]) -> Image:
    """Only some axes; the others must be of length one at most, and where one is empty the pixel is masked."""

    def changed(band: Band) -> Band:
        for axis in axes:
            _axis(band, axis, "Image.arrayProject")
        dropped = [i for i in range(band.type.dimensions) if i not in axes]

        def project(raster: ArrayRaster) -> Raster:
            mask = raster.mask
            for axis in dropped:
                if (raster.length(axis)[raster.mask] > 1).any():
                    raise ArgumentError(f"Image.arrayProject: Axis {axis} is longer than 1 and cannot be dropped.")
                mask = np.asarray(mask & (raster.length(axis) > 0))
            values = raster.values
            for axis in sorted(dropped, reverse=True):
                # The sum over an axis without elements is zero: masked, but of the right shape.
                place = 2 + axis
                values = values.take(0, place) if values.shape[place] else values.sum(place, dtype=values.dtype)
            return ArrayRaster(values, mask, None, np.stack([raster.length(i) for i in sorted(axes)], -1))

        return replace(band, node=Rearranged(band.node, (), project), type=replace(band.type, dimensions=len(axes)))

    return mapped(input, changed)


@algorithm("Image.arrayFlatten")
def array_flatten(image: Image, coordinateLabels: list[list[str]], separator: str = "_") -> Image:
    """A band of numbers for each element, named by the labels of its place along each axis."""
    if len(image.bands) != 1 or _array(image.bands[0], "Image.arrayFlatten").type.dimensions != len(coordinateLabels):
        raise ArgumentError("Image.arrayFlatten: One band is needed, with as many axes as there are lists of labels.")
    band, wanted = image.bands[0], tuple(len(labels) for labels in coordinateLabels)

    def element(place: tuple[int, ...]) -> Callable[[ArrayRaster], Raster]:
        def pick(raster: ArrayRaster) -> Raster:
            for axis, count in enumerate(wanted):
                found = raster.length(axis)[raster.mask]
                if (found != count).any():
                    raise ArgumentError(
                        f"Image.arrayFlatten: Expected arrays of length {count} along axis {axis}, got {int(found.min())}."
                    )
            if not raster.mask.any():
                return Raster(np.zeros(raster.mask.shape, raster.values.dtype), raster.mask)
            element = np.ravel_multi_index(place, raster.values.shape[2:])
            return Raster(raster.values.reshape(*raster.mask.shape, -1)[..., element], raster.mask)

        return pick

    kind = replace(band.type, dimensions=0)
    names = [separator.join(labels) for labels in itertools.product(*coordinateLabels)]
    places = list(np.ndindex(*wanted))
    return image.with_bands(
        replace(band, id=name, node=Rearranged(band.node, (), element(place)), type=kind)
        for name, place in zip(names, places, strict=True)
    )


@algorithm("Image.arrayGet")
def array_get(image: Image, position: Image) -> Image:
    """The element at a position, which has a band for each axis."""

    def picked(raster: ArrayRaster, *position: Raster) -> Raster:
        values = raster.values
        for axis, at in enumerate(position):
            index = np.asarray(at.values).astype("int64")
            outside = raster.mask & ((index < 0) | (index >= raster.length(axis)))
            if outside.any():
                raise ArgumentError(f"Image.arrayGet: Position {int(index[outside][0])} is outside axis {axis}.")
            index = np.clip(index, 0, max(values.shape[2] - 1, 0))
            values = np.take_along_axis(values, index.reshape(*index.shape, *[1] * (values.ndim - 2)), axis=2)[:, :, 0]
        return Raster(values, np.logical_and.reduce([raster.mask, *(at.mask for at in position)]))

    def changed(band: Band) -> Band:
        if _array(band, "Image.arrayGet").type.dimensions != len(position.bands):
            raise ArgumentError(
                f"Image.arrayGet: A position with {band.type.dimensions} bands is needed, got {len(position.bands)}."
            )
        node = Rearranged(band.node, tuple(b.node for b in position.bands), picked)
        return replace(band, node=node, type=replace(band.type, dimensions=0))

    return mapped(image, changed)


@algorithm("Image.arrayReduce")
def array_reduce(input: Image, reducer: Reducer, axes: list[int], fieldAxis: int | None = None) -> Image:
    """A reducer of one input and one output along one axis, which becomes of length one."""
    if reducer.inputs != 1 or len(reducer.outputs) != 1 or len(axes) != 1:
        raise ArgumentError(
            "Image.arrayReduce: The local stand-in takes one axis and reducers of one input and output."
        )
    axis = axes[0]

    def changed(band: Band) -> Band:
        _axis(band, axis, "Image.arrayReduce")
        kind = replace(reducer.kind([replace(band.type, dimensions=0)], 1), dimensions=band.type.dimensions)

        def along(raster: ArrayRaster) -> Raster:
            stack = np.moveaxis(raster.values, 2 + axis, 0)
            there = np.moveaxis(raster.filled(axis), -1, 0)
            mask = np.broadcast_to(there.reshape(*there.shape, *[1] * (stack.ndim - there.ndim)), stack.shape)
            found, _ = reducer.pixels([stack], mask)[0]
            values = np.expand_dims(pixeltype.cast(np.asarray(found), kind), 2 + axis)
            return raster.with_axis(axis, values, np.ones(raster.mask.shape, int))

        return replace(band, node=Rearranged(band.node, (), along), type=kind)

    return mapped(input, changed)


@algorithm("Image.arrayLength")
def array_length(input: Image, axis: int) -> Image:
    """How long each pixel's array is along an axis."""
    kind = PixelType("int", 0, 2**31 - 1)

    def changed(band: Band) -> Band:
        _axis(band, axis, "Image.arrayLength")
        node = Rearranged(band.node, (), lambda r: Raster(r.length(axis).astype(kind.dtype), r.mask))
        return replace(band, node=node, type=kind)

    return mapped(input, changed)


@algorithm("Image.arrayDimensions")
def array_dimensions(input: Image) -> Image:
    """How many axes each band's arrays have, 0 for numbers."""
    bands: list[Any] = []
    for band in input.bands:
        kind = PixelType("int", 0, max(band.type.dimensions, 1))
        axes = band.type.dimensions
        node = Rearranged(band.node, (), lambda r, axes=axes: Raster(np.full(r.mask.shape, axes, "uint8"), r.mask))
        bands.append(replace(band, node=node, type=kind))
    return input.with_bands(bands)

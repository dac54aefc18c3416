"""Image collections to images: mosaics and reductions over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms import reducers as constructors
from infra.local.earthengine.algorithms.images_masks import Layered
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WORLD
from infra.local.earthengine.grid import DEFAULT_PROJECTION, Array, PixelGrid
from infra.local.earthengine.image import Band, Image, unique_name
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster, Run, full
from infra.local.earthengine.reducers import Reducer
from infra.local.earthengine.values import Collection


@dataclass(frozen=True, eq=False)
class Reduced(Node):
    """One output of a reducer over stacks of nodes."""

    stacks: tuple[tuple[Node, ...], ...]
    """For each input of the reducer the nodes that are reduced."""
    reducer: Reducer
    """What reduces them."""
    output: int
    """Which of its outputs."""
    type: PixelType
    """Type of the output."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values: list[Array] = []
        mask: Array | None = None
        weights: Array | None = None
        for nodes in self.stacks:
            rasters = [run.pixels(node, grid) for node in nodes]
            values.append(np.stack([p.values for p in rasters]))
            valid = np.stack([p.mask for p in rasters])
            mask = valid if mask is None else mask & valid
            if any(p.fraction is not None for p in rasters):
                parts = np.stack([p.weights for p in rasters])
                weights = parts if weights is None else np.minimum(weights, parts)
        if mask is None:
            return Raster(full(grid, 0, self.type.dtype), full(grid, False, bool))
        found, found_mask = self.reducer.pixels(values, mask, weights)[self.output]
        return Raster(pixeltype.cast(np.asarray(found), self.type), np.broadcast_to(found_mask, grid.shape_yx))


def bands_by_name(collection: Collection) -> dict[str, list[Band]]:
    """The bands of all images under their names, in the order in which the names first appear."""
    found: dict[str, list[Band]] = {}
    for image in collection.elements:
        if not isinstance(image, Image):
            raise ArgumentError("ImageCollection.reduce: The collection holds elements that are not images.")
        for band in image.bands:
            found.setdefault(band.id, []).append(band)
    return found


def composite(bands: list[Band]) -> Image:
    """An image without grid, footprint or properties of its own."""
    return Image(bands=tuple(replace(b, projection=DEFAULT_PROJECTION, shape_yx=None) for b in bands), footprint=WORLD)


@algorithm("ImageCollection.mosaic")
def mosaic(collection: Collection) -> Image:
    """The last valid pixel of each band, last image on top; mixed with those below where its mask is a fraction."""
    bands = []
    for name, found in bands_by_name(collection).items():
        kind = pixeltype.union(b.type for b in found)
        bands.append(Band(name, Layered(tuple(b.node for b in found), kind), kind))
    return composite(bands)


@algorithm("ImageCollection.reduce")
def reduce_collection(collection: Collection, reducer: Reducer, parallelScale: float = 1) -> Image:
    """A reducer over the images; output bands are named `band_output`.

    A reducer of several inputs takes as many bands, in their order.
    """
    return reduced(collection, reducer)


def reduced(collection: Collection, reducer: Reducer, *, keep_names: bool = False) -> Image:
    """The reduction of a collection, under the bands' own names with `keep_names`."""
    stacks = bands_by_name(collection)
    count = len(collection.elements)
    if reducer.inputs == 1:
        made = []
        for name, bands in stacks.items():
            names = [name] if keep_names else [f"{name}_{o}" for o in reducer.outputs]
            made += _outputs([bands], reducer, names, count)
        return composite(made)
    if len(stacks) != reducer.inputs:
        raise ArgumentError(
            f"ImageCollection.reduce: Need {reducer.inputs} bands for the reducer {reducer.name}, got {len(stacks)}."
        )
    return composite(_outputs(list(stacks.values()), reducer, list(reducer.outputs), count))


def _outputs(stacks: list[list[Band]], reducer: Reducer, names: list[str], count: int) -> list[Band]:
    lengths = {len(s) for s in stacks}
    if len(lengths) > 1:
        raise ArgumentError("ImageCollection.reduce: All images must have the bands that the reducer takes.")
    kind = reducer.kind([b.type for s in stacks for b in s], count)
    nodes = tuple(tuple(b.node for b in s) for s in stacks)
    return [Band(name, Reduced(nodes, reducer, i, kind), kind) for i, name in enumerate(names)]


def _named_reduction(collection: Collection, *, reducer: Reducer) -> Image:
    """The reducer of this name over the images, under the bands' own names."""
    return reduced(collection, reducer, keep_names=True)


for _name, _reducer in {
    "min": constructors.minimum(),
    "max": constructors.maximum(),
    "count": constructors.SIMPLE["count"],
    "sum": constructors.SIMPLE["sum"],
    "product": constructors.SIMPLE["product"],
    "mean": constructors.SIMPLE["mean"],
    "and": constructors.SIMPLE["allNonZero"],
    "or": constructors.SIMPLE["anyNonZero"],
    "median": constructors.median(),
    "mode": constructors.mode(),
}.items():
    register(f"reduce.{_name}", partial(_named_reduction, reducer=_reducer))


@algorithm("Image.reduce")
def reduce_image(image: Image, reducer: Reducer) -> Image:
    """A reducer over the bands of an image; output bands are named after its outputs."""
    if not image.bands:
        raise ArgumentError("Image.reduce: The image has no bands.")
    kind = reducer.kind([b.type for b in image.bands], len(image.bands))
    if reducer.inputs == 1:
        stacks: tuple[tuple[Node, ...], ...] = (tuple(b.node for b in image.bands),)
    elif reducer.inputs == len(image.bands):
        stacks = tuple((b.node,) for b in image.bands)
    else:
        raise ArgumentError(f"Image.reduce: Need {reducer.inputs} bands for {reducer.name}, got {len(image.bands)}.")
    like = image.bands[0]
    bands = [
        replace(like, id=o, node=Reduced(stacks, reducer, i, kind), type=kind) for i, o in enumerate(reducer.outputs)
    ]
    return image.with_bands(bands)


@dataclass(frozen=True, eq=False)
class BestOf(Node):
    """The value of the node whose quality is largest at the pixel."""

    layers: tuple[Node, ...]
    """Values."""
    qualities: tuple[Node, ...]
    """Quality of each, valid where its layer may be chosen."""
    type: PixelType
    """Type of the values."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values = np.zeros(grid.shape_yx, self.type.dtype)
        mask = np.zeros(grid.shape_yx, bool)
        best = np.full(grid.shape_yx, -np.inf)
        for layer, quality in zip(self.layers, self.qualities, strict=True):
            score, usable = run.pixels(quality, grid)
            # The last of equally good images is taken, as a mosaic would.
            better = usable & (score >= best)
            layer_values, layer_mask = run.pixels(layer, grid)
            values = np.where(better, pixeltype.cast(layer_values, self.type), values)
            mask = np.where(better, layer_mask, mask)
            best = np.where(better, score, best)
        return Raster(values, mask)


@algorithm("ImageCollection.qualityMosaic")
def quality_mosaic(collection: Collection, qualityBand: str) -> Image:
    """All bands of the image whose quality band is largest at the pixel."""
    stacks = bands_by_name(collection)
    if collection.elements and qualityBand not in stacks:
        raise ArgumentError(f"ImageCollection.qualityMosaic: No image has the quality band '{qualityBand}'.")
    made = []
    for name, bands in stacks.items():
        having = [i for i in collection.elements if any(b.id == name for b in i.bands)]
        qualities = tuple(i.band(qualityBand).node for i in having)
        kind = pixeltype.union(b.type for b in bands)
        made.append(Band(name, BestOf(tuple(b.node for b in bands), qualities, kind), kind))
    return composite(made)


@algorithm("ImageCollection.toBands")
def to_bands(collection: Collection) -> Image:
    """All bands of all images in one image, named `index_band`."""
    bands: list[Band] = []
    for place, image in enumerate(collection.elements):
        index: Any = image.get("system:index") or place
        for band in image.bands:
            bands.append(replace(band, id=unique_name(f"{index}_{band.id}", (b.id for b in bands))))
    return Image(bands=tuple(bands))

"""Masks of images: narrowing, replacing, filling and clipping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio.features
import shapely

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image, constant, leading, mapped
from infra.local.earthengine.pixeltype import MASK, PixelType
from infra.local.earthengine.promote import Mismatch, to_geometry, type_name
from infra.local.earthengine.raster import Masked, MaskOf, Node, Raster, Run


def inside(geometry: Geometry, grid: PixelGrid, run: Run) -> Array:
    """True for the pixels whose centre lies in the geometry."""
    if geometry.unbounded:
        return np.broadcast_to(np.asarray(True), grid.shape_yx)
    key = (geometry, grid)
    if key not in run.shapes:
        run.shapes[key] = _rasterized(geometry, grid)
    return run.shapes[key]


def _rasterized(geometry: Geometry, grid: PixelGrid) -> Array:
    west, south, east, north = grid.bounds
    margin = max(abs(v) for v in grid.projection.transform[:2])
    window = shapely.box(west - margin, south - margin, east + margin, north + margin)
    made = geometry.in_crs(grid.crs)
    if not made.intersects(window):
        return np.zeros(grid.shape_yx, bool)
    part = made.intersection(window)
    if part.is_empty or part.area == 0:
        return np.zeros(grid.shape_yx, bool)
    if part.equals(window):
        return np.ones(grid.shape_yx, bool)
    burnt = rasterio.features.rasterize([part], grid.shape_yx, transform=grid.affine, dtype="uint8")
    return np.asarray(burnt, bool)


@dataclass(frozen=True, eq=False)
class Clipped(Node):
    """A node, masked outside a geometry."""

    source: Node
    """Gives the values."""
    geometry: Geometry
    """Pixels whose centre lies in it stay."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        where = inside(self.geometry, grid, run)
        values, mask = run.pixels(self.source, grid)
        return Raster(values, mask & where)


@dataclass(frozen=True, eq=False)
class Filled(Node):
    """A node whose masked pixels take another node's values."""

    source: Node
    """Gives the values where it is valid."""
    filling: Node
    """Gives the others."""
    type: PixelType
    """The type of both together."""
    footprint: Geometry
    """Nothing is filled outside."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values, mask = run.pixels(self.source, grid)
        others, valid = run.pixels(self.filling, grid)
        dtype = self.type.dtype
        filled = np.where(mask, values.astype(dtype, copy=False), others.astype(dtype, copy=False))
        return Raster(filled, mask | (valid & inside(self.footprint, grid, run)))


@dataclass(frozen=True, eq=False)
class Where(Node):
    """One node's values where a condition is met, another one's elsewhere."""

    source: Node
    """The values elsewhere, and the mask."""
    test: Node
    """Met where valid and not zero."""
    value: Node
    """The values where the test is met and these are valid."""
    type: PixelType
    """The type of both together."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values, mask = run.pixels(self.source, grid)
        tested, tested_valid = run.pixels(self.test, grid)
        others, others_valid = run.pixels(self.value, grid)
        replaced = tested_valid & (tested != 0) & others_valid
        dtype = self.type.dtype
        return Raster(np.where(replaced, others.astype(dtype, copy=False), values.astype(dtype, copy=False)), mask)


def _for_each(image: Image, other: Image, caller: str) -> list[tuple[Band, Band]]:
    if len(other.bands) not in (1, len(image.bands)):
        raise ArgumentError(
            f"{caller}: The mask must have one band or as many as the image ({len(image.bands)}), got {len(other.bands)}."
        )
    return [(band, other.bands[0 if len(other.bands) == 1 else i]) for i, band in enumerate(image.bands)]


def _grid_from(band: Band, other: Band) -> Band:
    lead = leading(band, other)
    return replace(band, projection=lead.projection, shape_yx=lead.shape_yx)


@algorithm("Image.updateMask")
def update_mask(image: Image, mask: Image) -> Image:
    """Valid where it was and the mask is valid and not zero."""
    pairs = _for_each(image, mask, "Image.updateMask")
    return image.with_bands(replace(_grid_from(b, m), node=Masked(b.node, m.node)) for b, m in pairs)


@algorithm("Image.mask")
def image_mask(image: Image, mask: Image | None = None) -> Image:
    """Without an argument the mask as an image; with one the image under that mask in place of its own."""
    if mask is None:
        return mapped(image, lambda b: replace(b, node=MaskOf(b.node), type=MASK))
    pairs = _for_each(image, mask, "Image.mask")
    return image.with_bands(replace(_grid_from(b, m), node=Masked(b.node, m.node, keep=False)) for b, m in pairs)


@algorithm("Image.selfMask")
def self_mask(image: Image) -> Image:
    """Valid where it was and is not zero."""
    return mapped(image, lambda b: replace(b, node=Masked(b.node, b.node)))


@algorithm("Image.unmask")
def unmask(input: Image, value: Image | None = None, sameFootprint: bool = True) -> Image:
    """Masked pixels take a value; with `sameFootprint` only inside the image's footprint, which composites lack."""
    filling = constant(0) if value is None else value
    footprint = input.footprint if sameFootprint else Geometry(None)
    bands = []
    for band, other in _for_each(input, filling, "Image.unmask"):
        kind = pixeltype.union((band.type, other.type))
        bands.append(replace(band, node=Filled(band.node, other.node, kind, footprint), type=kind))
    return replace(input, bands=tuple(bands), footprint=footprint)


@algorithm("Image.where")
def where(input: Image, test: Image, value: Image) -> Image:
    """The value where the test is valid and not zero, the input elsewhere; the input's mask."""
    tests = _for_each(input, test, "Image.where")
    values = _for_each(input, value, "Image.where")
    bands = []
    for (band, condition), (_, other) in zip(tests, values, strict=True):
        kind = pixeltype.union((band.type, other.type))
        bands.append(replace(band, node=Where(band.node, condition.node, other.node, kind), type=kind))
    return input.with_bands(bands)


@algorithm("Image.blend")
def blend(bottom: Image, top: Image) -> Image:
    """The top image where it is valid, the bottom one elsewhere."""
    bands = []
    for band, other in _for_each(bottom, top, "Image.blend"):
        kind = pixeltype.union((band.type, other.type))
        node = Filled(other.node, band.node, kind, Geometry(None))
        bands.append(replace(band, node=node, type=kind))
    return bottom.with_bands(bands)


def clip_to(image: Image, geometry: Geometry) -> Image:
    """The image, masked outside a geometry; its footprint becomes what both have in common."""
    if geometry.unbounded:
        return image
    footprint = geometry
    if not image.footprint.unbounded:
        footprint = Geometry(image.footprint.lonlat().intersection(geometry.lonlat()), geodesic=False)
    clipped = mapped(image, lambda b: replace(b, node=Clipped(b.node, geometry)))
    return replace(clipped, footprint=footprint)


@algorithm("Image.clip")
def clip(input: Image, geometry: Any) -> Image:
    """Masked where the pixel's centre lies outside the geometry or feature."""
    try:
        return clip_to(input, to_geometry(geometry))
    except Mismatch as error:
        raise ArgumentError(
            f"Image.clip, argument 'geometry': Invalid type.\nExpected type: Geometry.\nActual type: {type_name(geometry)}."
        ) from error


@algorithm("Image.clipToCollection")
def clip_to_collection(input: Image, collection: Any) -> Image:
    """Masked where the pixel's centre lies in none of the features."""
    return clip(input, collection)

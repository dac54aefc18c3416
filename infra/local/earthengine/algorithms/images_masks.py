"""Masks of images: narrowing, replacing, filling, blending and clipping. Masks are fractions, see `raster`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.burning import burnt
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image, constant, leading, mapped
from infra.local.earthengine.pixeltype import MASK, PixelType
from infra.local.earthengine.promote import Mismatch, to_geometry, type_name
from infra.local.earthengine.raster import Masked, MaskOf, Node, Raster, Run, least

LEAST_COVERAGE = 0.005
"""Of a pixel: with less of it in a geometry the pixel does not count as partly inside."""


def inside(geometry: Geometry, grid: PixelGrid, run: Run) -> Array:
    """True for the pixels whose centre lies in the geometry."""
    if geometry.unbounded:
        return np.broadcast_to(np.asarray(True), grid.shape_yx)
    key = (geometry, grid)
    if key not in run.shapes:
        run.shapes[key] = _rasterized(geometry, grid)
    return run.shapes[key]


def _rasterized(geometry: Geometry, grid: PixelGrid) -> Array:
    window = _widened(grid)
    made = geometry.in_crs(grid.crs)
    if not made.intersects(window):
        return np.zeros(grid.shape_yx, bool)
    part = made.intersection(window)
    if part.is_empty or part.area == 0:
        return np.zeros(grid.shape_yx, bool)
    if part.equals(window):
        return np.ones(grid.shape_yx, bool)
    return np.asarray(burnt([part], grid), bool)


def coverage(geometry: Geometry, grid: PixelGrid, run: Run) -> Array:
    """The part of each pixel that lies in the geometry, (h, w); below LEAST_COVERAGE it is 0."""
    if geometry.unbounded:
        return np.broadcast_to(np.asarray(1.0), grid.shape_yx)
    key = ("coverage", geometry, grid)
    if key not in run.shapes:
        run.shapes[key] = _covered(geometry, grid, inside(geometry, grid, run))
    return run.shapes[key]


def _covered(geometry: Geometry, grid: PixelGrid, centres: Array) -> Array:
    """Exact areas of the pixels on the geometry's edge; the others are in or out as their centre is."""
    found = centres.astype("float64")
    cut = geometry.in_crs(grid.crs).intersection(_widened(grid))
    part = shapely.multipolygons([p for p in shapely.get_parts(cut) if p.geom_type == "Polygon"])
    if part.is_empty:
        return found
    edge = burnt([part.boundary], grid, all_touched=True)
    rows, cols = np.nonzero(edge)
    a, b, c, d, e, f = grid.projection.transform
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    col, row = cols[:, None] + corners[:, 0], rows[:, None] + corners[:, 1]
    boxes = shapely.polygons(np.dstack([a * col + b * row + c, d * col + e * row + f]))
    areas = shapely.area(shapely.intersection(boxes, part)) / abs(a * e - b * d)
    found[rows, cols] = np.where(areas < LEAST_COVERAGE, 0, np.minimum(np.round(areas, 6), 1))
    return found


def _widened(grid: PixelGrid) -> shapely.Polygon:
    """The grid's outline with a pixel more on each side."""
    west, south, east, north = grid.bounds
    margin = max(abs(v) for v in grid.projection.transform[:2])
    return shapely.box(west - margin, south - margin, east + margin, north + margin)


@dataclass(frozen=True, eq=False)
class Clipped(Node):
    """A node, masked outside a geometry; the mask of a pixel on its edge is the part that is inside."""

    source: Node
    """Gives the values."""
    geometry: Geometry
    """What stays."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        part = coverage(self.geometry, grid, run)
        inner = part > 0
        found = run.pixels(self.source, grid)
        fraction = part.astype("float32") if (inner & (part < 1)).any() else None
        return Raster(found.values, found.mask & inner, least((found, Raster(found.values, inner, fraction))))


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
        values, mask = first = run.pixels(self.source, grid)
        others, valid = second = run.pixels(self.filling, grid)
        dtype = self.type.dtype
        filled = np.where(mask, values.astype(dtype, copy=False), others.astype(dtype, copy=False))
        fraction = None
        if first.fraction is not None or second.fraction is not None:
            fraction = np.where(mask, first.weights, second.weights)
        return Raster(filled, mask | (valid & inside(self.footprint, grid, run)), fraction)


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
        values, mask = source = run.pixels(self.source, grid)
        tested, tested_valid = run.pixels(self.test, grid)
        others, others_valid = run.pixels(self.value, grid)
        replaced = tested_valid & (tested != 0) & others_valid
        dtype = self.type.dtype
        chosen = np.where(replaced, others.astype(dtype, copy=False), values.astype(dtype, copy=False))
        return Raster(chosen, mask, source.fraction)


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
    """Where the image is valid its mask becomes the other image's values, cut off at 0 and 1."""
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
    """Where the image is valid its mask becomes its own values, cut off at 0 and 1: negative ones are masked."""
    return mapped(image, lambda b: replace(b, node=Masked(b.node, b.node)))


@algorithm("Image.unmask")
def unmask(input: Image, value: Image | None = None, sameFootprint: bool = True) -> Image:
    """Masked pixels take a value; with `sameFootprint` only inside the image's footprint, which composites lack.

    Without it the footprint is that of both images together.
    """
    filling = constant(0) if value is None else value
    footprint = input.footprint if sameFootprint else _joined(input.footprint, filling.footprint)
    bands = []
    for band, other in _for_each(input, filling, "Image.unmask"):
        kind = pixeltype.union((band.type, other.type))
        bands.append(replace(band, node=Filled(band.node, other.node, kind, footprint), type=kind))
    return replace(input, bands=tuple(bands), footprint=footprint)


def _joined(first: Geometry, second: Geometry) -> Geometry:
    """Both geometries together."""
    if first.unbounded or second.unbounded:
        return Geometry(None)
    return Geometry(first.lonlat().union(second.lonlat()), geodesic=False)


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
    """The top image over the bottom one, mixed by the top's mask; an image of one band goes with all of the other's."""
    if len(bottom.bands) == 1 < len(top.bands):
        bottom = bottom.with_bands(replace(bottom.bands[0], id=b.id) for b in top.bands)
    bands = []
    for band, other in _for_each(bottom, top, "Image.blend"):
        kind = pixeltype.union((band.type, other.type))
        bands.append(replace(band, node=Layered((band.node, other.node), kind), type=kind))
    return bottom.with_bands(bands)


@dataclass(frozen=True, eq=False)
class Layered(Node):
    """The topmost valid one of several nodes, mixed with those below where its mask is a fraction.

    Layers are computed only where there is still something to be seen of them.
    """

    layers: tuple[Node, ...]
    """From bottom to top."""
    type: PixelType
    """The type of all together."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values = np.zeros(grid.shape_yx, self.type.dtype)
        mask = np.zeros(grid.shape_yx, bool)
        for layer in reversed(self.layers):
            top = run.pixels(layer, grid)
            if top.fraction is not None:
                return self._mixed(grid, run)
            new = top.mask & ~mask
            if new.any():
                values[new] = pixeltype.cast(top.values, self.type)[new]
                mask |= new
            if mask.all():
                break
        return Raster(values, mask)

    def _mixed(self, grid: PixelGrid, run: Run) -> Raster:
        total, opacity = np.zeros(grid.shape_yx), np.zeros(grid.shape_yx)
        for layer in reversed(self.layers):
            top = run.pixels(layer, grid)
            part = top.weights * (1 - opacity)
            total += np.where(part > 0, top.values, 0) * part
            opacity += part
        mask = opacity > 0
        mixed = total / np.where(mask, opacity, 1)
        if self.type.precision == "int":
            mixed = np.floor(mixed + 0.5)
        return Raster(pixeltype.cast(mixed, self.type), mask, opacity.astype("float32"))


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
    """Masked outside the geometry or feature; on its edge the mask is the part of the pixel that is inside."""
    try:
        return clip_to(input, to_geometry(geometry))
    except Mismatch as error:
        raise ArgumentError(
            f"Image.clip, argument 'geometry': Invalid type.\nExpected type: Geometry.\nActual type: {type_name(geometry)}."
        ) from error


@algorithm("Image.clipToCollection")
def clip_to_collection(input: Image, collection: Any) -> Image:
    """Masked where none of the features is."""
    return clip(input, collection)

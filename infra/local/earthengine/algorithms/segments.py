"""Connected pixels of the same value: their number, and their outlines as features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio.features
import shapely
from scipy import ndimage
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from infra.local.earthengine.algorithms.reducers import SIMPLE
from infra.local.earthengine.algorithms.regions import Pixels, limited, reduced, region_grid
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.burning import burnt
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.grid import Array, PixelGrid, Projection
from infra.local.earthengine.image import Band, Image, mapped
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Raster, Run
from infra.local.earthengine.reducers import Reducer
from infra.local.earthengine.sampling import Neighbourhood
from infra.local.earthengine.values import Collection, Feature

MAX_COUNTED = 1024
MAX_VECTOR_PIXELS = 10_000_000
EIGHT = np.ones((3, 3), bool)
FOUR = ndimage.generate_binary_structure(2, 1)
Corners = dict[str, Any]


def labelled(values: Array, mask: Array, *, eight: bool) -> tuple[Array, int]:
    """Connected pixels of one value under a number from 1, 0 where it is masked; and how many there are."""
    found = np.zeros(values.shape, "int32")
    count = 0
    for value in np.unique(values[mask]):
        part, parts = ndimage.label(mask & (values == value), EIGHT if eight else FOUR)
        found = np.where(part > 0, part + count, found)
        count += int(parts)
    return found, count


@algorithm("Image.connectedPixelCount")
def connected_pixel_count(input: Image, maxSize: int = 100, eightConnected: bool = True) -> Image:
    """How many connected pixels have the same value, up to `maxSize`; on the pixels of the grid that is asked for."""
    if not 1 <= maxSize <= MAX_COUNTED:
        raise ArgumentError(f"Image.connectedPixelCount: maxSize must be 1 to {MAX_COUNTED}, got {maxSize}.")

    def counted(grid: PixelGrid, wide: list[Raster]) -> Raster:
        height, width = grid.shape_yx
        labels, count = labelled(wide[0].values, wide[0].mask, eight=eightConnected)
        sizes = np.minimum(np.bincount(labels.ravel(), minlength=count + 1), maxSize)
        inner = (slice(maxSize, maxSize + height), slice(maxSize, maxSize + width))
        return Raster(sizes[labels][inner].astype("int32"), wide[0].mask[inner])

    kind = PixelType("int", 0, 2**31 - 1)

    def changed(band: Band) -> Band:
        return replace(band, node=Neighbourhood((band.node,), maxSize, counted), type=kind)

    return mapped(input, changed)


@dataclass(frozen=True)
class Segment:
    """Connected pixels of one value."""

    label: int
    """The value."""
    outline: BaseGeometry
    """Along the pixels' edges, in the grid's system."""
    where: Array
    """(h, w) bool."""


def segments(values: Array, mask: Array, grid: PixelGrid, *, eight: bool) -> list[Segment]:
    """The segments of an image, from top to bottom."""
    numbers, _count = labelled(values, mask, eight=eight)
    found: dict[int, list[BaseGeometry]] = {}
    shapes = rasterio.features.shapes(numbers, numbers > 0, connectivity=8 if eight else 4, transform=grid.affine)
    for outline, number in shapes:
        found.setdefault(int(number), []).append(shape(outline))
    made = []
    for number, parts in sorted(found.items()):
        where = numbers == number
        made.append(Segment(int(values[where][0]), shapely.union_all(parts), where))
    return sorted(made, key=lambda s: int(np.flatnonzero(s.where)[0]))


@algorithm("Image.reduceToVectors")
def reduce_to_vectors(
    context: Context,
    image: Image,
    reducer: Reducer | None = None,
    geometry: Geometry | None = None,
    scale: float | None = None,
    geometryType: str = "polygon",
    eightConnected: bool = True,
    labelProperty: str | None = "label",
    crs: Projection | None = None,
    crsTransform: list[float] | None = None,
    bestEffort: bool = False,
    maxPixels: int = MAX_VECTOR_PIXELS,
    tileScale: float = 1,
    geometryInNativeProjection: bool = False,
) -> Collection:
    """A feature for each segment of the first band, with a reducer over the other bands (`count` of its pixels without)."""
    caller = "Image.reduceToVectors"
    if geometryType not in ("polygon", "bb", "centroid"):
        raise ArgumentError(f"{caller}: geometryType must be polygon, bb or centroid, got '{geometryType}'.")
    if not image.bands or image.bands[0].type.precision != "int":
        raise ArgumentError(f"{caller}: The first band must be of an integer type; use toInt().")
    grid, region = region_grid(image, geometry, scale, crs, crsTransform, caller)
    grid = limited(grid, maxPixels, bestEffort, caller)
    run = Run(context.reader)
    with context.reader.environment():
        rasters = [run.pixels(b.node, grid) for b in image.bands]
    inside = burnt([region.in_crs(grid.crs)], grid)
    mask = rasters[0].mask & (inside > 0)
    rest = image.with_bands(image.bands[1:])
    made = []
    for i, segment in enumerate(segments(rasters[0].values, mask, grid, eight=eightConnected)):
        own = {} if labelProperty is None else {labelProperty: segment.label}
        if reducer is None or not rest.bands:
            own |= SIMPLE["count"].rows([(1,)] * int(segment.where.sum())) if reducer is None else {}
        else:
            found = reduced(rest, reducer, _pixels(rasters[1:], segment.where), caller)
            single = len(rest.bands) == 1 and reducer.inputs == 1
            own |= dict(zip(reducer.outputs, found.values(), strict=True)) if single else found
        made.append(
            Feature(str(i), own, _geometry(segment.outline, geometryType, grid.crs, geometryInNativeProjection))
        )
    return Collection(elements=tuple(made), images=False)


def _pixels(rasters: list[Raster], where: Array) -> Pixels:
    ones = np.ones(int(where.sum()))
    return Pixels(
        tuple(r.values[where] for r in rasters),
        tuple(r.mask[where] for r in rasters),
        tuple(None if r.fraction is None else r.fraction[where] for r in rasters),
        ones > 0,
        ones,
        np.zeros((ones.size, 2)),
    )


def _geometry(outline: BaseGeometry, kind: str, crs: str, native: bool) -> Geometry:
    made = outline if kind == "polygon" else outline.envelope if kind == "bb" else outline.centroid
    found = Geometry(made, crs, geodesic=False)
    return found if native else Geometry(found.lonlat(), geodesic=False)

"""Images to numbers: reductions over regions, and samples of pixels.

As in Earth Engine, reducers with weights take every pixel of which at least half a percent lies in the region, with the
smaller of that part and the mask as its weight; reducers without weights (counts, extremes, lists, `unweighted`) and
samples take the pixels whose centre lies in it and whose mask is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely

from infra.local.earthengine.algorithms.images_grid import bounded_grid, resolved
from infra.local.earthengine.algorithms.images_masks import coverage, inside
from infra.local.earthengine.algorithms.images_math import scalar
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WGS84, Geometry
from infra.local.earthengine.grid import Array, PixelGrid, Projection
from infra.local.earthengine.image import Image
from infra.local.earthengine.promote import to_geometry
from infra.local.earthengine.raster import Run
from infra.local.earthengine.reducers import Reducer, Rows, plain
from infra.local.earthengine.values import Collection, Feature

BLOCK = 256
MAX_PIXELS = 10_000_000


@dataclass(frozen=True)
class Pixels:
    """The pixels of a region, one after the other."""

    values: tuple[Array, ...]
    """(n,) of each band."""
    masks: tuple[Array, ...]
    """(n,) bool of each band."""
    fractions: tuple[Array | None, ...]
    """(n,) the mask of each band as a fraction; None where it is 0 or 1."""
    counted: Array
    """(n,) bool: the centre lies in the region."""
    covered: Array
    """(n,) the part of each pixel that lies in the region; 1 for points and lines."""
    lonlat: Array
    """(n, 2) longitude and latitude of the centres."""


def region_grid(
    image: Image,
    geometry: Geometry | None,
    scale: float | None,
    crs: Projection | None,
    crs_transform: list[float] | None,
    caller: str,
) -> tuple[PixelGrid, Geometry]:
    """The grid on which a region is looked at: the image's own pixels where nothing else is said."""
    if not image.bands:
        raise ArgumentError(f"{caller}: The image has no bands.")
    scalar(caller, *image.bands)
    region = image.footprint if geometry is None else geometry
    if region.unbounded:
        raise ArgumentError(f"{caller}: The image is unbounded; give a geometry.")
    base = crs if crs is not None else image.bands[0].projection
    target = resolved(base, crs_transform, scale, caller)
    return bounded_grid(target, region.in_crs(target.crs).bounds), region


def limited(grid: PixelGrid, max_pixels: int, best_effort: bool, caller: str) -> PixelGrid:
    """The grid, coarser with `best_effort` where it has too many pixels; ArgumentError otherwise."""
    height, width = grid.shape_yx
    count = height * width
    if count <= max_pixels:
        return grid
    if not best_effort:
        raise ArgumentError(
            f"{caller}: Too many pixels in the region. Found {count}, but maxPixels allows only {max_pixels}. "
            "Ensure that you are not aggregating at a higher resolution than you intended; that is a frequent cause of "
            "this error. If not, then you may set the 'maxPixels' argument to a limit suitable for your computation; "
            "set 'bestEffort' to true to aggregate at whatever scale results in 'maxPixels' total pixels."
        )
    factor = math.ceil(math.sqrt(count / max_pixels))
    a, b, c, d, e, f = grid.projection.transform
    coarse = Projection(grid.crs, (a * factor, b * factor, c, d * factor, e * factor, f))
    return PixelGrid(coarse, (math.ceil(height / factor), math.ceil(width / factor)))


def _blocks(grid: PixelGrid) -> Iterator[PixelGrid]:
    height, width = grid.shape_yx
    for row in range(0, height, BLOCK):
        for col in range(0, width, BLOCK):
            yield grid.window(row, col, min(BLOCK, height - row), min(BLOCK, width - col))


def gather(context: Context, image: Image, grid: PixelGrid, region: Geometry, *, partly: bool = False) -> Pixels:
    """The pixels of a grid whose centre lies in a region; with `partly` those also of which a part does."""
    blocks = [_none(image)]
    outline = region.in_crs(grid.crs)
    with context.reader.environment():
        for block in _blocks(grid):
            run = Run(context.reader)
            centres = _touched(outline, block) if outline.area == 0 else inside(region, block, run)
            part = coverage(region, block, run) if partly and outline.area else centres.astype("float64")
            where = centres | (part > 0)
            if not where.any():
                continue
            lon, lat = (np.broadcast_to(v, block.shape_yx)[where] for v in run.coordinates(block, WGS84))
            found = [run.pixels(band.node, block) for band in image.bands]
            blocks.append(
                Pixels(
                    tuple(f.values[where] for f in found),
                    tuple(f.mask[where] for f in found),
                    tuple(None if f.fraction is None else f.fraction[where] for f in found),
                    centres[where],
                    part[where],
                    np.column_stack([lon, lat]),
                )
            )
    return _together(blocks)


def _none(image: Image) -> Pixels:
    nothing = np.zeros(0, bool)
    return Pixels(
        tuple(np.zeros(0, b.type.dtype) for b in image.bands),
        (nothing,) * len(image.bands),
        (None,) * len(image.bands),
        nothing,
        np.zeros(0),
        np.zeros((0, 2)),
    )


def _together(blocks: list[Pixels]) -> Pixels:
    """The pixels of several blocks, one after the other."""
    bands = range(len(blocks[0].values))
    partial = [any(b.fractions[i] is not None for b in blocks) for i in bands]
    return Pixels(
        tuple(np.concatenate([b.values[i] for b in blocks]) for i in bands),
        tuple(np.concatenate([b.masks[i] for b in blocks]) for i in bands),
        tuple(np.concatenate([_fraction(b, i) for b in blocks]) if partial[i] else None for i in bands),
        np.concatenate([b.counted for b in blocks]),
        np.concatenate([b.covered for b in blocks]),
        np.concatenate([b.lonlat for b in blocks]),
    )


def _fraction(pixels: Pixels, band: int) -> Array:
    found = pixels.fractions[band]
    return pixels.masks[band].astype("float32") if found is None else found


def _touched(outline: Any, grid: PixelGrid) -> Array:
    """The pixels that points or lines fall into."""
    height, width = grid.shape_yx
    a, _, c, _, e, f = grid.projection.transform
    where = np.zeros(grid.shape_yx, bool)
    dense = shapely.segmentize(outline, abs(a) / 2) if outline.length else outline
    for x, y in shapely.get_coordinates(dense):
        row, col = math.floor((y - f) / e), math.floor((x - c) / a)
        if 0 <= row < height and 0 <= col < width:
            where[row, col] = True
    return where


def reduced(image: Image, reducer: Reducer, pixels: Pixels, caller: str) -> dict[str, Any]:
    """The outputs of a reducer: of each band, or of all bands as its inputs."""
    names = [b.id for b in image.bands]
    if reducer.inputs == 1:
        found: dict[str, Any] = {}
        for i, name in enumerate(names):
            outputs = _outputs(reducer, pixels, [i])
            labels = [name] if len(outputs) == 1 else [f"{name}_{o}" for o in outputs]
            found |= dict(zip(labels, outputs.values(), strict=True))
        return found
    if reducer.inputs != len(names):
        raise ArgumentError(f"{caller}: Need {reducer.inputs} bands for the reducer {reducer.name}, got {len(names)}.")
    return _outputs(reducer, pixels, list(range(len(names))))


def _outputs(reducer: Reducer, pixels: Pixels, bands: list[int]) -> dict[str, Any]:
    """The outputs of a reducer over some bands as its inputs."""
    valid = np.logical_and.reduce([pixels.masks[i] for i in bands])
    values = [pixels.values[i][valid] for i in bands]
    counted, weights = pixels.counted[valid], pixels.covered[valid]
    for i in bands:
        if pixels.fractions[i] is not None:
            weights = np.minimum(weights, _fraction(pixels, i)[valid])
    whole = bool((weights == 1).all() and counted.all())
    if reducer.compute is None:
        items = list(zip(*(v.tolist() for v in values), strict=True))
        return reducer.rows(Rows(items) if whole else Rows(items, counted.tolist(), weights.tolist()))
    found = reducer.pixels(values, counted, None if whole else weights)
    return {name: plain(v, m) for name, (v, m) in zip(reducer.outputs, found, strict=True)}


@algorithm("Image.reduceRegion")
def reduce_region(
    context: Context,
    image: Image,
    reducer: Reducer,
    geometry: Geometry | None = None,
    scale: float | None = None,
    crs: Projection | None = None,
    crsTransform: list[float] | None = None,
    bestEffort: bool = False,
    maxPixels: int = MAX_PIXELS,
    tileScale: float = 1,
) -> dict[str, Any]:
    """A reducer over the valid pixels of a region: by band name, or `band_output` for several outputs."""
    grid, region = region_grid(image, geometry, scale, crs, crsTransform, "Image.reduceRegion")
    grid = limited(grid, maxPixels, bestEffort, "Image.reduceRegion")
    return reduced(image, reducer, gather(context, image, grid, region, partly=True), "Image.reduceRegion")


@algorithm("Image.reduceRegions")
def reduce_regions(
    context: Context,
    image: Image,
    collection: Collection,
    reducer: Reducer,
    scale: float | None = None,
    crs: Projection | None = None,
    crsTransform: list[float] | None = None,
    tileScale: float = 1,
    maxPixelsPerRegion: int | None = None,
) -> Collection:
    """Each feature with the outputs as properties: named after the outputs for one band, after the bands otherwise."""
    made = []
    for feature in collection.elements:
        grid, region = region_grid(image, to_geometry(feature), scale, crs, crsTransform, "Image.reduceRegions")
        grid = limited(grid, maxPixelsPerRegion or MAX_PIXELS, False, "Image.reduceRegions")
        found = reduced(image, reducer, gather(context, image, grid, region, partly=True), "Image.reduceRegions")
        if len(image.bands) == 1 and reducer.inputs == 1:
            found = dict(zip(reducer.outputs, found.values(), strict=True))
        made.append(replace(feature, properties={**feature.properties, **found}))
    return replace(collection, elements=tuple(made))


def _features(image: Image, pixels: Pixels, drop_nulls: bool, geometries: bool, more: dict[str, Any]) -> list[Feature]:
    names = [b.id for b in image.bands]
    valid = np.logical_and.reduce(pixels.masks) if pixels.masks else np.zeros(0, bool)
    made = []
    for i in range(len(valid)):
        if drop_nulls and not valid[i]:
            continue
        values = {n: plain(v[i], m[i]) for n, v, m in zip(names, pixels.values, pixels.masks, strict=True)}
        point = Geometry(shapely.Point(pixels.lonlat[i])) if geometries else None
        made.append(Feature(None, {**more, **values}, point))
    return made


def _numbered(features: list[Feature]) -> Collection:
    return Collection(elements=tuple(replace(f, id=str(i)) for i, f in enumerate(features)), images=False)


@algorithm("Image.sample")
def sample(
    context: Context,
    image: Image,
    region: Geometry | None = None,
    scale: float | None = None,
    projection: Projection | None = None,
    factor: float | None = None,
    numPixels: int | None = None,
    seed: int = 0,
    dropNulls: bool = True,
    tileScale: float = 1,
    geometries: bool = False,
) -> Collection:
    """The pixels of a region as features; about `numPixels`, or the part `factor` of them, drawn by the seed."""
    grid, area = region_grid(image, region, scale, projection, None, "Image.sample")
    grid = limited(grid, MAX_PIXELS, False, "Image.sample")
    features = _features(image, gather(context, image, grid, area), dropNulls, geometries, {})
    wanted = numPixels if numPixels is not None else None if factor is None else round(factor * len(features))
    if wanted is not None and wanted < len(features):
        chosen = np.random.default_rng(seed).choice(len(features), wanted, replace=False)
        features = [features[i] for i in sorted(chosen)]
    return _numbered(features)


@algorithm("Image.sampleRegions")
def sample_regions(
    context: Context,
    image: Image,
    collection: Collection,
    properties: list[str] | None = None,
    scale: float | None = None,
    projection: Projection | None = None,
    tileScale: float = 1,
    geometries: bool = False,
) -> Collection:
    """The pixels of each feature as features with its properties; pixels that are masked in a band are left out."""
    made: list[Feature] = []
    for feature in collection.elements:
        grid, region = region_grid(image, to_geometry(feature), scale, projection, None, "Image.sampleRegions")
        kept = feature.properties if properties is None else {p: feature.get(p) for p in properties}
        made += _features(image, gather(context, image, grid, region), True, geometries, dict(kept))
    return _numbered(made)


@algorithm("Image.sampleRectangle")
def sample_rectangle(
    context: Context,
    image: Image,
    region: Geometry | None = None,
    properties: list[str] | None = None,
    defaultValue: float | None = None,
    defaultArrayValue: Any = None,
) -> Feature:
    """The pixels of a rectangle as a feature with a two-dimensional list for each band."""
    grid, area = region_grid(image, region, None, None, None, "Image.sampleRectangle")
    grid = limited(grid, 262_144, False, "Image.sampleRectangle")
    run = Run(context.reader)
    bands: dict[str, Any] = {}
    with context.reader.environment():
        for band in image.bands:
            values, mask = run.pixels(band.node, grid)
            if defaultValue is None and not mask.all():
                raise ArgumentError(
                    f"Image.sampleRectangle: Fully or partially masked pixels in band '{band.id}'; give a defaultValue."
                )
            bands[band.id] = np.where(mask, values, 0 if defaultValue is None else defaultValue).tolist()
    own = image.properties if properties is None else {p: image.get(p) for p in properties}
    return Feature(None, {**{k: v for k, v in own.items() if not k.startswith("system:")}, **bands}, area)


@algorithm("ImageCollection.getRegion")
def get_region(
    context: Context,
    collection: Collection,
    geometry: Geometry,
    scale: float | None = None,
    crs: Projection | None = None,
    crsTransform: list[float] | None = None,
) -> list[list[Any]]:
    """A table of the pixels of a region in every image: a header, then a row for each image and pixel."""
    images: list[Image] = list(collection.elements)
    names = [b.id for b in images[0].bands] if images else []
    table: list[list[Any]] = [["id", "longitude", "latitude", "time", *names]]
    for image in images:
        grid, region = region_grid(image, geometry, scale, crs, crsTransform, "ImageCollection.getRegion")
        grid = limited(grid, 1_048_576, False, "ImageCollection.getRegion")
        pixels = gather(context, image, grid, region)
        for i, (lon, lat) in enumerate(pixels.lonlat):
            values = [plain(v[i], m[i]) for v, m in zip(pixels.values, pixels.masks, strict=True)]
            index, time = image.get("system:index"), image.get("system:time_start")
            table.append([index, float(lon), float(lat), time, *values])
    return table

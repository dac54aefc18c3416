"""Projections: reprojecting, resampling, scaling, and images of coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.local.earthengine import geometry as geometries
from infra.local.earthengine.algorithms.images_masks import clip_to
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WGS84, Geometry
from infra.local.earthengine.grid import Array, PixelGrid, Projection, inverse, metres_per_unit, parse_crs, shifted
from infra.local.earthengine.image import Band, Image, mapped
from infra.local.earthengine.pixeltype import DOUBLE, FLOAT, PixelType
from infra.local.earthengine.raster import Node, Raster, Run, full
from infra.local.earthengine.sampling import OwnGrid

SEMI_MAJOR_M = 6378137.0
ECCENTRICITY_2 = 0.00669437999014


def resolved(crs: Projection, crs_transform: list[float] | None, scale: float | None, caller: str) -> Projection:
    """The projection that a crs, a transform and a scale describe together."""
    if crs_transform is not None and scale is not None:
        raise ArgumentError(f"{caller}: Only one of crsTransform and scale may be given.")
    if crs_transform is not None:
        if len(crs_transform) != 6:
            raise ArgumentError(f"{caller}: crsTransform needs 6 numbers, got {len(crs_transform)}.")
        a, b, c, d, e, f = (float(v) for v in crs_transform)
        return Projection(crs.crs, (a, b, c, d, e, f))
    return crs if scale is None else crs.at_scale(scale)


@algorithm("Image.reproject")
def reproject(
    image: Image, crs: Projection, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    """Computed on the pixels of a projection, whatever grid is asked for; sampled from there by nearest neighbour."""
    target = resolved(crs, crsTransform, scale, "Image.reproject")
    return mapped(
        image,
        lambda b: replace(b, node=OwnGrid(b.node, target, b.type), projection=target, shape_yx=None),
    )


@algorithm("Image.resample")
def resample(image: Image, mode: str = "bilinear") -> Image:
    """Bilinear or bicubic in place of nearest neighbour when the image is asked for on another grid than its own.

    A composite or a constant has no pixels of its own and is left as it is, as in Earth Engine: resample the images
    before they are composited. Integers become float.
    """
    if mode not in ("bilinear", "bicubic"):
        raise ArgumentError(f"Image.resample: The mode must be 'bilinear' or 'bicubic', got '{mode}'.")

    def changed(band: Band) -> Band:
        if not band.has_grid:
            return band
        kind = band.type
        if kind.precision == "int":
            kind = PixelType("float", kind.minimum, kind.maximum)
        node = OwnGrid(band.node, band.projection, kind, band.shape_yx, mode=mode)
        return replace(band, node=node, type=kind)

    return mapped(image, changed)


@algorithm("Image.setDefaultProjection")
def set_default_projection(
    image: Image, crs: Projection, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    """Says which projection the image has, where a later step needs one; nothing is resampled."""
    target = resolved(crs, crsTransform, scale, "Image.setDefaultProjection")
    return mapped(image, lambda b: replace(b, projection=target, shape_yx=None))


@algorithm("Image.clipToBoundsAndScale")
def clip_to_bounds_and_scale(
    input: Image,
    geometry: Geometry | None = None,
    width: int | None = None,
    height: int | None = None,
    maxDimension: int | None = None,
    scale: float | None = None,
) -> Image:
    """The rectangle about a geometry, in the image's projection, with pixels of a size or in a number.

    By scale the pixels lie at multiples of it from the projection's origin; by number they fill the rectangle.
    """
    if not input.bands:
        return input
    region = input.footprint if geometry is None else geometry
    base = input.bands[0].projection
    if region.unbounded:
        raise ArgumentError("Image.clipToBoundsAndScale: The image is unbounded; give a region.")
    west, south, east, north = region.in_crs(base.crs).bounds
    grid = bounded_grid(base, (west, south, east, north), width, height, maxDimension, scale)
    clipped = clip_to(input, geometries.box(*grid.bounds, base.crs))
    return mapped(clipped, lambda b: replace(b, projection=grid.projection, shape_yx=grid.shape_yx))


def bounded_grid(
    base: Projection,
    bounds: tuple[float, float, float, float],
    width: int | None = None,
    height: int | None = None,
    max_dimension: int | None = None,
    scale: float | None = None,
) -> PixelGrid:
    """The grid over a rectangle of a projection by pixel size or number of pixels; its own pixels by default."""
    west, south, east, north = bounds
    across, down = east - west, north - south
    if width is None and height is None and max_dimension is None:
        a, e = (base.transform[0], base.transform[4])
        if scale is not None:
            a = scale / metres_per_unit(base.crs)
            e = -a
        a, e = abs(a), -abs(e)
        x0 = base.transform[2] + math.floor((west - base.transform[2]) / a + 1e-6) * a
        y0 = base.transform[5] + math.floor((north - base.transform[5]) / e + 1e-6) * e
        cols = max(1, math.ceil((east - x0) / a - 1e-6))
        rows = max(1, math.ceil((south - y0) / e - 1e-6))
        return PixelGrid(Projection(base.crs, (a, 0.0, x0, 0.0, e, y0)), (rows, cols))
    if max_dimension is not None:
        size = max(across, down) / max_dimension
        cols, rows = max(1, round(across / size)), max(1, round(down / size))
    elif width is not None and height is not None:
        cols, rows = width, height
    else:
        size = across / width if width else down / (height or 1)
        cols, rows = max(1, round(across / size)), max(1, round(down / size))
    return PixelGrid(Projection(base.crs, (across / cols, 0.0, west, 0.0, -down / rows, north)), (rows, cols))


@dataclass(frozen=True, eq=False)
class Coordinates(Node):
    """A function of the coordinates of the pixel centres."""

    crs: str
    """Which coordinates."""
    function: Callable[[Array, Array], Array]
    """Of x and y, each broadcastable to the grid."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        x, y = run.coordinates(grid, self.crs)
        values = np.broadcast_to(self.function(x, y), grid.shape_yx)
        return Raster(values, full(grid, True, bool))


@algorithm("Image.pixelLonLat")
def pixel_lon_lat() -> Image:
    """Longitude and latitude of the pixel centres in degrees."""
    return Image(
        bands=(
            Band("longitude", Coordinates(WGS84, lambda x, y: x + 0 * y), PixelType("double", -180, 180)),
            Band("latitude", Coordinates(WGS84, lambda x, y: y + 0 * x), PixelType("double", -90, 90)),
        )
    )


@algorithm("Image.pixelCoordinates")
def pixel_coordinates(projection: Projection) -> Image:
    """Coordinates of the pixel centres in a projection, in its pixels."""
    a, b, c, d, e, f = inverse(projection.transform)
    return Image(
        bands=(
            Band("x", Coordinates(projection.crs, lambda x, y: a * x + b * y + c), DOUBLE),
            Band("y", Coordinates(projection.crs, lambda x, y: d * x + e * y + f), DOUBLE),
        )
    )


@dataclass(frozen=True, eq=False)
class PixelArea(Node):
    """Area of each pixel on the WGS84 ellipsoid in square metres."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        height, width = grid.shape_yx
        wide = grid.window(-1, -1, height + 2, width + 2)
        lon, lat = (np.broadcast_to(v, wide.shape_yx) for v in run.coordinates(wide, WGS84))
        inner = slice(1, -1)
        dlon_dx, dlat_dx = ((v[inner, 2:] - v[inner, :-2]) / 2 for v in (lon, lat))
        dlon_dy, dlat_dy = ((v[2:, inner] - v[:-2, inner]) / 2 for v in (lon, lat))
        phi = np.radians(lat[inner, inner])
        curve = 1 - ECCENTRICITY_2 * np.sin(phi) ** 2
        north = SEMI_MAJOR_M * (1 - ECCENTRICITY_2) / curve**1.5
        east = SEMI_MAJOR_M / np.sqrt(curve) * np.cos(phi)
        degrees = np.abs(dlon_dx * dlat_dy - dlon_dy * dlat_dx)
        return Raster((degrees * np.radians(1) ** 2 * north * east).astype("float32"), full(grid, True, bool))


@algorithm("Image.pixelArea")
def pixel_area() -> Image:
    """Area of each pixel in square metres, band `area`."""
    return Image(bands=(Band("area", PixelArea(), FLOAT),))


@algorithm("Projection")
def projection(crs: Any, transform: list[Any] | None = None, transformWkt: str | None = None) -> Projection:
    """A coordinate system with an affine transform."""
    if transformWkt is not None:
        raise ArgumentError("Projection: transformWkt is not known to the local stand-in; give a transform.")
    base = crs if isinstance(crs, Projection) else Projection(str(crs), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    parse_crs(base.crs)
    return resolved(base, transform, None, "Projection")


@algorithm("Projection.atScale")
def at_scale(projection: Projection, meters: float) -> Projection:
    """The same system with square pixels of a size in metres."""
    return projection.at_scale(meters)


@algorithm("Projection.crs")
def projection_crs(projection: Projection) -> str:
    """The code of the system."""
    return projection.crs


@algorithm("Projection.nominalScale")
def nominal_scale(proj: Projection) -> float:
    """Metres per pixel."""
    return proj.nominal_scale


@algorithm("Projection.wkt")
def projection_wkt(projection: Projection) -> str:
    """Well-known text of the system."""
    return str(parse_crs(projection.crs).to_wkt("WKT1_GDAL"))


@algorithm("Projection.transform")
def projection_transform(projection: Projection) -> str:
    """The affine transform as well-known text."""
    a, b, c, d, e, f = projection.transform
    elements = {"elt_0_0": a, "elt_0_1": b, "elt_0_2": c, "elt_1_0": d, "elt_1_1": e, "elt_1_2": f}
    body = "".join(f',\n  PARAMETER["{k}", {v}]' for k, v in elements.items())
    return f'PARAM_MT["Affine",\n  PARAMETER["num_row", 3],\n  PARAMETER["num_col", 3]{body}]'


@algorithm("Projection.scale")
def projection_scale(projection: Projection, x: float, y: float) -> Projection:
    """Pixels larger by factors."""
    a, b, c, d, e, f = projection.transform
    return Projection(projection.crs, (a * x, b * y, c, d * x, e * y, f))


@algorithm("Projection.translate")
def projection_translate(projection: Projection, x: float, y: float) -> Projection:
    """Moved by so many pixels."""
    return shifted(projection, y, x)

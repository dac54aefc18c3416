"""Slope, aspect and hillshade as `ee.Terrain` computes them.

On the native grid of the elevation model, from central differences of the four neighbours, on a sphere of radius
6371007.18 m with the east-west distance scaled by the cosine of the latitude of the pixel's centre. Held to the real
output of Earth Engine (slope to 5e-5 degrees, hillshade exactly). A pixel that lacks one of the four neighbours is
masked. Note the hillshade: there is no cos(slope) factor on its first term, unlike in the textbooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, metres_per_unit, parse_crs
from infra.local.earthengine.image import Band, Image
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Node, Raster
from infra.local.earthengine.sampling import Neighbourhood, OwnGrid

RADIUS_M = 6371007.18
"""Radius of the sphere."""

Surface = Callable[[Array, Array], Array]
"""A function of the slopes to the east and to the north (rise over run)."""


def gradients(grid: PixelGrid, wide: Raster) -> tuple[Array, Array, Array]:
    """Rise over run to the east and to the north, (h, w), and where both are known; `wide` is one pixel larger."""
    valid = wide.mask
    z = np.where(valid, wide.values, 0).astype("float64")  # what is masked may be NaN
    dx, dy = _spacing(grid)
    east = (z[1:-1, 2:] - z[1:-1, :-2]) / (2 * dx)
    north = (z[2:, 1:-1] - z[:-2, 1:-1]) / (2 * dy)
    known = valid[1:-1, 2:] & valid[1:-1, :-2] & valid[2:, 1:-1] & valid[:-2, 1:-1] & valid[1:-1, 1:-1]
    return east, north, known


def _spacing(grid: PixelGrid) -> tuple[Array, Array]:
    """Metres to the east per column (h, 1) and to the north per row (a number; negative for north-up grids)."""
    a, b, _, d, e, f = grid.projection.transform
    if b or d:
        raise ArgumentError("Terrain: An elevation model on a rotated grid is not known to the local stand-in.")
    rows = np.arange(grid.shape_yx[0]) + 0.5
    if parse_crs(grid.crs).is_geographic:
        degree = np.radians(1) * RADIUS_M
        latitude = np.radians(e * rows + f)
        return (a * degree * np.cos(latitude))[:, None], np.asarray(e * degree)
    unit = metres_per_unit(grid.crs)
    return np.full((rows.size, 1), a * unit), np.asarray(e * unit)


def slope_degrees(east: Array, north: Array) -> Array:
    """Steepest slope in degrees."""
    return np.degrees(np.arctan(np.hypot(east, north)))


def aspect_degrees(east: Array, north: Array) -> Array:
    """Direction that the slope faces, degrees clockwise from north; 0 where it is flat."""
    return np.asarray(np.degrees(np.arctan2(-east, -north)) % 360)


def shade(east: Array, north: Array, azimuth: float, zenith: float) -> Array:
    """Illumination 0 to 255, rounded."""
    steep, facing = np.arctan(np.hypot(east, north)), np.radians(aspect_degrees(east, north))
    z, az = np.radians(zenith), np.radians(azimuth)
    light = np.cos(z) + np.sin(z) * np.sin(steep) * np.cos(az - facing)
    return np.asarray(np.floor(np.clip(255 * light, 0, 255) + 0.5))


def _surface(function: Surface, kind: PixelType, grid: PixelGrid, wide: list[Raster]) -> Raster:
    east, north, known = gradients(grid, wide[0])
    return Raster(function(east, north).astype(kind.dtype), known)


def _elevation(image: Image, caller: str) -> Band:
    if not image.bands:
        raise ArgumentError(f"{caller}: The image has no bands.")
    names = [b.id for b in image.bands]
    return image.band("elevation") if len(names) > 1 and "elevation" in names else image.bands[0]


def surface_band(dem: Band, name: str, function: Surface, kind: PixelType) -> Band:
    """A band computed from an elevation band on that band's own grid."""
    node: Node = Neighbourhood((dem.node,), 1, partial(_surface, function, kind))
    return replace(dem, id=name, node=OwnGrid(node, dem.projection, kind, dem.shape_yx), type=kind)


SLOPE = PixelType("float", 0, 90)
ASPECT = PixelType("float", 0, 360)
SHADE = PixelType("int", 0, 255)


def _single(input: Image, *, name: str, function: Surface, kind: PixelType) -> Image:
    """Slope (degrees) or aspect (degrees clockwise from north) on the elevation model's own grid; see the module."""
    band = surface_band(_elevation(input, f"Terrain.{name}"), name, function, kind)
    return replace(input, id=None, version=None, bands=(band,))


register("Terrain.slope", partial(_single, name="slope", function=slope_degrees, kind=SLOPE))
register("Terrain.aspect", partial(_single, name="aspect", function=aspect_degrees, kind=ASPECT))


@algorithm("Terrain.hillshade")
def hillshade(input: Image, azimuth: float = 270.0, elevation: float = 45.0) -> Image:
    """Illumination by a sun at an azimuth and an elevation above the horizon, both in degrees."""
    function = partial(shade, azimuth=azimuth, zenith=90.0 - elevation)
    return _single(input, name="hillshade", function=function, kind=SHADE)


@algorithm("Terrain.products", "Terrain")
def products(input: Image) -> Image:
    """The input with slope, aspect and hillshade added."""
    dem = _elevation(input, "Terrain.products")
    shading = partial(shade, azimuth=270.0, zenith=45.0)
    added = [
        surface_band(dem, "slope", slope_degrees, SLOPE),
        surface_band(dem, "aspect", aspect_degrees, ASPECT),
        surface_band(dem, "hillshade", shading, SHADE),
    ]
    return replace(input, id=None, version=None, bands=(*input.bands, *added))

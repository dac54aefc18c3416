"""Elevation, slope and hillshade as `ee` expressions, and a coarse look at a whole area.

Slope and hillshade are computed on the elevation model's own grid and then resampled bilinearly: computed on the finer
grid of the images they would show the steps between the model's pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import ee
import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from gee.catalog import DemChoice, search_boxes
from gee.grid import grid_for, tiles_over
from gee.pixels import fetch_pixels
from gee.session import Session
from gee.types import Grid

NODATA = -32_768
"""Where the elevation model has no value."""

FloatArray = npt.NDArray[np.float32]
Layer = Literal["elevation", "slope", "hillshade"]


@dataclass(frozen=True)
class TerrainLayer:
    """How one terrain layer is stored in int16: value = stored * scale."""

    scale: float
    """Size of a step, small enough to keep what bilinear resampling gives."""
    units: str
    """Units of the value."""


LAYERS: dict[Layer, TerrainLayer] = {
    "elevation": TerrainLayer(0.5, "m"),
    "slope": TerrainLayer(0.01, "degree"),
    "hillshade": TerrainLayer(0.01, "1"),
}
"""Name -> storage. Half a metre reaches from -16 km to 16 km; hillshade runs from 0 to 255."""

COARSE_TILE_PX = 512
"""Side of a request of `coarse_terrain`: slope on the model's own grid makes many pixels out of each."""


def terrain_image(dem: DemChoice, geometry: BaseGeometry) -> ee.Image:
    """`elevation`, `slope` and `hillshade` (azimuth 270, zenith 45) over an area, stored as `LAYERS` says.

    int16, `NODATA` where the model has no value, which for slope and hillshade includes its outermost pixels.
    """
    elevation, native = _elevation(dem, geometry)
    layers: dict[Layer, ee.Image] = {
        "elevation": elevation,
        "slope": ee.Terrain.slope(elevation).reproject(native),
        "hillshade": ee.Terrain.hillshade(elevation).reproject(native),
    }
    stored = [_stored(name, image.resample("bilinear")) for name, image in layers.items()]
    return stored[0].addBands(stored[1]).addBands(stored[2])


def coarse_terrain(
    session: Session, dem: DemChoice, geometry: BaseGeometry, max_px: int = 2_000_000
) -> tuple[FloatArray, FloatArray, Grid]:
    """Elevation (m) and slope (degrees) over an area in about `max_px` pixels at most: float32 (y, x), and their grid.

    For cutting an area to land and to slopes that can fail. A pixel is the model's value at its centre, slope on the
    model's own grid, never that of a smoothed model; NaN where there is none. No finer than 30 m.
    """
    fine = grid_for(geometry, 30.0)
    coarser = max(1, math.ceil(math.sqrt(fine.shape_yx[0] * fine.shape_yx[1] / max_px)))
    grid = grid_for(geometry, 30.0 * coarser)
    elevation, native = _elevation(dem, geometry)
    image = _stored("elevation", elevation).addBands(_stored("slope", ee.Terrain.slope(elevation).reproject(native)))
    expression = ee.serializer.encode(image, for_cloud_api=True)
    values: dict[Layer, FloatArray] = {
        "elevation": np.full(grid.shape_yx, np.nan, np.float32),
        "slope": np.full(grid.shape_yx, np.nan, np.float32),
    }
    for tile in tiles_over(grid, COARSE_TILE_PX, geometry):
        pixels = fetch_pixels(session, expression, grid.window(tile), dict.fromkeys(values, "int16"))
        for name, layer in values.items():
            known = np.where(pixels[name] == NODATA, np.nan, pixels[name].astype(np.float32))
            layer[tile.slices_yx] = known * LAYERS[name].scale
    return values["elevation"], values["slope"], grid


def _elevation(dem: DemChoice, geometry: BaseGeometry) -> tuple[ee.Image, ee.Projection]:
    """The model as one image, and the projection of its own grid."""
    if dem.kind == "image":
        image = ee.Image(dem.id).select([dem.band], ["elevation"])
        return image, image.projection()
    parts = ee.ImageCollection(dem.id).select([dem.band], ["elevation"]).filterBounds(search_boxes(geometry))
    native = parts.first().projection()
    # A mosaic forgets the grid of its parts.
    return parts.mosaic().setDefaultProjection(native), native


def _stored(name: Layer, image: ee.Image) -> ee.Image:
    steps = image.divide(LAYERS[name].scale).round()
    return steps.unmask(NODATA, False).toInt16().rename(name)

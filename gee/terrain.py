"""Terrain of an area as `ee` expressions, and a coarse look at a whole area.

What is derived from the heights is computed on the elevation model's own grid and then resampled bilinearly: computed
on the finer grid of the images it would show the steps between the model's pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import ee
import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from gee.catalog import asset_exists
from gee.curvature import curvatures
from gee.dem import DemChoice, elevation_image
from gee.errors import PermanentError
from gee.grid import coarse_grid_for, tiles_over
from gee.pixels import fetch_pixels
from gee.relief import relief
from gee.session import Session
from gee.types import Grid
from gee.wetness import MERIT_HYDRO, wetness

NODATA = -32_768
"""Where the elevation model has no value."""

FloatArray = npt.NDArray[np.float32]
Layer = Literal[
    "elevation", "slope", "hillshade", "aspect", "plan_curvature", "profile_curvature", "relief", "twi"
]  # fmt: skip


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
    "aspect": TerrainLayer(0.02, "degree"),
    "plan_curvature": TerrainLayer(2e-5, "1/m"),
    "profile_curvature": TerrainLayer(2e-5, "1/m"),
    "relief": TerrainLayer(0.1, "m"),
    "twi": TerrainLayer(0.001, "1"),
}
"""Name -> storage. Half a metre reaches from -16 km to 16 km; hillshade runs from 0 to 255; curvature is cut off at
0.66 per metre (a pixel of 30 m that stands 300 m above its neighbours), relief at 3,277 m, the wetness index at 32.8."""

DEFAULT_LAYERS: tuple[Layer, ...] = ("elevation", "slope", "hillshade")
"""What the shipped networks look at."""

FLAT_ASPECT = -1.0
"""Aspect in degrees where the ground faces nowhere."""

COARSE_TILE_PX = 512
"""Side of a request of `coarse_terrain`: slope on the model's own grid makes many pixels out of each."""


def terrain_image(dem: DemChoice, geometry: BaseGeometry, layers: Sequence[Layer] = DEFAULT_LAYERS) -> ee.Image:
    """Terrain over an area (WGS84), a band for each of `layers` in their order, stored as `LAYERS` says.

    - `elevation`: metres.
    - `slope`: degrees; `hillshade`: 0 to 255 at azimuth 270, zenith 45. Both as `ee.Terrain` has them.
    - `aspect`: degrees clockwise from north that the slope faces, in [0, 360); `FLAT_ASPECT` on flat ground. Its sine
      and cosine are resampled: the mean of 350 and 10 degrees is 0.
    - `plan_curvature`, `profile_curvature`: 1/m, positive where the surface bulges (`gee.curvature`).
    - `relief`: metres from the lowest to the highest pixel within a circle (`gee.relief`).
    - `twi`: topographic wetness index (`gee.wetness`).

    int16, `NODATA` where the model has no value, which for what looks at neighbours includes its outermost pixels.
    """
    elevation = elevation_image(dem, geometry)
    made = [_stored(layer, _resampled(layer, elevation, dem, geometry)) for layer in layers]
    image = made[0]
    for band in made[1:]:
        image = image.addBands(band)
    return image


def check_layers(session: Session, layers: Sequence[str]) -> tuple[Layer, ...]:
    """`layers` if all of them can be computed here.

    Raises `PermanentError` for a name that is not in `LAYERS`, none or a repeated one, and for `twi` without the data
    set that it needs.
    """
    known = get_args(Layer)
    unknown = [name for name in layers if name not in known]
    if unknown or not layers or len(set(layers)) != len(layers):
        raise PermanentError(
            f"terrain layers {', '.join(layers) or '(none)'}: choose some of {', '.join(known)}, each once"
        )
    if "twi" in layers and not asset_exists(session, MERIT_HYDRO):
        raise PermanentError(f"the terrain layer twi needs {MERIT_HYDRO}, which does not exist here: leave twi out")
    return tuple(name for name in known for wanted in layers if wanted == name)


def coarse_terrain(
    session: Session, dem: DemChoice, geometry: BaseGeometry, max_px: int = 2_000_000
) -> tuple[FloatArray, FloatArray, Grid]:
    """Elevation (m) and slope (degrees) over an area in about `max_px` pixels at most: float32 (y, x), and their grid.

    For cutting an area to land and to slopes that can fail. A pixel is the model's value at its centre, slope on the
    model's own grid, never that of a smoothed model; NaN where there is none. No finer than 30 m.
    """
    grid = coarse_grid_for(geometry, 30.0, max_px)
    elevation = elevation_image(dem, geometry)
    slope = ee.Terrain.slope(elevation).reproject(dem.native.projection)
    image = _stored("elevation", elevation).addBands(_stored("slope", slope))
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


def _resampled(layer: Layer, elevation: ee.Image, dem: DemChoice, geometry: BaseGeometry) -> ee.Image:
    """A layer in its units, made on the model's grid and resampled from there."""
    if layer == "aspect":
        return _aspect(elevation, dem.native.projection)
    native: dict[Layer, Callable[[], ee.Image]] = {
        "elevation": lambda: elevation,
        "slope": lambda: ee.Terrain.slope(elevation).reproject(dem.native.projection),
        "hillshade": lambda: ee.Terrain.hillshade(elevation).reproject(dem.native.projection),
        "plan_curvature": lambda: curvatures(elevation, dem.native).select("plan_curvature"),
        "profile_curvature": lambda: curvatures(elevation, dem.native).select("profile_curvature"),
        "relief": lambda: relief(elevation, dem.native, geometry),
        "twi": lambda: wetness(elevation, dem.native),
    }
    return native[layer]().resample("bilinear")


def _aspect(elevation: ee.Image, native: ee.Projection) -> ee.Image:
    slope = ee.Terrain.slope(elevation)
    # Flat ground has no aspect: it adds nothing to the mean of its neighbours', whatever the service calls it.
    facing = ee.Terrain.aspect(elevation).unmask(0, False).multiply(math.pi / 180)
    steep = slope.gt(0)
    east, north = (
        part.multiply(steep).updateMask(slope.mask()).reproject(native).resample("bilinear")
        for part in (facing.sin(), facing.cos())
    )
    turn = north.atan2(east).multiply(180 / math.pi).add(360)  # Earth Engine's order: x, then y
    step = LAYERS["aspect"].scale
    whole = turn.divide(step).round().mod(360 / step).multiply(step)
    return whole.where(east.hypot(north).lt(1e-6), FLAT_ASPECT)


def _stored(name: Layer, image: ee.Image) -> ee.Image:
    steps = image.divide(LAYERS[name].scale).round()
    if name not in DEFAULT_LAYERS:
        steps = steps.clamp(NODATA + 1, -NODATA - 1)
    return steps.unmask(NODATA, False).toInt16().rename(name)

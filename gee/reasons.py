"""Why a pixel that no cloud hides is still not clear: snow, the shadow of the terrain, open water.

Each test is published, and is taken at its careful end: a landslide that is called water or snow is lost, snow that is
called clear is a doubt. A phase applies only the tests that the bands and properties of all its scenes allow (`told`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, get_args

import ee

from gee.masks import CloudMask, SceneClassification
from gee.types import Scene

Reason = Literal["snow", "water", "terrain_shadow"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""All of them."""

DN = 10_000
"""Digital numbers per unit of reflectance."""
SNOW_NDSI, SNOW_NIR, SNOW_RED = 0.4, 0.11, 0.2
"""Snow from this NDSI on (Dozier 1989) where it is bright in the near infrared (Hall et al. 1995, Remote Sens. Environ.
54: water has a high NDSI too) and in red (Gascoin et al. 2019, Earth Syst. Sci. Data 11: so do shadows and mud)."""
WATER_NDWI, WATER_MNDWI, WATER_NIR = 0.3, 0.0, 0.10
"""Water from this NDWI on (McFeeters 2013, Remote Sens. 5, 3544-3561; with the 0 of his paper of 1996 every second dark
slope under the blue air of the top of the atmosphere is water) and above this MNDWI (Xu 2006, Int. J. Remote Sens. 27,
3025-3033) at once, where the near infrared is dark: wet mud fails the first, roofs the second, snow and haze the third."""
WATER_SLOPE_DEG = 10.0
"""Water lies level: a steeper pixel that looks like it is a slope in shade, which the blue air above makes water-like."""
SHADOW_NIR = 0.15
"""Reflectance in B8 below which ground can be in shadow, as in the s2cloudless tutorial."""
CAST_SHADOW_BASELINE = "04.00"
"""Processing baseline from which class 2 of SCL is the cast shadow of the terrain; before, any dark ground."""

SUN = ("MEAN_SOLAR_AZIMUTH_ANGLE", "MEAN_SOLAR_ZENITH_ANGLE")
"""Properties of a scene that say where the sun stood, in degrees."""
_SNOW_BANDS, _WATER_BANDS, _NIR = ("B3", "B4", "B8", "B11"), ("B3", "B8", "B11"), "B8"


def told(
    wanted: Sequence[Reason], scenes: Sequence[Scene], mask: CloudMask | None, *, terrain: bool
) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
    """(The reasons that can be told in all of the scenes, in words why the others cannot).

    `terrain` says whether there is an elevation model.
    """
    lacking = {
        "snow": "" if isinstance(mask, SceneClassification) else _lacking(_SNOW_BANDS, scenes),
        "water": _lacking(_WATER_BANDS, scenes),
        "terrain_shadow": "" if terrain_shadow_by_class(mask, scenes) else _no_terrain_shadow(scenes, terrain),
    }
    found = tuple(reason for reason in REASONS if reason in wanted and not lacking[reason])
    words = (f"{reason.replace('_', ' ')} ({lacking[reason]})" for reason in REASONS if reason in wanted)
    return found, tuple(word for word in words if not word.endswith("()"))


def _lacking(bands: Collection[str], scenes: Sequence[Scene]) -> str:
    gone = [band for band in bands if any(band not in scene.bands for scene in scenes)]
    return f"without {', '.join(gone)}" if gone else ""


def _no_terrain_shadow(scenes: Sequence[Scene], terrain: bool) -> str:
    if not terrain:
        return "without an elevation model"
    if any(name not in dict(scene.properties) for scene in scenes for name in SUN):
        return "without the sun's place"
    return _lacking([_NIR], scenes)


def terrain_shadow_by_class(mask: CloudMask | None, scenes: Sequence[Scene]) -> bool:
    """Whether class 2 of SCL is the shadow of the terrain in all scenes."""
    baselines = (str(dict(scene.properties).get("PROCESSING_BASELINE", "")) for scene in scenes)
    return isinstance(mask, SceneClassification) and all(baseline >= CAST_SHADOW_BASELINE for baseline in baselines)


def snow(image: ee.Image) -> ee.Image:
    """1 where a scene shows snow, 0 elsewhere: by NDSI of B3 and B11, and bright in B8 and B4."""
    ndsi = image.normalizedDifference(["B3", "B11"]).gte(SNOW_NDSI)
    bright = image.select("B8").gt(SNOW_NIR * DN).And(image.select("B4").gt(SNOW_RED * DN))
    found: ee.Image = ndsi.And(bright).unmask(0, False)
    return found


def open_water(green: ee.Image, nir: ee.Image, swir1: ee.Image) -> ee.Image:
    """1 where reflectances (DN, one band each) are those of open water, 0 elsewhere."""
    ndwi = green.subtract(nir).gte(green.add(nir).multiply(WATER_NDWI))
    mndwi = green.subtract(swir1).gt(green.add(swir1).multiply(WATER_MNDWI))
    found: ee.Image = ndwi.And(mndwi).And(nir.lt(WATER_NIR * DN)).unmask(0, False)
    return found


def level_ground(normal: ee.Image) -> ee.Image:
    """1 where the ground is level enough for water to stand, or not known; 0 on slopes."""
    level: ee.Image = normal.select("up").gte(math.cos(math.radians(WATER_SLOPE_DEG))).unmask(1, False)
    return level


def surface_normal(elevation: ee.Image) -> ee.Image:
    """The unit normal of the ground: bands `up`, `north`, `east`.

    Computed on the elevation model's own grid and interpolated: so it is as smooth as the slope layer. `elevation` in
    metres, with its own grid as its projection.
    """
    native = elevation.projection()
    slope = ee.Terrain.slope(elevation).multiply(math.pi / 180)
    aspect = ee.Terrain.aspect(elevation).multiply(math.pi / 180)
    tilt = slope.sin()
    normal = slope.cos().addBands(tilt.multiply(aspect.cos())).addBands(tilt.multiply(aspect.sin()))
    smooth: ee.Image = normal.rename(["up", "north", "east"]).reproject(native).resample("bilinear")
    return smooth


def terrain_shadow(image: ee.Image, normal: ee.Image) -> ee.Image:
    """1 where the ground turns its back to the sun of a scene (cos i <= 0) and is dark in B8, 0 elsewhere.

    Of both shadows of the terrain, its own and the one it casts, this tells the first: it follows from the slope of the
    pixel alone, so that it costs little and a tile's edge does not matter. `ee.Terrain.hillShadow` would tell the second
    too, but Google documents it for Mercator projections only, and it walks hundreds of pixels for every pixel of every
    scene; cast shadows are left to the cloud mask (Cloud Score+ lowers its score in them, SCL has a class for them).
    """
    azimuth, zenith = (ee.Number(image.get(name)).multiply(math.pi / 180) for name in SUN)
    level = azimuth.cos().multiply(zenith.sin()), azimuth.sin().multiply(zenith.sin())
    facing = (
        normal.select("up").multiply(ee.Image.constant(zenith.cos()))
        .add(normal.select("north").multiply(ee.Image.constant(level[0])))
        .add(normal.select("east").multiply(ee.Image.constant(level[1])))
    )  # fmt: skip
    found: ee.Image = facing.lte(0).And(image.select(_NIR).lt(SHADOW_NIR * DN)).unmask(0, False)
    return found

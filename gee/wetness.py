"""Topographic wetness index, as an `ee` expression: where water gathers and stays.

Beven & Kirkby (1979), "A physically based, variable contributing area model of basin hydrology", Hydrological Sciences
Bulletin 24, 43-69: ln(a / tan b), with `a` the area upslope of a unit length of contour and `b` the slope.

The area upslope of a pixel depends on everything uphill, which a service that computes tile by tile cannot follow. It
is taken from MERIT Hydro (Yamazaki et al. 2019, Water Resources Research 55, 5053-5073; 3 arc seconds, between 60
degrees south and 90 north): band `upa`, the area drained through a pixel in km2, the pixel itself included, divided by
the width of that pixel. So `a` has the detail of 90 m pixels, while the slope has that of the elevation model.
"""

from __future__ import annotations

import math

import ee

from gee.curvature import EARTH_RADIUS_M
from gee.dem import DemZone

MERIT_HYDRO = "MERIT/Hydro/v1_0_1"
"""Asset of the areas upslope."""
PIXEL_DEG = 1 / 1200
"""Side of its pixels."""
LEAST_TAN_SLOPE = 0.001
"""Flatter ground counts as this steep (0.06 degrees): else the index of a lake would be infinite."""


def wetness(elevation: ee.Image, zone: DemZone) -> ee.Image:
    """The index on the elevation model's own grid; masked at sea, where nothing drains, and where no slope is known."""
    side_m = math.radians(PIXEL_DEG) * EARTH_RADIUS_M
    latitude = ee.Image.pixelLonLat().select("latitude").multiply(math.pi / 180)
    width_m = latitude.cos().sqrt().multiply(side_m)  # the side of a square of the pixel's area
    drained = ee.Image(MERIT_HYDRO).select("upa")
    # The logarithm is what varies smoothly: a river's area beside a hillside's is a jump of many powers of ten.
    gathered = drained.updateMask(drained.gt(0)).multiply(1e6).divide(width_m).log().resample("bilinear")
    steepness = ee.Terrain.slope(elevation).multiply(math.pi / 180).tan().max(LEAST_TAN_SLOPE).log()
    index: ee.Image = gathered.subtract(steepness)
    return index.rename("twi").reproject(zone.projection)

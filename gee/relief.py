"""Local relief of an elevation model, as an `ee` expression: how far up and down it goes near each pixel."""

from __future__ import annotations

import math

import ee
from shapely.geometry.base import BaseGeometry

from gee.curvature import EARTH_RADIUS_M
from gee.dem import DemZone
from gee.grid import unwrap

RADIUS_M = 250.0
"""Radius of the circle: about the length of a hillside."""


def relief(elevation: ee.Image, zone: DemZone, geometry: BaseGeometry, radius_m: float = RADIUS_M) -> ee.Image:
    """Highest minus lowest pixel in metres within a circle, on the model's own grid; unknown pixels are passed over."""
    # Earth Engine's own kernels in metres take a degree of longitude to be as long as at the equator.
    kernel = ee.Kernel.fixed(weights=circle(zone, unwrap(geometry).centroid.y, radius_m))
    found = elevation.reduceNeighborhood(ee.Reducer.minMax(), kernel)
    between: ee.Image = found.select("elevation_max").subtract(found.select("elevation_min"))
    return between.rename("relief").reproject(zone.projection)


def circle(zone: DemZone, latitude: float, radius_m: float) -> list[list[int]]:
    """Which pixels around a pixel have their centre in a circle of `radius_m`: rows of 0 and 1 about the middle one.

    On a grid in degrees it is an ellipse, the wider the farther from the equator; the latitude of the middle of an area
    serves for all of it. The four nearest neighbours are always in it.
    """
    a, e = abs(zone.transform[0]), abs(zone.transform[4])
    if zone.is_geographic:
        degree = math.radians(1.0) * EARTH_RADIUS_M
        a, e = a * degree * math.cos(math.radians(latitude)), e * degree
    reach = max(radius_m, a, e)
    across, down = math.floor(reach / a), math.floor(reach / e)
    return [
        [int(math.hypot(col * a, row * e) <= reach * (1 + 1e-9)) for col in range(-across, across + 1)]
        for row in range(-down, down + 1)
    ]

"""Plan and profile curvature of an elevation model, as `ee` expressions.

Zevenbergen & Thorne (1987), "Quantitative analysis of land surface topography", Earth Surf. Process. Landforms 12,
47-56: a surface through the 3 x 3 pixels around each pixel, with derivatives from central differences. With the slope
(p, q) = (dz/dx, dz/dy) and the second derivatives r, s, t = d2z/dx2, d2z/dxdy, d2z/dy2

    profile = -(r p^2 + 2 s p q + t q^2) / (p^2 + q^2)    second derivative along the line of steepest slope
    plan    = -(r q^2 - 2 s p q + t p^2) / (p^2 + q^2)    second derivative across it

both in 1/m and both **positive where the surface bulges**: profile where a slope steepens downhill, plan on ridges and
spurs, where water parts. (Zevenbergen & Thorne give plan the other sign; ArcGIS and RichDEM give profile the other sign
and multiply both by 100.) They are second derivatives of the height, so flat ground has both 0 and neither grows
without bound as the slope vanishes, as the curvature of a contour line would.
"""

from __future__ import annotations

import math

import ee

from gee.dem import DemZone

EARTH_RADIUS_M = 6_371_007.18
"""Radius of the sphere on which Earth Engine measures slopes."""
FLAT = 1e-12
"""Square of a slope that counts as none."""

Metres = ee.Image | float


def pixel_sides(zone: DemZone) -> tuple[Metres, float]:
    """Metres from pixel to pixel to the east, which may change with the latitude, and to the north, both positive."""
    a, e = abs(zone.transform[0]), abs(zone.transform[4])
    if not zone.is_geographic:
        return a, e
    degree = math.radians(1.0) * EARTH_RADIUS_M
    latitude = ee.Image.pixelLonLat().select("latitude").multiply(math.pi / 180)
    return latitude.cos().multiply(a * degree), e * degree


def curvatures(elevation: ee.Image, zone: DemZone) -> ee.Image:
    """`plan_curvature` and `profile_curvature` in 1/m on the model's own grid, masked where a neighbour is unknown."""
    dx, dy = (ee.Image.constant(side) if isinstance(side, float) else side for side in pixel_sides(zone))
    heights = elevation.toDouble()

    def difference(*weights: list[int]) -> ee.Image:
        # Every kernel is symmetric about its middle, up to sign, and the signs cancel below: whether the service turns
        # kernels over does not matter, nor whether rows run north or south.
        return heights.convolve(ee.Kernel.fixed(weights=list(weights)))

    p = difference([0, 0, 0], [-1, 0, 1], [0, 0, 0]).divide(dx.multiply(2))
    q = difference([0, 1, 0], [0, 0, 0], [0, -1, 0]).divide(dy.multiply(2))
    r = difference([0, 0, 0], [1, -2, 1], [0, 0, 0]).divide(dx.multiply(dx))
    t = difference([0, 1, 0], [0, -2, 0], [0, 1, 0]).divide(dy.multiply(dy))
    s = difference([-1, 0, 1], [0, 0, 0], [1, 0, -1]).divide(dx.multiply(dy).multiply(4))
    steep = p.multiply(p).add(q.multiply(q)).max(FLAT)
    mixed = s.multiply(p).multiply(q).multiply(2)
    along = r.multiply(p).multiply(p).add(t.multiply(q).multiply(q)).add(mixed).divide(steep)
    across = r.multiply(q).multiply(q).add(t.multiply(p).multiply(p)).subtract(mixed).divide(steep)
    # Said rather than left to the service: what it does with masked pixels under a kernel is not documented.
    around = elevation.reduceNeighborhood(ee.Reducer.count(), ee.Kernel.square(1))
    both: ee.Image = (
        across.multiply(-1).rename("plan_curvature")
        .addBands(along.multiply(-1).rename("profile_curvature"))
        .updateMask(around.eq(9))
        .reproject(zone.projection)
    )  # fmt: skip
    return both

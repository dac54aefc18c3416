"""Slope and hillshade as `ee.Terrain` gives them: the reference that user rasters are prepared with.

Verified against Earth Engine's own output (interior of the AW3D30 model of Iburi 2018): slope to 5e-5 degree, hillshade
exactly. Gradients are central differences over the four connected neighbours, taken on the grid that the elevations
were made on, never after resampling; Horn's 3x3 (gdaldem, QGIS) differs from this by up to 13 degrees.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from affine import Affine

FloatArray = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.float64]

EARTH_RADIUS_M = 6_371_007.18
"""Radius of the sphere on which Earth Engine measures a geographic grid, in metres."""


def spacing_m(transform: Affine, height: int, *, geographic: bool) -> tuple[_Rows, float]:
    """Distance between pixel centres: dx of each row (y,) and dy, both positive metres.

    `transform` is north-up, in degrees when `geographic`, else in metres. A degree of longitude shrinks with the
    cosine of the latitude of the pixel centre.
    """
    step_x, step_y = abs(transform.a), abs(transform.e)
    if not geographic:
        return np.full(height, step_x), step_y
    latitude = np.deg2rad(transform.f + transform.e * (np.arange(height) + 0.5))
    return EARTH_RADIUS_M * np.deg2rad(step_x) * np.cos(latitude), EARTH_RADIUS_M * float(np.deg2rad(step_y))


def slope_deg(elevation: npt.ArrayLike, dx_m: npt.ArrayLike, dy_m: float) -> FloatArray:
    """Slope (y, x) in degrees: atan(hypot(dz/dx, dz/dy)).

    `elevation` is (y, x) in metres, north up, NaN where unknown; `dx_m` is one number or one a row. The outermost
    rows and columns, and pixels that are unknown or touch an unknown one, are NaN, as Earth Engine masks them.
    """
    east, north = _gradient(elevation, dx_m, dy_m)
    return np.rad2deg(np.arctan(np.hypot(east, north))).astype(np.float32)


def hillshade(
    elevation: npt.ArrayLike, dx_m: npt.ArrayLike, dy_m: float, *, azimuth_deg: float = 270.0, zenith_deg: float = 45.0
) -> FloatArray:
    """Hillshade (y, x), whole numbers 0 to 255: round(clip(255 (cos z + sin z sin s cos(az - aspect)), 0, 255)).

    Arguments and unknown pixels as in `slope_deg`; `azimuth_deg` and `zenith_deg` are the sun's, Earth Engine's
    defaults. Unlike the textbook, Earth Engine does not multiply the first term by the cosine of the slope.
    """
    east, north = _gradient(elevation, dx_m, dy_m)
    azimuth, zenith = np.deg2rad(azimuth_deg), np.deg2rad(zenith_deg)
    # sin s * cos(az - aspect) without the angles: the aspect points downhill, against the gradient, and
    # sin s = |gradient| / sqrt(1 + |gradient|^2). This also defines it on flat ground.
    towards_sun = -(east * np.sin(azimuth) + north * np.cos(azimuth)) / np.sqrt(1.0 + east**2 + north**2)
    shade = 255.0 * (np.cos(zenith) + np.sin(zenith) * towards_sun)
    whole: FloatArray = np.rint(np.clip(shade, 0.0, 255.0)).astype(np.float32)
    return whole


def _gradient(elevation: npt.ArrayLike, dx_m: npt.ArrayLike, dy_m: float) -> tuple[_Rows, _Rows]:
    """dz/d(east) and dz/d(north), each (y, x), NaN where any of the four neighbours or the pixel itself is unknown."""
    z = np.asarray(elevation, dtype=np.float64)
    east, north = np.full_like(z, np.nan), np.full_like(z, np.nan)
    if min(z.shape) < 3:
        return east, north
    dx = np.broadcast_to(np.asarray(dx_m, dtype=np.float64), z.shape[:1])[1:-1, np.newaxis]
    inner = (slice(1, -1), slice(1, -1))
    east[inner] = (z[1:-1, 2:] - z[1:-1, :-2]) / (2.0 * dx)
    north[inner] = (z[:-2, 1:-1] - z[2:, 1:-1]) / (2.0 * dy_m)
    unknown = np.isnan(east) | np.isnan(north) | np.isnan(z)
    east[unknown] = north[unknown] = np.nan
    return east, north

"""Terrain factors of a simulated region beside slope and hillshade: what landslide studies add to optical bands.

They are defined as the pipeline's terrain layers of the same names: computed on the 30 m elevation model's own grid, then
resampled bilinearly. Two differ. The aspect is given by its two components, since a network cannot know that 359 and 1
degree are the same; and the wetness index takes the area that drains to a pixel from the region's own elevation model,
so water that comes from outside the region is missing.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.simulate.drainage import accumulate, route
from modeling.simulate.noise import FloatArray, resample
from modeling.simulate.reference import coarse_elevation
from modeling.simulate.region import Region

FACTORS = (
    "elevation", "aspect_north", "aspect_east", "plan_curvature", "profile_curvature", "relief", "twi",
)  # fmt: skip
"""Names of the layers: metres; components of the unit vector downhill; 1/m, positive where the surface bulges
(Zevenbergen and Thorne 1987); metres between the highest and lowest pixel within `RELIEF_RADIUS_M`; the topographic
wetness index ln(a / tan b) (Beven and Kirkby 1979)."""
STEP = 3
"""Pixels of the region in one of the elevation model."""
RELIEF_RADIUS_M = 250.0
LEAST_TAN_SLOPE = 0.001
"""Flatter ground counts as this steep."""
_FLAT = 1e-12

_Doubles = npt.NDArray[np.float64]


def terrain_factors(region: Region) -> dict[str, FloatArray]:
    """`FACTORS` of a region, float32 (y, x) each, on its own grid."""
    cell = region.transform[0] * STEP
    coarse = factors_of(coarse_elevation(region).astype(np.float64), cell)
    y, x = ((np.arange(n, dtype=np.float32) - np.float32((STEP - 1) / 2)) / np.float32(STEP) for n in region.shape_yx)
    return {name: resample(np.ascontiguousarray(values, np.float32), y, x) for name, values in coarse.items()}


def factors_of(elevation: _Doubles, cell_m: float) -> dict[str, _Doubles]:
    """`FACTORS` of an elevation model (y, x), metres, north up, with square pixels, on its own grid.

    Heights go on unchanged beyond the edge, and water leaves there.
    """
    z = np.pad(elevation, 1, mode="edge")
    middle, north, south = z[1:-1, 1:-1], z[:-2, 1:-1], z[2:, 1:-1]
    west, east = z[1:-1, :-2], z[1:-1, 2:]
    p, q = (east - west) / (2 * cell_m), (north - south) / (2 * cell_m)
    r, t = (east - 2 * middle + west) / cell_m**2, (north - 2 * middle + south) / cell_m**2
    s = (z[:-2, 2:] - z[:-2, :-2] - z[2:, 2:] + z[2:, :-2]) / (4 * cell_m**2)
    steep = np.maximum(p * p + q * q, _FLAT)
    length = np.sqrt(steep)
    edge = np.zeros(elevation.shape, bool)
    edge[[0, -1]], edge[:, [0, -1]] = True, True
    drained = accumulate(
        route(elevation.astype(np.float32), edge, cell_m), np.full(elevation.size, cell_m * cell_m)
    ).reshape(elevation.shape)
    disc = _disc(max(1, math.floor(RELIEF_RADIUS_M / cell_m)))
    highest = ndimage.maximum_filter(elevation, footprint=disc, mode="nearest")
    lowest = ndimage.minimum_filter(elevation, footprint=disc, mode="nearest")
    return {
        "elevation": elevation,
        "aspect_north": -q / length,
        "aspect_east": -p / length,
        "plan_curvature": -(r * q * q - 2 * s * p * q + t * p * p) / steep,
        "profile_curvature": -(r * p * p + 2 * s * p * q + t * q * q) / steep,
        "relief": highest - lowest,
        "twi": np.log(drained / cell_m) - np.log(np.maximum(np.hypot(p, q), LEAST_TAN_SLOPE)),
    }


def _disc(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(np.hypot(y, x) <= radius)

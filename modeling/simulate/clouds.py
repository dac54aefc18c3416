"""Clouds, their shadows, and the imperfect score by which a user tells them from clear ground.

Clouds are a smooth random field cut at a level, all at one height above level ground, seen from straight above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from modeling.simulate.noise import BoolArray, FloatArray, fractal, ramp
from modeling.simulate.optics import Sun


@dataclass(frozen=True)
class Clouds:
    """The clouds of one pass; arrays are (y, x)."""

    opacity: FloatArray
    """0 clear, 1 nothing of the ground is seen."""
    shade: FloatArray
    """0 in full sun, 1 in full cloud shadow."""
    score: FloatArray
    """Like Cloud Score+ `cs`: 1 clear, 0 not usable; soft edged, blind to some thin cloud."""

    @property
    def cloud(self) -> BoolArray:
        """Truth: where cloud hides a third of the ground or more."""
        return np.asarray(self.opacity > 0.33)

    @property
    def shadow(self) -> BoolArray:
        """Truth: where cloud takes a third of the direct light or more, outside cloud."""
        return np.asarray((self.shade > 0.33) & ~self.cloud)


def make_clouds(rng: np.random.Generator, shape_yx: tuple[int, int], cover: float, sun: Sun, pixel_m: float) -> Clouds:
    """Cumulus over about `cover` (0 to 1) of the region, and their shadows; in half the passes a veil of thin cloud.

    The clouds of one pass hang 600 to 2500 m above ground: shadows fall away from the sun by height times tan(zenith),
    6 km at most. The veil throws no shadow.
    """
    if cover < 0.005:
        clear = np.zeros(shape_yx, np.float32)
        return Clouds(clear, clear, np.clip(1 - 0.03 * np.abs(fractal(rng, shape_yx, 20, 3)), 0, 1))
    height_m = rng.uniform(600, 2500)
    reach = min(height_m * math.tan(math.radians(sun.zenith_deg)), 6000.0) / pixel_m
    azimuth = math.radians(sun.azimuth_deg)
    move = round(reach * math.cos(azimuth)), round(-reach * math.sin(azimuth))  # shadows fall away from the sun
    pad_y, pad_x = abs(move[0]), abs(move[1])
    wide = (shape_yx[0] + pad_y, shape_yx[1] + pad_x)
    field = fractal(rng, wide, rng.uniform(100, 400), 7, beta=3.6)
    limit = float(np.quantile(field[::4, ::4], 1 - min(cover, 0.95)))
    thick = ramp(field, limit - 0.05, limit + 0.35)
    veil = 0.35 * ramp(fractal(rng, wide, 300, 20), 0.8, 2.2) * np.float32(rng.random() < 0.5)
    opacity_wide = np.clip(np.maximum(thick, veil), 0, 1)
    # The pass sees one window of the wide field, and the shadows are those of the window moved against the sun.
    top, left = (pad_y if move[0] > 0 else 0), (pad_x if move[1] > 0 else 0)
    here = opacity_wide[top : top + shape_yx[0], left : left + shape_yx[1]]
    from_top, from_left = top - move[0], left - move[1]
    above = thick[from_top : from_top + shape_yx[0], from_left : from_left + shape_yx[1]]
    shade = ndimage.uniform_filter(above, 3)
    seen = np.maximum(ndimage.gaussian_filter(here, 1.5) * 1.15, 0.85 * ndimage.gaussian_filter(shade, 2.0))
    score = np.clip(1 - 1.3 * seen + 0.05 * fractal(rng, shape_yx, 8, 2), 0, 1)
    return Clouds(np.ascontiguousarray(here), shade, score.astype(np.float32))


def seen_through(clouds: Clouds, clear: FloatArray, white: FloatArray) -> FloatArray:
    """Reflectance (band, y, x) with clouds of reflectance `white` (band,) over `clear`, whose light knows their shade."""
    return clear + clouds.opacity * (white[:, None, None] - clear)

"""Maps to write and to vectorise: a probability as a network gives it, and the bodies in it; made, not stored."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from affine import Affine
from scipy import ndimage

CRS = "EPSG:32654"
GRID = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)

_COARSE_PX = 8
_FEATURE = 1.1
"""Size of bodies, in steps of `_COARSE_PX`."""
_LEVEL = 1.75
"""How many standard deviations make a landslide."""


@lru_cache(maxsize=1)
def probability(side_px: int) -> npt.NDArray[np.float32]:
    """Probability (y, x): smooth, with noise in the last bits, above 0.5 in some 9,000 bodies on 8192 x 8192 pixels."""
    rng = np.random.default_rng(7)
    coarse = ndimage.gaussian_filter(rng.normal(size=(side_px // _COARSE_PX,) * 2), _FEATURE).astype(np.float32)
    margin = ndimage.zoom(coarse / coarse.std(), _COARSE_PX, order=1, grid_mode=True, mode="nearest") - _LEVEL
    margin += rng.normal(scale=0.02, size=margin.shape).astype(np.float32)
    return np.asarray(1 / (1 + np.exp(-4 * margin)), np.float32)


@lru_cache(maxsize=1)
def bodies(side_px: int) -> npt.NDArray[np.bool_]:
    """Where the probability is at least a half, without specks."""
    return ndimage.binary_opening(probability(side_px) >= 0.5)


@lru_cache(maxsize=1)
def heights(side_px: int) -> npt.NDArray[np.float32]:
    """Something to measure over the bodies, (y, x)."""
    rng = np.random.default_rng(8)
    return rng.normal(800, 200, (side_px, side_px)).astype(np.float32)

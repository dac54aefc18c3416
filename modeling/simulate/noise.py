"""Seeded random streams, random fields and resampling: what every other part of the simulator draws from."""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]
CodeArray = npt.NDArray[np.uint8]


def stream(seed: int, *names: object) -> np.random.Generator:
    """An independent generator for one purpose: adding a purpose never changes what another one draws."""
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, names)).encode())])


def fractal(
    rng: np.random.Generator, shape_yx: tuple[int, int], longest_px: float, shortest_px: float = 2.0, beta: float = 2.4
) -> FloatArray:
    """A Gaussian random field (y, x), zero mean and unit variance, with power spectrum f**-beta.

    Power is flat for wavelengths above `longest_px` and fades below `shortest_px`. Fields without short waves are made
    on a coarser grid and interpolated. Made by Fourier transform, so opposite edges nearly fit together. Mean and
    variance hold for the grid it is made on: cutting it to size changes both a little, interpolation takes up to a
    sixth off the deviation.
    """
    step = max(1, int(shortest_px / 3))
    rows, cols = (fft.next_fast_len(math.ceil(n / step) + 4, real=True) for n in shape_yx)
    white = rng.standard_normal((rows, cols), dtype=np.float32)
    fy = fft.fftfreq(rows)[:, None].astype(np.float32)
    fx = fft.rfftfreq(cols)[None, :].astype(np.float32)
    frequency = np.hypot(fy, fx)
    low = step / longest_px
    gain = (frequency**2 + low**2) ** np.float32(-beta / 4) * np.exp(-((frequency * shortest_px / step / 1.2) ** 2))
    gain[0, 0] = 0.0
    field = fft.irfft2(fft.rfft2(white) * gain, s=(rows, cols)).astype(np.float32)
    field -= field.mean()
    field /= field.std() + np.float32(1e-12)
    if step == 1:
        return np.ascontiguousarray(field[: shape_yx[0], : shape_yx[1]])
    y, x = (np.arange(n, dtype=np.float32) / np.float32(step) for n in shape_yx)
    return resample(field, y, x)


def resample(field: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Bilinear interpolation of `field` at the outer product of fractional indices `y` and `x`, clamped to the edge."""
    return _along(_along(field, y, 0), x, 1)


def _along(field: FloatArray, at: FloatArray, axis: int) -> FloatArray:
    """`field` (y, x) interpolated at the fractional indices `at` along one axis."""
    at = np.clip(at, 0, field.shape[axis] - 1)
    low = np.minimum(at.astype(np.int64), max(field.shape[axis] - 2, 0))
    weight = (at - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    first: FloatArray = np.take(field, low, axis=axis)
    second: FloatArray = np.take(field, np.minimum(low + 1, field.shape[axis] - 1), axis=axis)
    second -= first
    second *= weight
    second += first
    return second


def ramp(value: FloatArray, low: float, high: float) -> FloatArray:
    """0 at `low` and below, 1 at `high` and above, smooth between (Hermite)."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def patches(field: FloatArray, share: float) -> BoolArray:
    """The `share` of the pixels with the highest value of a field (y, x), to the precision of every fourth row and column."""
    if share <= 0:
        return np.zeros(field.shape, dtype=bool)
    return np.asarray(field > np.quantile(field[::4, ::4], 1 - min(share, 1.0)))

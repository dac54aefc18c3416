"""How far the image before lies from the one after, to a few hundredths of a pixel, from ground that did not change.

Sign: `pre(y + dy, x + dx) == post(y, x)`, that is the image before lies `dy` pixels south and `dx` east of the one after.

Each window is matched by phase correlation (Kuglin and Hines 1975) of gradient orientations (Fitch et al. 2002,
"Orientation correlation", BMVC): the complex gradient of a band, divided by its own length, does not care how bright the
season, the sun or the haze make a slope. The peak is refined by a DFT that is evaluated on a fine grid around it only
(Guizar-Sicairos, Thurman and Fienup 2008, Opt. Lett. 33, 156-158), after which the image is shifted and matched once
more, because the peak of aliased images leans towards whole pixels (Foroosh, Zerubia and Berthod 2002, IEEE Trans. Image
Process. 11, 188-200). Only the image after is masked and tapered: masking both would draw the peak to zero, where the
masks themselves match. scikit-image's `phase_cross_correlation` can do none of the three.

On the real pair of Iburi 2018 34 windows pass that differ by 0.18 px, where whitened reflectances (plain phase correlation)
give 20 that differ by 0.29 px; on simulated regions all ways are right to a few hundredths of a pixel, see
`modeling/reports/alignment.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_Complex = npt.NDArray[np.complex128]
_Doubles = npt.NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

LEAST_GROUND_PX = 1_200
"""Stable pixels that a window needs."""
LEAST_WINDOWS = 4
"""Windows that a scene needs: with fewer there is no telling whether they agree."""
LARGEST_ERROR_PX = 0.2
"""Standard error of the median beyond which the windows count as disagreeing."""
LEAST_PEAK = 6.0
"""How far a window's peak must stand out, in standard deviations of the rest of its correlation: noise alone gives 4."""

_BRIGHT = 0.25
"""Green reflectance above which a pixel is snow, cloud or glint, whatever the masks say."""
_BRIGHT_REACH_PX = 3
_CHANGE_PX = 7
_CHANGE_SIGMAS = 3.0
_SMALLEST_CHANGE = 0.002
_FINE = ((10, 1.0), (100, 0.1))
"""Steps a pixel and reach in pixels of the two refinements of a peak."""
_PASSES = 2


@dataclass(frozen=True)
class WindowShift:
    """The shift of one window."""

    y_px: float
    """Row of its centre in the scene."""
    x_px: float
    """Column of its centre in the scene."""
    dy_px: float
    """How far south the image before lies."""
    dx_px: float
    """How far east the image before lies."""
    ground_px: int
    """Stable pixels that it was measured on."""
    peak: float
    """How far the peak stands out, in standard deviations of the rest of the correlation."""


@dataclass(frozen=True)
class Shift:
    """The shift of a scene: the weighted median of its windows, and how far they agree."""

    measured: bool
    """Whether the windows sufficed and agreed."""
    why: str
    """Why it was not measured; empty when it was."""
    dy_px: float = 0.0
    """How far south the image before lies of the one after."""
    dx_px: float = 0.0
    """How far east the image before lies of the one after."""
    dy_error_px: float | None = None
    """Standard error of `dy_px`: 1.25 sigma / sqrt(n) of a median, sigma robust, n the effective number of windows."""
    dx_error_px: float | None = None
    """Standard error of `dx_px`."""
    windows: int = 0
    """Windows that were used."""
    looked_at: int = 0
    """Windows that were looked at."""
    spread_px: float | None = None
    """Robust standard deviation of the windows about the median, the larger of both axes."""
    ramp_px: float | None = None
    """How much a plane through the windows changes from one corner of them to another: 0 for one shift all over."""
    spread_about_ramp_px: float | None = None
    """Robust standard deviation of the windows about that plane, the larger of both axes."""

    @property
    def length_px(self) -> float:
        """Length of the shift."""
        return math.hypot(self.dy_px, self.dx_px)


def stable_ground(pre: Mapping[str, FloatArray], post: Mapping[str, FloatArray], clear: BoolArray) -> BoolArray:
    """Where (y, x) the ground is fit for matching: `clear` in both images, neither snow nor water, not strongly changed.

    `pre` and `post` hold reflectance (y, x) by colour, NaN where unknown. Change is the difference of 7-pixel means, three
    robust standard deviations away from its median: a mean does not see a sub-pixel shift, but sees a landslide.
    """
    stable = clear.copy()
    for colour in pre:
        stable &= np.isfinite(pre[colour]) & np.isfinite(post[colour])
    bright = np.zeros_like(stable)
    for image in (pre, post):
        if "green" in image:
            bright |= image["green"] > _BRIGHT
        if "green" in image and "nir" in image:
            stable &= ~(image["nir"] < image["green"])  # water: NDWI above zero (McFeeters 1996)
    stable &= ~ndimage.binary_dilation(bright, iterations=_BRIGHT_REACH_PX)
    share = ndimage.uniform_filter(stable.astype(np.float32), _CHANGE_PX, mode="constant")
    known = stable.copy()
    for colour in pre:
        difference = np.where(known, post[colour] - pre[colour], np.float32(0))
        mean = ndimage.uniform_filter(difference, _CHANGE_PX, mode="constant") / np.maximum(share, np.float32(1e-3))
        if known.any():
            middle, sigma = _robust(mean[known])
            stable &= np.abs(mean - middle) <= _CHANGE_SIGMAS * max(sigma, _SMALLEST_CHANGE)
    return stable


def margin_px(reach_px: float) -> int:
    """Pixels that a window needs around it to find a shift of up to `reach_px`."""
    return math.ceil(reach_px) + 3


def window_shift(
    pre: FloatArray,
    post: FloatArray,
    ground: BoolArray,
    *,
    reach_px: float,
    centre_yx: tuple[float, float] = (0.0, 0.0),
) -> WindowShift | None:
    """The shift of one window, None when its ground or its texture does not suffice or the peak is at the reach.

    `pre` and `post` are reflectance (band, y, x), NaN where unknown, `ground` (y, x) is stable; all with `margin_px` around
    the window, which lends its pixels to the image before only. `centre_yx` is passed on.
    """
    margin, reach = margin_px(reach_px), math.ceil(reach_px)
    inside = np.zeros(ground.shape, bool)
    inside[margin:-margin, margin:-margin] = True
    # A pixel of the image after that meets an unknown one before within reach would pull the peak about.
    near_unknown = ndimage.binary_dilation(np.isnan(pre).any(axis=0), iterations=reach + 2)
    ground = ground & inside & ~near_unknown
    if (count := int(ground.sum())) < LEAST_GROUND_PX:
        return None
    shape = (fft.next_fast_len(ground.shape[0]), fft.next_fast_len(ground.shape[1]))
    taper = np.zeros(ground.shape)
    taper[margin:-margin, margin:-margin] = np.outer(
        *(np.hanning(size - 2 * margin + 2)[1:-1] for size in ground.shape)
    )
    templates = [fft.fft2(np.where(ground, _orientation(band) * taper, 0), shape) for band in post]
    total = np.zeros(2)
    for _ in range(_PASSES):
        image = np.stack([_spline_shifted(band, total) for band in pre]) if total.any() else pre
        cross = _cross_power([fft.fft2(_orientation(band), shape) for band in image], templates)
        correlation = fft.ifft2(cross).real
        found = _peak(cross, correlation, reach)
        if found is None:
            return None
        total += found
        if np.abs(total).max() > reach:
            return None
    peak = _prominence(correlation, reach)
    if peak < LEAST_PEAK:
        return None
    return WindowShift(*centre_yx, float(total[0]), float(total[1]), count, peak)


def combine(found: Sequence[WindowShift], looked_at: int, *, maximum_px: float) -> Shift:
    """One shift from the windows of a scene; not measured when they are few, disagree, or lie too far apart.

    The median of each axis is weighted by the squared peaks: a window's variance falls as its peak stands out.
    """
    if len(found) < LEAST_WINDOWS:
        why = f"only {len(found)} of {looked_at} windows have enough stable ground with texture; {LEAST_WINDOWS} are needed"
        return Shift(False, why, windows=len(found), looked_at=looked_at)
    moves = np.array([(one.dy_px, one.dx_px) for one in found])
    weights = np.array([one.peak**2 for one in found])
    middle, sigma = (np.array(both) for both in zip(*(_robust(axis, weights) for axis in moves.T), strict=True))
    sigma = np.maximum(sigma, 1 / _FINE[-1][0])
    error = 1.2533 * sigma * math.sqrt((weights**2).sum()) / weights.sum()
    length = float(np.hypot(*middle))
    why = ""
    if error.max() > LARGEST_ERROR_PX:
        why = f"the {len(found)} windows disagree: the standard error is {error.max():.2f} px"
    elif length > maximum_px:
        why = f"a shift of {length:.1f} px is more than the {maximum_px:g} px that are believed"
    ramp, about_ramp = _ramp(np.array([(one.y_px, one.x_px) for one in found]), moves, weights, middle, sigma)
    return Shift(
        not why, why, float(middle[0]), float(middle[1]), float(error[0]), float(error[1]), len(found), looked_at,
        float(sigma.max()), ramp, about_ramp,
    )  # fmt: skip


def shifted(values: FloatArray, dy_px: float, dx_px: float) -> FloatArray:
    """`values` (..., y, x) sampled at (y + dy, x + dx) by cubic convolution (Keys 1981, a = -1/2), of the same shape.

    A pixel is NaN where any that it needs is NaN or beyond the array: nothing is made up at the edge of a mask. What a
    pixel becomes does not depend on the window that it is read with.
    """
    for axis, move in ((-2, dy_px), (-1, dx_px)):
        values = _along(values, move, axis)
    return values


def taps(move_px: float) -> list[tuple[int, float]]:
    """Offsets (pixels) and weights of the samples that a pixel moved by `move_px` needs along one axis."""
    whole = math.floor(move_px)
    t = move_px - whole
    weights = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    return [(whole + offset, weight) for offset, weight in zip((-1, 0, 1, 2), weights, strict=True) if weight != 0]


def moved(values: npt.NDArray[_Scalar], offset: int, axis: int, fill: float) -> npt.NDArray[_Scalar]:
    """`values` sampled `offset` whole pixels further along `axis` (-2 or -1), `fill` where there is nothing."""
    out = np.full_like(values, fill)
    size = values.shape[axis]
    target = slice(max(0, -offset), max(0, min(size, size - offset)))
    source = slice(target.start + offset, target.stop + offset)
    if target.stop > target.start:
        rest = (slice(None),) if axis == -2 else ()
        out[..., target, *rest] = values[..., source, *rest]
    return out


def _along(values: FloatArray, move_px: float, axis: int) -> FloatArray:
    total = np.zeros_like(values)
    for offset, weight in taps(move_px):
        total += np.float32(weight) * moved(values, offset, axis, np.nan)
    return total


def _spline_shifted(band: FloatArray, move: _Doubles) -> FloatArray:
    """Like `shifted`, but by splines of fifth order, and true only ten pixels away from what is unknown.

    Cubic convolution delays the finest detail, and with it the peak, by up to 0.05 pixel.
    """
    known = np.isfinite(band)
    filled = np.where(known, band, band[known].mean() if known.any() else 0)
    out = ndimage.shift(filled, -move, order=5, mode="nearest")
    return np.where(known, out, np.nan).astype(np.float32)


def _orientation(band: FloatArray) -> _Complex:
    """Gradient (y, x) as x + iy, divided by its length and the median length: 0 where unknown, below 1 elsewhere."""
    gradient = np.zeros(band.shape, np.complex128)
    gradient[1:-1, 1:-1] = (band[1:-1, 2:] - band[1:-1, :-2]) + 1j * (band[2:, 1:-1] - band[:-2, 1:-1])
    gradient[np.isnan(gradient)] = 0
    length = np.abs(gradient)
    known = length[length > 0]
    if known.size == 0:
        return gradient
    return np.asarray(gradient / (length + np.median(known)))


def _cross_power(images: Sequence[_Complex], templates: Sequence[_Complex]) -> _Complex:
    """Sum over the bands of cross-power spectra, each whitened down to its mean power: noise is not blown up."""
    total = np.zeros_like(images[0])
    for image, template in zip(images, templates, strict=True):
        cross = image * np.conj(template)
        power = np.abs(cross)
        total += cross / (power + power.mean() + 1e-30)
    return total


def _peak(cross: _Complex, correlation: _Doubles, reach: int) -> _Doubles | None:
    """The lag (y, x) of the highest correlation within `reach`, to a hundredth of a pixel; None when it is at the reach."""
    lags = np.arange(-reach, reach + 1)
    near = correlation[np.ix_(lags, lags)]
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    at = np.array([lags[row], lags[column]], float)
    if reach in (abs(lags[row]), abs(lags[column])):
        return None
    for steps, around in _FINE:
        at = _refined(cross, at, steps, around)
    return at


def _refined(cross: _Complex, at: _Doubles, steps: int, around: float) -> _Doubles:
    """The highest value of the inverse DFT of `cross` on a grid of `steps` a pixel, up to `around` pixels from `at`."""
    offsets = np.arange(-round(around * steps), round(around * steps) + 1) / steps
    rows, columns = (at[axis] + offsets for axis in (0, 1))
    from_y = np.exp(2j * np.pi * np.outer(rows, fft.fftfreq(cross.shape[0])))
    from_x = np.exp(2j * np.pi * np.outer(fft.fftfreq(cross.shape[1]), columns))
    fine = (from_y @ cross @ from_x).real
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    return np.array([rows[row], columns[column]])


def _prominence(correlation: _Doubles, reach: int) -> float:
    """The peak within `reach` in standard deviations of the correlation beyond it."""
    lags = np.arange(-reach, reach + 1)
    beyond = np.ones(correlation.shape, bool)
    beyond[np.ix_(lags, lags)] = False
    noise = float(correlation[beyond].std())
    return float(correlation[np.ix_(lags, lags)].max() / noise) if noise > 0 else 0.0


def _ramp(
    places: _Doubles, moves: _Doubles, weights: _Doubles, middle: _Doubles, sigma: _Doubles
) -> tuple[float | None, float | None]:
    """(change of the fitted plane across the windows, spread about it), pixels, from the windows that are no outliers."""
    usual = (np.abs(moves - middle) <= 3 * np.maximum(sigma, 0.05)).all(axis=1)
    centred = places - places.mean(axis=0)
    design = np.column_stack([np.ones(len(places)), centred])
    if usual.sum() < 2 * LEAST_WINDOWS or np.linalg.matrix_rank(design[usual]) < design.shape[1]:
        return None, None
    root = np.sqrt(weights[usual])[:, np.newaxis]
    plane, *_ = np.linalg.lstsq(root * design[usual], root * moves[usual], rcond=None)
    low, high = centred.min(axis=0), centred.max(axis=0)
    corners = np.array([(1.0, y, x) for y in (low[0], high[0]) for x in (low[1], high[1])]) @ plane
    span = max(float(np.hypot(*(one - other))) for one in corners for other in corners)
    rest = moves - design @ plane
    return span, max(_robust(axis, weights)[1] for axis in rest.T)


def _robust(values: npt.NDArray[np.floating], weights: _Doubles | None = None) -> tuple[float, float]:
    """Median and robust standard deviation (1.4826 times the median absolute deviation), weighted."""
    middle = _median(values, weights)
    return middle, 1.4826 * _median(np.abs(values - middle), weights)


def _median(values: npt.NDArray[np.floating], weights: _Doubles | None) -> float:
    """The (weighted) median: half of the weight lies on either side, linear between the values."""
    if weights is None:
        return float(np.median(values))
    order = np.argsort(values)
    share = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return float(np.interp(0.5, share, values[order]))

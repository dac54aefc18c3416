"""Matching the radiometry of the image before to that of the image after, colour by colour.

Two ways, from pixels that are streamed in blocks and kept in bounded memory:

- `Histograms`: the quantiles of the image before become those of the image after, as the geology scheme of DFPENet does
  before it subtracts the two maps (Xu et al., "histogram matching when histograms differ"). It follows any monotonic
  change, and also hides a real one that is wide enough to move the quantiles: give it stable ground only.
- `Invariants`: a straight line per colour through pseudo-invariant pixels. These are found by iteratively reweighted
  multivariate alteration detection (Nielsen 2007, IEEE Trans. Image Process. 16, 463-478), which does not care about
  gains and offsets; the line is the orthogonal regression over them (Canty and Nielsen 2008, Remote Sens. Environ. 112,
  1025-1036).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_Doubles = npt.NDArray[np.float64]

LEAST_PIXELS = 2_000
"""Pixels without which nothing is matched."""
KNOTS = 129
"""Quantiles of a table."""

_LOW, _HIGH, _STEP = -0.2, 2.0, 2e-4
_BINS = round((_HIGH - _LOW) / _STEP)
_MOST_SAMPLES = 200_000
_NO_CHANGE = 0.95
_LEAST_CHANGED = 0.02
_MOST_ITERATIONS = 50
_SETTLED = 1e-3
_INDEPENDENT = 1e-9
_LEAST_CORRELATION = 0.5


@dataclass(frozen=True)
class BandMatch:
    """How one colour of the image before is changed."""

    colour: str
    """Such as `red`."""
    before: tuple[float, ...]
    """Reflectance before, ascending: the knots of a table, or two points of a line."""
    after: tuple[float, ...]
    """What it becomes at each of them."""
    pixels: int
    """Pixels that the match rests on."""
    difference_before: float
    """Fit quality: mean distance of the quantiles (table), or root mean square difference of the pixels (line)."""
    difference_after: float
    """The same once matched."""

    @property
    def gain(self) -> float:
        """Slope from the first to the last knot: of a line, its gain."""
        return (self.after[-1] - self.after[0]) / (self.before[-1] - self.before[0])

    @property
    def offset(self) -> float:
        """What a reflectance of zero would become by that slope: of a line, its offset."""
        return self.after[0] - self.gain * self.before[0]

    def apply(self, values: FloatArray) -> FloatArray:
        """Matched reflectance of the same shape; NaN stays. Beyond a table's ends its last correction goes on."""
        if len(self.before) == 2:
            return np.asarray(np.float32(self.gain) * values + np.float32(self.offset), np.float32)
        inside = np.clip(values, self.before[0], self.before[-1])
        return np.asarray(np.interp(inside, self.before, self.after) + (values - inside), np.float32)


@dataclass(frozen=True)
class RadiometricMatch:
    """How the image before is changed to look like the image after."""

    method: str
    """`histogram` or `invariant`."""
    bands: tuple[BandMatch, ...]
    """One for each colour; empty when nothing was matched."""
    why: str = ""
    """Why nothing was matched; empty when something was."""

    def apply(self, colour: str, values: FloatArray) -> FloatArray:
        """The matched values of a colour; a colour without a match stays as it is."""
        return next((band.apply(values) for band in self.bands if band.colour == colour), values)


class Histograms:
    """Collects histograms of both images, colour by colour, in steps of 2e-4 reflectance."""

    def __init__(self, colours: Sequence[str]) -> None:
        """Of these colours."""
        self.colours = tuple(colours)
        self._counts = np.zeros((2, len(self.colours), _BINS), np.int64)

    def add(self, pre: Mapping[str, FloatArray], post: Mapping[str, FloatArray], stable: BoolArray) -> None:
        """Count the pixels of a block, (y, x) by colour, where `stable` (y, x)."""
        for phase, image in enumerate((pre, post)):
            for number, colour in enumerate(self.colours):
                bins = ((image[colour][stable] - _LOW) / _STEP).astype(np.int64)
                self._counts[phase, number] += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)

    def match(self) -> RadiometricMatch:
        """The table of every colour."""
        pixels = int(self._counts[0, 0].sum()) if self.colours else 0
        if pixels < LEAST_PIXELS:
            return RadiometricMatch("histogram", (), _too_few(pixels))
        shares = np.linspace(0, 1, KNOTS)
        # The last thousandths are glints and missed clouds.
        shares[[0, -1]] = 0.001, 0.999
        bands = []
        for number, colour in enumerate(self.colours):
            before, after = (_quantiles(self._counts[phase, number], shares) for phase in (0, 1))
            ascending = np.concatenate([[True], np.diff(before) > 0])
            left = before[ascending], after[ascending]
            if len(left[0]) < 2:
                return RadiometricMatch("histogram", (), f"{colour} is the same all over the image before")
            matched = np.interp(before, *left)
            bands.append(
                BandMatch(
                    colour, tuple(left[0].tolist()), tuple(left[1].tolist()), pixels,
                    float(np.abs(after - before).mean()), float(np.abs(after - matched).mean()),
                )
            )  # fmt: skip
        return RadiometricMatch("histogram", tuple(bands))


class Invariants:
    """Collects a sample of pixels of both images in which to look for those that did not change."""

    def __init__(self, colours: Sequence[str], blocks: int) -> None:
        """Of these colours, from so many blocks, which share the memory of 200,000 pixels."""
        self.colours = tuple(colours)
        self._share = max(1, _MOST_SAMPLES // max(1, blocks))
        self._samples: list[_Doubles] = []

    def add(self, pre: Mapping[str, FloatArray], post: Mapping[str, FloatArray], stable: BoolArray) -> None:
        """Take pixels of a block, (y, x) by colour, where `stable` (y, x): evenly spread, at most the block's share."""
        places = np.flatnonzero(stable)
        places = places[:: max(1, -(-len(places) // self._share))]
        columns = [image[colour].ravel()[places] for image in (pre, post) for colour in self.colours]
        self._samples.append(np.column_stack(columns).astype(np.float64))

    def match(self) -> RadiometricMatch:
        """The line of every colour through the pixels that are invariant with a probability of 0.95, or the likeliest 2 %."""
        pixels = np.concatenate(self._samples) if self._samples else np.empty((0, 2 * len(self.colours)))
        if len(pixels) < LEAST_PIXELS:
            return RadiometricMatch("invariant", (), _too_few(len(pixels)))
        count = len(self.colours)
        pre, post = pixels[:, :count], pixels[:, count:]
        try:
            unchanged = no_change_probability(pre, post)
        except DataError as error:
            return RadiometricMatch("invariant", (), str(error))
        # Where hardly a pixel passes, those of least change must do; the correlation below says whether they do.
        invariant = unchanged >= min(_NO_CHANGE, float(np.quantile(unchanged, 1 - _LEAST_CHANGED)))
        kept = int(invariant.sum())
        bands = []
        for number, colour in enumerate(self.colours):
            before, after = pre[invariant, number], post[invariant, number]
            gain, offset, correlation = orthogonal_line(before, after)
            if not (correlation >= _LEAST_CORRELATION and 0.2 < gain < 5):
                why = f"{colour} does not follow a line: correlation {correlation:.2f}, gain {gain:.2f}"
                return RadiometricMatch("invariant", (), why)
            ends = np.quantile(before, (0.01, 0.99))
            bands.append(
                BandMatch(
                    colour, tuple(ends.tolist()), tuple((gain * ends + offset).tolist()), kept,
                    _rms(after - before), _rms(after - gain * before - offset),
                )
            )  # fmt: skip
        return RadiometricMatch("invariant", tuple(bands))


def no_change_probability(pre: _Doubles, post: _Doubles) -> _Doubles:
    """Probability (n,) that a pixel did not change, by IR-MAD of (n, band) arrays; raises `DataError` for bands
    that are constant or depend on each other.

    Canonical variates U, V of both images under weights w give MAD variates U - V of variance 2(1 - rho). The sum of their
    squares over that is chi-squared with as many degrees of freedom as bands where nothing changed; its survival
    probability is the next w, until the canonical correlations rho settle.
    """
    bands = pre.shape[1]
    weights = np.ones(len(pre))
    correlations = np.zeros(bands)
    for _ in range(_MOST_ITERATIONS):
        mads, found = _alteration(pre, post, weights)
        weights = special.gammaincc(bands / 2, mads / 2)
        if np.abs(found - correlations).max() < _SETTLED:
            break
        correlations = found
    return np.asarray(weights)


def _alteration(pre: _Doubles, post: _Doubles, weights: _Doubles) -> tuple[_Doubles, _Doubles]:
    """Standardised squared MAD variates (n,) and canonical correlations (band,) under `weights` (n,)."""
    total = weights.sum()
    x, y = (image - (weights @ image) / total for image in (pre, post))
    sxx, syy, sxy = ((one * weights[:, None]).T @ other / total for one, other in ((x, x), (y, y), (x, y)))
    for one in (sxx, syy):
        scale = np.sqrt(np.diag(one))
        if not (scale > 0).all() or np.linalg.eigvalsh(one / np.outer(scale, scale))[0] < _INDEPENDENT:
            raise DataError("the colours of an image depend on each other, so that no invariant pixels are found")
    # Whitening by the Cholesky factors turns the canonical correlations into singular values.
    lx, ly = np.linalg.cholesky(sxx), np.linalg.cholesky(syy)
    left, rho, right = np.linalg.svd(np.linalg.solve(lx, np.linalg.solve(ly, sxy.T).T))
    rho = np.clip(rho, 0, 1 - 1e-9)
    u = x @ np.linalg.solve(lx.T, left)
    v = y @ np.linalg.solve(ly.T, right.T)
    return np.asarray(((u - v) ** 2 / (2 * (1 - rho))).sum(axis=1)), np.asarray(rho)


def orthogonal_line(before: _Doubles, after: _Doubles) -> tuple[float, float, float]:
    """(gain, offset, correlation) of the line of least orthogonal distances from (before, after), each (n,)."""
    (sxx, sxy), (_, syy) = np.cov(before, after)
    if sxx <= 0 or syy <= 0 or sxy == 0:
        return math.nan, math.nan, 0.0
    gain = (syy - sxx + math.sqrt((syy - sxx) ** 2 + 4 * sxy**2)) / (2 * sxy)
    return float(gain), float(after.mean() - gain * before.mean()), float(sxy / math.sqrt(sxx * syy))


def _quantiles(counts: npt.NDArray[np.int64], shares: _Doubles) -> _Doubles:
    """Reflectance below which each of `shares` of the pixels lie, linear within a bin."""
    cumulated = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return np.asarray(np.interp(shares, cumulated, _LOW + _STEP * np.arange(_BINS + 1)))


def _rms(values: _Doubles) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _too_few(pixels: int) -> str:
    return f"only {pixels} stable pixels were seen in both images; {LEAST_PIXELS} are needed"

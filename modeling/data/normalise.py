"""Channel normalisation: fitted on training data only, stored in the weights' file, applied inside the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modeling.errors import DataError, WeightsError

METHODS = ("min-max", "percentile", "standardise")
_SMALLEST_SCALE = 1e-6
_DROPPED_BITS = 14

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """y = clip((x - offset) / scale) for each channel; unknown values become the training mean."""

    method: str
    """One of `METHODS`."""
    offset: tuple[float, ...]
    """Subtracted, in the channel's physical unit."""
    scale: tuple[float, ...]
    """Divided by, in the channel's physical unit, positive."""
    fill: tuple[float, ...]
    """The normalised value that stands for NaN: the channel's mean over the training data (0 for `standardise`)."""
    clip: tuple[float, float]
    """Normalised values beyond these are cut, so that snow or a sensor glitch cannot drown everything else."""

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channel, y, x) physical values; the result is finite."""
        if x.ndim != 4 or x.shape[1] != len(self.offset):
            raise DataError(f"expected (batch, {len(self.offset)}, y, x) channel values, got {tuple(x.shape)}")
        offset, scale, fill = (
            torch.tensor(values, dtype=torch.float32, device=x.device).view(1, -1, 1, 1)
            for values in (self.offset, self.scale, self.fill)
        )
        y = (x.float() - offset).div_(scale).clamp_(*self.clip)  # in place: new memory takes as long as the arithmetic
        return torch.where(torch.isnan(y), fill, y)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the header of the weights; of equal normalisations the same."""
        numbers = {"offset": self.offset, "scale": self.scale, "fill": self.fill, "clip": self.clip}
        return {"method": self.method, **{name: [float(each) for each in values] for name, values in numbers.items()}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Normalisation:
        """The inverse of `to_json`; raises `WeightsError` when a field is missing or of another kind, or they do not fit."""
        try:
            low, high = _stored_numbers(stored["clip"])
            offset, scale, fill = (_stored_numbers(stored[name]) for name in ("offset", "scale", "fill"))
            if stored["method"] not in METHODS:
                raise ValueError(f"its method is not one of {', '.join(METHODS)}")
            made = cls(str(stored["method"]), offset, scale, fill, (low, high))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WeightsError(f"the stored normalisation cannot be read: {error!r}") from error
        if not low < high:
            raise WeightsError(f"the stored normalisation cuts values to between {low} and {high}")
        if not len(made.offset) == len(made.scale) == len(made.fill) or not all(scale > 0 for scale in made.scale):
            raise WeightsError("the stored normalisation has uneven lengths or a scale that is not positive")
        return made


def fit(method: str, values: FloatArray) -> Normalisation:
    """Fit to training `values`, (channel, n) in physical units, at once; as `fit_stream`."""
    return fit_stream(method, [values])


def fit_stream(method: str, parts: Iterable[FloatArray]) -> Normalisation:
    """Fit to training values that come in `parts`, (channel, n) each in physical units, values that are not finite ignored.

    `min-max` maps the extremes to 0 and 1 (Yang et al. 2024), `percentile` the 2nd and 98th percentile,
    `standardise` to mean 0 and standard deviation 1. One pass; what is kept does not grow with the values (2 MB a channel
    for `percentile`, whose tails are right to 0.2 % of their value). Raises `DataError` for an unknown method, no
    part, an empty channel or parts of different channels.
    """
    if method not in METHODS:
        raise DataError(f"unknown normalisation {method!r}: choose one of {', '.join(METHODS)}")
    channels: list[_Channel] = []
    for part in parts:
        channels = channels or [_Channel.empty(counted=method == "percentile") for _ in part]
        if len(part) != len(channels):
            raise DataError(f"normalisation: a part has {len(part)} channels, the ones before it {len(channels)}")
        channels = [channel.with_values(values) for channel, values in zip(channels, part, strict=True)]
    if empty := [index for index, channel in enumerate(channels) if channel.count == 0]:
        raise DataError(f"normalisation cannot be fitted: channels {empty} have no finite training value")
    if not channels:
        raise DataError("normalisation cannot be fitted: there is no training data")
    mean = np.array([channel.mean for channel in channels])
    if method == "standardise":
        deviation = np.sqrt([channel.squares / channel.count for channel in channels])
        offset, scale, clip = mean, deviation, (-6.0, 6.0)
    else:
        shares = (0.02, 0.98) if method == "percentile" else (0.0, 1.0)
        low, high = (np.array([channel.quantile(share) for channel in channels]) for share in shares)
        offset, scale, clip = low, high - low, (-0.5, 1.5)
    scale = np.maximum(scale, _SMALLEST_SCALE)
    return Normalisation(
        method=method, offset=_floats(offset), scale=_floats(scale), fill=_floats((mean - offset) / scale), clip=clip
    )


@dataclass(frozen=True)
class _Channel:
    """What is known of one channel's values so far."""

    count: int
    mean: float
    squares: float
    """Sum of the squared distances from the mean."""
    low: float
    high: float
    bins: npt.NDArray[np.int64] | None
    """How many values lie in each of 2^18 intervals, which are finer where float32 is."""

    @classmethod
    def empty(cls, *, counted: bool) -> _Channel:
        bins = np.zeros(1 << (32 - _DROPPED_BITS), np.int64) if counted else None
        return cls(0, 0.0, 0.0, math.inf, -math.inf, bins)

    def with_values(self, values: FloatArray) -> _Channel:
        """With `values` taken in (Chan, Golub and LeVeque 1983 for the mean and the squares)."""
        known = values[np.isfinite(values)]
        if known.size == 0:
            return self
        exact = known.astype(np.float64)
        mean, both = float(exact.mean()), self.count + known.size
        apart = mean - self.mean
        squares = self.squares + float(((exact - mean) ** 2).sum()) + apart**2 * self.count * known.size / both
        bins = self.bins
        if bins is not None:
            bins = bins + np.bincount(_in_order(known) >> _DROPPED_BITS, minlength=len(bins))
        return _Channel(
            both, self.mean + apart * known.size / both, squares, min(self.low, float(exact.min())),
            max(self.high, float(exact.max())), bins,
        )  # fmt: skip

    def quantile(self, share: float) -> float:
        """The value that `share` of the values lie below, interpolated within an interval."""
        if self.bins is None or share in (0.0, 1.0):
            return self.high if share else self.low
        rank, reached = share * (self.count - 1), np.cumsum(self.bins)
        found = int(np.searchsorted(reached, rank, side="right"))
        inside = float((rank - (reached[found] - self.bins[found]) + 0.5) / self.bins[found])
        edges = _out_of_order(np.array([found << _DROPPED_BITS, ((found + 1) << _DROPPED_BITS) - 1], np.uint64))
        value = float(edges[0]) + min(inside, 1.0) * (float(edges[1]) - float(edges[0]))
        return min(max(value, self.low), self.high)


def _in_order(values: FloatArray) -> npt.NDArray[np.uint32]:
    """Whole numbers in the order of the values: the bits of a float32 are, but for its sign."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x8000_0000))


def _out_of_order(numbers: npt.NDArray[np.uint64]) -> FloatArray:
    """The inverse of `_in_order`."""
    bits = numbers.astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32(0x7FFF_FFFF), ~bits).astype(np.uint32).view(np.float32)


def _stored_numbers(stored: object) -> tuple[float, ...]:
    """Numbers that JSON held; raises what `from_json` catches where it held anything else."""
    if not isinstance(stored, list) or not all(type(each) in {int, float} for each in stored):
        raise TypeError("a list of numbers is expected")
    numbers = tuple(float(each) for each in stored)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def _floats(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

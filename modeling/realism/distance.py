"""How far two samples lie apart, in their own unit, with intervals by the bootstrap over blocks of ground."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from modeling.errors import DataError
from modeling.scoring.bootstrap import Interval

DoubleArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

RESAMPLES = 100
LEVEL = 0.95
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_A_BLOCK = 300
_MOST = 2000


@dataclass(frozen=True)
class Sample:
    """Values of one quantity, and the block of ground that each is from."""

    values: DoubleArray
    """(n,), finite."""
    block: IndexArray
    """(n,): a number for the block of ground; neighbours share one, since they are not independent."""

    @classmethod
    def of(cls, values: npt.ArrayLike, block: npt.ArrayLike, seed: int = 0) -> Sample:
        """The finite values, at most 300 of each block, drawn by `seed`; raises `DataError` when none are finite."""
        value, owner = np.ravel(np.asarray(values, np.float64)), np.ravel(np.asarray(block, np.int64))
        finite = np.flatnonzero(np.isfinite(value))
        if not finite.size:
            raise DataError("there is no finite value to compare: the two sides share no observed ground")
        mixed = np.random.default_rng(seed).permutation(finite)
        order = mixed[np.argsort(owner[mixed], kind="stable")]
        first = np.flatnonzero(np.concatenate([[True], np.diff(owner[order]) != 0]))
        rank = np.arange(order.size) - np.repeat(first, np.diff(np.append(first, order.size)))
        kept = order[rank < _MOST_A_BLOCK]
        return cls(value[kept], owner[kept])

    @property
    def blocks(self) -> int:
        """How many blocks of ground."""
        return int(np.unique(self.block).size)


@dataclass(frozen=True)
class Distance:
    """How far the simulated values of one quantity lie from the real ones."""

    name: str
    """Which quantity, of what."""
    unit: str
    """Its unit, that of `wasserstein` too."""
    wasserstein: Interval
    """Mean distance by which values must be moved to turn one distribution into the other, in `unit`."""
    ks: Interval
    """Largest difference between the cumulative distributions (Kolmogorov-Smirnov), 0 to 1."""
    energy: Interval
    """Energy distance (Székely and Rizzo 2013), square root of `unit`."""
    real: tuple[float, ...]
    """Quantiles `QUANTILES` of the real values."""
    simulated: tuple[float, ...]
    """Those of the simulated values."""

    @property
    def in_spreads(self) -> float:
        """`wasserstein` over the real interquartile range: how far, in the reader's own sense of much."""
        return self.wasserstein.value / max(self.real[3] - self.real[1], 1e-12)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"quantiles": list(QUANTILES), "in_spreads": self.in_spreads}


def measure(
    name: str, unit: str, real: Sample, simulated: Sample, *, seed: int = 0, resamples: int = RESAMPLES
) -> Distance:
    """The three distances between two samples, with intervals from drawing the blocks of both again.

    A distance cannot be negative, so those of draws lie above that of the data: an interval's lower end may too.
    """
    rng = np.random.default_rng(seed)
    whole = _distances(_thinned(real.values, rng), _thinned(simulated.values, rng))
    drawn = np.array(
        [_distances(_again(real, rng), _again(simulated, rng)) for _ in range(resamples)]
    )  # fmt: skip
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    blocks = min(real.blocks, simulated.blocks)
    wasserstein, ks, energy = (
        Interval(float(v), float(a), float(b), LEVEL, resamples, blocks)
        for v, a, b in zip(whole, low, high, strict=True)
    )
    quantiles = (tuple(float(q) for q in np.quantile(one.values, QUANTILES)) for one in (real, simulated))
    return Distance(name, unit, wasserstein, ks, energy, *quantiles)


def blocks_of(shape_yx: tuple[int, int], side_px: int, first: int = 0) -> IndexArray:
    """The number of the square block of `side_px` that each pixel (y, x) lies in, counted from `first`."""
    rows, columns = (np.arange(size) // side_px for size in shape_yx)
    return np.asarray(first + rows[:, None] * (int(columns[-1]) + 1) + columns[None, :], dtype=np.int64)


def _distances(real: DoubleArray, simulated: DoubleArray) -> tuple[float, float, float]:
    return (
        float(stats.wasserstein_distance(real, simulated)),
        _ks(real, simulated),
        float(stats.energy_distance(real, simulated)),
    )


def _ks(one: DoubleArray, other: DoubleArray) -> float:
    """The statistic alone: scipy also computes a p-value, which means nothing for values that are not independent."""
    one, other = np.sort(one), np.sort(other)
    at = np.concatenate([one, other])
    apart = np.searchsorted(one, at, "right") / one.size - np.searchsorted(other, at, "right") / other.size
    return float(np.abs(apart).max())


def _again(sample: Sample, rng: np.random.Generator) -> DoubleArray:
    """Values of blocks drawn with replacement."""
    _, number = np.unique(sample.block, return_inverse=True)
    times = rng.multinomial(number.max() + 1, np.full(number.max() + 1, 1 / (number.max() + 1)))
    return _thinned(np.repeat(sample.values, times[number]), rng)


def _thinned(values: DoubleArray, rng: np.random.Generator) -> DoubleArray:
    return values if values.size <= _MOST else rng.choice(values, _MOST, replace=False)

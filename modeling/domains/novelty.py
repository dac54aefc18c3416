"""Whether a region is farther from a model's domains than the ground on which that model was validated.

A distance alone says nothing: two valleys of one region differ as well. So a model's fingerprint is held to pieces of its
own domains that it was not trained on, those on which it was validated. A region that lies beyond 99 % of their distances
is novel: a conformal test (Vovk et al. 2005). Pieces are at most `PIECE_PX` pixels wide, smaller than most events and so
more unlike the whole: the test errs towards silence. Pieces of one region are alike, so the 99 % is as sure as the number
of validated regions allows, and p-values are of pieces. No label is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modeling.data.batches import Blocks
from modeling.domains.fingerprint import Fingerprint, Reference, known_pixels
from modeling.domains.mmd import Distances, distances_between
from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]

LEVEL = 0.99
"""Share of a model's own pieces that lie nearer than what is called novel."""
PIECE_PX = 256
"""Side of a piece of ground, at most."""
PIECE_ROWS = 256
"""Pixels that stand for a piece."""
MOST_PIECES = 300
"""Pieces of validation ground, about."""
_FEWEST_ROWS = 32
_OWN_ROWS = 1000


@dataclass(frozen=True)
class Novelty:
    """How a region's distance to a model compares with that of the model's own ground."""

    distance: float
    """Mean squared MMD over the channels, region to model."""
    threshold: float
    """The distance below which `level` of the model's own pieces lie; the largest one where there are too few of them."""
    level: float
    """That share."""
    p_value: float
    """Share of pieces as far as the region, counting the region itself: never 0."""
    pieces: int
    """How many pieces that is known from."""
    far_bands: tuple[str, ...]
    """Channels that on their own lie beyond `level` of the pieces, the farthest in proportion first."""

    @property
    def novel(self) -> bool:
        """Whether the region is farther than `level` of what the model was validated on."""
        return self.distance > self.threshold


def novelty(found: Distances, reference: Reference, level: float = LEVEL) -> Novelty:
    """Hold the distances between a region and a model to the model's reference; channels in the fingerprint's order.

    Raises `DataError` when they are not of the same channels.
    """
    names = tuple(found.bands)
    if reference.bands.ndim != 2 or reference.bands.shape[1] != len(names) or not len(reference.bands):
        raise DataError(f"distances of {len(names)} channels, a reference of shape {reference.bands.shape}")
    limits = np.quantile(reference.bands, level, axis=0, method="higher")
    values = np.array([band.squared for band in found.bands.values()])
    beyond = sorted(
        ((values[i] / max(limits[i], 1e-9), name) for i, name in enumerate(names) if values[i] > limits[i]),
        reverse=True,
    )
    as_far = int((reference.mean >= found.mean).sum())
    return Novelty(
        distance=found.mean,
        threshold=float(np.quantile(reference.mean, level, method="higher")),
        level=level,
        p_value=(as_far + 1) / (len(reference.bands) + 1),
        pieces=len(reference.bands),
        far_bands=tuple(name for _, name in beyond),
    )


def calibrated(fingerprint: Fingerprint, validation: Blocks) -> Fingerprint:
    """The fingerprint with its reference: how far each piece of the ground on which the model was validated lies from it.

    `validation` has the fingerprint's channels, in their order. Blocks of one group count as one piece. Raises
    `DataError` when no piece has enough known pixels.
    """
    rows = []
    own = _some(fingerprint.values, np.random.default_rng(fingerprint.seed), _OWN_ROWS)
    for pixels in _pieces(validation, fingerprint.seed):
        found = distances_between(own, pixels, fingerprint.channels, joint=False)
        rows.append([band.squared for band in found.bands.values()])
    if not rows:
        raise DataError("no piece of the validation ground has enough pixels of which all channels are known")
    return replace(fingerprint, reference=Reference(np.array(rows, np.float32)))


def _pieces(blocks: Blocks, seed: int) -> Iterator[FloatArray]:
    """Known pixels (row, channel) of each piece of ground, about `MOST_PIECES` of them, of blocks drawn by `seed`."""
    count = len(blocks)
    kept = set(np.random.default_rng(seed).permutation(count)[:MOST_PIECES].tolist())
    each = max(MOST_PIECES // max(count, 1), 1)
    pooled: dict[str, list[FloatArray]] = {}
    for index, block in enumerate(blocks):
        if index not in kept:
            continue
        rng = np.random.default_rng((seed, index))
        tiles = list(_tiles(block.truth.shape))
        for number in sorted(rng.permutation(len(tiles))[:each].tolist()):
            # A block that is cut makes several pieces; small blocks of one group make one.
            name = (block.group or block.name) if len(tiles) == 1 else f"{block.name} {number}"
            pooled.setdefault(name, []).append(_some(known_pixels(block.channels[:, *tiles[number]]), rng))
    for number, parts in enumerate(pooled.values()):
        pixels = _some(np.concatenate(parts), np.random.default_rng((seed, count + number)))
        if len(pixels) >= _FEWEST_ROWS:
            yield pixels


def _some(pixels: FloatArray, rng: np.random.Generator, most: int = PIECE_ROWS) -> FloatArray:
    return pixels[rng.choice(len(pixels), min(most, len(pixels)), replace=False)]


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    rows, columns = (np.linspace(0, size, max(math.ceil(size / PIECE_PX), 1) + 1, dtype=int).tolist() for size in shape)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield slice(top, bottom), slice(left, right)

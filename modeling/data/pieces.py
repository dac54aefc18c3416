"""A fixed, ordered set of patches: the first 200 of a domain are part of its first 500, whoever asks and whenever.

Studies that count training patches need this: two mixes of domains, or two sizes of a training set, differ in what was
added and in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Protocol

import numpy as np

from modeling import bands
from modeling.bands import BandSet
from modeling.data.augment import Augmentation, augment
from modeling.data.batches import IGNORE, Batch, Block, ByteArray, FloatArray
from modeling.data.dataset import StoredRegion
from modeling.data.patch_set import IntArray, PatchSet
from modeling.errors import DataError

MINIMUM_KNOWN = 0.5
"""Share of a patch that must have a truth."""


class Pieces(Protocol):
    """Patches in a fixed order, with and without landslides in turn as long as there are both."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """One patch: layers by name, float32 (y, x) in physical units each, and truth (y, x) of 0, 1, 255."""
        ...

    def block(self, index: int, band_set: BandSet) -> Block:
        """One patch as it is."""
        ...


@dataclass(frozen=True)
class RegionPieces:
    """Patches that tile stored regions; none overlaps another."""

    regions: tuple[StoredRegion, ...]
    """Where they lie."""
    corners: tuple[tuple[int, int, int], ...]
    """Of each patch: number of its region, top, left."""
    patch_px: int
    """Side of a patch."""

    @classmethod
    def of(cls, regions: Sequence[StoredRegion], patch_px: int) -> RegionPieces:
        """All tiles of which half is known, region by region in turn; raises `DataError` when there are none."""
        tiles = [_tiles(region, number, patch_px) for number, region in enumerate(regions)]
        corners = tuple(each for turn in zip_longest(*tiles) for each in turn if each is not None)
        if not corners:
            raise DataError(f"{len(regions)} regions hold no patch of {patch_px} pixels: make them larger")
        return cls(tuple(regions), corners, patch_px)

    def __len__(self) -> int:
        return len(self.corners)

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """As `Pieces.read`."""
        number, top, left = self.corners[index]
        window = slice(top, top + self.patch_px), slice(left, left + self.patch_px)
        region = self.regions[number]
        return region.layers(window), np.asarray(region.truth[window])

    def block(self, index: int, band_set: BandSet) -> Block:
        """As `Pieces.block`; patches of one region are one group."""
        layers, truth = self.read(index)
        number, top, left = self.corners[index]
        region = self.regions[number]
        area = math.nan if region.georeference is None else region.georeference.pixel_m2
        name = f"{region.name}/y{top}x{left}"
        return Block(bands.assemble(band_set, layers), truth, name, region.domain, area, region.name)


@dataclass(frozen=True)
class StoredPieces:
    """Patches of a data set."""

    patches: PatchSet
    """Where they are."""
    chosen: tuple[int, ...]
    """Their numbers in it."""

    @classmethod
    def of(cls, patches: PatchSet, part: str, domain: str) -> StoredPieces:
        """All of one domain in a part, in an order drawn once; raises `DataError` when there are none."""
        every = patches.select(part, [domain])
        order = np.random.default_rng(len(every)).permutation(every)
        return cls(patches, tuple(int(index) for index in _in_turn(order, patches.positive[order])))

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """As `Pieces.read`."""
        return self.patches.read(self.chosen[index])

    def block(self, index: int, band_set: BandSet) -> Block:
        """As `Pieces.block`."""
        return self.patches.block(self.chosen[index], band_set)


@dataclass(frozen=True)
class FirstOf:
    """The first patches of each of several sets, as one."""

    sets: tuple[Pieces, ...]
    """Usually one a domain."""
    counts: tuple[int, ...]
    """How many of each."""

    def __post_init__(self) -> None:
        """Raise `DataError` when a set has fewer."""
        for each, count in zip(self.sets, self.counts, strict=True):
            if not 0 <= count <= len(each):
                raise DataError(f"{count} patches are asked of a set that has {len(each)}")

    def __len__(self) -> int:
        return sum(self.counts)

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """As `Pieces.read`."""
        which, place = self._place(index)
        return self.sets[which].read(place)

    def block(self, index: int, band_set: BandSet) -> Block:
        """As `Pieces.block`."""
        which, place = self._place(index)
        return self.sets[which].block(place, band_set)

    def _place(self, index: int) -> tuple[int, int]:
        for which, count in enumerate(self.counts):
            if index < count:
                return which, index
            index -= count
        raise IndexError(index)


@dataclass(frozen=True)
class PieceBlocks:
    """Patches as `Blocks`."""

    pieces: Pieces
    """Which ones."""
    band_set: BandSet
    """The channels of a block."""

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Block]:
        return (self.pieces.block(index, self.band_set) for index in range(len(self.pieces)))


@dataclass(frozen=True)
class PieceSampler:
    """Augmented batches that go over all patches, in an order drawn anew for each pass; a `Sampler`."""

    pieces: Pieces
    """What is drawn from."""
    band_set: BandSet
    """The channels of a batch."""
    batch: int
    """Patches a batch."""
    seed: int
    """Of order, cuts and augmentation."""
    augmentation: Augmentation
    """What is changed in each patch."""
    patch_px: int
    """Side of the patches that are drawn; smaller than the stored ones: cut at a random place."""

    def draw(self, number: int) -> Batch:
        """Batch `number`: channels (batch, channel, y, x) in physical units, truth (batch, y, x) of 0, 1, 255."""
        drawn = [self._patch(number * self.batch + index) for index in range(self.batch)]
        return np.stack([channels for channels, _ in drawn]), np.stack([truth for _, truth in drawn])

    def _patch(self, position: int) -> tuple[FloatArray, ByteArray]:
        turn, place = divmod(position, len(self.pieces))
        index = int(np.random.default_rng((self.seed, turn)).permutation(len(self.pieces))[place])
        everything, truth = self.pieces.read(index)
        rng = np.random.default_rng((self.seed, position, 1))
        layers = {name: everything[name] for name in self.band_set.requires}
        if min(truth.shape) < self.patch_px:
            raise DataError(f"patches of {self.patch_px} pixels cannot be cut from stored ones of {truth.shape}")
        if truth.shape != (self.patch_px, self.patch_px):
            top, left = rng.integers(0, np.array(truth.shape) - self.patch_px + 1)
            window = slice(top, top + self.patch_px), slice(left, left + self.patch_px)
            layers, truth = {name: layer[window] for name, layer in layers.items()}, truth[window]
        layers, truth = augment(layers, truth, rng, self.augmentation)
        return bands.assemble(self.band_set, layers), truth


def _tiles(region: StoredRegion, number: int, side: int) -> list[tuple[int, int, int]]:
    """(region, top, left) of the known tiles of a region, in an order that its seed decides."""
    rows, columns = (size // side for size in region.shape_yx)
    tiles = np.asarray(region.truth)[: rows * side, : columns * side].reshape(rows, side, columns, side)
    known = (tiles != IGNORE).mean(axis=(1, 3)) >= MINIMUM_KNOWN
    positive = (tiles == 1).any(axis=(1, 3))
    order = np.random.default_rng((region.seed, 2)).permutation(np.argwhere(known))
    turns = _in_turn(np.arange(len(order)), positive[order[:, 0], order[:, 1]])
    return [(number, int(order[index, 0]) * side, int(order[index, 1]) * side) for index in turns]


def _in_turn(members: IntArray, positive: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    """`members` with those that are positive and those that are not in turn; what is left over comes last."""
    pairs = zip_longest(members[positive].tolist(), members[~positive].tolist())
    return [int(one) for one in chain.from_iterable(pairs) if one is not None]

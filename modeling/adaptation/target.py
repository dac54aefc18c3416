"""Unlabelled target ground in memory: patches cut from blocks, whose truth is never read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modeling.bands import BandSet, assemble
from modeling.data.augment import Augmentation, augment
from modeling.data.batches import IGNORE, Batch, Blocks, ByteArray, FloatArray
from modeling.errors import DataError

PATCH_PX = 128
"""Side of a patch where nobody has asked for another and the blocks are as large."""
MOST_PATCHES = 256
"""Patches that are kept: 168 MB of ten channels."""
KNOWN = 0.5
"""Least share of a patch's values that is known."""

_NDVI_CAP = 0.99  # nearer to one the infrared that an NDVI stands for has no bound


@dataclass(frozen=True, eq=False)
class TargetPool:
    """Patches of the target's ground, drawn evenly from all of it."""

    patches: FloatArray = field(repr=False)
    """(patch, channel, y, x), physical units, NaN where unknown."""
    bands: BandSet
    """Its channels."""
    blocks: int
    """How many blocks they were cut from."""
    seen: int
    """How many patches there were to choose from."""

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def patch_px(self) -> int:
        """Side of a patch."""
        return int(self.patches.shape[-1])

    def about(self) -> dict[str, int]:
        """For a model card."""
        return {"patches": len(self), "patch_px": self.patch_px, "of_patches": self.seen, "blocks": self.blocks}

    def passes(self, batch: int) -> Iterator[FloatArray]:
        """All patches once, at most `batch` together."""
        for first in range(0, len(self), batch):
            yield self.patches[first : first + batch]

    def chosen(self, number: int, batch: int, seed: int) -> npt.NDArray[np.int64]:
        """Which patches batch `number` takes: each of them once before any comes again."""
        start = number * batch
        places = np.arange(start, start + batch)
        rounds = {int(r): np.random.default_rng((seed, 17, int(r))).permutation(len(self)) for r in places // len(self)}
        return np.array([rounds[int(p // len(self))][p % len(self)] for p in places], np.int64)


def pool_of(
    target: Blocks,
    bands: BandSet,
    *,
    patch_px: int | None = None,
    most_patches: int = MOST_PATCHES,
    known: float = KNOWN,
    seed: int = 0,
) -> TargetPool:
    """Cut `target` into squares of `patch_px` and keep at most `most_patches` of them, each with the same chance.

    One pass over the blocks, one of them in memory at a time (Vitter 1985, algorithm R). Patches of which less than
    `known` is known are left out, and so are blocks that are smaller: the rest at the edge of a scene. Without `patch_px`
    it is `PATCH_PX`, or less where the first block is smaller. The truth of a block is not read. Raises `DataError` for
    other channels, where all blocks are too small, and when nothing is left.
    """
    if most_patches < 1:
        raise DataError(f"{most_patches} patches of the target cannot be kept: at least 1")
    rng = np.random.default_rng((seed, 11))
    kept: list[tuple[int, FloatArray]] = []
    seen = blocks = small = 0
    for block in target:
        blocks += 1
        if len(block.channels) != len(bands.channels):
            raise DataError(
                f"target block {block.name} has {len(block.channels)} channels, the model takes {len(bands.channels)}: "
                f"{', '.join(bands.channels)}"
            )
        smallest = min(block.channels.shape[1:])
        side = patch_px = patch_px or min(PATCH_PX, smallest)
        if smallest < side:
            small += 1
            continue
        for patch in _squares(block.channels, side):
            if float(np.isfinite(patch).mean()) < known:
                continue
            # Of the i-th patch every one so far, this included, has the chance most_patches / i of being kept.
            place = len(kept) if len(kept) < most_patches else int(rng.integers(seen + 1))
            if place < most_patches:
                taken = seen, np.array(patch, np.float32)
                kept[place : place + 1] = [taken]
            seen += 1
    if blocks and small == blocks:
        raise DataError(f"none of the target's {blocks} blocks is {patch_px} pixels wide: ask for smaller patches")
    if not kept:
        raise DataError(
            f"none of the target's {blocks} blocks has a patch of {patch_px} pixels of which {100 * known:.0f} % is known"
        )
    patches = np.stack([patch for _, patch in sorted(kept, key=lambda each: each[0])])
    return TargetPool(patches, bands, blocks, seen)


def _squares(channels: FloatArray, side: int) -> Iterator[FloatArray]:
    """Squares that cover the block from its first pixel to its last; the last ones overlap those before them."""
    rows, columns = (_starts(length, side) for length in channels.shape[1:])
    for top in rows:
        for left in columns:
            yield channels[:, top : top + side, left : left + side]


def _starts(length: int, side: int) -> list[int]:
    number = math.ceil(length / side)
    return [round(index * (length - side) / max(number - 1, 1)) for index in range(number)]


def layers_of(bands: BandSet, channels: FloatArray) -> dict[str, FloatArray]:
    """The layers that `modeling.bands.assemble` would make `channels` (channel, y, x) of.

    Near infrared follows from red and NDVI; where both bands are dark it is lost, and an NDVI above 0.99 is taken for
    0.99.
    """
    named = dict(zip(bands.channels, channels, strict=True))
    made: dict[str, FloatArray] = {}
    for name in bands.requires:
        if name in named:
            made[name] = named[name]
            continue
        phase = name.rpartition("_")[2]
        ndvi = np.clip(named[f"ndvi_{phase}"], -_NDVI_CAP, _NDVI_CAP)
        made[name] = (named[f"red_{phase}"] * (1 + ndvi) / (1 - ndvi)).astype(np.float32)
    return made


def augmented(
    pool: TargetPool, labels: ByteArray, which: npt.NDArray[np.int64], sizes: Augmentation, rng: np.random.Generator
) -> Batch:
    """A batch of the patches `which` with their pseudo-`labels` (patch, y, x), changed at random as training patches are.

    What was unknown before has no label after.
    """
    channels, truth = [], []
    for index in which:
        patch = pool.patches[index]
        hidden = ~np.isfinite(patch).all(axis=0)
        label = np.where(hidden, IGNORE, labels[index]).astype(np.uint8)
        layers, moved = augment(layers_of(pool.bands, patch), label, rng, sizes)
        channels.append(assemble(pool.bands, layers))
        truth.append(moved)
    return np.stack(channels), np.stack(truth)

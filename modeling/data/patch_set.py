"""A patch data set in use: drawn from for training, gone through for validation and test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modeling import bands
from modeling.bands import BandSet
from modeling.data.augment import Augmentation, augment_batch
from modeling.data.batches import IGNORE, Batch, Block, Blocks, ByteArray, FloatArray
from modeling.data.patch_store import PARTS, About, content_hash
from modeling.data.zarr_plain import PlainArray
from modeling.errors import BandSetError, DataError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_GROUP_PATCHES = 4


@dataclass(frozen=True)
class PatchSet:
    """A data set of patches; made by `modeling.data.patches.open_patches`. Arrays have its order of patches."""

    path: Path
    """Its folder."""
    layers: tuple[str, ...]
    """Names along the second axis of the stored layers; empty in a data set of truth only."""
    patch_px: int
    """Side of a patch."""
    domains: tuple[str, ...]
    """The domains there are."""
    about: About
    """What it says of itself."""
    sha256: str
    """Of its content, as it was when it was written; `verify` holds the files to it."""
    systems: tuple[str, ...]
    """The coordinate systems there are."""
    names: tuple[str, ...] = field(repr=False)
    """A name for each patch."""
    numbers: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    """The arrays of `patch_store.ARRAYS`, in memory."""
    landslide_px: IntArray = field(repr=False)
    """Landslide pixels in each patch."""
    stored_layers: PlainArray | None = field(repr=False)
    """(patch, layer, y, x) on disk; None in a data set of truth only."""
    stored_truth: PlainArray = field(repr=False)
    """(patch, y, x) on disk."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def name(self) -> str:
        """The folder's name without its ending."""
        return self.path.name.removesuffix(".zarr")

    @property
    def part_of(self) -> npt.NDArray[np.uint8]:
        """The number of each patch's part in `PARTS`."""
        return np.asarray(self.numbers["part"], np.uint8)

    @property
    def domain_of(self) -> npt.NDArray[np.int16]:
        """The number of each patch's domain in `domains`."""
        return np.asarray(self.numbers["domain"], np.int16)

    @property
    def positive(self) -> BoolArray:
        """Whether each patch has a landslide."""
        return self.landslide_px > 0

    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(domain, part) to the number of patches with and without landslides, of those that have any."""
        found = Counter(zip(self.domain_of.tolist(), self.part_of.tolist(), self.positive.tolist(), strict=True))
        keys = sorted({(domain, part) for domain, part, _ in found})
        return {
            (self.domains[domain], PARTS[part]): (found[domain, part, True], found[domain, part, False])
            for domain, part in keys
        }

    def pixel_m2(self, index: int) -> float:
        """Ground area of a pixel of a patch; NaN where it is not known in metres."""
        system = int(self.numbers["crs"][index])
        geographic = system >= 0 and _is_geographic(self.systems[system])
        return math.nan if geographic else float(self.numbers["pixel"][index]) ** 2

    def band_set(self, name: str | Sequence[str] | None = None) -> BandSet:
        """The channels of a network that is trained on this data set.

        A name of `modeling.bands.BAND_SETS`, a list of layers, or None for all layers in their order. Raises
        `BandSetError` when the data set lacks a layer.
        """
        if not self.layers:
            raise BandSetError(f"{self.path} holds truth only, no layers: build it with imagery to train on it")
        if name is None:
            same = [known for known in bands.BAND_SETS.values() if known.channels == self.layers]
            return same[0] if same else BandSet(self.name, self.layers, f"all layers of the data set {self.name}")
        if isinstance(name, str):
            wanted = bands.band_set(name)
        else:
            wanted = BandSet("+".join(name), tuple(name), f"layers of the data set {self.name}")
        if missing := wanted.missing_from(self.layers):
            raise BandSetError(
                f"{self.path} has no {', '.join(missing)}, which the channels {wanted.name!r} need; it has "
                f"{', '.join(self.layers)}"
            )
        return wanted

    def select(self, part: str, domains: Sequence[str] | None = None) -> IntArray:
        """The patches of a part, of all domains or of those named. Raises `DataError` when there are none."""
        if part not in PARTS:
            raise DataError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")
        chosen = self.part_of == PARTS.index(part)
        if domains is not None:
            if unknown := [domain for domain in domains if domain not in self.domains]:
                raise DataError(
                    f"{self.path} has no domain {', '.join(unknown)}: it has {', '.join(self.domains) or 'none'}"
                )
            chosen &= np.isin(self.domain_of, [self.domains.index(domain) for domain in domains])
        if not chosen.any():
            where = f" of {', '.join(domains)}" if domains is not None else ""
            has = "; ".join(f"{domain} {of}: {sum(n)}" for (domain, of), n in self.counts().items())
            raise DataError(
                f"{self.path}: its {part} part{where} is empty (it has {has}): make it again with a share for that part"
            )
        return np.flatnonzero(chosen)

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """One patch: layers by name, float32 (y, x) each, and truth (y, x)."""
        layers = self._layers(index)
        return dict(zip(self.layers, layers, strict=True)), self.truth(index)

    def stack(self, index: int, names: Sequence[str]) -> FloatArray:
        """The layers `names` of one patch, float32 (layer, y, x)."""
        layers, which = self._layers(index), [self.layers.index(name) for name in names]
        return layers if which == [*range(len(self.layers))] else layers[which]

    def _layers(self, index: int) -> FloatArray:
        if self.stored_layers is None:
            raise DataError(f"{self.path} holds truth only, no layers")
        # Torch's cast is five times as fast as NumPy's.
        layers: FloatArray = torch.from_numpy(self.stored_layers.row(index)).float().numpy()
        return layers

    def truth(self, index: int) -> ByteArray:
        """The truth (y, x) of one patch."""
        return np.asarray(self.stored_truth.row(index))

    def block(self, index: int, band_set: BandSet) -> Block:
        """One patch as it is."""
        layers, truth = self.read(index)
        domain = self.domains[int(self.domain_of[index])]
        channels = bands.assemble(band_set, layers)
        return Block(channels, truth, self.names[index], domain, self.pixel_m2(index), self.group(index))

    def group(self, index: int) -> str:
        """The square of ground, four patches a side, that a patch lies in; its own name where nobody knows where."""
        x, y, pixel = (float(self.numbers[name][index]) for name in ("x", "y", "pixel"))
        side = _GROUP_PATCHES * self.patch_px * pixel
        if not (math.isfinite(x + y) and math.isfinite(side) and side > 0):
            return self.names[index]
        place, domain = int(self.numbers["place"][index]), self.domains[int(self.domain_of[index])]
        return f"{domain} {place} {math.floor(y / side)} {math.floor(x / side)}"

    def blocks(self, part: str, band_set: BandSet | None = None, *, domains: Sequence[str] | None = None) -> Blocks:
        """The patches of a part as validation or test set. Raises `DataError` when it is empty."""
        wanted = self._checked(band_set)
        return PatchBlocks(self, wanted, tuple(int(index) for index in self.select(part, domains)))

    def sampler(
        self,
        band_set: BandSet | None = None,
        *,
        batch: int,
        seed: int,
        augmentation: Augmentation,
        part: str = "training",
        domains: Sequence[str] | None = None,
        patch_px: int | None = None,
        limit: int | None = None,
        balanced: bool = False,
    ) -> StoredSampler:
        """Augmented batches of a part.

        `patch_px` cuts smaller patches at random places, `limit` uses only so many patches (the same for a seed),
        `balanced` makes half of each batch of patches with landslides. Raises `DataError` when the part is empty, when a
        half is, or when patches are larger than stored ones.
        """
        chosen = self.select(part, domains)
        if limit is not None:
            if not 1 <= limit <= len(chosen):
                raise DataError(f"{self.path}: {limit} of {len(chosen)} patches of the {part} part cannot be taken")
            chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:limit])
        side = self.patch_px if patch_px is None else patch_px
        if not 1 <= side <= self.patch_px:
            raise DataError(f"{self.path} has patches of {self.patch_px} pixels: {side} cannot be cut from them")
        if batch < 1:
            raise DataError(f"a batch of {batch} patches cannot be drawn")
        groups: tuple[IntArray, ...] = (chosen,)
        if balanced:
            groups = (chosen[self.positive[chosen]], chosen[~self.positive[chosen]])
            if not all(len(group) for group in groups):
                raise DataError(f"{self.path}: the {part} part has only patches of one kind, it cannot be balanced")
        return StoredSampler(self, self._checked(band_set), groups, batch, seed, augmentation, side)

    def values(
        self, band_set: BandSet | None = None, part: str = "training", *, domains: Sequence[str] | None = None
    ) -> Iterator[FloatArray]:
        """Channel values (channel, n) of the pixels that count, some patches at a time: to fit a normalisation to."""
        wanted, chosen = self._checked(band_set), self.select(part, domains)
        for some in np.array_split(chosen, -(-len(chosen) // 16)):
            parts = []
            for index in some:
                layers, truth = self.read(int(index))
                parts.append(bands.assemble(wanted, layers)[:, truth != IGNORE])
            yield np.concatenate(parts, axis=1)

    def verify(self) -> None:
        """Raise `DataError` when the files are not those that were written; reads everything."""
        attributes = {"layers": list(self.layers), "domains": list(self.domains), "crs": list(self.systems)}
        if (found := content_hash(self.path, attributes)) != self.sha256:
            raise DataError(f"{self.path} has changed since it was made: its SHA-256 is {found}, not {self.sha256}")

    def _checked(self, band_set: BandSet | None) -> BandSet:
        if band_set is None:
            return self.band_set()
        if missing := band_set.missing_from(self.layers):
            raise BandSetError(
                f"{self.path} has no {', '.join(missing)}, which the channels {band_set.name!r} need; it has "
                f"{', '.join(self.layers) or 'truth only'}"
            )
        return band_set


@dataclass(frozen=True)
class PatchBlocks:
    """Patches as `Blocks`."""

    patches: PatchSet
    """Where they are."""
    band_set: BandSet
    """The channels of a block."""
    chosen: tuple[int, ...]
    """Which ones, in the order of a pass."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Block]:
        return (self.patches.block(index, self.band_set) for index in self.chosen)


@dataclass(frozen=True)
class StoredSampler:
    """Augmented batches of stored patches; a `Sampler`."""

    patch_set: PatchSet
    """Where the patches are."""
    band_set: BandSet
    """The channels of a batch."""
    groups: tuple[IntArray, ...]
    """Patches that take turns within a batch: all in one group, or those with and those without landslides."""
    batch: int
    """Patches a batch."""
    seed: int
    """Of order, cuts and augmentation."""
    augmentation: Augmentation
    """What is changed in each patch."""
    patch_px: int
    """Side of the patches that are drawn."""

    @property
    def patches(self) -> int:
        """Patches in an epoch: all of them once; where two groups take turns, twice the larger one."""
        return max(len(group) for group in self.groups) * len(self.groups)

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every patch has been seen."""
        return -(-self.patches // self.batch)

    def draw(self, number: int) -> Batch:
        """Batch `number`: patches follow each other in an order that is drawn anew for each epoch."""
        positions = range(number * self.batch, (number + 1) * self.batch)
        rngs = [np.random.default_rng((self.seed, position)) for position in positions]
        patches = [self._cut(position, rng) for position, rng in zip(positions, rngs, strict=True)]
        names = self.band_set.requires
        stack, truth = augment_batch(patches, names, rngs, self.augmentation)
        x = np.empty((self.batch, len(self.band_set.channels), *truth.shape[1:]), np.float32)
        bands.assemble(self.band_set, dict(zip(names, stack.swapaxes(0, 1), strict=True)), x.swapaxes(0, 1))
        return x, truth

    def _cut(self, position: int, rng: np.random.Generator) -> tuple[FloatArray, ByteArray]:
        """The layers (layer, y, x) and the truth (y, x) of the patch whose turn it is, cut out where it is too large."""
        turn, group = divmod(position, len(self.groups))
        epoch, place = divmod(turn, len(self.groups[group]))
        index = int(self.groups[group][_order(self.seed, group, epoch, len(self.groups[group]))[place]])
        layers, truth = self.patch_set.stack(index, self.band_set.requires), self.patch_set.truth(index)
        if self.patch_px < self.patch_set.patch_px:
            top, left = rng.integers(0, self.patch_set.patch_px - self.patch_px + 1, 2)
            window = slice(top, top + self.patch_px), slice(left, left + self.patch_px)
            layers, truth = layers[:, *window], truth[window]
        return layers, truth


@lru_cache(maxsize=16)
def _order(seed: int, group: int, epoch: int, count: int) -> IntArray:
    return np.random.default_rng((seed, group, epoch, count)).permutation(count)


@lru_cache(maxsize=256)
def _is_geographic(system: str) -> bool:
    import pyproj

    return bool(pyproj.CRS(system).is_geographic)

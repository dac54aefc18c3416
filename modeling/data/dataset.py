"""Training data: simulated regions in a cache folder, memory-mapped, and the patches drawn from them.

A stored region is a folder `<domain>-<seed>` with `layers.npy` (float16, (layer, y, x), physical units, NaN unknown),
`truth.npy` (uint8, (y, x): 0, 1, 255 = does not count) and `region.json`, written last: a folder without it is not
there. Training and validation never share a region.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling import bands
from modeling.data.augment import Augmentation, augment
from modeling.data.batches import IGNORE, Batch, Block, ByteArray, FloatArray
from modeling.errors import DataError
from modeling.rasters.raster import Transform

BoolArray = npt.NDArray[np.bool_]

STORED_LAYERS = tuple(dict.fromkeys(name for band_set in bands.BAND_SETS.values() for name in band_set.requires))
"""The layers that any band set needs, in the order in which regions store them."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Georeference:
    """Where a region lies."""

    crs: str
    """`EPSG:…` or WKT, in metres."""
    transform: Transform
    """Pixel corner to CRS: a, b, c, d, e, f."""

    @property
    def pixel_m2(self) -> float:
        """Area of a pixel."""
        return abs(self.transform[0] * self.transform[4])


@dataclass(frozen=True)
class StoredRegion:
    """One region of the cache; arrays are memory-mapped."""

    name: str
    """`<domain>-<seed>`."""
    domain: str
    """The simulator's domain that it was varied from."""
    seed: int
    """The simulator's seed."""
    layer_names: tuple[str, ...]
    """Names along the first axis of `stack`."""
    stack: npt.NDArray[np.float16]
    """(layer, y, x), physical units, NaN where unknown."""
    truth: ByteArray
    """(y, x): 0, 1, or 255 where a pixel does not count."""
    centres_yx: npt.NDArray[np.int64] = field(repr=False)
    """One row a landslide: a pixel inside it."""
    georeference: Georeference | None = None
    """Where it lies; None where nobody has said."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.truth.shape[0]), int(self.truth.shape[1])

    def layers(self, window: tuple[slice, slice] = (slice(None), slice(None))) -> dict[str, FloatArray]:
        """The layers of a window, float32 (y, x) each."""
        part = np.asarray(self.stack[:, *window], dtype=np.float32)
        return dict(zip(self.layer_names, part, strict=True))


def store_region(
    cache: Path,
    domain: str,
    seed: int,
    *,
    layers: Mapping[str, FloatArray],
    truth: BoolArray,
    valid: BoolArray,
    georeference: Georeference | None = None,
) -> Path:
    """Write one region into the cache, complete or not at all; returns its folder."""
    if missing := [name for name in STORED_LAYERS if name not in layers]:
        raise DataError(f"region {domain}-{seed} lacks the layers {', '.join(missing)}")
    folder = cache / f"{domain}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stack = np.stack([np.where(valid, layers[name], np.nan) for name in STORED_LAYERS]).astype(np.float16)
    np.save(folder / "layers.npy", stack, allow_pickle=False)
    np.save(folder / "truth.npy", np.where(valid, truth, IGNORE).astype(np.uint8), allow_pickle=False)
    about: dict[str, Any] = {"domain": domain, "seed": seed, "layers": list(STORED_LAYERS)}
    if georeference is not None:
        about |= {"crs": georeference.crs, "transform": list(georeference.transform)}
    (folder / "region.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    return folder


def open_region(folder: Path) -> StoredRegion:
    """Open one region; raises `DataError` when it is incomplete or its arrays do not fit together."""
    try:
        about = json.loads((folder / "region.json").read_text(encoding="utf-8"))
        stack = np.load(folder / "layers.npy", mmap_mode="r", allow_pickle=False)
        truth = np.load(folder / "truth.npy", mmap_mode="r", allow_pickle=False)
        names = tuple(str(name) for name in about["layers"])
        domain, seed = str(about["domain"]), int(about["seed"])
        georeference = None
        if "crs" in about:
            a, b, c, d, e, f = (float(value) for value in about["transform"])
            georeference = Georeference(str(about["crs"]), (a, b, c, d, e, f))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is not a complete stored region: {error}") from error
    if stack.shape != (len(names), *truth.shape):
        raise DataError(f"{folder}: layers have shape {stack.shape}, truth has {truth.shape}")
    centres = _centres(np.asarray(truth) == 1)
    return StoredRegion(folder.name, domain, seed, names, stack, truth, centres, georeference)


class PatchSampler:
    """Augmented training patches, half of them around landslides; a batch depends on its number and the seed only."""

    def __init__(
        self,
        regions: Sequence[StoredRegion],
        band_set: bands.BandSet,
        *,
        patch_px: int,
        batch: int,
        seed: int,
        sizes: Augmentation,
    ) -> None:
        if not regions:
            raise DataError("there is no training region")
        smallest = min(min(region.shape_yx) for region in regions)
        if smallest < patch_px:
            raise DataError(f"patches of {patch_px} pixels do not fit into a region of {smallest}")
        self.regions = list(regions)
        self.band_set = band_set
        self.patch_px, self.batch, self.seed, self.sizes = patch_px, batch, seed, sizes

    def draw(self, number: int) -> Batch:
        """Batch `number`: channels (batch, channel, y, x) in physical units, and truth (batch, y, x) of 0, 1, 255."""
        rng = np.random.default_rng((self.seed, number))
        patches = [self._patch(rng, around_landslide=index % 2 == 0) for index in range(self.batch)]
        return np.stack([channels for channels, _ in patches]), np.stack([truth for _, truth in patches])

    def _patch(self, rng: np.random.Generator, *, around_landslide: bool) -> tuple[FloatArray, ByteArray]:
        region = self.regions[rng.integers(len(self.regions))]
        rows, columns = region.shape_yx
        if around_landslide and len(region.centres_yx):
            # The landslide lies anywhere in the patch, not always in its middle.
            centre = region.centres_yx[rng.integers(len(region.centres_yx))]
            corner = centre - rng.integers(0, self.patch_px, 2)
        else:
            corner = rng.integers(0, (rows - self.patch_px + 1, columns - self.patch_px + 1))
        top, left = (int(v) for v in np.clip(corner, 0, (rows - self.patch_px, columns - self.patch_px)))
        window = slice(top, top + self.patch_px), slice(left, left + self.patch_px)
        everything = region.layers(window)
        wanted = {name: everything[name] for name in self.band_set.requires}
        layers, truth = augment(wanted, region.truth[window], rng, self.sizes)
        return bands.assemble(self.band_set, layers), truth


@dataclass(frozen=True)
class RegionBlocks:
    """Whole regions as `Blocks`, for validation and test."""

    regions: Sequence[StoredRegion]
    """In the order in which a pass gives them."""
    band_set: bands.BandSet
    """The channels of a block."""

    def __len__(self) -> int:
        return len(self.regions)

    def __iter__(self) -> Iterator[Block]:
        for region in self.regions:
            channels = bands.assemble(self.band_set, region.layers())
            area = math.nan if region.georeference is None else region.georeference.pixel_m2
            yield Block(channels, np.asarray(region.truth), region.name, region.domain, area)


def channel_sample(
    regions: Iterable[StoredRegion], band_set: bands.BandSet, *, every: int = 7
) -> npt.NDArray[np.float32]:
    """Channel values (channel, n) of every `every`-th row and column of the regions, to fit a normalisation to."""
    window = slice(None, None, every), slice(None, None, every)
    parts = [bands.assemble(band_set, region.layers(window)) for region in regions]
    if not parts:
        raise DataError("there is no region to sample")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _centres(truth: BoolArray) -> npt.NDArray[np.int64]:
    """The first pixel (in reading order) of each 8-connected component: one row (y, x) a landslide."""
    labels, count = ndimage.label(truth, structure=_EIGHT_NEIGHBOURS)
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    _, first = np.unique(flat[where], return_index=True)
    if count == 0:
        return np.empty((0, 2), dtype=np.int64)
    return np.stack(np.unravel_index(where[first], truth.shape), axis=1).astype(np.int64)

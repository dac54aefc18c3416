"""The data of a benchmark: simulated regions or a patch data set, in three parts that lie apart from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from modeling import bands
from modeling.bands import BandSet
from modeling.data import augment
from modeling.data.batches import Blocks, Sampler
from modeling.data.dataset import PatchSampler, RegionBlocks, StoredRegion, channel_sample, open_region
from modeling.data.normalise import Normalisation, fit
from modeling.data.patch_simulate import RegionPlan, region_of
from modeling.data.patches import PatchSet, fit_normalisation, open_patches
from modeling.data.pieces import Pieces, RegionPieces, StoredPieces
from modeling.errors import BandSetError, DataError
from modeling.simulate.domains import DOMAINS, domain

PARTS = ("training", "validation", "test")

TERRAIN = frozenset(
    {
        "slope", "hillshade", "elevation", "dem", "aspect", "aspect_north", "aspect_east", "curvature", "plan_curvature",
        "profile_curvature", "relief", "twi", "tpi", "tri", "b13", "b14",
    }
)  # fmt: skip
"""Channels that are of the ground's shape and not of light; B13 and B14 are those of Landslide4Sense."""


class Source(Protocol):
    """What a benchmark trains and tests on; it travels to other processes, so it holds names and not arrays."""

    def __hash__(self) -> int:
        """What follows from it may be remembered."""
        ...

    @property
    def domains(self) -> tuple[str, ...]:
        """All that it has, in order."""
        ...

    def prepare(self, workers: int, told: Callable[[int, int], None] | None = None) -> None:
        """Make what is missing, in so many processes; `told` hears (done, in all)."""
        ...

    def band_set(self) -> BandSet:
        """The channels that networks see."""
        ...

    def sampler(
        self, band_set: BandSet, domains: Sequence[str], *, batch: int, patch_px: int, seed: int, augmentation: str
    ) -> Sampler:
        """Training batches of these domains."""
        ...

    def normalisation(self, band_set: BandSet, domains: Sequence[str], method: str) -> Normalisation:
        """Fitted to the training part of these domains."""
        ...

    def blocks(self, part: str, band_set: BandSet, domains: Sequence[str]) -> Blocks:
        """The part `validation` or `test` of these domains."""
        ...

    def pieces(self, part: str, domain: str, patch_px: int) -> Pieces:
        """The patches of one domain in a part, in an order that never changes."""
        ...

    def about(self) -> dict[str, Any]:
        """What it is, for the report: the same words mean the same data."""
        ...


def without_terrain(band_set: BandSet) -> BandSet:
    """The optical channels of a set; raises `BandSetError` when it has no terrain, or nothing else."""
    left = tuple(channel for channel in band_set.channels if channel.lower() not in TERRAIN)
    if len(left) == len(band_set.channels) or not left:
        raise BandSetError(
            f"the channels {', '.join(band_set.channels)} cannot be compared with and without terrain: leave the "
            "entries with :optical out"
        )
    return BandSet(f"{band_set.name}-optical", left, f"{band_set.about}; without terrain")


@dataclass(frozen=True)
class Simulated:
    """Regions of the simulator, each in one part only; whole regions are tested, so landslides are seen whole."""

    cache: Path
    """Folder that keeps the regions."""
    domains: tuple[str, ...]
    """Names of `modeling.simulate.DOMAINS`."""
    training: int = 12
    """Regions a domain to train on."""
    validation: int = 3
    """Regions a domain that checkpoint, learning rate, temperature and threshold are chosen on."""
    test: int = 8
    """Regions a domain that are only ever reported on."""
    size_px: int = 384
    """Side of a region."""
    seed: int = 0
    """Shifts the seeds of all regions."""
    bands: str = "ten-band"
    """A name of `modeling.bands.BAND_SETS`."""
    unseen: tuple[str, ...] = ()
    """Further domains that have test regions only."""

    def __post_init__(self) -> None:
        """Raise `DataError` for unknown domains and for a part without a region."""
        for name in (*self.domains, *self.unseen):
            domain(name)
        if min(self.training, self.validation, self.test) < 1:
            raise DataError(
                f"training, validation and test need a region each in every domain, not {self.training}, "
                f"{self.validation} and {self.test}"
            )
        bands.band_set(self.bands)

    def prepare(self, workers: int, told: Callable[[int, int], None] | None = None) -> None:
        """Simulate the regions that the cache lacks."""
        plans = [plan for part in PARTS for plan in self._plans(part, self.domains)]
        plans += self._plans("test", [name for name in self.unseen if name not in self.domains])
        missing = [plan for plan in plans if not (self._folder_of(plan) / "region.json").is_file()]
        if not missing:
            return
        if workers == 1:
            for done, plan in enumerate(missing, start=1):
                region_of(self.cache, plan)
                if told is not None:
                    told(done, len(missing))
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            coming = [pool.submit(region_of, self.cache, plan) for plan in missing]
            for done, future in enumerate(as_completed(coming), start=1):
                future.result()
                if told is not None:
                    told(done, len(missing))

    def band_set(self) -> BandSet:
        """The set by its name."""
        return bands.band_set(self.bands)

    def sampler(
        self, band_set: BandSet, domains: Sequence[str], *, batch: int, patch_px: int, seed: int, augmentation: str
    ) -> Sampler:
        """Patches from anywhere in the training regions, half of them around a landslide."""
        regions = self._regions("training", domains)
        sizes = augment.augmentation(augmentation)
        return PatchSampler(regions, band_set, patch_px=patch_px, batch=batch, seed=seed, sizes=sizes)

    def normalisation(self, band_set: BandSet, domains: Sequence[str], method: str) -> Normalisation:
        """Fitted to every seventh row and column of the training regions."""
        return fit(method, channel_sample(self._regions("training", domains), band_set))

    def blocks(self, part: str, band_set: BandSet, domains: Sequence[str]) -> Blocks:
        """Whole regions."""
        return RegionBlocks(self._regions(part, domains), band_set)

    def pieces(self, part: str, domain: str, patch_px: int) -> Pieces:
        """Tiles of the regions."""
        return RegionPieces.of(self._regions(part, [domain]), patch_px)

    def about(self) -> dict[str, Any]:
        """Counts, sizes and seeds: they decide every pixel."""
        names = {"cache", "domains", "unseen"}
        return {"kind": "simulated regions", **{k: v for k, v in asdict(self).items() if k not in names}}

    def _folder_of(self, plan: RegionPlan) -> Path:
        return self.cache / plan.folder / f"{plan.domain}-{plan.seed}"

    def _plans(self, part: str, domains: Sequence[str]) -> list[RegionPlan]:
        """No two regions share a seed, so that terrain and weather differ between domains and parts as well."""
        known = list(DOMAINS)
        first = 100_000 * (1 + self.seed) + 10_000 * PARTS.index(part)
        count = {"training": self.training, "validation": self.validation, "test": self.test}[part]
        return [
            RegionPlan(name, first + 1000 * known.index(name) + index, self.size_px)
            for name in domains
            for index in range(count)
        ]

    def _regions(self, part: str, domains: Sequence[str]) -> list[StoredRegion]:
        return [open_region(self._folder_of(plan)) for plan in self._plans(part, domains)]


@dataclass(frozen=True)
class Patches:
    """A patch data set with a training, a validation and a test part."""

    path: Path
    """Its folder."""
    channels: str = ""
    """A name of `modeling.bands.BAND_SETS`; empty: all its layers."""

    @property
    def domains(self) -> tuple[str, ...]:
        """All that it has."""
        return self._open().domains

    def having(self, part: str) -> tuple[str, ...]:
        """The domains that have patches in a part."""
        counts = self._open().counts()
        return tuple(domain for domain in self.domains if (domain, part) in counts)

    @property
    def patch_px(self) -> int:
        """Side of its patches."""
        return self._open().patch_px

    def prepare(self, workers: int, told: Callable[[int, int], None] | None = None) -> None:
        """Open it once, which checks it."""
        self._open()

    def band_set(self) -> BandSet:
        """The set by its name, or all layers."""
        return self._open().band_set(self.channels or None)

    def sampler(
        self, band_set: BandSet, domains: Sequence[str], *, batch: int, patch_px: int, seed: int, augmentation: str
    ) -> Sampler:
        """Its training patches, or smaller ones cut from them."""
        sizes = augment.augmentation(augmentation)
        return self._open().sampler(
            band_set, batch=batch, seed=seed, augmentation=sizes, domains=domains, patch_px=patch_px
        )

    def normalisation(self, band_set: BandSet, domains: Sequence[str], method: str) -> Normalisation:
        """Fitted to its training patches."""
        return fit_normalisation(self._open(), band_set, method, domains=domains)

    def blocks(self, part: str, band_set: BandSet, domains: Sequence[str]) -> Blocks:
        """Its patches of a part."""
        return self._open().blocks(part, band_set, domains=domains)

    def pieces(self, part: str, domain: str, patch_px: int) -> Pieces:
        """Its patches, whole."""
        return StoredPieces.of(self._open(), part, domain)

    def about(self) -> dict[str, Any]:
        """Its hash decides every pixel; the rest is what it says of itself."""
        opened = self._open()
        counts = {f"{domain} {part}": sum(both) for (domain, part), both in opened.counts().items()}
        return {
            "kind": "patches",
            "name": opened.name,
            "sha256": opened.sha256,
            "bands": self.band_set().name,
            "patches": counts,
            **asdict(opened.about),
        }

    def _open(self) -> PatchSet:
        return _opened(self.path)


@lru_cache(maxsize=2)
def _opened(path: Path) -> PatchSet:
    return open_patches(path)

"""Patches of simulated earthquakes with truth to the pixel: any number of them, of any of the simulator's domains.

Each region is another piece of ground, so parts that share no region share no ground. A region is simulated once into a
cache folder and only some of its patches are taken, so that many slopes, seasons and clouds are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modeling import simulate
from modeling.data.batches import IGNORE
from modeling.data.dataset import STORED_LAYERS, Georeference, StoredRegion, open_region, store_region
from modeling.data.patch_build import PATCH_PX, Tell
from modeling.data.patch_split import Split
from modeling.data.patch_store import PARTS, About, Patch, require_free, writing
from modeling.data.patches import PatchSet, open_patches
from modeling.errors import DataError

BoolArray = npt.NDArray[np.bool_]

REGION_PX = 768
"""Side of a simulated region."""
MOST_PATCHES = 100_000
"""Of a domain in one data set: far more than its regions can give."""
_MOST_REGIONS = 10_000
_DATES = (2, 4)
_MINIMUM_KNOWN = 0.5
_MOST_EMPTY = 12  # regions in a row that give no patch before it is given up


@dataclass(frozen=True)
class RegionPlan:
    """One region to simulate."""

    domain: str
    """Preset of the simulator."""
    seed: int
    """Decides everything in it."""
    size_px: int = REGION_PX
    """Its side."""
    varied: bool = True
    """Whether the preset's numbers are varied by the seed (`simulate.vary`)."""

    @property
    def folder(self) -> str:
        """Its folder in the cache, above that of the region."""
        return f"{self.size_px}{'' if self.varied else '-as-is'}"

    @property
    def name(self) -> str:
        """Its own folder's name, and that of the stored region."""
        return f"{self.domain}-{self.seed}"


def simulate_patches(
    path: Path,
    counts: Mapping[str, int],
    *,
    cache: Path,
    patch_px: int = PATCH_PX,
    region_px: int = REGION_PX,
    split: Split | None = None,
    varied: bool = True,
    workers: int = 1,
    command: str = "",
    tell: Tell | None = None,
) -> PatchSet:
    """A data set of `counts` patches of each domain, half of them with landslides; `split.seed` decides everything.

    Regions are kept in `cache`, so that an interrupted call goes on where it stopped; `workers` processes simulate.
    Raises `DataError` for unknown domains, or when a domain gives no more patches.
    """
    require_free(path)
    split = split or Split()
    for domain in counts:
        simulate.domain(domain)
    if too_many := {domain: asked for domain, asked in counts.items() if asked > MOST_PATCHES}:
        told = ", ".join(f"{asked:,} of {domain}" for domain, asked in too_many.items())
        raise DataError(f"{told}: a data set has at most {MOST_PATCHES:,} patches of a domain")
    if not counts or min(counts.values()) < 2 * len(split.shares):
        raise DataError(
            f"{dict(counts)} patches cannot be split {split}: ask for at least {2 * len(split.shares)} each"
        )
    if not 8 <= patch_px <= region_px:
        raise DataError(f"patches of {patch_px} pixels cannot be cut from regions of {region_px}")
    about = About(
        source=f"simulated earthquakes: {', '.join(f'{asked} patches of {domain}' for domain, asked in counts.items())}",
        licence="Apache-2.0",
        command=command,
        split=f"{':'.join(PARTS[: len(split.shares)])} = {split} by region, no region in two parts; seed {split.seed}",
        distance_px=None,
    )
    total, written, places = sum(counts.values()), 0, count(1)
    with writing(path, STORED_LAYERS, patch_px, about) as writer, _simulating(cache, workers) as simulated:
        for number, (domain, asked) in enumerate(counts.items()):
            for part, wanted in enumerate(_shares(asked, split)):
                plans = (
                    RegionPlan(domain, _seed(split.seed, number, part, index), region_px, varied)
                    for index in range(_MOST_REGIONS)
                )
                for patch in _patches(zip(places, simulated(plans), strict=False), part, wanted, patch_px):
                    writer.append(patch)
                    written += 1
                    if tell is not None:
                        tell("simulate patches", written, total)
    return open_patches(path)


def region_of(cache: Path, plan: RegionPlan) -> Path:
    """Simulate one region into the cache and return its folder; one that is there already is kept."""
    home = cache / plan.folder
    folder = home / plan.name
    if (folder / "region.json").is_file():
        return folder
    rng = np.random.default_rng(plan.seed)
    preset = simulate.domain(plan.domain)
    if plan.varied:
        preset = simulate.vary(preset, rng)
    dates_pre, dates_post = (int(count) for count in rng.integers(_DATES[0], _DATES[1] + 1, 2))
    region = simulate.simulate_region(
        preset, seed=plan.seed, shape_yx=(plan.size_px, plan.size_px), dates_pre=dates_pre, dates_post=dates_post
    )
    layers, valid = simulate.layers_of(region)
    where = Georeference(region.crs, region.transform)
    return store_region(
        home, plan.domain, plan.seed, layers=layers, truth=region.truth, valid=valid, georeference=where
    )


@contextmanager
def _simulating(cache: Path, workers: int) -> Iterator[Callable[[Iterator[RegionPlan]], Iterator[StoredRegion]]]:
    """What turns plans into regions, some of them ahead where there are several workers."""
    if workers <= 1:
        yield lambda plans: (open_region(region_of(cache, plan)) for plan in plans)
        return
    # Not forked: this process may have threads, which a fork leaves behind in whatever state they were.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:

        def ahead(plans: Iterator[RegionPlan]) -> Iterator[StoredRegion]:
            coming = [pool.submit(region_of, cache, plan) for plan in islice(plans, workers)]
            for plan in plans:
                coming.append(pool.submit(region_of, cache, plan))
                yield open_region(coming.pop(0).result())

        try:
            yield ahead
        finally:
            pool.shutdown(cancel_futures=True)


def _seed(seed: int, domain: int, part: int, index: int) -> int:
    """A seed of its own for every region of a data set, so that weather differs between domains as well."""
    return int(np.random.SeedSequence((seed, domain, part, index)).generate_state(1)[0])


def _shares(asked: int, split: Split) -> list[int]:
    """Patches of each part: the last parts rounded, the first gets the rest."""
    rest = [max(2, round(asked * share / sum(split.shares))) if share else 0 for share in split.shares[1:]]
    return [asked - sum(rest), *rest]


def _patches(regions: Iterator[tuple[int, StoredRegion]], part: int, wanted: int, side: int) -> Iterator[Patch]:
    """`wanted` patches, as many with as without landslides from each of the numbered regions."""
    needed = {True: wanted - wanted // 2, False: wanted // 2}
    empty = 0
    while any(needed.values()):
        found = next(regions, None)
        if found is None:
            raise DataError(
                f"{_MOST_REGIONS:,} regions were not enough, {sum(needed.values()):,} of {wanted:,} patches are missing: ask "
                "for fewer, or for larger regions"
            )
        place, region = found
        known, positive = _tiles(region, side)
        rng = np.random.default_rng((region.seed, 1))
        kinds = {kind: rng.permutation(np.argwhere(known & (positive == kind))) for kind in (True, False)}
        each = min(len(found) for found in kinds.values())
        taken = [tile for kind, found in kinds.items() for tile in found[: min(each, needed[kind])]]
        needed = {kind: left - min(each, left) for kind, left in needed.items()}
        empty = 0 if taken else empty + 1
        if empty == _MOST_EMPTY:
            raise DataError(
                f"{_MOST_EMPTY} regions of {region.domain} in a row gave no patch of {side} pixels with and one without "
                "landslides: ask for smaller patches"
            )
        for row, column in sorted((int(y), int(x)) for y, x in taken):
            yield _patch(region, row * side, column * side, side, part, place)


def _tiles(region: StoredRegion, side: int) -> tuple[BoolArray, BoolArray]:
    """Of each tile (row, column): whether enough of it is known, and whether it has a landslide."""
    rows, columns = (size // side for size in region.shape_yx)
    tiles = np.asarray(region.truth)[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return (tiles != IGNORE).mean(axis=(1, 3)) >= _MINIMUM_KNOWN, (tiles == 1).any(axis=(1, 3))


def _patch(region: StoredRegion, top: int, left: int, side: int, part: int, place: int) -> Patch:
    window = slice(top, top + side), slice(left, left + side)
    where = region.georeference
    if where is None:
        raise DataError(f"region {region.name} does not say where it lies: remove it from the cache")
    a, _, c, _, e, f = where.transform
    return Patch(
        layers=np.asarray(region.stack[:, *window], np.float32), truth=np.asarray(region.truth[window]),
        name=f"{region.name}/y{top}x{left}", domain=region.domain, part=part, place=place, crs=where.crs,
        x=c + a * left, y=f + e * top, pixel=a,
    )  # fmt: skip

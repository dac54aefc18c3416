"""Simulated regions with more terrain than slope and hillshade, for experiments that ask what terrain is worth.

Regions are simulated as always and stored again with further layers beside them, so optical bands, truth, slope and
hillshade are the same to the bit. Which ground is in which part does not change either.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from modeling import simulate
from modeling.bands import BandSet
from modeling.benchmark.data import PARTS, Simulated, Source
from modeling.data.dataset import open_region
from modeling.data.patch_simulate import RegionPlan, region_of
from modeling.experiments.engine import Desk
from modeling.simulate.factors import FACTORS, terrain_factors


@dataclass(frozen=True)
class SimulatedTerrain(Simulated):
    """As `Simulated`, its channels and then all of `modeling.simulate.factors.FACTORS`."""

    def prepare(self, workers: int, told: Callable[[int, int], None] | None = None) -> None:
        """Simulate what the cache lacks, one region at a time: as a rule only the terrain is missing."""
        plans = [plan for part in PARTS for plan in self._plans(part, self.domains)]
        plans += self._plans("test", [name for name in self.unseen if name not in self.domains])
        for done, plan in enumerate(plans, start=1):
            if not (self._folder_of(plan) / "region.json").is_file():
                store_with_terrain(self.cache, plan, self._folder_of(plan))
            if told is not None:
                told(done, len(plans))

    def band_set(self) -> BandSet:
        """The set by its name, and the further factors."""
        plain = super().band_set()
        return BandSet(f"{plain.name}-terrain", (*plain.channels, *FACTORS), f"{plain.about}; further terrain factors")

    def _folder_of(self, plan: RegionPlan) -> Path:
        return self.cache / f"{plan.folder}-terrain" / f"{plan.domain}-{plan.seed}"


def with_terrain(source: Source) -> Source:
    """`source` with all terrain factors where it is the simulator's; other data as they are."""
    if not isinstance(source, Simulated) or isinstance(source, SimulatedTerrain):
        return source
    return SimulatedTerrain(**{each.name: getattr(source, each.name) for each in fields(Simulated)})


@dataclass(frozen=True)
class Prepare:
    """Add the terrain factors to the regions; other runs need it."""

    factors: tuple[str, ...] = FACTORS
    """What is added."""

    def __call__(self, desk: Desk) -> Mapping[str, Any]:
        """Do it; returns the channels that there are now."""
        source = with_terrain(desk.source)
        source.prepare(1, lambda done, total: desk.tell(done, total, "terrain factors"))
        return {"channels": list(source.band_set().channels)}


def store_with_terrain(cache: Path, plan: RegionPlan, folder: Path) -> None:
    """Write the region of `plan`, with its terrain factors as further layers, into `folder`: whole or not at all."""
    plain = open_region(region_of(cache, plan))
    preset = simulate.domain(plan.domain)
    if plan.varied:
        preset = simulate.vary(preset, np.random.default_rng(plan.seed))
    # The ground alone: one date of one band each, which do not change it.
    ground = simulate.simulate_region(
        preset, seed=plan.seed, shape_yx=(plan.size_px, plan.size_px), dates_pre=1, dates_post=1, bands=("B4",)
    )
    factors = terrain_factors(ground)
    unknown = np.isnan(np.asarray(plain.stack[0]))
    added = np.stack([np.where(unknown, np.nan, factors[name]) for name in FACTORS]).astype(np.float16)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "layers.npy", np.concatenate([plain.stack, added]), allow_pickle=False)
    np.save(folder / "truth.npy", np.asarray(plain.truth), allow_pickle=False)
    about: dict[str, Any] = {
        "domain": plain.domain,
        "seed": plain.seed,
        "layers": [*plain.layer_names, *FACTORS],
    }
    if plain.georeference is not None:
        about |= {"crs": plain.georeference.crs, "transform": list(plain.georeference.transform)}
    (folder / "region.json").write_text(json.dumps(about) + "\n", encoding="utf-8")  # last: now it is there

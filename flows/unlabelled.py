"""A network fitted to the ground of a map without a label: from the images of the scene that the map was made of alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from flows.mapping import NetworkReader, windows
from flows.progress import report
from flows.scene import Scene
from modeling.adaptation.adversarial import Adversarial, adapt_adversarial
from modeling.adaptation.flipped import Flipped, flipped
from modeling.adaptation.loop import Adapted
from modeling.adaptation.norms import SOURCE_PATCHES, adapt_norms
from modeling.adaptation.self_training import SelfTraining, self_train
from modeling.adaptation.target import pool_of
from modeling.bands import BandSet, assemble
from modeling.benchmark.data import Source
from modeling.data.batches import IGNORE, Block
from modeling.model import LandslideModel
from modeling.training.progress import Tick

Way = Literal["norms", "self-training", "adversarial"]
_LOOKED_AT = 64
_BATCH = 8


@dataclass(frozen=True)
class SceneBlocks:
    """The windows of a scene as blocks of which no pixel has a truth."""

    scene: Scene
    """Imagery and terrain."""
    bands: BandSet
    """What a network sees."""

    def __len__(self) -> int:
        return sum(1 for _ in windows(self.scene.grid))

    def __iter__(self) -> Iterator[Block]:
        read = NetworkReader(self.scene, self.bands)
        for number, window in enumerate(windows(self.scene.grid)):
            layers, valid = read(window)
            channels = assemble(self.bands, layers)
            channels[:, ~valid] = np.nan
            yield Block(channels, np.full(valid.shape, IGNORE, np.uint8), f"window {number}", "scene")


@dataclass(frozen=True)
class Labelled:
    """Ground with labels, like that which a network has learned from."""

    source: Source
    """The data."""
    domains: tuple[str, ...]
    """Those of its domains that are used."""


def fitted(
    model: LandslideModel, scene: Scene, way: Way, labelled: Labelled | None, *, steps: int, seed: int = 0,
    device: str = "auto",
) -> tuple[LandslideModel, Flipped]:  # fmt: skip
    """`model` fitted to `scene`, and what that changed there.

    `labelled` ground, and `steps` of training on it, are for all ways but `norms`. Raises `DataError` for a scene with
    nothing known and data of other channels, `ModelingError` for a network without batch norms.
    """
    ground = SceneBlocks(scene, model.bands)
    if way == "norms":
        report("look at the ground", 0, 1)
        made = adapt_norms(model, ground, source_patches=SOURCE_PATCHES, seed=seed)
        report("look at the ground", 1, 1)
    else:
        if labelled is None:
            raise ValueError(f"{way} needs labelled ground beside the scene")
        made = _trained(model, ground, way, labelled, steps, seed, device).model
    return made, flipped(model, made, pool_of(ground, model.bands, most_patches=_LOOKED_AT, seed=seed))


def _trained(
    model: LandslideModel, ground: SceneBlocks, way: Way, labelled: Labelled, steps: int, seed: int, device: str
) -> Adapted:
    source, domains = labelled.source, labelled.domains
    patch_px = min(128, next(iter(source.blocks("validation", model.bands, domains))).truth.shape[0])
    sampler = source.sampler(model.bands, domains, batch=_BATCH, patch_px=patch_px, seed=seed, augmentation="physical")
    validation = source.blocks("validation", model.bands, domains)

    def tell(tick: Tick) -> None:
        report(way, tick.step, tick.steps)

    with TemporaryDirectory(prefix="quakeslide-unlabelled-") as scratch:
        folder = Path(scratch)
        if way == "self-training":
            chosen = SelfTraining(steps=steps, batch=_BATCH)
            return self_train(model, sampler, validation, ground, folder, chosen, seed=seed, device=device, tell=tell)
        opposed = Adversarial(steps=steps, batch=_BATCH)
        return adapt_adversarial(
            model, sampler, validation, ground, folder, opposed, seed=seed, device=device, tell=tell
        )

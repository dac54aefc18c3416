"""The commonest piece of work: train a network on a mix, choose on its validation part, test on domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modeling.bands import BandSet
from modeling.benchmark.data import Source, without_terrain
from modeling.benchmark.plan import VALIDATIONS
from modeling.errors import BandSetError
from modeling.experiments.engine import Desk, Effort
from modeling.experiments.mixes import VALIDATION, Mix
from modeling.model import LandslideModel
from modeling.recipes import Recipe
from modeling.scoring.evaluate import evaluate
from modeling.training.progress import Tick
from modeling.training.train import fit


@dataclass(frozen=True)
class Train:
    """Train and test one network with one seed."""

    recipe: Recipe
    """How it is trained."""
    mix: Mix
    """What it is trained and validated on."""
    seed: int
    """Of initial weights, batches and dropout."""
    tests: tuple[str, ...]
    """Domains whose test part it is scored on; none: it is only trained."""
    start: str = ""
    """Key of the run whose model it begins from, which the run must need; empty: random weights."""
    optical: bool = False
    """It gets no terrain channels."""
    keep: bool = False
    """Keep its model even when no other run needs it."""
    frozen: tuple[str, ...] = ()
    """Modules of the network that stay as they are; see `modeling.adaptation.freezing`."""
    channels: tuple[str, ...] = ()
    """The channels it gets, of those of the source; empty: all."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Train; returns how it went and its evaluation."""
        bands, recipe = channels_of(desk.source, optical=self.optical, channels=self.channels), self.recipe
        start = desk.model(self.start) if self.start else None

        def tell(tick: Tick) -> None:
            desk.tell(tick.step, tick.steps, "" if tick.row is None else f"validation F1 {tick.row.validation_f1:.3f}")

        trained = fit(
            recipe,
            self.mix.sampler(
                desk.source, bands, batch=recipe.batch, patch_px=recipe.patch_px, seed=self.seed,
                augmentation=recipe.augmentation,
            ),
            self.mix.validation(desk.source, bands, patch_px=recipe.patch_px),
            # Weights mean something only with the scaling that they were learnt with.
            start.normalisation
            if start is not None and start.channels == bands.channels
            else self.mix.normalisation(desk.source, bands, recipe.normalisation, patch_px=recipe.patch_px),
            bands,
            desk.scratch,
            seed=self.seed,
            start=start,
            frozen=self.frozen,
            device=desk.device,
            tell=tell,
        )  # fmt: skip
        if self.keep or desk.needed:
            desk.keep(trained.model)
        return {
            "network": recipe.network,
            "mix": self.mix.name,
            "seed": self.seed,
            "best_step": trained.progress.best_step,
            "validation_f1": trained.model.card["validation_f1"],
            "train_seconds": trained.progress.seconds,
            "curve": [vars(row) for row in trained.progress.curve],
            **(test_model(trained.model, desk, self.tests) if self.tests else {}),
        }


def channels_of(source: Source, *, optical: bool = False, channels: Sequence[str] = ()) -> BandSet:
    """What networks see of a source; with `optical` no terrain, with `channels` those alone, in the source's order.

    Raises `BandSetError` when the source has no such channel.
    """
    bands = without_terrain(source.band_set()) if optical else source.band_set()
    if not channels:
        return bands
    if missing := [channel for channel in channels if channel not in bands.channels]:
        raise BandSetError(f"the data have no channel {', '.join(missing)}: they have {', '.join(bands.channels)}")
    kept = tuple(channel for channel in bands.channels if channel in channels)
    return bands if kept == bands.channels else BandSet("+".join(kept), kept, f"channels of {bands.name}")


def test_model(model: LandslideModel, desk: Desk, tests: Sequence[str]) -> dict[str, Any]:
    """`{"evaluation": …}` of a model on the test part of domains, with its own temperature and threshold."""
    blocks = desk.source.blocks("test", model.bands, tests)
    return {"evaluation": evaluate(model.to(desk.device), blocks, device=desk.device).to_json()}


def training_effort(network: str, steps: int, mix: Mix, source: Source, tests: Sequence[str], patch_px: int) -> Effort:
    """What training on a mix and testing costs."""
    validated = VALIDATION * mix.patches
    if mix.everything_of:
        validated = _pixels(source, "validation", mix.everything_of) / patch_px**2
    tested = _pixels(source, "test", tuple(tests)) / patch_px**2 if tests else 0.0
    return Effort(network, steps, (VALIDATIONS + 1) * validated + tested)


@lru_cache(maxsize=64)
def _pixels(source: Source, part: str, domains: tuple[str, ...]) -> int:
    return sum(block.truth.size for block in source.blocks(part, source.band_set(), domains))

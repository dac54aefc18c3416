"""A source of experiments in a few pixels: three regions of scars that differ in brightness, with two terrain layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.training import RECIPE, register_tiny
from modeling import recipes
from modeling.adaptation import auxiliary, freezing
from modeling.adaptation.freezing import Layout
from modeling.bands import BandSet, assemble
from modeling.benchmark.ledger import Ledger
from modeling.data import augment
from modeling.data.batches import IGNORE, Block, Blocks, ByteArray, FloatArray, Sampler
from modeling.data.normalise import Normalisation, fit
from modeling.data.pieces import FirstOf, PieceBlocks, Pieces, PieceSampler
from modeling.experiments.engine import Experiment, Finished, execute, failed, finished
from modeling.experiments.setting import Setting
from modeling.training import settle

LAYERS = ("slope", "hillshade", "red_post", "green_post", "blue_post")
BANDS = BandSet("toy", LAYERS, "for tests")
DOMAINS = ("a", "b", "c")
SIDE = 16
_COUNTS = {"training": 24, "validation": 12, "test": 3}


@dataclass(frozen=True)
class ToyPieces:
    """Patches that their number, part and domain decide; in `hidden` ones nothing is known of the truth."""

    domain: str
    part: str
    hidden: bool = False

    def __len__(self) -> int:
        return _COUNTS[self.part]

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        """As `Pieces.read`."""
        place = DOMAINS.index(self.domain)
        rng = np.random.default_rng((place, list(_COUNTS).index(self.part), index))
        truth = np.zeros((SIDE, SIDE), np.uint8)
        top, left = rng.integers(0, SIDE - 6, 2)
        truth[top : top + 6, left : left + 6] = 1
        layers = {
            name: (rng.normal(0.2, 0.02, truth.shape) + (0.1 + 0.05 * place) * truth).astype(np.float32)
            for name in LAYERS
        }
        return layers, np.full_like(truth, IGNORE) if self.hidden else truth

    def block(self, index: int, band_set: BandSet) -> Block:
        """As `Pieces.block`."""
        layers, truth = self.read(index)
        return Block(assemble(band_set, layers), truth, f"{self.domain}-{self.part}-{index}", self.domain)


@dataclass(frozen=True)
class ToySource:
    """A `Source`; the training truth of the domains in `hidden` is unknown."""

    bands: BandSet = BANDS
    hidden: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """As `Source.domains`."""
        return DOMAINS

    def prepare(self, workers: int, told: Callable[[int, int], None] | None = None) -> None:
        """Nothing is missing."""

    def band_set(self) -> BandSet:
        """As `Source.band_set`."""
        return self.bands

    def pieces(self, part: str, domain: str, patch_px: int) -> Pieces:
        """As `Source.pieces`."""
        return ToyPieces(domain, part, domain in self.hidden and part == "training")

    def sampler(
        self, band_set: BandSet, domains: Sequence[str], *, batch: int, patch_px: int, seed: int, augmentation: str
    ) -> Sampler:
        """As `Source.sampler`."""
        sizes = augment.augmentation(augmentation)
        return PieceSampler(self._all("training", domains), band_set, batch, seed, sizes, patch_px)

    def normalisation(self, band_set: BandSet, domains: Sequence[str], method: str) -> Normalisation:
        """As `Source.normalisation`."""
        values = [
            block.channels.reshape(len(block.channels), -1) for block in self._blocks("training", band_set, domains)
        ]
        return fit(method, np.concatenate(values, axis=1))

    def blocks(self, part: str, band_set: BandSet, domains: Sequence[str]) -> Blocks:
        """As `Source.blocks`."""
        return PieceBlocks(self._all(part, domains), band_set)

    def about(self) -> dict[str, Any]:
        """As `Source.about`."""
        return {"kind": "toy", "name": "toy", "hidden": list(self.hidden)}

    def _blocks(self, part: str, band_set: BandSet, domains: Sequence[str]) -> Iterator[Block]:
        yield from self.blocks(part, band_set, domains)

    def _all(self, part: str, domains: Sequence[str]) -> FirstOf:
        sets = tuple(self.pieces(part, domain, SIDE) for domain in domains)
        return FirstOf(sets, tuple(len(each) for each in sets))


def setting(**changes: Any) -> Setting:
    """A small one of the network `tiny`, which must be registered."""
    plain: dict[str, Any] = {
        "source": ToySource(), "networks": ("tiny",), "seeds": (0,), "steps": 2, "domains": DOMAINS, "tests": ("b", "c"),
        "batch": 2, "patch_px": SIDE,
    }  # fmt: skip
    return Setting(**{**plain, **changes})


def register_toy(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny` a network that experiments know all about."""
    register_tiny(patch)
    own = replace(RECIPE, name="tiny", network="tiny", augmentation="mirrors")
    patch.setitem(recipes.RECIPES, "tiny", own)  # type: ignore[arg-type]
    patch.setitem(freezing.LAYOUTS, "tiny", Layout(("trunk",)))  # type: ignore[arg-type]
    patch.setattr(settle, "SETTLING_PATCHES", 4)
    patch.setitem(auxiliary.LEVELS, "tiny", "trunk")  # type: ignore[arg-type]


def carry_out(experiment: Experiment, chosen: Setting, folder: Path) -> Finished:
    """Everything done; fails with the reason where a run failed."""
    ledger = Ledger(folder)
    execute(experiment, chosen, ledger, lambda status: None)
    assert failed(experiment, chosen, ledger) == {}
    return finished(experiment, chosen, ledger)

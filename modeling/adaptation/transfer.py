"""Transfer in stages: pre-train on a source, perhaps go on in between, fine-tune lightly on a few patches of the target.

Dong et al. 2024 (LDTL) pre-train on source regions and fine-tune lightly on the target with stronger augmentation. Xu et
al. (DFPENet) name three strategies for new images X2 after a training set X1: fine-tune on X2, fine-tune with some layers
frozen, train on X1 and then on X1 and X2 together. How long and how fast each stage learns, and what is frozen, stands in
their recipes (`modeling.recipes.dong`, `modeling.recipes.xu`), which say what of it is the papers'.

Nothing here reads labels of a target besides those of the grounds that it is given: a stage's checkpoint, temperature
and threshold come from the validation part of that stage's own ground.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modeling.adaptation.freezing import modules_of
from modeling.bands import BandSet
from modeling.data.batches import Batch, Blocks, Sampler
from modeling.data.normalise import Normalisation
from modeling.errors import DataError
from modeling.json_file import read_json, write_json
from modeling.model import LandslideModel, load_model, save_model, weights_digest
from modeling.recipes import Recipe, Transfer
from modeling.training.progress import Tick
from modeling.training.train import fit

SET_SIZES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the training set in DFPENet's study of its size."""

_PLAN = "transfer.json"


@dataclass(frozen=True)
class Stage:
    """One training of several that follow each other; the weights go on, optimiser and schedule begin anew."""

    name: str
    """Unique among the stages, a word that can be a folder's name."""
    ground: str
    """What it trains on, by the name that `run_stages` is given it under."""
    steps: int
    """Optimiser steps."""
    rate_factor: float = 1.0
    """Its learning rate, in multiples of the recipe's."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that stay as they are: names of `modeling.adaptation.freezing.PARTS`."""
    augmentation: str = ""
    """A name of `modeling.data.augment.AUGMENTATIONS`; empty: the recipe's."""
    warm_up: float = 0.0
    """Share of the steps in which the learning rate rises, where the recipe has a warm-up."""
    validations: int = 1
    """How often the stage is validated; the best of these states goes on."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the recipe that differ in this stage."""

    def recipe(self, base: Recipe) -> Recipe:
        """`base` with the stage's length, learning rate and changes.

        Raises `DataError` for what cannot be trained.
        """
        if self.steps < 1 or not 0 < self.rate_factor < math.inf or self.validations < 1:
            raise DataError(
                f"stage {self.name}: {self.steps} steps, {self.validations} validations and {self.rate_factor:g} times the "
                "learning rate must all be above 0"
            )
        optimiser = replace(base.optimiser, learning_rate=base.optimiser.learning_rate * self.rate_factor)
        warm_up = int(self.warm_up * self.steps) if base.schedule.warm_up or base.schedule.warm_up_epochs else 0
        lengths = {
            "steps": self.steps,
            "epochs": None,
            "patience": None,
            "validate_every": math.ceil(self.steps / self.validations),
        }
        return replace(
            base,
            optimiser=optimiser,
            schedule=replace(base.schedule, warm_up=warm_up, warm_up_epochs=0),
            augmentation=self.augmentation or base.augmentation,
            about=f"{base.about}; stage {self.name} of a transfer: length, learning rate and augmentation are ours",
            **{**lengths, **self.changes},
        )


class Ground(Protocol):
    """Labelled ground that a stage trains on and chooses by; both parts may be few patches."""

    def sampler(self, recipe: Recipe, seed: int) -> Sampler:
        """Training batches of the recipe's size and augmentation."""
        ...

    def validation(self) -> Blocks:
        """What the stage's checkpoint, temperature and threshold are chosen on; shares no pixel with the batches."""
        ...

    def about(self) -> Mapping[str, Any]:
        """What it is, as plain values, the SHA-256 of a stored data set among them: the same words mean the same data."""
        ...


@dataclass(frozen=True)
class Joint:
    """Several samplers in one: each gives a fixed share of every batch (X1 and X2 together); a `Sampler`."""

    samplers: tuple[Sampler, ...]
    """Each with the same channels and patch size, and batches of at least its share."""
    patches: tuple[int, ...]
    """How many patches of a batch each gives."""

    def draw(self, number: int) -> Batch:
        """The first patches of batch `number` of each sampler."""
        drawn = [sampler.draw(number) for sampler in self.samplers]
        taken = [(x[:count], y[:count]) for (x, y), count in zip(drawn, self.patches, strict=True)]
        return np.concatenate([x for x, _ in taken]), np.concatenate([y for _, y in taken])


def stages_of(
    transfer: Transfer, steps: int, *, source: str, target: str, between: Sequence[str] = (), both: str = ""
) -> tuple[Stage, ...]:
    """The stages of a recipe on these grounds, the first of them `steps` long.

    The order of `between` is the caller's, and should go from the least to the most alike to the target; `both` is source
    and target together. Raises `DataError` when the recipe trains on both and they are not named, and without a step.
    """
    if steps < 1:
        raise DataError(f"a transfer that begins with {steps} steps: at least 1 is needed")
    grounds = {"source": (source,), "between": tuple(between), "target": (target,), "both": (both,) if both else ()}
    made = []
    for leg in transfer.legs:
        if leg.ground == "both" and not both:
            raise DataError(f"recipe {transfer.name} trains on source and target together: name that ground")
        for number, ground in enumerate(grounds[leg.ground], start=1):
            made.append(
                Stage(
                    name=f"{leg.name}-{number}" if leg.ground == "between" else leg.name,
                    ground=ground,
                    steps=_share(steps, leg.share),
                    rate_factor=leg.rate_factor,
                    freeze=leg.freeze,
                    augmentation=leg.augmentation,
                    warm_up=transfer.warm_up,
                    validations=transfer.validations,
                )
            )
    return tuple(made)


def nested_subsets(
    count: int, shares: Sequence[float] = SET_SIZES, *, seed: int = 0, kinds: Sequence[object] | None = None
) -> dict[float, npt.NDArray[np.int64]]:
    """Share -> indices below `count`, sorted: a smaller set is a part of every larger one, and the same for a seed.

    `kinds` names each index's kind (with and without a landslide, a domain): every set then has its share of each,
    rounded up. Raises `DataError` for shares outside (0, 1] and where nothing can be drawn.
    """
    if count < 1 or not shares or min(shares) <= 0 or max(shares) > 1:
        raise DataError(f"shares {list(shares)} of {count} patches: give shares in (0, 1] of at least one patch")
    if kinds is not None and len(kinds) != count:
        raise DataError(f"{count} patches have {len(kinds)} kinds: one for each is needed")
    names = [0] * count if kinds is None else list(kinds)
    rng = np.random.default_rng(seed)
    orders = [
        rng.permutation([index for index, other in enumerate(names) if other == kind]) for kind in dict.fromkeys(names)
    ]
    return {
        share: np.sort(np.concatenate([order[: _share(len(order), share)] for order in orders])).astype(np.int64)
        for share in sorted(shares)
    }


def run_stages(
    stages: Sequence[Stage],
    grounds: Mapping[str, Ground],
    recipe: Recipe,
    normalisation: Normalisation,
    bands: BandSet,
    folder: Path,
    *,
    seed: int = 0,
    start: LandslideModel | None = None,
    device: str = "auto",
    name: str | None = None,
    tell: Callable[[Stage, Tick], None] | None = None,
) -> LandslideModel:
    """Train the stages one after the other, each from the weights of the one before (the first from `start`, if given).

    All share one normalisation, that of the source: weights mean something only with the scaling they were learnt
    with. Each finished stage lies in `folder/NUMBER-NAME`; the same call after an interruption goes on in the stage, and
    at the step, where it stopped. The card of the model that is returned lists the stages under `adaptation`. Raises
    `DataError` when the stages make no sense or the folder holds another transfer.
    """
    _check(stages, grounds, recipe, bands, start)
    stated = json.loads(
        json.dumps(
            {
                "stages": [asdict(stage) for stage in stages],
                "grounds": {stage.ground: dict(grounds[stage.ground].about()) for stage in stages},
                "recipe": recipe.to_json(),
                "normalisation": normalisation.to_json(),
                "bands": bands.to_json(),
                "seed": seed,
                "start": None if start is None else start.weights_hash or weights_digest(start),
            }
        )
    )
    _agree(folder, stated)
    model, spent = start, {}
    for number, stage in enumerate(stages, start=1):
        own = folder / f"{number}-{stage.name}"
        model, spent[stage.name] = _stage(
            stage, grounds[stage.ground], recipe, normalisation, bands, own, seed, model, device, tell
        )
    if model is None:  # not reached: `_check` wants at least one stage
        raise DataError("a transfer needs at least one stage")
    entry = {
        "method": "transfer",
        "settings": {"stages": stated["stages"], "seed": seed, "start": stated["start"]},
        "data": stated["grounds"],
        "seconds": sum(spent.values()),
    }
    card = {**model.card, "adaptation": [*model.card.get("adaptation", []), entry]}
    return replace(model, name=name or f"{recipe.name}_{bands.name}-transferred", card=card)


def _stage(
    stage: Stage, ground: Ground, recipe: Recipe, normalisation: Normalisation, bands: BandSet, folder: Path, seed: int,
    start: LandslideModel | None, device: str, tell: Callable[[Stage, Tick], None] | None,
) -> tuple[LandslideModel, float]:  # fmt: skip
    """The model after one stage, and the seconds that its training took; done before, it is only read."""
    path = folder / f"{stage.name}.safetensors"
    if not path.is_file():
        own = stage.recipe(recipe)
        trained = fit(
            own,
            ground.sampler(own, seed),
            ground.validation(),
            normalisation,
            bands,
            folder,
            seed=seed,
            start=start,
            frozen=modules_of(recipe.network, *stage.freeze),
            device=device,
            name=stage.name,
            data=ground.about(),
            tell=None if tell is None else lambda tick: tell(stage, tick),
        )
        carried = {} if start is None else {"adaptation": start.card.get("adaptation", [])}
        card = {**carried, **trained.model.card, "seconds": trained.progress.seconds}
        save_model(replace(trained.model, card=card), folder)
    model = load_model(path)
    return model, float(model.card["seconds"])


def _check(
    stages: Sequence[Stage],
    grounds: Mapping[str, Ground],
    recipe: Recipe,
    bands: BandSet,
    start: LandslideModel | None,
) -> None:
    names = [stage.name for stage in stages]
    if not names or len(set(names)) != len(names) or any(not name or "/" in name for name in names):
        raise DataError(f"stages {names}: at least one is needed, each with a name of its own that can name a folder")
    if missing := [stage.ground for stage in stages if stage.ground not in grounds]:
        raise DataError(f"the stages train on {', '.join(missing)}, which is not there: {', '.join(grounds)} are")
    for stage in stages:
        stage.recipe(recipe)
        modules_of(recipe.network, *stage.freeze)
    if stages[0].freeze and start is None:
        raise DataError(
            f"stage {names[0]} freezes {', '.join(stages[0].freeze)}: of random weights nothing is worth it"
        )
    if stages[0].freeze and start is not None and start.channels != bands.channels:
        raise DataError(
            f"stage {names[0]} freezes {', '.join(stages[0].freeze)}, but {start.name} sees other channels: let the first "
            "stage train all of the network"
        )


def _agree(folder: Path, stated: Mapping[str, Any]) -> None:
    """State the transfer in its folder; raises `DataError` when another one is there."""
    path = folder / _PLAN
    if not path.is_file():
        write_json(path, stated)
    elif (here := read_json(path)) != stated:
        other = sorted(key for key in here.keys() | stated.keys() if here.get(key) != stated.get(key))
        raise DataError(f"{folder} holds another transfer (it differs in {', '.join(other)}): choose another folder")


def _share(whole: int, share: float) -> int:
    return max(1, math.ceil(whole * share - 1e-9))

"""A network fitted to the ground of a map without a label: from the images of the scene that the map was made of alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from flows.errors import FlowError
from flows.progress import report
from flows.scene import Scene
from flows.scene_blocks import SceneBlocks
from modeling.adaptation.adversarial import adapt_adversarial
from modeling.adaptation.flipped import Flipped, flipped
from modeling.adaptation.loop import Adapted
from modeling.adaptation.norms import SOURCE_PATCHES, adapt_norms
from modeling.adaptation.scene_means import match_scene
from modeling.adaptation.self_training import self_train
from modeling.adaptation.target import PATCH_PX, pool_of
from modeling.benchmark.data import Source
from modeling.model import LandslideModel
from modeling.recipes import Adversarial, SelfTraining, adaptation
from modeling.training.progress import Tick

Way = Literal["scene-means", "norms", "self-training", "adversarial"]
RECIPES: Mapping[Way, str] = {"self-training": "self-training", "adversarial": "adanet-scene"}
"""How each way trains where no other recipe is named; the others train nothing."""
SUFFIXES: Mapping[Way, str] = {
    "scene-means": "scene-means", "norms": "norms", "self-training": "self-trained", "adversarial": "adversarial",
}  # fmt: skip
"""What each way adds to a network's name, after a dash."""
_LOOKED_AT = 64


@dataclass(frozen=True)
class Labelled:
    """Ground with labels, like that which a network has learned from."""

    source: Source
    """The data."""
    domains: tuple[str, ...]
    """Those of its domains that are used."""


def how_to(way: Way, recipe: str | None, steps: int | None) -> Adversarial | SelfTraining | None:
    """The recipe of a way, or the one that is named, `steps` long where that is given; None for one that trains nothing.

    Raises `DataError` for a recipe of another way, `FlowError` for one, or for steps, of a way that trains nothing.
    """
    if way not in RECIPES:
        if recipe is not None:
            raise FlowError(f"--way {way} trains nothing, so it has no recipe: leave out --recipe {recipe}")
        if steps is not None:
            raise FlowError(f"--way {way} trains nothing, so it has no steps: leave out --steps {steps}")
        return None
    name = recipe or RECIPES[way]
    made: Adversarial | SelfTraining
    made = adaptation(name, SelfTraining) if way == "self-training" else adaptation(name, Adversarial)
    return made if steps is None else replace(made, steps=steps)


def require_new(model: LandslideModel, way: Way, out: Path) -> None:
    """Raise `FlowError` when `out` has a network of the name that will come out: none is overwritten."""
    name = f"{model.name}-{SUFFIXES[way]}"
    for path in (out / f"{name}.safetensors", out / f"{name}.json"):
        if path.exists():
            raise FlowError(f"{path} is there already: name another folder by --out, or move that network away")


def fitted(
    model: LandslideModel, scene: Scene, way: Way, how: Adversarial | SelfTraining | None, labelled: Labelled | None, *,
    seed: int = 0, device: str = "auto",
) -> tuple[LandslideModel, Flipped]:  # fmt: skip
    """`model` fitted to `scene`, and what that changed there.

    A way that trains has its recipe `how` and needs `labelled` ground; `scene-means` and `norms` look at the scene once.
    Raises `DataError` for a scene with nothing known and data of other channels, `ModelingError` for `norms` of a network
    without batch norms.
    """
    ground = SceneBlocks(scene, model.bands)
    if how is None:
        report("look at the ground", 0, 1)
        if way == "scene-means":
            made = match_scene(model, ground)
        else:
            made = adapt_norms(model, ground, source_patches=SOURCE_PATCHES, seed=seed)
        report("look at the ground", 1, 1)
    else:
        if labelled is None:
            raise ValueError(f"{how.name} needs labelled ground beside the scene")
        made = _trained(model, ground, how, labelled, seed, device).model
    return made, flipped(model, made, pool_of(ground, model.bands, most_patches=_LOOKED_AT, seed=seed))


def _trained(
    model: LandslideModel,
    ground: SceneBlocks,
    how: Adversarial | SelfTraining,
    labelled: Labelled,
    seed: int,
    device: str,
) -> Adapted:
    source, domains = labelled.source, labelled.domains
    patch_px = min(PATCH_PX, next(iter(source.blocks("validation", model.bands, domains))).truth.shape[0])
    sampler = source.sampler(
        model.bands, domains, batch=how.batch, patch_px=patch_px, seed=seed, augmentation=how.augmentation
    )
    validation = source.blocks("validation", model.bands, domains)

    def tell(tick: Tick) -> None:
        report(how.name, tick.step, tick.steps)

    with TemporaryDirectory(prefix="quakeslide-unlabelled-") as scratch:
        folder = Path(scratch)
        if isinstance(how, SelfTraining):
            return self_train(model, sampler, validation, ground, folder, how, seed=seed, device=device, tell=tell)
        return adapt_adversarial(model, sampler, validation, ground, folder, how, seed=seed, device=device, tell=tell)

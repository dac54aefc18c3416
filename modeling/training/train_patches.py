"""Train on a patch data set: from the folder that `quakeslide dataset` makes to a model with its card."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling.bands import BAND_SETS, BandSet
from modeling.data.augment import augmentation
from modeling.data.patch_set import PatchBlocks
from modeling.data.patches import PARTS, PatchSet, fit_normalisation
from modeling.domains.record import record_sample
from modeling.figures.training import curves
from modeling.model import LandslideModel, save_model
from modeling.recipes import Recipe
from modeling.scoring.evaluate import Evaluation, evaluate
from modeling.training.card import DataFacts, RunFacts, card_of, cores, measured, write_card
from modeling.training.progress import Row, Tick
from modeling.training.proving import prove_bfloat16
from modeling.training.train import TrainedModel, fit

_SECONDS_BETWEEN_DRAWINGS = 30.0
_LIMITS = {
    True: "The simulator's landslides, light and land cover are simplified: on real images it has not been tried.",
    False: "It knows the places, sensors and seasons of its training data, and may fail silently elsewhere.",
}


def train_on(
    data: PatchSet,
    recipe: Recipe,
    folder: Path,
    *,
    bands: str | None = None,
    domains: Sequence[str] | None = None,
    seed: int = 0,
    start: LandslideModel | None = None,
    device: str = "auto",
    devices: int = 1,
    workers: int | None = None,
    threads: int | None = None,
    name: str | None = None,
    limit: int | None = None,
    storage: str = "float16",
    checkpoint_seconds: float = 60.0,
    command: str = "",
    tell: Callable[[Tick], None] | None = None,
) -> TrainedModel:
    """Train, choose, calibrate, prove, score, and write `folder/<name>.safetensors`, `.json`, `.md` and `.png` (the curves).

    Beside them `<name>.sample.safetensors`: pixels of the training ground, by which the model is later chosen for a region.
    `bands` is as for `channels_of`; `domains` keeps some of its domains, `limit` so many
    training patches; `threads` sets torch's for this process. Checkpoints and logs lie in `folder/<name>.run`: the same
    call after an interruption goes on from there, and is refused when the data set has been made anew since. Raises
    `DataError`, `BandSetError` and `WeightsError` as `fit` and the data set do.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    channels = channels_of(data, bands)
    name = name or default_name(recipe, channels, seed)
    # Patches are taken as they are stored unless the recipe's are smaller.
    sampler = data.sampler(
        channels,
        batch=recipe.batch,
        seed=seed,
        augmentation=augmentation(recipe.augmentation),
        domains=domains,
        patch_px=min(recipe.patch_px, data.patch_px),
        limit=limit,
    )
    validation = data.blocks("validation", channels, domains=domains)
    trained = fit(
        recipe,
        sampler,
        validation,
        fit_normalisation(data, channels, recipe.normalisation, domains=domains),
        channels,
        folder / f"{name}.run",
        seed=seed,
        steps_an_epoch=-(-sampler.patches // (recipe.batch * devices)),
        start=start,
        device=device,
        devices=devices,
        workers=workers,
        name=name,
        storage=storage,
        checkpoint_seconds=checkpoint_seconds,
        data={
            "sha256": data.sha256,
            "domains": None if domains is None else sorted(domains),
            "patches": sampler.patches,
            "patch side in pixels": sampler.patch_px,
        },
        tell=_drawing(folder / f"{name}.png", tell),
    )
    if not trained.leads:
        return trained
    draw_curves(folder / f"{name}.png", trained.progress.curve, title=name, best_step=trained.progress.best_step)
    proof = prove_bfloat16(trained.model, validation, f"the validation part of {data.name}", device=device)
    scores = _by_domain("validation", evaluate(trained.model, validation))
    tested = [domain for domain, part in data.counts() if part == "test" and (domains is None or domain in domains)]
    if tested:
        scores |= _by_domain("test", evaluate(trained.model, data.blocks("test", channels, domains=tested)))
    facts = data_facts(data, domains)
    run = RunFacts(recipe, seed, start, trained.progress, _machine(device, devices), command)
    card = card_of(trained.model, facts, run, scores, limits=_LIMITS[facts.simulated])
    card |= record_sample(
        folder / f"{name}.safetensors",
        PatchBlocks(data, channels, tuple(map(int, np.sort(np.concatenate(sampler.groups))))),
        validation,
        channels.channels,
        seed=seed,
        about=f"the training part of {data.name}" + (f", {', '.join(domains)}" if domains is not None else ""),
        simulated=facts.simulated,
    )
    model = replace(trained.model, card=card, bfloat16=proof)
    path = save_model(model, folder)
    write_card(path, model)
    return replace(trained, model=model)


def channels_of(data: PatchSet, bands: str | None) -> BandSet:
    """The channels to train on: a band set by its name, or `all` layers of the data set as they are.

    None takes the band set that is made of exactly the data set's layers (the ten bands of a simulated one), all layers
    where there is none. Raises `BandSetError` when the data set lacks a layer.
    """
    if bands is not None:
        return data.band_set(None if bands == "all" else bands)
    same = [known.name for known in BAND_SETS.values() if set(known.requires) == set(data.layers)]
    return data.band_set(same[0] if same else None)


def default_name(recipe: Recipe, channels: BandSet, seed: int) -> str:
    """The name of a model that nobody has named: recipe, channels, and the seed where it is not 0."""
    return f"{recipe.name}_{channels.name}" + (f"_seed{seed}" if seed else "")


def data_facts(data: PatchSet, domains: Sequence[str] | None = None) -> DataFacts:
    """What a card says about a data set, of which some `domains` were used."""
    parts: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    for (domain, part), (positive, negative) in data.counts().items():
        if domains is None or domain in domains:
            parts[part][domain] = f"{positive + negative} patches, {positive} with landslides"
    about = data.about
    apart = "" if about.distance_px is None else f"; parts are at least {about.distance_px:g} pixels apart"
    return DataFacts(
        name=data.name,
        source=about.source,
        licence=about.licence,
        sha256=data.sha256,
        command=about.command,
        split=about.split + apart,
        simulated="simulated" in about.source.lower(),
        parts={part: held for part, held in parts.items() if held},
    )


def draw_curves(path: Path, curve: Sequence[Row], *, title: str, best_step: int | None = None) -> Path:
    """Losses and F1 over the steps, as PNG."""
    series = {
        "loss": {
            "training": [row.training_loss for row in curve],
            "validation": [row.validation_loss for row in curve],
        },
        "F1": {"validation": [row.validation_f1 for row in curve]},
    }
    return curves(path, [row.step for row in curve], series, title=title, best_step=best_step)


def _drawing(path: Path, tell: Callable[[Tick], None] | None) -> Callable[[Tick], None]:
    """`tell`, and the curves drawn anew after validations, every half minute at most."""
    drawn = time.monotonic()

    def relay(tick: Tick) -> None:
        nonlocal drawn
        if tick.row is not None and time.monotonic() - drawn > _SECONDS_BETWEEN_DRAWINGS:
            draw_curves(path, tick.curve, title=f"{path.stem}, still training")
            drawn = time.monotonic()
        if tell is not None:
            tell(tick)

    return relay


def _by_domain(part: str, result: Evaluation) -> dict[str, dict[str, Any]]:
    """Scores of a part, and of each of its domains where there are several."""
    made = {part: {"model": measured(result)}}
    if len(result.domains) > 1:
        made |= {f"{part}, {domain}": {"model": measured(result.of(domain))} for domain in result.domains}
    return made


def _machine(device: str, devices: int) -> str:
    if device == "cpu" or not torch.cuda.is_available():
        return cores()
    return f"{devices} x {torch.cuda.get_device_name(0)}"

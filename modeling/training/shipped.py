"""The models that ship with the package: their runs, and the command that makes them again.

`python -m modeling.training.shipped --all` simulates the regions once into a cache, tunes the baseline, trains every band set
and fits its uncertainty to events of domains that it has not learned from.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modeling import bands
from modeling.data import normalise
from modeling.data.augment import augmentation
from modeling.data.batches import IGNORE, Block
from modeling.data.dataset import (
    STORED_LAYERS,
    PatchSampler,
    RegionBlocks,
    StoredRegion,
    channel_sample,
)
from modeling.domains.record import record_sample
from modeling.domains.sample_file import load_fingerprint, sample_path
from modeling.errors import ModelingError
from modeling.model import WEIGHTS_FOLDER, LandslideModel, load_model, model_name, save_model
from modeling.recipes import Optimiser, Recipe, Schedule
from modeling.scoring.baseline import BASELINE_FILE, Baseline, save_baseline, tune_baseline
from modeling.scoring.evaluate import evaluate, evaluate_mask
from modeling.training.card import DataFacts, RunFacts, card_of, cores, measured, write_card
from modeling.training.proving import prove_bfloat16
from modeling.training.shipped_regions import HELD_OUT_DOMAIN, TRAINING_DOMAINS, Split, regions_of, shipped_split
from modeling.training.train import TrainedModel, fit
from modeling.uncertainty.calibrate import calibrated_on
from modeling.uncertainty.conformal import highest_level
from modeling.uncertainty.stored import store_description

log = logging.getLogger(__name__)

BoolArray = npt.NDArray[np.bool_]
Parts = Mapping[str, Sequence[StoredRegion]]
"""Regions under the keys training, validation and held out."""


_COMMAND = "python -m modeling.training.shipped --all"


def _about(times: str) -> str:
    return (
        f"the loss and the shape of the schedule are those of Dong et al. 2024, {times} times their learning rate, because"
        " training has minutes on a CPU; no resizing, because a pixel is always 10 m here"
    )


_TEN_BAND = Recipe(
    name="shipped",
    network="resu-senet-slim",
    loss="focal+dice",
    optimiser=Optimiser("adam", 3e-3),
    schedule=Schedule("polynomial", power=0.9, warm_up=400),
    steps=8000,
    batch=8,
    patch_px=88,
    precision="bfloat16",
    validate_every=1000,
    about=_about("thirty"),
)
_FROM_IT = replace(
    _TEN_BAND,
    optimiser=Optimiser("adam", 1e-3),
    schedule=replace(_TEN_BAND.schedule, warm_up=100),
    steps=1500,
    validate_every=500,
    about=_about("ten"),
)


@dataclass(frozen=True)
class ShippedRun:
    """One of the runs that lead to the shipped models."""

    bands: str
    """A name of `modeling.bands.BAND_SETS`."""
    recipe: Recipe
    """How it is trained."""
    start: str = ""
    """The run whose weights it starts from; empty: random ones."""
    seed: int = 0
    """Of weights, batches and dropout."""


RUNS: Mapping[str, ShippedRun] = {
    "ten-band": ShippedRun("ten-band", _TEN_BAND),
    "rgb-terrain": ShippedRun("rgb-terrain", _FROM_IT, start="ten-band"),
    "rgb": ShippedRun("rgb", _FROM_IT, start="rgb-terrain"),
}
"""By band set. The others start from the ten-band weights, one after the other, and take a fifth of the steps."""

_LIMITS = {
    "ten-band": "Needs near infrared before and after.",
    "rgb-terrain": "Without near infrared, bare fields and fresh cuttings on slopes are told from scars less well.",
    "rgb": "Sees one date only: old scars, quarries and bare rock cannot be told from fresh scars.",
}


def baseline_for(training: Sequence[StoredRegion]) -> Baseline:
    """The dNDVI-and-slope baseline tuned on these regions."""
    return tune_baseline(
        (region.name, region.layers(), np.asarray(region.truth) == 1, np.asarray(region.truth) != IGNORE)
        for region in training
    )


def trained(run: ShippedRun, parts: Parts, folder: Path, start: LandslideModel | None) -> TrainedModel:
    """Train one run on regions, or go on with it."""
    channels = bands.band_set(run.bands)
    sampler = PatchSampler(
        parts["training"],
        channels,
        patch_px=run.recipe.patch_px,
        batch=run.recipe.batch,
        seed=run.seed,
        sizes=augmentation(run.recipe.augmentation),
    )
    return fit(
        run.recipe,
        sampler,
        RegionBlocks(parts["validation"], channels),
        normalise.fit(run.recipe.normalisation, channel_sample(parts["training"], channels)),
        channels,
        folder,
        seed=run.seed,
        start=start,
        device="cpu",
    )


def with_card(
    found: TrainedModel, run: ShippedRun, parts: Parts, baseline: Baseline, start: LandslideModel | None
) -> LandslideModel:
    """The trained model with its card: how it was made, and its scores beside the baseline's, measured here."""

    def by_baseline(block: Block) -> BoolArray:
        layers = dict(zip(_ALL_LAYERS.channels, block.channels, strict=True))
        return baseline.predict(layers, block.truth != IGNORE)

    scores = {
        part: {
            "model": measured(evaluate(found.model, RegionBlocks(parts[part], found.model.bands))),
            "baseline": measured(evaluate_mask(by_baseline, RegionBlocks(parts[part], _ALL_LAYERS))),
        }
        for part in ("validation", "held out")
    }
    data = DataFacts(
        name="simulated regions",
        source=f"the simulator's domains {', '.join(TRAINING_DOMAINS)}, randomised, and {HELD_OUT_DOMAIN} as it is",
        licence="Apache-2.0",
        sha256="",
        command=_COMMAND,
        split="no region is in two parts; the held-out domain took no part in training or in the choice of checkpoint and mask",
        simulated=True,
        parts={part: _told(regions) for part, regions in parts.items()},
    )
    command = f"python -m modeling.training.shipped --band-set {run.bands} --threads {torch.get_num_threads()}"
    facts = RunFacts(run.recipe, run.seed, start, found.progress, cores(), command)
    limits = _LIMITS[run.bands] + " " + _COMMON_LIMITS
    return replace(found.model, card=card_of(found.model, data, facts, scores, limits=limits))


_ALL_LAYERS = bands.BandSet("layers", STORED_LAYERS, "the layers of a stored region")
_COMMON_LIMITS = (
    "The simulator's landslides, light and land cover are simplified. The augmentation (haze, gain, white patches of "
    "snow or missed cloud, unseen areas, a sub-pixel shift) and the simulator's haze and soil colours were adjusted "
    "after looking at one real Sentinel-2 pair (Iburi 2018), which has no labels: its maps were judged by eye only. "
    "Snow on the ground before or after the event makes maps poor, on leafless or dry ground more is missed. The "
    "baseline is the dNDVI-and-slope threshold tuned on the training regions."
)


def _told(regions: Sequence[StoredRegion]) -> dict[str, str]:
    """Domain -> its regions, in words."""
    told = {}
    for domain in dict.fromkeys(region.domain for region in regions):
        of = [region for region in regions if region.domain == domain]
        rows, columns = of[0].shape_yx
        seeds = ", ".join(str(region.seed) for region in of)
        told[domain] = f"{len(of)} regions of {rows} x {columns} pixels, seeds {seeds}"
    return told


def sample_of(model: LandslideModel, parts: Parts, weights: Path) -> dict[str, Any]:
    """Write the fingerprint of the training regions beside `weights`; returns what the card says of it."""
    return record_sample(
        weights,
        RegionBlocks(parts["training"], model.bands),
        RegionBlocks(parts["validation"], model.bands),
        model.channels,
        about=f"{len(parts['training'])} simulated regions of {', '.join(TRAINING_DOMAINS)}, randomised",
        simulated=True,
    )


def make(
    name: str, split: Split, *, out: Path, work: Path, workers: int, runs: Mapping[str, ShippedRun] = RUNS
) -> Path:
    """Train one model into `out` and write its card; returns the path of the weights.

    `work` keeps the simulated regions and, for each run, its checkpoint and its model: an interrupted run goes on from
    there, and a run that others start from is trained once. The baseline is tuned on the same training regions and
    stored in `out` as well.
    """
    run = runs[name]
    start = None
    if run.start:
        weights = model_path(work, run.start, runs)
        if not weights.with_suffix(".json").is_file():
            make(run.start, split, out=weights.parent, work=work, workers=workers, runs=runs)
        start = load_model(weights)
    parts = {
        "training": regions_of(work / "regions", split.training, workers),
        "validation": regions_of(work / "regions", split.validation, workers),
        "held out": regions_of(work / "regions", split.held_out, workers),
    }
    log.info("training %s: %d steps", name, run.recipe.steps)
    found = trained(run, parts, work / "runs" / name, start)
    baseline = baseline_for(parts["training"])
    model = with_card(found, run, parts, baseline, start)
    validation = RegionBlocks(parts["validation"], model.bands)
    about = f"validation: {', '.join(region.name for region in parts['validation'])}"
    model = replace(model, bfloat16=prove_bfloat16(model, validation, about, device="cpu"))
    save_model(model, model_path(work, name, runs).parent)
    sample = sample_of(model, parts, out / f"{model.name}.safetensors")
    model = replace(model, card={**model.card, **sample})
    path = save_model(model, out)
    if split.events:
        model = for_unseen_ground(path, regions_of(work / "regions", split.events, workers))
    save_baseline(baseline, out / BASELINE_FILE.name)
    write_card(path, model)
    for part, methods in model.card["scores"].items():
        f1 = {method: round(scored["pixels"]["f1"], 4) for method, scored in methods.items()}
        log.info("%s, %s regions, F1: %s", name, part, f1)
    return path


def for_unseen_ground(weights: Path, events: Sequence[StoredRegion]) -> LandslideModel:
    """Fit what `quakeslide calibrate` fits to a stored model, store it in its JSON, and return the model with it."""
    model, sample = load_model(weights), load_fingerprint(sample_path(weights))
    domains = dict.fromkeys(event.domain for event in events)
    about = {"command": _COMMAND, "simulated": True, "events": _told(events)}
    made = calibrated_on(
        model, RegionBlocks(events, model.bands), sample=sample, level=highest_level(len(domains)), about=about
    ).model
    store_description(weights, made)
    return made


def steps_within(minutes: float, run: ShippedRun, training: Sequence[StoredRegion]) -> int:
    """How many steps fit into `minutes` on this machine, from a throw-away run of a few."""
    trial = replace(run, recipe=replace(run.recipe, steps=10, validate_every=10))
    parts = {"training": training[1:], "validation": training[:1]}
    with tempfile.TemporaryDirectory() as scratch:
        found = trained(trial, parts, Path(scratch), None)
    return max(int(minutes * 60 * 10 / found.progress.seconds), 1)


def model_path(work: Path, name: str, runs: Mapping[str, ShippedRun]) -> Path:
    """Where the finished model of a run lies in the work folder."""
    run = runs[name]
    return work / "runs" / name / f"{model_name(run.recipe.network, run.bands)}.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m modeling.training.shipped", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="train the models of all band sets")
    which.add_argument(
        "--band-set", choices=tuple(RUNS), help="train the model of one band set, and what it starts from"
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="where the weights go (default: the package)")
    parser.add_argument("--work", type=Path, default=Path(".quakeslide/training"), help="regions and checkpoints")
    parser.add_argument("--minutes", type=float, help="about so long each run, instead of the runs' steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads, and processes that simulate")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    split = shipped_split()
    try:
        runs = RUNS
        if options.minutes is not None:
            training = regions_of(options.work / "regions", split.training, options.threads)
            runs = {
                name: replace(run, recipe=replace(run.recipe, steps=steps_within(options.minutes, run, training)))
                for name, run in RUNS.items()
            }
        for name in RUNS if options.all else (options.band_set,):
            make(name, split, out=options.out, work=options.work, workers=options.threads, runs=runs)
    except ModelingError as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The models that ship with the package: their regions, their recipes, and the command that makes them again.

`python -m modeling.train --all` simulates the regions once into a cache, tunes the baseline and trains every band set.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save

from modeling import bands, simulate
from modeling.augment import IGNORE
from modeling.baseline import BASELINE_FILE, Baseline, save_baseline, tune_baseline
from modeling.card import card_text
from modeling.checkpoint import Progress
from modeling.dataset import StoredRegion, open_region, store_region
from modeling.errors import ModelingError
from modeling.evaluate import Evaluation, evaluate, region_margin
from modeling.model import WEIGHTS_FOLDER, LandslideModel, load_model, model_name, save_model, stored_state
from modeling.train import Settings, steps_within, train

log = logging.getLogger(__name__)

BoolArray = npt.NDArray[np.bool_]

TRAINING_DOMAINS = ("iburi", "jiuzhaigou", "palu")
HELD_OUT_DOMAIN = "luding"
REGION_PX = 768
DATES = (2, 4)
"""Acquisitions a phase, fewest and most."""

_FINE = Settings("", steps=0, input_scale=2, patch_px=112, batch=6, warm_up_steps=100, validate_every=300)
RECIPES: Mapping[str, Settings] = {
    "ten-band-coarse": Settings("ten-band", steps=2400),
    "ten-band-fine": replace(_FINE, band_set="ten-band", start="ten-band-coarse", steps=1700),
    "ten-band": replace(
        _FINE,
        band_set="ten-band",
        start="ten-band-fine",
        steps=700,
        learning_rate=5e-4,
        warm_up_steps=50,
        validate_every=200,
        seed=1,
    ),
    "rgb-terrain": replace(_FINE, band_set="rgb-terrain", start="ten-band-fine", steps=1250),
    "rgb": replace(_FINE, band_set="rgb", start="rgb-terrain", steps=700),
}
"""Each starts from the weights of another where it says so: minutes on a CPU do not suffice from random ones."""
SHIPPED = ("ten-band", "rgb-terrain", "rgb")

_LIMITS = {
    "ten-band": "Needs near infrared before and after.",
    "rgb-terrain": "Without near infrared, bare fields and fresh cuttings on slopes are told from scars less well.",
    "rgb": "Sees one date only: old scars, quarries and bare rock cannot be told from fresh scars.",
}


@dataclass(frozen=True)
class RegionPlan:
    """One region to simulate."""

    domain: str
    """Preset of the simulator."""
    seed: int
    """Decides everything in it."""

    @property
    def name(self) -> str:
        """As the cache names it."""
        return f"{self.domain}-{self.seed}"


@dataclass(frozen=True)
class Split:
    """The regions of the shipped models; no region is in two of them, and the held-out domain in one only."""

    training: tuple[RegionPlan, ...]
    """Weights, normalisation and the baseline's thresholds are fitted to these."""
    validation: tuple[RegionPlan, ...]
    """Checkpoint, temperature and threshold are chosen on these."""
    held_out: tuple[RegionPlan, ...]
    """Only ever reported on."""


def shipped_split(training: int = 20, validation: int = 4, held_out: int = 4) -> Split:
    """`training` and `validation` regions of each training domain, `held_out` regions of the held-out domain.

    No two regions share a seed, so that seasons, clouds and terrain differ between domains as well.
    """

    def plans(first: int, each: int) -> tuple[RegionPlan, ...]:
        return tuple(
            RegionPlan(domain, first + 100 * number + index)
            for index in range(each)
            for number, domain in enumerate(TRAINING_DOMAINS)
        )

    held = tuple(RegionPlan(HELD_OUT_DOMAIN, 9000 + index) for index in range(held_out))
    return Split(plans(1000, training), plans(2000, validation), held)


def simulate_into(cache: Path, plan: RegionPlan, size_px: int = REGION_PX) -> Path:
    """Simulate one region, store it, return its folder; one that is there already is kept.

    Training domains are randomised by `simulate.vary`, the held-out domain is taken as it is.
    """
    folder = cache / plan.name
    if (folder / "region.json").is_file():
        return folder
    rng = np.random.default_rng(plan.seed)
    domain = simulate.domain(plan.domain)
    if plan.domain != HELD_OUT_DOMAIN:
        domain = simulate.vary(domain, rng)
    dates_pre, dates_post = (int(count) for count in rng.integers(DATES[0], DATES[1] + 1, 2))
    region = simulate.simulate_region(
        domain, seed=plan.seed, shape_yx=(size_px, size_px), dates_pre=dates_pre, dates_post=dates_post
    )
    layers, valid = simulate.layers_of(region)
    return store_region(cache, plan.domain, plan.seed, layers=layers, truth=region.truth, valid=valid)


def regions_of(cache: Path, plans: Sequence[RegionPlan], workers: int) -> list[StoredRegion]:
    """Open the planned regions, simulating the missing ones in `workers` processes."""
    missing = [plan for plan in plans if not (cache / plan.name / "region.json").is_file()]
    if missing:
        started = time.monotonic()
        with ProcessPoolExecutor(max_workers=workers) as pool:
            for done, folder in enumerate(pool.map(simulate_into, [cache] * len(missing), missing), start=1):
                left = (time.monotonic() - started) / done * (len(missing) - done)
                log.info("simulated %s (%d/%d)  ETA %.1f min", folder.name, done, len(missing), left / 60)
    return [open_region(cache / plan.name) for plan in plans]


def baseline_for(training: Sequence[StoredRegion]) -> Baseline:
    """The dNDVI-and-slope baseline tuned on these regions."""
    return tune_baseline(
        (region.name, region.layers(), np.asarray(region.truth) == 1, np.asarray(region.truth) != IGNORE)
        for region in training
    )


def with_card(
    model: LandslideModel,
    progress: Progress,
    settings: Settings,
    parts: Mapping[str, Sequence[StoredRegion]],
    baseline: Baseline,
    start: LandslideModel | None,
) -> LandslideModel:
    """`model` with its card: how it was made, and its scores beside the baseline's, measured here.

    `parts` holds the regions under the keys training, validation and held out; `start` is what the run started from.
    """

    def by_model(region: StoredRegion) -> BoolArray:
        margin = region_margin(model.margin, region, bands.band_set(model.band_set))
        return np.asarray(1 / (1 + np.exp(-margin / model.temperature)) >= model.threshold)

    def by_baseline(region: StoredRegion) -> BoolArray:
        return baseline.predict(region.layers(), np.asarray(region.truth) != IGNORE)

    scores = {
        part: {
            "model": _plain(evaluate(by_model, parts[part])),
            "baseline": _plain(evaluate(by_baseline, parts[part])),
        }
        for part in ("validation", "held out")
    }
    card: dict[str, Any] = {
        **model.card,
        "about": "trained on simulated data only",
        "licence": "Apache-2.0",
        "sha256": hashlib.sha256(save(stored_state(model.network))).hexdigest(),
        "parameters": sum(tensor.numel() for tensor in model.network.parameters()),
        "settings": asdict(settings),
        "region_px": parts["training"][0].shape_yx[0],
        "training_regions": [region.name for region in parts["training"]],
        "validation_regions": [region.name for region in parts["validation"]],
        "held_out_regions": [region.name for region in parts["held out"]],
        "hours": progress.seconds / 3600,
        "hours_in_all": progress.seconds / 3600 + (start.card["hours_in_all"] if start is not None else 0.0),
        "best_step": progress.best_step,
        "curve": [list(row) for row in progress.curve],
        "machine": f"{os.cpu_count()} CPU cores",
        "command": f"python -m modeling.train --band-set {settings.band_set} --threads {torch.get_num_threads()}",
        "scores": scores,
        "limits": _LIMITS.get(settings.band_set, "") + " " + _COMMON_LIMITS,
    }
    return replace(model, card=card)


_COMMON_LIMITS = (
    "The simulator's landslides, light and land cover are simplified. The augmentation (haze, gain, white patches of snow "
    "or missed cloud, unseen areas, a sub-pixel shift) and the simulator's haze and soil colours were adjusted after "
    "looking at one real Sentinel-2 pair (Iburi 2018), which has no labels: its maps were judged by eye only. Snow on the "
    "ground after the event makes maps poor."
)


def _plain(result: Evaluation) -> dict[str, dict[str, float]]:
    return {"pixels": {**result.pixels.scores(), **asdict(result.pixels)}, "objects": result.objects}


def make(
    recipe: str, split: Split, *, out: Path, work: Path, workers: int, recipes: Mapping[str, Settings] = RECIPES
) -> Path:
    """Train one model into `out` and write its card; returns the path of the weights.

    `work` keeps the simulated regions and, for each recipe, its checkpoint and its model: an interrupted run goes on
    from there, and a recipe that others start from is trained once. The baseline is tuned on the same training regions
    and stored in `out` as well.
    """
    settings = recipes[recipe]
    start = None
    if settings.start:
        weights = model_path(work, settings.start, recipes)
        if not weights.with_suffix(".json").is_file():
            make(settings.start, split, out=weights.parent, work=work, workers=workers, recipes=recipes)
        start = load_model(weights)
    parts = {
        "training": regions_of(work / "regions", split.training, workers),
        "validation": regions_of(work / "regions", split.validation, workers),
        "held out": regions_of(work / "regions", split.held_out, workers),
    }
    log.info("training %s: %d steps", recipe, settings.steps)
    model, progress = train(settings, parts["training"], parts["validation"], work / "runs" / recipe, start=start)
    baseline = baseline_for(parts["training"])
    model = with_card(model, progress, settings, parts, baseline, start)
    save_model(model, model_path(work, recipe, recipes).parent)
    path = save_model(model, out)
    save_baseline(baseline, out / BASELINE_FILE.name)
    path.with_suffix(".md").write_text(card_text(model), encoding="utf-8")
    for part, methods in model.card["scores"].items():
        f1 = {method: round(measured["pixels"]["f1"], 4) for method, measured in methods.items()}
        log.info("%s, %s regions, F1: %s", recipe, part, f1)
    return path


def model_path(work: Path, recipe: str, recipes: Mapping[str, Settings]) -> Path:
    """Where the finished model of a recipe lies in the work folder."""
    settings = recipes[recipe]
    return work / "runs" / recipe / f"{model_name(settings.network, settings.band_set)}.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m modeling.train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="train the models of all band sets")
    which.add_argument("--band-set", choices=SHIPPED, help="train the model of one band set, and what it starts from")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="where the weights go (default: the package)")
    parser.add_argument("--work", type=Path, default=Path(".quakeslide/training"), help="regions and checkpoints")
    parser.add_argument("--minutes", type=float, help="about so long each run, instead of the recipes' steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads, and processes that simulate")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    split = shipped_split()
    try:
        recipes = RECIPES
        if options.minutes is not None:
            training = regions_of(options.work / "regions", split.training, options.threads)
            recipes = {
                name: replace(settings, steps=steps_within(options.minutes, settings, training))
                for name, settings in RECIPES.items()
            }
        for recipe in SHIPPED if options.all else (options.band_set,):
            make(recipe, split, out=options.out, work=options.work, workers=options.threads, recipes=recipes)
    except ModelingError as error:
        log.error("%s", error)
        return 2
    return 0

"""Train a network on simulated regions: `python -m modeling.train --all` makes the weights that ship with the package.

The loss and the shape of the schedule are those of Dong et al. 2024 (focal + dice, Adam, warm-up, polynomial decay
0.9). Deviations: ten times their learning rate of 1e-4 and a schedule in steps instead of 50 epochs, because training
has minutes on a CPU; patches of 192 pixels instead of 256; augmentation as in `modeling.augment`, without resizing,
because a pixel is always 10 m here; the checkpoint of the best validation F1.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modeling import bands, networks
from modeling.augment import IGNORE, Augmentation
from modeling.calibrate import best_threshold, calibration_error, fit_temperature
from modeling.checkpoint import Progress, load_checkpoint, save_checkpoint
from modeling.dataset import ByteArray, FloatArray, PatchSampler, StoredRegion, channel_sample
from modeling.errors import DataError
from modeling.evaluate import evaluate, region_margin, validation_pixels
from modeling.forward import logits_of
from modeling.losses import focal_dice_loss, margin_of
from modeling.model import CLASSES, DEFAULT_NETWORK, LandslideModel, load_state, model_name, stored_state
from modeling.normalise import Normalisation, fit

log = logging.getLogger(__name__)

_POLY_POWER = 0.9


@dataclass(frozen=True)
class Settings:
    """One training run; with the same regions and thread count, the same settings give the same weights."""

    band_set: str
    """A name of `modeling.bands.BAND_SETS`."""
    steps: int
    """Optimiser steps in all."""
    network: str = DEFAULT_NETWORK
    """A name of `modeling.networks.names()`."""
    batch: int = 8
    """Patches a step."""
    patch_px: int = 192
    """Side of a patch in pixels."""
    learning_rate: float = 1e-3
    """Adam's, at its highest."""
    warm_up_steps: int = 150
    """Linear rise from a thousandth of the learning rate."""
    validate_every: int = 250
    """Steps between validations, and between checkpoints."""
    input_scale: int = 1
    """The network sees its input enlarged so many times; see `modeling.forward`."""
    start: str = ""
    """What the initial weights come from, for the record: the caller passes them to `train`."""
    normalisation: str = "standardise"
    """A name of `modeling.normalise.METHODS`."""
    seed: int = 0
    """Of the initial weights, the patches and the dropout."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Sizes of the random changes."""


def train(
    settings: Settings,
    training: Sequence[StoredRegion],
    validation: Sequence[StoredRegion],
    folder: Path,
    *,
    start: LandslideModel | None = None,
) -> tuple[LandslideModel, Progress]:
    """Train, or go on from `folder/checkpoint.safetensors`; returns the calibrated model of the best validation.

    A new run starts from the weights of `start` when given, of another band set if need be, else from random ones.
    The model's weights are already rounded as `save_model` stores them; its card is empty.
    """
    if shared := {region.name for region in training} & {region.name for region in validation}:
        raise DataError(f"regions {sorted(shared)} are in both training and validation")
    band_set = bands.band_set(settings.band_set)
    normalisation = fit(settings.normalisation, channel_sample(training, band_set))
    sampler = PatchSampler(
        training,
        band_set,
        patch_px=settings.patch_px,
        batch=settings.batch,
        seed=settings.seed,
        sizes=settings.augmentation,
    )
    torch.manual_seed(settings.seed)
    network = networks.create(settings.network, in_channels=len(band_set.channels), classes=CLASSES)
    if start is not None:
        network.load_state_dict(adapted_state(network, band_set.channels, start))
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)

    checkpoint = folder / "checkpoint.safetensors"
    progress, best = Progress(step=0, best_step=0, best_f1=-1.0, seconds=0.0), stored_state(network)
    if checkpoint.is_file():
        progress, best = load_checkpoint(checkpoint, network, optimiser, asdict(settings))
        log.info("going on from step %d of %d", progress.step, settings.steps)

    started, first, spent_before = time.monotonic(), progress.step, progress.seconds
    losses: list[float] = []
    for step, (channels, truth) in _prefetched(sampler, progress.step, settings.steps):
        network.train()
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout: the same after an interruption
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        logits = logits_of(network, normalisation, torch.from_numpy(channels), settings.input_scale)
        y = torch.from_numpy(truth)
        loss = focal_dice_loss(logits, y, y != IGNORE)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())

        done, seconds = step + 1, time.monotonic() - started
        if done % 50 == 0:
            left = seconds / (done - first) * (settings.steps - done)
            log.info("step %d/%d  loss %.4f  ETA %.1f min", done, settings.steps, np.mean(losses[-50:]), left / 60)
        if done % settings.validate_every == 0 or done == settings.steps:
            f1 = _validation_f1(settings, network, normalisation, validation)
            row = (done, float(np.mean(losses)), f1)
            progress = replace(progress, step=done, seconds=spent_before + seconds, curve=(*progress.curve, row))
            losses.clear()
            if f1 > progress.best_f1:
                progress, best = replace(progress, best_step=done, best_f1=f1), stored_state(network)
            save_checkpoint(checkpoint, network, optimiser, best=best, progress=progress, settings=asdict(settings))
            log.info("step %d/%d  validation F1 %.4f  (best %.4f)", done, settings.steps, f1, progress.best_f1)

    load_state(network, best)
    return calibrated(settings, network.eval(), normalisation, validation), progress


def steps_within(minutes: float, settings: Settings, training: Sequence[StoredRegion]) -> int:
    """How many steps fit into `minutes` on this machine, from a throw-away run of a few."""
    trial = replace(settings, steps=10, validate_every=10)
    with tempfile.TemporaryDirectory() as scratch:
        _, progress = train(trial, training[1:], training[:1], Path(scratch))
    return max(int(minutes * 60 * trial.steps / progress.seconds), 1)


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then (1 - progress)^0.9 of the highest rate down to 0 at the last step."""
    if step < settings.warm_up_steps:
        return settings.learning_rate * max(step / settings.warm_up_steps, 1e-3)
    after = (step - settings.warm_up_steps) / max(settings.steps - settings.warm_up_steps, 1)
    return float(settings.learning_rate * (1 - after) ** _POLY_POWER)


def calibrated(
    settings: Settings, network: nn.Module, normalisation: Normalisation, validation: Sequence[StoredRegion]
) -> LandslideModel:
    """Fit temperature and threshold on validation regions and wrap all up; the card holds what was measured there."""
    model = LandslideModel(
        name=model_name(settings.network, settings.band_set),
        network_name=settings.network,
        network=network,
        band_set=settings.band_set,
        normalisation=normalisation,
        temperature=1.0,
        threshold=0.5,
        weights_hash="",
        card={},
        input_scale=settings.input_scale,
    )
    margin, truth = validation_pixels(model.margin, validation, bands.band_set(settings.band_set))
    temperature = fit_temperature(margin, truth)
    probability = (1 / (1 + np.exp(-margin / temperature))).astype(np.float32)
    threshold, f1 = best_threshold(probability, truth)
    card = {"validation_f1": f1, "validation_calibration_error": calibration_error(probability, truth)}
    return replace(model, temperature=temperature, threshold=threshold, card=card)


def adapted_state(network: nn.Module, channels: Sequence[str], start: LandslideModel) -> dict[str, torch.Tensor]:
    """The state of `network` with the weights of `start`, whose input channels may be others.

    The convolution that reads the input keeps the filters of the channels that both have; others stay as they are in
    `network`. Raises `DataError` when the networks differ in more than that.
    """
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, tensor in start.network.state_dict().items():
        mine = state.get(name)
        if mine is None or mine.ndim != tensor.ndim:
            raise DataError(f"cannot start from {start.name}: it has {name}, and this network has not")
        if mine.shape == tensor.shape:
            mine.copy_(tensor)
        elif mine.shape[1] == len(channels) and tensor.shape[1] == len(start.channels):
            for here, channel in enumerate(channels):
                if channel in start.channels:
                    mine[:, here] = tensor[:, start.channels.index(channel)]
        else:
            raise DataError(f"cannot start from {start.name}: {name} has shape {tuple(tensor.shape)}")
    return state


def _validation_f1(
    settings: Settings, network: nn.Module, normalisation: Normalisation, regions: Sequence[StoredRegion]
) -> float:
    """Pixel F1 at probability 0.5."""
    network.eval()
    band_set = bands.band_set(settings.band_set)

    def margin(x: torch.Tensor) -> torch.Tensor:
        return margin_of(logits_of(network, normalisation, x, settings.input_scale))

    result = evaluate(lambda region: region_margin(margin, region, band_set) >= 0, regions)
    return result.pixels.scores()["f1"]


def _prefetched(sampler: PatchSampler, first: int, last: int) -> Iterator[tuple[int, tuple[FloatArray, ByteArray]]]:
    """(number, batch) from `first` up to `last`, the next one being drawn while the present one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(sampler.draw, first)
        for number in range(first, last):
            batch = coming.result()
            if number + 1 < last:
                coming = pool.submit(sampler.draw, number + 1)
            yield number, batch


if __name__ == "__main__":
    from modeling.shipped import main

    sys.exit(main())

"""The training loop, for every network, recipe and data set.

A run is decided by its recipe, its data and its seed. It can be killed at any moment and started again: batches, dropout
and learning rate depend on the number of the step only, so the steps since the last checkpoint are done again and give
the same weights. On a CPU with an equal number of threads they are the same bit by bit; on a GPU, some of whose kernels
add in any order, they are the same up to that rounding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modeling import networks
from modeling.bands import BandSet
from modeling.calibrated import moved_sure_margin
from modeling.data.batches import IGNORE, Blocks, Sampler
from modeling.data.normalise import Normalisation
from modeling.errors import DataError
from modeling.forward import logits_of
from modeling.model import LandslideModel, load_state, model_name, stored_state
from modeling.recipes import Plan, Recipe, rate
from modeling.scoring.calibrate import best_threshold, calibration_error, fit_temperature
from modeling.scoring.reliability import MarginHistogram
from modeling.training import losses
from modeling.training.checkpoint import load_checkpoint, save_checkpoint
from modeling.training.denormals import flushed_denormals
from modeling.training.depthwise import depthwise_in_float32
from modeling.training.feed import fed
from modeling.training.frozen import freeze, hold
from modeling.training.optimise import optimiser_for, set_rate
from modeling.training.progress import Pace, Progress, Row, Tick
from modeling.training.settle import settle_norms
from modeling.training.starting import adapted_state
from modeling.training.training_log import TrainingLog
from modeling.training.validation import Validation, require_usable, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
_WORKERS = {"cpu": 0, "cuda": 4}
_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class TrainedModel:
    """What a run ends with."""

    model: LandslideModel
    """The best weights by validation, rounded as they will be stored, calibrated on the validation set."""
    progress: Progress
    """How it went."""
    leads: bool = True
    """False in the further processes of a run on several devices, which must write nothing."""


@flushed_denormals()
def fit(  # noqa: PLR0915 - a loop is read from top to bottom
    recipe: Recipe,
    sampler: Sampler,
    validation: Blocks,
    normalisation: Normalisation,
    bands: BandSet,
    folder: Path,
    *,
    seed: int = 0,
    steps_an_epoch: int | None = None,
    start: LandslideModel | None = None,
    frozen: Sequence[str] = (),
    device: str = "auto",
    devices: int = 1,
    workers: int | None = None,
    name: str | None = None,
    storage: str = "float16",
    checkpoint_seconds: float = 60.0,
    data: Mapping[str, Any] | None = None,
    tell: Callable[[Tick], None] | None = None,
) -> TrainedModel:
    """Train, or go on from `folder/checkpoint.safetensors`; a run that has ended returns its model at once.

    With several `devices` each step takes `recipe.batch` patches on each of them, and the program that called this is
    started again for each further device (torch's distributed data parallel): call it before anything is written.
    `steps_an_epoch` counts steps of all devices together; recipes that count in epochs need it. `workers` processes draw
    the patches ahead, 0 for this one when a step asks; None takes what suits the device. `storage` is what the model's
    matrices are rounded to. `frozen` names modules of the network that stay as they are, batch-norm statistics included
    (`modeling.adaptation.freezing` knows those of each network). `data` says, in plain values, of which data `sampler` and
    `validation` are: a checkpoint is gone on from only with the same. `tell` may raise to stop the run, which can go on
    later.

    Raises `DataError` for data or recipes that cannot be trained and when the loss is no longer a number, `WeightsError`
    when the checkpoint is damaged or of another run.
    """
    plan, loss_of = recipe.plan(steps_an_epoch), losses.loss(recipe.loss)
    require_usable(validation, bands.channels)
    fabric = _launched(device, devices, recipe.precision)
    torch.manual_seed(seed)
    network = networks.create(recipe.network, in_channels=len(bands.channels), classes=recipe.classes)
    if start is not None:
        network.load_state_dict(adapted_state(network, bands.channels, start))
    held = freeze(network, frozen)
    optimiser = optimiser_for(recipe.optimiser, network)
    trained = fabric.setup_module(network)

    progress, best = Progress(), stored_state(network, storage)
    settings = _identity(recipe, plan, bands, normalisation, start) | {
        "seed": seed,
        "devices": devices,
        "storage": storage,
    }
    if frozen:
        settings["frozen"] = list(frozen)
    settings |= {f"data {what}": value for what, value in (data or {}).items()}
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file():
        progress, best = load_checkpoint(checkpoint, network, optimiser, settings)
        log.info("going on from step %d of %d", progress.step, plan.steps)
    first = progress.step if not progress.stopped_early else plan.steps

    def settled() -> None:
        with fabric.autocast():
            settle_norms(
                network, sampler, normalisation,
                channels=len(bands.channels), batch=recipe.batch, input_scale=recipe.input_scale, device=fabric.device,
                held=held,
            )  # fmt: skip

    def validated() -> Validation:
        def logits(x: torch.Tensor) -> torch.Tensor:
            with fabric.autocast():
                return logits_of(network.eval(), normalisation, x, recipe.input_scale)

        return validate(logits, validation, loss_of, batch=recipe.batch, device=fabric.device)

    pace = Pace(checkpoint_seconds, spent_before=progress.seconds)
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=fabric.device)
    events = (
        TrainingLog(folder, step=first, tell=tell) if fabric.is_global_zero and first < plan.steps else nullcontext()
    )
    numbers = range(first * devices + fabric.global_rank, plan.steps * devices, devices)
    slow_depthwise = fabric.device.type == "cpu" and recipe.precision == "bfloat16"
    drawing = workers if workers is not None else _WORKERS[fabric.device.type]
    with (
        closing(fed(sampler, numbers, len(bands.channels), workers=drawing, device=fabric.device)) as batches,
        events,
        depthwise_in_float32(network) if slow_depthwise else nullcontext(),
    ):
        for number, (x, y) in zip(numbers, batches, strict=True):
            if progress.step == first or not network.training:  # it walks through all modules, so not each time
                trained.train()
                hold(held)
            torch.manual_seed(seed * 1_000_003 + number)  # dropout: the same after an interruption
            learning_rate = recipe.optimiser.learning_rate * rate(recipe.schedule, progress.step, plan)
            set_rate(optimiser, learning_rate)
            loss = loss_of(logits_of(trained, normalisation, x, recipe.input_scale), y, y != IGNORE)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimiser.step()
            loss_sum += loss.detach()
            progress, row = replace(progress, step=progress.step + 1), None

            if progress.step % plan.validate_every == 0 or progress.step == plan.steps:
                _finite(loss, progress)
                found = None
                if fabric.is_global_zero:
                    settled()
                    found = validated()
                scores = fabric.broadcast((found.loss, found.f1) if found is not None else (0.0, 0.0))
                progress = replace(progress, loss_sum=float(loss_sum))
                row = Row(progress.step, progress.mean_loss(), *scores, learning_rate)
                progress = progress.with_row(row, select_by=recipe.select_by, patience=recipe.patience)
                loss_sum.zero_()
                if progress.best_step == progress.step:
                    best = stored_state(network, storage)
            if isinstance(events, TrainingLog) and (pace.tells() or row is not None):
                speed = (progress.step - first) * len(y) * devices / pace.since_begun()
                value = _finite(loss, progress)
                events.tell(Tick(progress.step, plan.steps, value, learning_rate, speed, row, progress.curve))
            ended = progress.step == plan.steps or progress.stopped_early
            if (pace.saves() or ended) and fabric.is_global_zero:
                _finite(loss, progress)
                now = pace.seconds()
                progress = replace(progress, seconds=now, loss_sum=float(loss_sum))
                save_checkpoint(checkpoint, network, optimiser, best=best, progress=progress, settings=settings)
                pace.saved(pace.seconds() - now)
            if ended:
                break

    load_state(network, best)
    network.requires_grad_(requires_grad=True)  # whoever trains the model on decides anew what is frozen
    margins = validated().margins
    model = LandslideModel(
        name or model_name(recipe.network, bands.name), recipe.network, network.to("cpu"), bands, normalisation,
        temperature=1.0, threshold=0.5, weights_hash="", card={}, input_scale=recipe.input_scale, classes=recipe.classes,
        storage=storage,
    )  # fmt: skip
    return TrainedModel(calibrated(model, margins), progress, leads=fabric.is_global_zero)


def calibrated(model: LandslideModel, margins: MarginHistogram) -> LandslideModel:
    """`model` with the temperature and threshold that fit its margins on a validation set; its card says how well.

    Of a model that keeps high probabilities back as much is kept back as before.
    """
    temperature = fit_temperature(margins)
    threshold, f1 = best_threshold(margins, temperature)
    error = calibration_error(margins, temperature)
    card = {**model.card, "validation_f1": f1, "validation_calibration_error": error}
    sure_margin = moved_sure_margin(model.sure_margin, model.temperature, temperature, threshold)
    return replace(model, temperature=temperature, threshold=threshold, sure_margin=sure_margin, card=card)


def _launched(device: str, devices: int, precision: str) -> Fabric:
    """Where the run computes; with several devices, one process each, of which this is one from here on."""
    from lightning_fabric import Fabric  # takes a second to import, which prediction need not wait for

    cuda = torch.cuda.is_available()
    if device not in {"auto", "cpu", "cuda"} or (device == "cuda" and not cuda):
        raise DataError(
            f"cannot train on device {device!r}: auto and cpu are possible here{', and cuda' if cuda else ''}"
        )
    kind = "cuda" if cuda and device != "cpu" else "cpu"
    if devices < 1 or (kind == "cuda" and devices > torch.cuda.device_count()):
        there = torch.cuda.device_count() if kind == "cuda" else "any number of"
        raise DataError(f"cannot train on {devices} devices: there are {there} of kind {kind}")
    for quiet in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=_PRECISIONS[precision],  # type: ignore[arg-type]  # a literal type of theirs
    )
    if devices > 1:
        fabric.launch()
    return fabric


def _identity(
    recipe: Recipe, plan: Plan, bands: BandSet, normalisation: Normalisation, start: LandslideModel | None
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from, besides plain numbers."""
    return {
        "recipe": recipe.to_json(),
        "plan": vars(plan),
        "bands": list(bands.channels),
        "normalisation": normalisation.to_json(),
        "start": start.weights_hash if start is not None else "",
    }


def _finite(loss: torch.Tensor, progress: Progress) -> float:
    """The loss as a number; `DataError` when it is none, before weights that are none either are stored."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DataError(
            f"the loss is {value} at step {progress.step}: lower the learning rate, or look for channels of the training"
            " data with values that are not physical"
        )
    return value

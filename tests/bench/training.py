"""Training: all that `modeling.training.train.fit` does against a bare loop over batches that are in memory already.

*bare loop*: forward, loss, backward and step of the optimiser, over the same few batches again and again, normalised
and on the device before the clock starts; nothing is drawn, augmented, validated, logged or stored. *fit*:
`modeling.training.train.fit` on a patch data set on disk (Zarr, ten bands, 88 px), with the recipe's augmentation,
normalisation, learning rate, logs and progress, counted until the last half second before its one validation; *fit,
validated* is the same run to the end of that, for which batch norms are settled on 64 patches. Both train one network
of the same weights with the recipe of its paper, in patches a second, in turn, with as many threads as torch takes by
itself. *draw alone* is how many patches a second one thread draws and augments when nothing else runs. Where there is a
GPU it trains there, in bfloat16 as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from modeling import networks
from modeling.bands import band_set
from modeling.data.augment import augmentation
from modeling.data.batches import IGNORE
from modeling.data.normalise import Normalisation
from modeling.data.patch_store import About, Patch, writing
from modeling.data.patches import PatchSet, StoredSampler, fit_normalisation, open_patches
from modeling.recipes import Recipe, recipe
from modeling.training import losses
from modeling.training.denormals import flushed_denormals
from modeling.training.optimise import optimiser_for
from modeling.training.progress import Tick
from modeling.training.train import fit

from .cases import BenchError, Case, Group, Setting

BANDS = band_set("ten-band")
PATCH_PX = 88
PRELOADED = 4
"""Batches that the bare loop takes in turn."""


@dataclass(frozen=True)
class Size:
    """How much is done in one repetition."""

    patches: int
    """Of the data set."""
    seconds: float
    """About so long trains each case: short, so that ours and the limit meet the same moods of a shared machine."""


def groups(setting: Setting) -> Iterator[Group]:
    """For each network: the bare loop, and `fit`."""
    size = Size(12, 0.0) if setting.quick else Size(240, 8.0)
    data = open_patches(_written(setting.scratch / "patches.zarr", size.patches))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with flushed_denormals():  # for the bare loop; `fit` sets it itself
        for name, precision in _trained(device):
            yield _group(replace(recipe(name), precision=precision), data, device, setting, size)


def _trained(device: torch.device) -> list[tuple[str, str]]:
    """Networks and precisions: a light one, which a slow data path starves first, and a heavy one."""
    chosen = [("msf-litenet", "float32"), ("resu-senet", "float32")]
    return chosen + ([(name, "bfloat16") for name, _ in chosen] if device.type == "cuda" else [])


def _group(made: Recipe, data: PatchSet, device: torch.device, setting: Setting, size: Size) -> Group:
    normalisation = fit_normalisation(data, BANDS, made.normalisation)
    sampler = data.sampler(
        BANDS, batch=made.batch, seed=0, augmentation=augmentation(made.augmentation), patch_px=PATCH_PX
    )
    loop = _Bare(made, sampler, normalisation, device)
    steps = max(int(size.seconds / max(loop.seconds(3) / 3, 1e-4)), 4)
    setting.say(f"{made.name}: {steps} steps of {made.batch} patches each")
    folders, to_the_end = iter(range(10_000)), [0.0]

    def ours() -> float:
        folder = setting.scratch / f"{made.name}-{next(folders)}"
        speed, to_the_end[0] = _fitted(made, sampler, data, normalisation, steps, device, folder)
        return speed

    return Group(
        f"train {made.name}, {made.precision}, {device.type}",
        "patches/s",
        (
            Case("bare loop", "limit", lambda: steps * made.batch / loop.seconds(steps)),
            Case("fit", "ours", ours),
            Case("fit, validated", "fact", lambda: to_the_end[0]),
            Case("draw alone", "fact", _drawn(sampler, max(steps // 4, 4))),
        ),
    )


class _Bare:
    """Forward, loss, backward, step."""

    def __init__(
        self, made: Recipe, sampler: StoredSampler, normalisation: Normalisation, device: torch.device
    ) -> None:
        torch.manual_seed(0)
        self.network = networks.create(made.network, in_channels=len(BANDS.channels), classes=made.classes).to(device)
        self.optimiser = optimiser_for(made.optimiser, self.network)
        self.loss, self.device = losses.loss(made.loss), device
        self.half = torch.autocast(device.type, torch.bfloat16, enabled=made.precision == "bfloat16")
        self.batches = []
        for number in range(PRELOADED):
            x, y = (torch.from_numpy(part).to(device) for part in sampler.draw(number))
            self.batches.append((normalisation.apply(x).contiguous(memory_format=torch.channels_last), y, y != IGNORE))

    def seconds(self, steps: int) -> float:
        """Train so many steps."""
        self.network.train()
        _wait(self.device)
        began = perf_counter()
        for step in range(steps):
            x, truth, valid = self.batches[step % PRELOADED]
            with self.half:
                logits = self.network(x)
            loss = self.loss(logits.float(), truth, valid)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        _wait(self.device)
        took = perf_counter() - began
        if not torch.isfinite(loss.detach()):
            raise BenchError("the bare loop's loss is no number: its speed means nothing")
        return took


def _fitted(
    made: Recipe, sampler: StoredSampler, data: PatchSet, normalisation: Normalisation, steps: int,
    device: torch.device, folder: Path,
) -> tuple[float, float]:  # fmt: skip
    """Patches a second of `fit` from its first step: to the last tick before its validation, and to the end of that."""
    run = replace(made, steps=steps, epochs=None, validate_every=steps, patience=None)
    told: list[Tick] = []
    fit(
        run, sampler, data.blocks("validation", BANDS), normalisation, BANDS, folder,
        steps_an_epoch=steps, device=device.type, checkpoint_seconds=1e9, tell=told.append,
    )  # fmt: skip
    if told[-1].step != steps:
        raise BenchError(f"training ended at step {told[-1].step} of {steps}")
    before = [tick for tick in told if tick.row is None] or told  # none where all is over in half a second
    return before[-1].patches_a_second, told[-1].patches_a_second


def _drawn(sampler: StoredSampler, count: int) -> Callable[[], float]:
    def run() -> float:
        began = perf_counter()
        for number in range(count):
            sampler.draw(number)
        return count * sampler.batch / (perf_counter() - began)

    return run


def _written(path: Path, count: int) -> Path:
    """Noise, half of the patches with a landslide, and four patches to validate on."""
    rng = np.random.default_rng(0)
    about = About("noise, for speed only", "CC0-1.0", "tests/bench/training.py", "by number")
    with writing(path, BANDS.requires, PATCH_PX, about) as writer:
        for index in range(count + 4):
            truth = np.zeros((PATCH_PX, PATCH_PX), np.uint8)
            if index % 2 == 0:
                truth[20:40, 30:60] = 1
            layers = rng.uniform(0.02, 0.4, (len(BANDS.requires), PATCH_PX, PATCH_PX)).astype(np.float32)
            writer.append(Patch(layers, truth, f"patch-{index}", "noise", part=0 if index < count else 1, pixel=10.0))
    return path


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()

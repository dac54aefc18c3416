"""Every network learns eight patches by heart: IoU of 0.95 in evaluation mode, within a minute or a few.

A network that cannot do that has a branch that is not connected, a norm that keeps wrong statistics, or a decoder whose
pixels lie beside those of its input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from modeling import networks

PATCHES, CHANNELS = 8, 4


@dataclass(frozen=True)
class Lesson:
    """How long and on what a network learns."""

    patch_px: int
    """Side of a patch: a landslide fills a third of it, whatever its size."""
    learning_rate: float
    steps: int


# Logits at 1/32 of the patch, resized, can't follow a curve within small ones: with logits fitted directly to these
# very shapes the IoU ends at 0.84 in patches of 96 pixels, 0.93 of 128, 0.96 of 160, 0.97 of 192 and 0.98 of 224.
COARSE = Lesson(patch_px=224, learning_rate=1e-3, steps=60)
LESSONS = {
    "msf-litenet": Lesson(patch_px=64, learning_rate=1e-2, steps=80),
    "fcn": COARSE,
    "deeplabv3": COARSE,
    "cgnet": Lesson(patch_px=96, learning_rate=1e-2, steps=40),
    "lanet": Lesson(patch_px=96, learning_rate=1e-3, steps=50),
    "resunet-r50": Lesson(patch_px=64, learning_rate=1e-3, steps=40),
    "dfpenet": Lesson(patch_px=64, learning_rate=1e-3, steps=60),
    "mffenet": Lesson(patch_px=64, learning_rate=1e-3, steps=60),
    "macu-net": Lesson(patch_px=32, learning_rate=3e-3, steps=40),
    "unetplusplus": Lesson(patch_px=32, learning_rate=3e-3, steps=40),
}
FINE = Lesson(patch_px=32, learning_rate=1e-3, steps=40)
"""For those whose logits are made of features of the input's size."""


def patches(px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images (patch, channel, y, x) in which an elongated landslide is brighter or darker, and their truth."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:px, 0:px] / (px - 1)
    contrast = np.array([1.0, -1.0, 0.5, 0.0])[:, None, None]
    images, truths = [], []
    for _ in range(PATCHES):
        middle_y, middle_x = random.uniform(0.42, 0.58, 2)
        direction = random.uniform(0, np.pi)
        long, short = random.uniform(0.38, 0.46), random.uniform(0.26, 0.34)
        along = (x - middle_x) * np.cos(direction) + (y - middle_y) * np.sin(direction)
        across = (y - middle_y) * np.cos(direction) - (x - middle_x) * np.sin(direction)
        truth = (along / long) ** 2 + (across / short) ** 2 < 1
        images.append(random.normal(size=(CHANNELS, px, px)) + contrast * truth)
        truths.append(truth)
    return torch.from_numpy(np.stack(images)).float(), torch.from_numpy(np.stack(truths))


def learn(network: nn.Module, images: torch.Tensor, truth: torch.Tensor, lesson: Lesson) -> None:
    """Adam on cross-entropy and dice, the rate rising and falling; then the norms settle, as at the end of a training."""
    optimiser = torch.optim.Adam(network.parameters(), lesson.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lesson.learning_rate, total_steps=lesson.steps, pct_start=0.2
    )
    wanted = truth.float()
    network.train()
    for _ in range(lesson.steps):
        logits = network(images)[:, 0]
        probability = logits.sigmoid()
        overlap = 2 * (probability * wanted).sum() / (probability.sum() + wanted.sum())
        loss = functional.binary_cross_entropy_with_logits(logits, wanted) + 1 - overlap
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    update_bn([images], network)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", networks.names())
def test_a_network_learns_eight_patches_by_heart(name: str) -> None:
    torch.manual_seed(0)
    lesson = LESSONS.get(name, FINE)
    network = networks.create(name, in_channels=CHANNELS, classes=1)
    images, truth = patches(lesson.patch_px)
    images = images.to(memory_format=torch.channels_last)
    learn(network, images, truth, lesson)
    network.eval()
    with torch.inference_mode():
        found = network(images)[:, 0] > 0
    assert int((found & truth).sum()) / int((found | truth).sum()) >= 0.95

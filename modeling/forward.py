"""From physical channel values to logits: what training, validation and every prediction do in the same way."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from modeling.data.normalise import Normalisation


def logits_of(network: nn.Module, normalisation: Normalisation, x: torch.Tensor, input_scale: int = 1) -> torch.Tensor:
    """Logits (batch, classes, y, x), float32, of physical values (batch, channel, y, x).

    With `input_scale` s above 1 the network sees the normalised input enlarged s times (bilinear), and each pixel gets
    the mean of its s x s logits. A network whose finest features have half the input's resolution then draws landslides
    of a few pixels sharply; it costs s**2 times the compute.
    """
    logits: torch.Tensor = network(prepared(normalisation, x, input_scale)).float()
    return functional.avg_pool2d(logits, input_scale) if input_scale > 1 else logits


def prepared(normalisation: Normalisation, x: torch.Tensor, input_scale: int = 1) -> torch.Tensor:
    """What the network itself sees of physical values: normalised, enlarged, channels last in memory."""
    normalised = normalisation.apply(x)
    if input_scale > 1:
        normalised = functional.interpolate(normalised, scale_factor=input_scale, mode="bilinear", align_corners=False)
    return normalised.contiguous(memory_format=torch.channels_last)

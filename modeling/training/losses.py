"""Losses over logits (batch, classes, y, x), with a mask of the pixels that count.

`truth` is (batch, y, x) of 0 and 1; `valid` is (batch, y, x) bool or None for all pixels. Two classes are softmaxed;
one class is a single logit of "landslide". All compute in float32, whatever the logits' type, and sum over the valid
pixels of the whole batch: a patch without landslides then has a loss too. A recipe names its loss; see `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch.nn import functional

from modeling.errors import ModelingError


class Loss(Protocol):
    """What training minimises."""

    def __call__(self, logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None, /) -> torch.Tensor:
        """A scalar float32; finite when no pixel is valid."""
        ...


def cross_entropy_loss(logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over valid pixels of -log p_t.

    For two logits this is the softmax cross-entropy, for one the binary cross-entropy: both depend on the margin only.
    """
    margin, positive, weight = _flatten(logits, truth, valid)
    per_pixel = functional.binary_cross_entropy_with_logits(margin, positive, reduction="none")
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1)


def focal_loss(
    logits: torch.Tensor,
    truth: torch.Tensor,
    valid: torch.Tensor | None = None,
    *,
    alpha: float = 0.5,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Mean over valid pixels of alpha_t (1 - p_t)^gamma (-log p_t) (Lin et al. 2017, equation 5)."""
    margin, positive, weight = _flatten(logits, truth, valid)
    cross_entropy = functional.binary_cross_entropy_with_logits(margin, positive, reduction="none")
    alpha_t = alpha * positive + (1 - alpha) * (1 - positive)
    per_pixel = alpha_t * (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1)


def landslide_dice_loss(
    logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None, *, smooth: float = 1e-5
) -> torch.Tensor:
    """1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth), of the landslides alone (Yang et al. 2024).

    The dice of papers with one sigmoid output. They say "a small epsilon" and not which: 1e-5 is chosen here.
    """
    margin, positive, weight = _flatten(logits, truth, valid)
    return 1 - _dice(torch.sigmoid(margin), positive, weight, smooth)


def dice_loss(
    logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None, *, smooth: float = 1e-5
) -> torch.Tensor:
    """1 - mean over {background, landslide} of (2 sum(p t) + smooth) / (sum p + sum t + smooth).

    The dice of papers with two softmaxed outputs (Dong et al. 2024; Milletari et al. 2016, without their squares).
    """
    margin, positive, weight = _flatten(logits, truth, valid)
    probability = torch.sigmoid(margin)
    landslide = _dice(probability, positive, weight, smooth)
    return 1 - (landslide + _dice(1 - probability, 1 - positive, weight, smooth)) / 2


def focal_dice_loss(logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Focal (alpha 0.5, gamma 2) plus two-class dice (smooth 1e-5): the loss of Dong et al. 2024."""
    return focal_loss(logits, truth, valid) + dice_loss(logits, truth, valid)


def boundary_aware_loss(logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy weighted by `boundary_weights`, summed and divided by the number of valid pixels (Xu et al. 2022)."""
    margin, positive, weight = _flatten(logits, truth, valid)
    per_pixel = functional.binary_cross_entropy_with_logits(margin, positive, reduction="none")
    per_pixel = per_pixel * boundary_weights(positive, weight)
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1)


def boundary_weights(
    positive: torch.Tensor, known: torch.Tensor, *, floor: float = 0.5, gain: float = 1.5, radius_px: int = 17
) -> torch.Tensor:
    """clamp(floor + gain x blurred edge, 0, 4), float32 (batch, y, x); `positive` and `known` are 0 and 1 (batch, y, x).

    An edge pixel has a neighbour (left, right, above, below) of the other class, both known. The blur is a Gaussian of
    variance 1.5 x `radius_px`, cut off at `radius_px`: the release's 35 x 35 pixels. Far from edges the weight is
    `floor`; along a straight one it rises to 0.73, and higher where scars are small and close together.

    Corrected here: the release takes a difference of zero for an edge as well, so that all flat ground counts as one;
    and it blurs without padding and stretches the result, which moves it against the truth.
    """
    edge = torch.zeros_like(positive)
    down = (positive[:, 1:] != positive[:, :-1]).float() * known[:, 1:] * known[:, :-1]
    across = (positive[:, :, 1:] != positive[:, :, :-1]).float() * known[:, :, 1:] * known[:, :, :-1]
    for pixels, differs in (
        (edge[:, 1:], down),
        (edge[:, :-1], down),
        (edge[:, :, 1:], across),
        (edge[:, :, :-1], across),
    ):
        torch.maximum(pixels, differs, out=pixels)
    offsets = torch.arange(-radius_px, radius_px + 1, dtype=torch.float32, device=positive.device)
    kernel = torch.exp(-(offsets**2) / (3.0 * radius_px))

    def blurred(image: torch.Tensor) -> torch.Tensor:
        once = functional.conv2d(image[:, None], kernel.view(1, 1, -1, 1), padding=(radius_px, 0))
        return functional.conv2d(once, kernel.view(1, 1, 1, -1), padding=(0, radius_px))[:, 0]

    with torch.autocast(positive.device.type, enabled=False):
        # Divided by the part of the kernel inside the image, so that an edge at the image's rim weighs what others do.
        inside = blurred(torch.ones_like(edge[:1]))
        return (floor + gain * blurred(edge) / inside).clamp(0, 4)


def margin_of(logits: torch.Tensor) -> torch.Tensor:
    """(batch, y, x): the logit of "landslide" against background, from two logits or from one."""
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


LOSSES: Mapping[str, Loss] = {
    "dice": landslide_dice_loss,
    "two-class-dice": dice_loss,
    "focal": focal_loss,
    "focal+dice": focal_dice_loss,
    "cross-entropy": cross_entropy_loss,
    "boundary-aware": boundary_aware_loss,
}
"""The names that recipes use."""


def loss(name: str) -> Loss:
    """The loss called `name`; raises `ModelingError` naming the ones there are."""
    if name not in LOSSES:
        raise ModelingError(f"unknown loss {name!r}: choose one of {', '.join(LOSSES)}")
    return LOSSES[name]


def _dice(probability: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor, smooth: float) -> torch.Tensor:
    both = (probability * positive * weight).sum()
    return (2 * both + smooth) / ((probability * weight).sum() + (positive * weight).sum() + smooth)


def _flatten(
    logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    margin = margin_of(logits.float())
    weight = torch.ones_like(margin) if valid is None else valid.float()
    # Where nothing is known the truth may hold any code: it must not reach the arithmetic.
    positive = ((truth == 1) & (weight > 0)).float()
    return margin, positive, weight

"""Losses over logits (batch, classes, y, x), with a mask of the pixels that count.

`truth` is (batch, y, x) of 0 and 1; `valid` is (batch, y, x) bool or None for all pixels. Two classes are softmaxed;
one class is a single logit of "landslide". All compute in float32, whatever the logits' type.
"""

from __future__ import annotations

import torch
from torch.nn import functional


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


def dice_loss(
    logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None, *, smooth: float = 1e-5
) -> torch.Tensor:
    """1 - mean over {background, landslide} of (2 sum(p t) + smooth) / (sum p + sum t + smooth).

    Sums run over the valid pixels of the whole batch (Milletari et al. 2016, without their squares).
    """
    margin, positive, weight = _flatten(logits, truth, valid)
    probability = torch.sigmoid(margin)
    dice = [
        (2 * (p * t * weight).sum() + smooth) / ((p * weight).sum() + (t * weight).sum() + smooth)
        for p, t in ((probability, positive), (1 - probability, 1 - positive))
    ]
    return 1 - (dice[0] + dice[1]) / 2


def focal_dice_loss(logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Focal (alpha 0.5, gamma 2) plus two-class dice (smooth 1e-5): the loss of Dong et al. 2024."""
    return focal_loss(logits, truth, valid) + dice_loss(logits, truth, valid)


def margin_of(logits: torch.Tensor) -> torch.Tensor:
    """(batch, y, x): the logit of "landslide" against background, from two logits or from one."""
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


def _flatten(
    logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    margin = margin_of(logits.float())
    weight = torch.ones_like(margin) if valid is None else valid.float()
    # Where nothing is known the truth may hold any code: it must not reach the arithmetic.
    positive = ((truth == 1) & (weight > 0)).float()
    return margin, positive, weight

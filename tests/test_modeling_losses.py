"""The losses have their textbook values and do not see masked pixels."""

from __future__ import annotations

import math

import pytest
import torch

from modeling.losses import dice_loss, focal_dice_loss, focal_loss, margin_of


def two_class(margin: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros_like(margin), margin], dim=1)


def test_focal_loss_of_one_pixel_is_the_equation() -> None:
    margin = torch.full((1, 1, 1), 0.7)
    p = 1 / (1 + math.exp(-0.7))
    landslide, background = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    assert focal_loss(two_class(margin), landslide).item() == pytest.approx(-0.5 * (1 - p) ** 2 * math.log(p))
    assert focal_loss(two_class(margin), background).item() == pytest.approx(-0.5 * p**2 * math.log(1 - p))
    assert focal_loss(two_class(margin), landslide, alpha=0.25, gamma=0).item() == pytest.approx(-0.25 * math.log(p))


def test_dice_loss_is_zero_for_a_perfect_and_one_for_an_inverted_map() -> None:
    truth = torch.tensor([[[1, 0, 0, 1]]])
    margin = (truth * 2 - 1) * 50.0
    assert dice_loss(two_class(margin), truth).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(two_class(-margin), truth).item() == pytest.approx(1, abs=1e-4)


def test_dice_loss_by_hand() -> None:
    truth = torch.tensor([[[1, 0]]])
    # p = 1/2 everywhere: both classes have dice 2 * 0.5 / (1 + 1).
    assert dice_loss(two_class(torch.zeros(1, 1, 2)), truth).item() == pytest.approx(0.5, abs=1e-4)


def test_an_empty_truth_gives_a_finite_loss() -> None:
    logits = torch.randn(2, 2, 4, 4)
    assert torch.isfinite(focal_dice_loss(logits, torch.zeros(2, 4, 4)))
    assert torch.isfinite(focal_dice_loss(logits, torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)))


def test_masked_pixels_change_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 6, 6, requires_grad=True)
    truth = torch.randint(0, 2, (1, 6, 6))
    valid = torch.rand(1, 6, 6) > 0.4
    spoilt = torch.where(valid, truth, 255)
    loss = focal_dice_loss(logits, truth, valid)
    assert focal_dice_loss(logits, spoilt, valid).item() == loss.item()
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, ~valid[0]] == 0)
    assert torch.any(logits.grad[:, :, valid[0]] != 0)


def test_one_logit_and_two_logits_agree() -> None:
    margin = torch.randn(2, 5, 5)
    truth = torch.randint(0, 2, (2, 5, 5))
    one, two = margin[:, None], two_class(margin)
    assert torch.equal(margin_of(one), margin_of(two))
    assert focal_dice_loss(one, truth).item() == pytest.approx(focal_dice_loss(two, truth).item())


def test_sixteen_bit_logits_are_computed_in_full_precision() -> None:
    logits = torch.randn(1, 2, 8, 8).bfloat16()
    truth = torch.randint(0, 2, (1, 8, 8))
    loss = focal_dice_loss(logits, truth)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(focal_dice_loss(logits.float(), truth).item())

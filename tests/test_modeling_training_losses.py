"""The losses have their textbook values and do not see masked pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from modeling.errors import ModelingError
from modeling.training.losses import (
    LOSSES,
    boundary_aware_loss,
    boundary_weights,
    cross_entropy_loss,
    dice_loss,
    focal_loss,
    landslide_dice_loss,
    loss,
    margin_of,
)


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


def test_dice_of_the_landslides_alone_by_hand() -> None:
    truth = torch.tensor([[[1, 0, 0, 0]]])
    # p = 1/2 everywhere: 2 * 0.5 / (2 + 1).
    assert landslide_dice_loss(torch.zeros(1, 1, 1, 4), truth).item() == pytest.approx(2 / 3, abs=1e-4)


def test_cross_entropy_is_that_of_torch_for_two_logits_and_for_one() -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(2, 2, 5, 5), torch.randint(0, 2, (2, 5, 5))
    assert cross_entropy_loss(logits, truth).item() == pytest.approx(functional.cross_entropy(logits, truth).item())
    one = functional.binary_cross_entropy_with_logits(logits[:, 0], truth.float())
    assert cross_entropy_loss(logits[:, :1], truth).item() == pytest.approx(one.item())


def test_flat_ground_is_no_edge() -> None:
    truth = torch.zeros(1, 60, 120)
    truth[:, :, 60:] = 1
    weights = boundary_weights(truth, torch.ones_like(truth))
    assert torch.all(weights[..., :40] == 0.5)  # what the release gets wrong: flat ground there weighs most
    assert torch.all(weights[..., 80:] == 0.5)
    assert weights[0, 30].argmax().item() in {59, 60}
    assert weights.max().item() == pytest.approx(0.735, abs=2e-3)
    torch.testing.assert_close(weights[0, 0], weights[0, 30])  # the image's rim weighs no edge down
    flat = boundary_weights(torch.ones(1, 40, 40), torch.ones(1, 40, 40))
    assert torch.all(flat == 0.5)


def test_boundary_weights_turn_with_the_truth_and_ignore_borders_of_the_unknown() -> None:
    torch.manual_seed(2)
    truth, known = (torch.rand(1, 50, 50) > 0.5).float(), torch.ones(1, 50, 50)
    weights = boundary_weights(truth, known)
    turned = boundary_weights(torch.rot90(truth, 1, (1, 2)), known)
    torch.testing.assert_close(turned, torch.rot90(weights, 1, (1, 2)))
    torch.testing.assert_close(boundary_weights(1 - truth, known), weights)
    half = known.clone()
    half[:, 25:] = 0
    block = torch.zeros_like(truth)
    block[:, :25] = 1  # landslide up to where nothing is known
    assert torch.all(boundary_weights(block, half) == 0.5)


def test_boundary_aware_loss_of_flat_ground_is_half_the_cross_entropy() -> None:
    torch.manual_seed(3)
    logits, truth = torch.randn(1, 2, 30, 30), torch.zeros(1, 30, 30)
    assert boundary_aware_loss(logits, truth).item() == pytest.approx(cross_entropy_loss(logits, truth).item() / 2)
    truth[:, 10:20, 10:20] = 1
    assert boundary_aware_loss(logits, truth).item() > cross_entropy_loss(logits, truth).item() / 2


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [1, 2])
def test_an_empty_truth_gives_a_finite_loss(name: str, classes: int) -> None:
    logits = torch.randn(2, classes, 4, 4, requires_grad=True)
    for valid in (None, torch.zeros(2, 4, 4, dtype=torch.bool)):
        value = loss(name)(logits, torch.zeros(2, 4, 4), valid)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_teaches_a_map(name: str) -> None:
    """Plain gradient descent on the logits themselves ends at the truth."""
    torch.manual_seed(4)
    truth = torch.zeros(1, 12, 12)
    truth[:, 3:8, 4:9] = 1
    logits = torch.randn(1, 2, 12, 12, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.2)
    for _ in range(80):
        optimiser.zero_grad()
        loss(name)(logits, truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert torch.equal(margin_of(logits) > 0, truth > 0)


def test_an_unknown_loss_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelingError, match=r"hinge.*boundary-aware"):
        loss("hinge")


@pytest.mark.parametrize("name", LOSSES)
def test_masked_pixels_change_neither_loss_nor_gradient(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 6, 6, requires_grad=True)
    truth = torch.randint(0, 2, (1, 6, 6))
    valid = torch.rand(1, 6, 6) > 0.4
    spoilt = torch.where(valid, truth, 255)
    value = loss(name)(logits, truth, valid)
    assert loss(name)(logits, spoilt, valid).item() == value.item()
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, ~valid[0]] == 0)
    assert torch.any(logits.grad[:, :, valid[0]] != 0)


@pytest.mark.parametrize("name", LOSSES)
def test_one_logit_and_two_logits_agree(name: str) -> None:
    margin = torch.randn(2, 5, 5)
    truth = torch.randint(0, 2, (2, 5, 5))
    one, two = margin[:, None], two_class(margin)
    assert torch.equal(margin_of(one), margin_of(two))
    assert loss(name)(one, truth).item() == pytest.approx(loss(name)(two, truth).item())


@pytest.mark.parametrize("name", LOSSES)
def test_sixteen_bit_logits_are_computed_in_full_precision(name: str) -> None:
    logits = torch.randn(1, 2, 8, 8).bfloat16()
    truth = torch.randint(0, 2, (1, 8, 8))
    value = loss(name)(logits, truth)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(name)(logits.float(), truth).item())

"""What holds for every network: any input size, training and evaluation, batches of one, gradients everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from modeling import networks
from modeling.errors import ModelingError
from modeling.networks.layers import PooledNorm, resize

CHANNELS = 4


@pytest.fixture(scope="module", params=networks.names())
def network(request: pytest.FixtureRequest) -> Iterator[nn.Module]:
    torch.manual_seed(0)
    yield networks.create(request.param, in_channels=CHANNELS, classes=2)


def images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape[0], CHANNELS, *shape[1:], generator=generator).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_any_size_comes_back_as_it_went_in(network: nn.Module, size: tuple[int, int]) -> None:
    network.eval()
    with torch.inference_mode():
        logits = network(images(1, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_an_image_is_judged_alone(network: nn.Module) -> None:
    network.eval()
    batch = images(2, 32, 32)
    with torch.inference_mode():
        together, alone = network(batch), network(batch[1:])
    scale = float(together.abs().max())
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4 * scale)


def test_training_reaches_every_weight_and_one_image_is_a_batch(network: nn.Module) -> None:
    network.train()
    network.zero_grad()
    logits = network(images(1, 64, 37))
    assert logits.shape == (1, 2, 64, 37)
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).mean().backward()
    without = [name for name, tensor in network.named_parameters() if tensor.grad is None]
    assert not without
    assert all(bool(tensor.grad.isfinite().all()) for tensor in network.parameters() if tensor.grad is not None)
    network.zero_grad()


def test_what_is_no_batch_of_images_is_refused(network: nn.Module) -> None:
    with pytest.raises(ModelingError, match="batch, channel, y, x"):
        network.eval()(torch.zeros(CHANNELS, 32, 32))


def test_a_pooled_norm_is_a_batch_norm_where_that_is_defined() -> None:
    torch.manual_seed(0)
    ours, theirs = PooledNorm(3), nn.BatchNorm2d(3)
    for x in (torch.randn(4, 3, 1, 1), torch.randn(1, 3, 2, 2)):
        torch.testing.assert_close(ours(x), theirs(x))
    one = torch.randn(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        theirs(one)
    torch.testing.assert_close(ours(one), theirs.eval()(one))
    assert ours.num_batches_tracked == 2  # what cannot be learnt from leaves no trace


def test_resizing_aligns_pixel_areas() -> None:
    x = torch.tensor([[[[0.0, 4.0]]]])
    assert resize(x, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]

"""Parameters and multiply-accumulates are counted as thop counts them, and counting leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modeling import networks
from modeling.scoring.complexity import complexity, parameters


@pytest.mark.parametrize(
    ("module", "macs", "conv_macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 8 * 10 * 12 * 3 * 9, 8 * 10 * 12 * 3 * 9),
        (nn.Conv2d(6, 6, 5, 2, 2, groups=6, bias=False), 6 * 5 * 6 * 25, 6 * 5 * 6 * 25),
        # Each pixel that comes in meets every weight once; thop counts as if each that goes out did.
        (nn.ConvTranspose2d(3, 8, 2, 2), 8 * 20 * 24 * 3 * 4, 3 * 10 * 12 * 8 * 4),
        (nn.BatchNorm2d(3), 4 * 3 * 10 * 12, 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 11 * 3 * 20 * 24, 0),
        (nn.Upsample(scale_factor=2, mode="nearest"), 0, 0),
        # (120 added + 1 division) for each of three averages.
        (nn.AdaptiveAvgPool2d(1), 3 * 121, 0),
        (nn.Linear(12, 7), 3 * 10 * 12 * 7, 3 * 10 * 12 * 7),
        (nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.AvgPool2d(2), nn.MaxPool2d(2)), 0, 0),
    ],
    ids=["conv", "depthwise", "transposed", "norm", "bilinear", "nearest", "average", "linear", "free"],
)
def test_each_kind_of_layer_costs_what_the_convention_says(module: nn.Module, macs: int, conv_macs: int) -> None:
    channels = getattr(module, "in_channels", 3)
    cost = complexity(module, (channels, 10, 12))
    assert (cost.macs, cost.conv_macs) == (macs, conv_macs)


def test_a_layer_used_twice_costs_twice_but_is_stored_once() -> None:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    cost = complexity(nn.Sequential(conv, conv), (3, 4, 4))
    assert (cost.parameters, cost.conv_macs) == (9, 2 * 16 * 9)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = networks.create("cgnet", in_channels=3, classes=1)
    network.get_submodule("stem").eval()  # frozen while the rest trains
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    counted = complexity(network, (3, 4096, 4096))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert counted.parameters == parameters(network)
    assert all(tensor.device.type == "cpu" for tensor in network.parameters())


def test_a_failing_network_is_left_as_it_was_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    with pytest.raises(RuntimeError, match="channel"):
        complexity(network, (5, 8, 8))
    assert network.training
    assert not network[0]._forward_hooks


def test_compute_grows_with_the_area() -> None:
    with torch.device("meta"):
        network = networks.create("vgg-unet", in_channels=10, classes=1)
    small, large = (complexity(network, (10, size, size)).conv_macs for size in (64, 256))
    assert large == 16 * small

"""MACU-Net has the stated parameters, and each of its skips joins five scales."""

from __future__ import annotations

import pytest
import torch

from modeling import networks
from modeling.networks.macu_net import AsymmetricBlock, MACUNet
from modeling.scoring.complexity import parameters


@pytest.mark.parametrize(("in_channels", "classes", "number"), [(3, 2, 5_151_666), (10, 1, 5_153_329)])
def test_parameters_are_those_stated_to_the_unit(in_channels: int, classes: int, number: int) -> None:
    with torch.device("meta"):
        assert parameters(networks.create("macu-net", in_channels=in_channels, classes=classes)) == number


def test_each_skip_joins_five_maps_of_its_width() -> None:
    seen: list[tuple[int, int, int]] = []
    with torch.device("meta"):
        network = MACUNet(3, 2).eval()
        for skip in network.skips:
            skip.register_forward_hook(
                lambda _m, inputs, out: seen.append((inputs[0].shape[1], out.shape[1], out.shape[2]))
            )
        network(torch.empty(1, 3, 256, 256))
    assert seen == [(640, 256, 32), (320, 128, 64), (160, 64, 128), (80, 32, 256)]  # 5 C, 2 C, size


def test_an_asymmetric_block_is_one_convolution_with_a_strengthened_cross() -> None:
    torch.manual_seed(0)
    block = AsymmetricBlock(3, 4).eval()
    weight = block.square.weight.detach().clone()
    weight[:, :, 1:2, :] += block.row.weight.detach()
    weight[:, :, :, 1:2] += block.column.weight.detach()
    bias = sum(conv.bias.detach() for conv in (block.square, block.row, block.column))
    x = torch.randn(1, 3, 6, 5)
    expected = torch.relu(block.norm(torch.nn.functional.conv2d(x, weight, bias, padding=1)))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)

"""The networks have the papers' parameters, compute and shapes, and take any input size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modeling import networks
from modeling.errors import ModelingError
from modeling.networks.msf_litenet import EfficientChannelAttention
from modeling.networks.shape import pad_to_multiple


def parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def thop_macs(network: nn.Module, x: torch.Tensor) -> float:
    """Multiply-accumulates as thop 0.1.1 counts them, the convention of Dong et al. 2024."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += 4 * inputs[0].numel()
        elif isinstance(module, nn.Upsample):
            total += 11 * output.numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            per_bin = inputs[0][0, 0].numel() / output[0, 0].numel()
            total += (per_bin + 1) * output.numel()

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.inference_mode():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return total


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    torch.manual_seed(0)
    return networks.create("msf-litenet", in_channels=3, classes=2).eval()


def test_msf_litenet_has_the_papers_parameters_to_the_unit(lite: nn.Module) -> None:
    assert parameters(lite) == 2_541_708


def test_msf_litenet_splits_as_the_paper_does(lite: nn.Module) -> None:
    backbone, pyramid = (parameters(lite.get_submodule(name)) for name in ("backbone", "pyramid"))
    assert (backbone, pyramid) == (1_304_186, 77_440)
    assert parameters(lite) - backbone - pyramid == 1_160_082


def test_msf_litenet_costs_what_the_paper_states_at_256(lite: nn.Module) -> None:
    assert thop_macs(lite, torch.zeros(1, 3, 256, 256)) / 1e6 == pytest.approx(798.750, abs=5e-4)


def test_msf_litenet_taps_have_the_stated_shapes(lite: nn.Module) -> None:
    stages = lite.get_submodule("backbone")
    assert isinstance(stages, nn.ModuleList)
    seen = {}
    y = torch.zeros(1, 3, 256, 256)
    with torch.inference_mode():
        for index, stage in enumerate(stages):
            y = stage(y)
            seen[index] = (y.shape[1], y.shape[2])
    taps = {0: (16, 128), 2: (24, 64), 4: (40, 32), 7: (80, 16), 13: (160, 8), 15: (160, 8)}
    assert {index: seen[index] for index in taps} == taps


@pytest.mark.parametrize("size", [(88, 88), (97, 131), (1, 40), (256, 33)])
def test_any_input_size_comes_back_as_it_went_in(lite: nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert lite(torch.zeros(2, 3, *size)).shape == (2, 2, *size)


def test_channels_and_classes_are_free() -> None:
    network = networks.create("msf-litenet", in_channels=10, classes=1).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 10, 64, 64)).shape == (1, 1, 64, 64)
    # Seven more input channels of a 3x3/16 convolution, one class less of a 1x1 head.
    assert parameters(network) == 2_541_708 + 7 * 9 * 16 - 17


def test_attention_widths_follow_the_formula() -> None:
    widths = {c: EfficientChannelAttention(c).conv.kernel_size[0] for c in (72, 120, 480, 672, 960)}
    assert widths == {72: 3, 120: 3, 480: 5, 672: 5, 960: 5}


def test_every_registered_network_can_be_created() -> None:
    for name in networks.names():
        assert parameters(networks.create(name, in_channels=4, classes=2)) > 0


def test_wrong_requests_are_refused_with_the_choices() -> None:
    with pytest.raises(ModelingError, match="msf-litenet"):
        networks.create("unknown", in_channels=3, classes=2)
    with pytest.raises(ModelingError, match="at least 1"):
        networks.create("msf-litenet", in_channels=0, classes=2)


def test_padding_repeats_the_edge_and_refuses_what_is_no_batch() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 3].tolist() == [3, 4, 5, 5]
    assert pad_to_multiple(x, 1) is x
    with pytest.raises(ModelingError, match="batch, channel, y, x"):
        pad_to_multiple(torch.zeros(3, 4, 4), 4)

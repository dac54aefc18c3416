"""The registry of networks, the padding that they share, and what MSF-LiteNet is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modeling import networks
from modeling.errors import ModelingError
from modeling.networks.attention import EfficientChannelAttention
from modeling.networks.shape import pad_to_multiple
from modeling.scoring.complexity import parameters


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    torch.manual_seed(0)
    return networks.create("msf-litenet", in_channels=3, classes=2).eval()


def test_msf_litenet_splits_as_the_paper_does(lite: nn.Module) -> None:
    backbone, pyramid = (parameters(lite.get_submodule(name)) for name in ("backbone", "pyramid"))
    assert (backbone, pyramid) == (1_304_186, 77_440)
    assert parameters(lite) - backbone - pyramid == 1_160_082


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


def test_channels_and_classes_are_free() -> None:
    network = networks.create("msf-litenet", in_channels=10, classes=1).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 10, 64, 64)).shape == (1, 1, 64, 64)
    # Seven more input channels of a 3x3/16 convolution, one class less of a 1x1 head.
    assert parameters(network) == 2_541_708 + 7 * 9 * 16 - 17


def test_attention_widths_follow_the_formula() -> None:
    widths = {c: EfficientChannelAttention(c).conv.kernel_size[0] for c in (72, 120, 480, 672, 960)}
    assert widths == {72: 3, 120: 3, 480: 5, 672: 5, 960: 5}


def test_the_networks_are_those_of_the_papers_and_a_slim_one() -> None:
    assert set(networks.names()) == {
        *("msf-litenet", "fcn", "deeplabv3", "vgg-unet", "resunet-r50", "resu-net", "resu-senet", "resu-senet-table"),
        *("resu-cbnet", "dfpenet", "mffenet", "cgnet", "lanet", "macu-net", "unetplusplus"),
        "resu-senet-slim",
    }


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

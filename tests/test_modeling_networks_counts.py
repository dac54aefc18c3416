"""Networks have the parameters, to the unit, and the compute that their papers and releases state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from modeling import networks
from modeling.errors import ModelingError
from modeling.networks.aspp import ASPP
from modeling.networks.resnet import RESNET50, RESNET101, WIDTHS, ResNet
from modeling.networks.vgg import VGG16
from modeling.scoring.complexity import complexity, parameters


@pytest.fixture(autouse=True)
def without_values() -> Iterator[None]:
    """Networks of shapes only: nothing is initialised or computed, whatever the size."""
    with torch.device("meta"):
        yield


# Dong et al. 2024, table of compute: parameters, million multiply-accumulates at 256 x 256 and at 2048 x 2048 pixels.
# It prints 32,947,226 for FCN, in which two digits are swapped.
LDTL_TABLE = {
    "fcn": (32_947_266, "6000.542", "384034.669"),
    "deeplabv3": (39_633_986, "6395.694", "409291.197"),
    "vgg-unet": (26_450_306, "71102.890", "4550584.959"),
    "resunet-r50": (98_388_354, "58064.241", "3716111.401"),
    "msf-litenet": (2_541_708, "798.750", "51097.337"),
}


@pytest.mark.parametrize("name", LDTL_TABLE)
def test_the_ldtl_table_is_reproduced_to_its_last_digit(name: str) -> None:
    network = networks.create(name, in_channels=3, classes=2)
    small, large = (complexity(network, (3, size, size)) for size in (256, 2048))
    millions = tuple(f"{cost.macs / 1e6:.3f}" for cost in (small, large))
    assert (small.parameters, *millions) == LDTL_TABLE[name]
    assert large.parameters == small.parameters


@pytest.mark.parametrize(
    ("name", "in_channels", "classes", "number"),
    [
        ("cgnet", 3, 2, 491_954),
        ("cgnet", 10, 1, 505_852),
        ("cgnet", 3, 19, 496_306),
        ("lanet", 3, 2, 23_792_332),
        ("lanet", 10, 1, 23_814_090),
    ],
)
def test_baselines_have_their_parameters(name: str, in_channels: int, classes: int, number: int) -> None:
    assert parameters(networks.create(name, in_channels=in_channels, classes=classes)) == number


@pytest.mark.parametrize(
    ("trunk", "number"),
    [
        (lambda: ResNet(3, RESNET50), 23_508_032),
        (lambda: ResNet(3, RESNET101), 42_500_160),
        (lambda: ResNet(3, RESNET101, strides=(1, 2, 2, 1), last_dilations=(1, 2, 5)), 42_500_160),
        (lambda: VGG16(3), 14_723_136),
        (lambda: ASPP(2048, 256, (12, 24, 36), dropout=0.5), 15_535_104),
    ],
    ids=["resnet-50", "resnet-101", "resnet-101 dilated", "vgg-16", "aspp"],
)
def test_trunks_have_the_parameters_of_their_releases(trunk: type[torch.nn.Module], number: int) -> None:
    assert parameters(trunk()) == number


def test_stages_of_a_trunk_have_the_stated_shapes() -> None:
    image = torch.empty(1, 10, 256, 256)
    stages = ResNet(10, RESNET50)(image)
    assert [tuple(stage.shape[1:3]) for stage in stages] == list(zip(WIDTHS, (128, 64, 32, 16, 8), strict=True))
    dilated = ResNet(10, RESNET101, strides=(1, 2, 2, 1), last_dilations=(1, 2, 5))(image)
    assert [tuple(stage.shape[1:3]) for stage in dilated] == list(zip(WIDTHS, (128, 64, 32, 16, 16), strict=True))
    taps = VGG16(10)(image)
    assert [tuple(tap.shape[1:3]) for tap in taps] == [(64, 256), (128, 128), (256, 64), (512, 32), (512, 16)]


def test_dilations_are_those_of_the_last_layers_blocks() -> None:
    trunk = ResNet(3, RESNET101, strides=(1, 2, 2, 1), last_dilations=(1, 2, 5))
    found = [block.get_submodule("conv2").dilation for block in trunk.layer4]
    assert found == [(1, 1), (2, 2), (5, 5)]
    with pytest.raises(ModelingError, match="3 blocks"):
        ResNet(3, RESNET50, last_dilations=(2, 4))


def test_names_of_parameters_are_those_of_published_weights() -> None:
    resnet = ResNet(3, RESNET50).state_dict()
    for name in ("conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias"):
        assert name in resnet
    vgg = VGG16(3).state_dict()
    assert vgg["features.0.weight"].shape == (64, 3, 3, 3)
    assert vgg["features.40.weight"].shape == (512, 512, 3, 3)

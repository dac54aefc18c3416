"""MFFENet, its auxiliary head and ADANet's discriminator have the stated parameters and shapes."""

from __future__ import annotations

import pytest
import torch

from modeling import networks
from modeling.errors import ModelingError
from modeling.networks.discriminator import Discriminator
from modeling.networks.mffenet import MFFENet
from modeling.scoring.complexity import parameters


@pytest.mark.parametrize(("in_channels", "classes", "number"), [(3, 2, 71_356_490), (10, 1, 71_378_185)])
def test_parameters_are_those_stated_to_the_unit(in_channels: int, classes: int, number: int) -> None:
    with torch.device("meta"):
        assert parameters(networks.create("mffenet", in_channels=in_channels, classes=classes)) == number


def test_adanet_has_the_stated_parameters() -> None:
    with torch.device("meta"):
        assert parameters(MFFENet(3, 2, auxiliary=True)) == 71_357_004
        assert parameters(Discriminator(2)) == 2_763_713


def test_forks_and_dense_steps_take_in_and_give_what_is_stated() -> None:
    forks: list[tuple[int, int]] = []
    steps: list[tuple[int, int, int]] = []
    with torch.device("meta"):
        network = MFFENet(3, 2).eval()
        for fork in network.forks:
            fork.register_forward_hook(lambda _m, _i, out: forks.append((out.shape[1], out.shape[2])))
        for step in (*network.dense, network.head):
            step.register_forward_hook(
                lambda _m, inputs, out: steps.append((inputs[0].shape[1], out.shape[1], out.shape[2]))
            )
        network(torch.empty(1, 3, 512, 512))
        assert [fork.weigh[1][0].out_channels for fork in network.forks] == [2, 2, 1]
    assert forks == [(768, 64), (384, 128), (192, 256)]
    assert steps == [(1024, 256, 64), (896, 256, 128), (960, 256, 256), (1024, 2, 256)]


def test_higher_and_lower_scales_are_weighed_separately() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        fork = MFFENet(3, 2).forks[1]
    fork = fork.to_empty(device="cpu").eval()
    for parameter in fork.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for buffer in fork.buffers():
        buffer.fill_(1)
    sizes = {"pyramid": (256, 2), "layer2": (512, 4), "layer1": (256, 8), "stem": (64, 16)}
    scales = {scale: torch.randn(1, channels, size, size) for scale, (channels, size) in sizes.items()}
    joined: list[torch.Tensor] = []
    brought: list[torch.Tensor] = []
    fork.weigh.register_forward_pre_hook(lambda _m, inputs: brought.append(inputs[0]))
    fork.refine.register_forward_pre_hook(lambda _m, inputs: joined.append(inputs[0]))
    refined = fork(scales)
    torch.testing.assert_close(refined, joined[0] + fork.refine(joined[0]))
    own, higher, lower = joined[0].split([96, 192, 96], dim=1)
    weights = fork.weigh(brought[0])
    torch.testing.assert_close(higher, weights[:, :1] * brought[0][:, :192])
    torch.testing.assert_close(lower, weights[:, 1:] * brought[0][:, 192:])
    assert own.shape == (1, 96, 8, 8)


def test_both_heads_answer_at_the_size_of_the_image() -> None:
    with torch.device("meta"):
        network = MFFENet(4, 2, auxiliary=True).eval()
        image = torch.empty(2, 4, 33, 61)
        main, auxiliary = network.forward_both(image)
        assert main.shape == auxiliary.shape == network(image).shape == (2, 2, 33, 61)
        with pytest.raises(ModelingError, match="auxiliary=True"):
            MFFENet(4, 2).forward_both(image)


def test_the_discriminator_judges_any_size() -> None:
    discriminator = Discriminator(2)
    for size, judged in (((256, 320), (8, 10)), ((88, 88), (3, 3)), ((1, 5), (1, 1))):
        assert discriminator(torch.rand(1, 2, *size)).shape == (1, 1, *judged)

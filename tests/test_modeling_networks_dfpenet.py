"""DFPENet has the stated parameters, shapes, dilations and the fusion of its paper."""

from __future__ import annotations

import pytest
import torch

from modeling import networks
from modeling.networks.dfpenet import DFPENet, GatedFusion
from modeling.networks.gates import AttentionGate
from modeling.scoring.complexity import parameters


@pytest.mark.parametrize(("in_channels", "classes", "number"), [(3, 2, 63_075_306), (10, 1, 63_097_001)])
def test_parameters_are_those_stated_to_the_unit(in_channels: int, classes: int, number: int) -> None:
    with torch.device("meta"):
        assert parameters(networks.create("dfpenet", in_channels=in_channels, classes=classes)) == number


def test_the_last_three_blocks_are_dilated_one_two_five_at_stride_sixteen() -> None:
    with torch.device("meta"):
        network = DFPENet(3, 2).eval()
        stages = network.trunk(torch.empty(1, 3, 512, 512))
    assert [block.get_submodule("conv2").dilation for block in network.trunk.layer4] == [(1, 1), (2, 2), (5, 5)]
    assert stages.layer4.shape == (1, 2048, 32, 32)


def test_dense_steps_take_in_and_give_what_is_stated() -> None:
    seen: list[tuple[int, int, int]] = []
    with torch.device("meta"):
        network = DFPENet(3, 2).eval()
        for step in (*network.dense, network.head):
            step.register_forward_hook(
                lambda _m, inputs, out: seen.append((inputs[0].shape[1], out.shape[1], out.shape[2]))
            )
        assert network(torch.empty(1, 3, 512, 512)).shape == (1, 2, 512, 512)
    assert seen == [(448, 256, 64), (608, 256, 128), (792, 2, 256)]


def test_fusion_is_the_papers_two_terms_side_by_side() -> None:
    torch.manual_seed(0)
    fusion = GatedFusion(64, 24, 12).eval()
    coarse, skip = torch.randn(2, 256, 6, 7), torch.randn(2, 64, 6, 7)
    fine = fusion.project(skip)
    emphasis = 1 + fusion.gate(coarse)
    attention, _ = fusion.attention(coarse, fine)
    fused = fusion(coarse, skip)
    torch.testing.assert_close(fused[:, :256], emphasis * coarse)
    torch.testing.assert_close(fused[:, 256:], emphasis * attention * fine)
    assert attention.shape == emphasis.shape == (2, 1, 6, 7)
    assert float(emphasis.detach().min()) > 1


def test_an_attention_gate_follows_its_equation() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(8, 4, 2).eval()
    guide, skip = torch.randn(1, 8, 3, 3), torch.randn(1, 4, 3, 3)
    weights, projected = gate(guide, skip)
    conv, norm, _ = gate.psi
    torch.testing.assert_close(projected, gate.of_skip(skip))
    torch.testing.assert_close(weights, torch.sigmoid(norm(conv(torch.relu(gate.of_guide(guide) + projected)))))
    assert float(weights.detach().min()) > 0
    assert float(weights.detach().max()) < 1

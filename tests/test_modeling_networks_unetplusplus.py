"""U-Net++ has the stated parameters and its dense nest of nodes."""

from __future__ import annotations

import torch

from modeling import networks
from modeling.networks.unetplusplus import UNetPlusPlus
from modeling.scoring.complexity import parameters


def test_parameters_are_those_stated_to_the_unit() -> None:
    with torch.device("meta"):
        assert parameters(networks.create("unetplusplus", in_channels=10, classes=1)) == 9_165_345


def test_every_node_joins_all_before_it_with_the_one_below() -> None:
    seen: dict[str, tuple[int, int, int]] = {}
    with torch.device("meta"):
        network = UNetPlusPlus(10, 1).eval()
        for name, node in network.nodes.items():
            node.register_forward_hook(
                lambda _m, inputs, out, name=name: seen.update({name: (inputs[0].shape[1], out.shape[1], out.shape[2])})
            )
        network(torch.empty(1, 10, 256, 256))
    assert len(seen) == 15
    assert {name: seen[name] for name in ("0-0", "1-0", "4-0")} == {
        "0-0": (10, 32, 256),
        "1-0": (32, 64, 128),
        "4-0": (256, 512, 16),
    }
    assert {name: seen[name] for name in ("0-1", "2-2", "0-4")} == {
        "0-1": (32 + 64, 32, 256),
        "2-2": (2 * 128 + 256, 128, 64),
        "0-4": (4 * 32 + 64, 32, 256),
    }

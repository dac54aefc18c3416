"""ResU-Net and its kin have the papers' parameters, compute and printed shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from modeling import networks
from modeling.networks.resu_net import Level, Residual, Stem
from modeling.networks.resu_senet_table import ResUSENetTable
from modeling.scoring.complexity import complexity, parameters


@pytest.fixture(autouse=True)
def without_values() -> Iterator[None]:
    """Networks of shapes only: nothing is initialised or computed."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("resu-net", 9_601_089),
        ("resu-senet", 9_612_317),
        ("resu-senet-table", 8_417_449),
        ("resu-cbnet", 9_612_611),
    ],
)
def test_parameters_are_those_stated_to_the_unit(name: str, number: int) -> None:
    assert parameters(networks.create(name, in_channels=10, classes=1)) == number


def test_the_slim_one_keeps_every_size_at_a_quarter_of_the_channels() -> None:
    slim, whole = (
        shapes(networks.create(name, in_channels=10, classes=1)) for name in ("resu-senet-slim", "resu-senet")
    )
    assert {row: [(4 * channels, px) for channels, px in found] for row, found in slim.items() if row != "out"} == {
        row: found for row, found in whole.items() if row != "out"
    }
    cost, full = (
        complexity(networks.create(name, in_channels=10, classes=1), (10, 88, 88))
        for name in ("resu-senet-slim", "resu-senet")
    )
    assert cost.parameters == 605_981
    assert 15 < full.macs / cost.macs < 16


def test_the_table_without_attention_has_the_stated_parameters() -> None:
    assert parameters(ResUSENetTable(10, 1, attention=lambda _channels: nn.Identity())) == 8_398_337


@pytest.mark.parametrize(("name", "giga"), [("resu-senet", "5.760"), ("resu-senet-table", "12.778")])
def test_compute_is_that_stated(name: str, giga: str) -> None:
    cost = complexity(networks.create(name, in_channels=10, classes=1), (10, 88, 88))
    assert f"{cost.conv_macs / 1e9:.3f}" == giga


def shapes(network: nn.Module) -> dict[str, list[tuple[int, int]]]:
    """(channels, size) that each named part puts out (`concat`: what the residual takes in) for 88 x 88 pixels."""
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(row: str, tensor: torch.Tensor) -> None:
        seen.setdefault(row, []).append((tensor.shape[1], tensor.shape[2]))

    stem, encoder, decoder = (network.get_submodule(part) for part in ("stem", "encoder", "decoder"))
    assert isinstance(stem, Stem)
    stem.register_forward_hook(lambda _m, _i, out: note("stem", out))
    for block in encoder.children():
        assert isinstance(block, Residual)
        block.register_forward_hook(lambda _m, _i, out: note("residual", out))
    for level in decoder.children():
        assert isinstance(level, Level)
        level.skip.register_forward_hook(lambda _m, inputs, out: (note("skip", inputs[0]), note("attention", out))[0])
        level.up.register_forward_hook(lambda _m, _i, out: note("up", out))
        level.body.register_forward_hook(lambda _m, inputs, out: (note("concat", inputs[0]), note("level", out))[0])
    network.register_forward_hook(lambda _m, _i, out: note("out", out))
    network.eval()(torch.empty(1, 10, 88, 88))
    return seen


def test_every_shape_that_table_three_prints_holds() -> None:
    assert shapes(networks.create("resu-senet-table", in_channels=10, classes=1)) == {
        "stem": [(64, 88)],
        "residual": [(64, 44), (128, 22), (256, 11)],
        "skip": [(128, 22), (64, 44), (64, 88)],
        "attention": [(256, 22), (256, 44), (128, 88)],
        "up": [(512, 22), (512, 44), (256, 88)],
        "concat": [(768, 22), (768, 44), (384, 88)],
        "level": [(256, 22), (256, 44), (128, 88)],
        "out": [(1, 88)],
    }


@pytest.mark.parametrize("name", ["resu-net", "resu-senet", "resu-cbnet"])
def test_shapes_of_the_text_are_those_of_the_original_network(name: str) -> None:
    assert shapes(networks.create(name, in_channels=10, classes=1)) == {
        "stem": [(64, 88)],
        "residual": [(128, 44), (256, 22), (512, 11)],
        "skip": [(256, 22), (128, 44), (64, 88)],
        "attention": [(256, 22), (128, 44), (64, 88)],
        "up": [(512, 22), (256, 44), (128, 88)],
        "concat": [(768, 22), (384, 44), (192, 88)],
        "level": [(256, 22), (128, 44), (64, 88)],
        "out": [(1, 88)],
    }

"""Attention blocks compute what their papers write, say their weights, and can be found in any network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from modeling import networks
from modeling.networks.attention import (
    CBAM,
    ChannelAttention,
    EfficientChannelAttention,
    PooledAttention,
    SpatialAttention,
    SqueezeExcitation,
    channel_attentions,
)

KINDS = {
    "se": lambda channels: SqueezeExcitation(channels, 4),
    "cbam": lambda channels: PooledAttention(channels, 4),
    "macu": lambda channels: PooledAttention(channels, 4, shared=False),
    "eca": EfficientChannelAttention,
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_attention_multiplies_by_the_weights_it_states(kind: str) -> None:
    attention = KINDS[kind](16)
    x = torch.randn(3, 16, 5, 7)
    weights = attention.weights(x).detach()
    assert weights.shape == (3, 16)
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    torch.testing.assert_close(attention(x).detach(), torch.einsum("bcyx,bc->bcyx", x, weights))
    assert float(weights.std(dim=0).max()) > 0  # each image has weights of its own


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_attention_keeps_nothing_of_what_it_saw(kind: str) -> None:
    attention = KINDS[kind](16)
    before = set(vars(attention))
    attention(torch.randn(1, 16, 4, 4))
    assert set(vars(attention)) == before
    assert not list(attention.buffers())


def test_squeeze_and_excitation_is_equation_three() -> None:
    attention = SqueezeExcitation(8, 2)
    first, _, second = attention.mlp
    x = torch.randn(2, 8, 3, 3)
    z = x.mean((2, 3))
    expected = torch.sigmoid(functional.relu(z @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(attention.weights(x), expected)


def test_pooled_attention_sums_what_averages_and_maxima_say() -> None:
    x = torch.randn(2, 8, 3, 3)
    shared = PooledAttention(8, 2)
    expected = torch.sigmoid(shared.mlp(x.mean((2, 3))) + shared.mlp(x.amax((2, 3))))
    torch.testing.assert_close(shared.weights(x), expected)
    own = PooledAttention(8, 2, shared=False)
    assert own.mlp_of_maxima is not None
    expected = torch.sigmoid(own.mlp(x.mean((2, 3))) + own.mlp_of_maxima(x.amax((2, 3))))
    torch.testing.assert_close(own.weights(x), expected)
    assert sum(p.numel() for p in own.parameters()) == 2 * 2 * 8 * 4


def test_spatial_attention_weighs_pixels() -> None:
    attention = SpatialAttention()
    x = torch.randn(2, 6, 9, 11)
    weights = attention.weights(x)
    assert weights.shape == (2, 1, 9, 11)
    torch.testing.assert_close(attention(x), x * weights)
    assert sum(p.numel() for p in attention.parameters()) == 98


def test_cbam_weighs_channels_and_then_pixels_of_the_result() -> None:
    cbam = CBAM(16)
    x = torch.randn(2, 16, 6, 6)
    weighed = x * cbam.channel.weights(x)[..., None, None]
    torch.testing.assert_close(cbam(x), weighed * cbam.spatial.weights(weighed))


def test_efficient_attention_sees_neighbouring_channels_only() -> None:
    attention = EfficientChannelAttention(16)
    x = torch.randn(1, 16, 4, 4)
    changed = x.clone()
    changed[:, 8] += 1
    moved = (attention.weights(changed) - attention.weights(x)).abs()[0] > 1e-6
    reach = attention.conv.kernel_size[0] // 2
    assert moved.nonzero().flatten().tolist() == list(range(8 - reach, 8 + reach + 1))


def test_efficient_attention_widths_follow_the_formula() -> None:
    widths = {c: EfficientChannelAttention(c).conv.kernel_size[0] for c in (72, 120, 480, 672, 960)}
    assert widths == {72: 3, 120: 3, 480: 5, 672: 5, 960: 5}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resu-net", []),
        ("resu-senet", [256, 128, 64]),
        ("resu-senet-table", [256, 256, 128]),
        ("resu-senet-slim", [64, 32, 16]),
        ("resu-cbnet", [256, 128, 64]),
        ("macu-net", [32, 64, 128, 256]),
        ("msf-litenet", [72, 120, 120, 480, 672, 672, 960, 960]),
    ],
)
def test_channel_attentions_are_found_in_a_network(name: str, channels: list[int]) -> None:
    network = networks.create(name, in_channels=3, classes=1).eval()
    found = channel_attentions(network)
    assert [attention.channels for attention in found.values()] == channels
    assert all(network.get_submodule(path) is attention for path, attention in found.items())


def test_weights_of_a_network_in_use_can_be_read_by_a_hook() -> None:
    network = networks.create("resu-senet", in_channels=3, classes=1).eval()
    seen: dict[str, torch.Tensor] = {}

    def reader(path: str, attention: ChannelAttention) -> None:
        def read(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[path] = attention.weights(inputs[0])

        attention.register_forward_pre_hook(read)

    found = channel_attentions(network)
    for path, attention in found.items():
        reader(path, attention)
    with torch.inference_mode():
        network(torch.randn(2, 3, 16, 16))
    assert {path: tuple(weights.shape) for path, weights in seen.items()} == {
        path: (2, attention.channels) for path, attention in found.items()
    }

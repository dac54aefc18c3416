"""modeling/training/depthwise.py: grouped convolutions in float32 inside, and the network as it was outside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modeling.training.depthwise import depthwise_in_float32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 5, padding=2, stride=2, groups=8), nn.Conv2d(8, 1, 1))


def types(model: nn.Module) -> list[torch.dtype]:
    """What each layer gives under bfloat16."""
    seen: list[torch.dtype] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 4, 16, 16)).sum().backward()
    for hook in hooks:
        hook.remove()
    return seen


def test_only_grouped_convolutions_are_exact_and_only_inside() -> None:
    model = network()
    assert types(model) == [torch.bfloat16] * 3
    with depthwise_in_float32(model):
        assert types(model) == [torch.bfloat16, torch.float32, torch.bfloat16]
        assert list(model.state_dict()) == list(network().state_dict())
    assert types(copy.deepcopy(model)) == [torch.bfloat16] * 3


def test_without_autocast_nothing_changes() -> None:
    model, x = network(), torch.randn(2, 4, 16, 16)
    before = model(x)
    with depthwise_in_float32(model):
        assert torch.equal(model(x), before)


def test_an_error_inside_leaves_the_network_as_it_was() -> None:
    model = network()
    with pytest.raises(ValueError, match="within"), depthwise_in_float32(model):
        raise ValueError("within")
    assert all(type(module) is nn.Conv2d for module in model)

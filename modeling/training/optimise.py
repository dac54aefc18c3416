"""The optimiser of a recipe, over a network's parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from modeling.errors import DataError
from modeling.recipes import Optimiser

TRUNK = "trunk"
"""The attribute under which a network keeps what is usually pre-trained; all else are its heads."""


def optimiser_for(settings: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    """A new optimiser; each parameter group carries its `factor`, the multiple of the learning rate that it gets.

    It sees only what moves: parameters that want no gradient (`modeling.training.frozen`) are in no group. Raises
    `DataError` when the heads should learn faster than the trunk and the network has no trunk.
    """
    groups = [{"params": params, "factor": factor} for params, factor in _groups(settings, network)]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "adam":
        return torch.optim.Adam(groups, rate, betas=settings.betas, weight_decay=decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, rate, betas=settings.betas, weight_decay=decay)
    return torch.optim.SGD(groups, rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate` times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _groups(settings: Optimiser, network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    if settings.heads_factor == 1:
        return [(_moving(network.parameters()), 1.0)]
    trunk = getattr(network, TRUNK, None)
    if not isinstance(trunk, nn.Module):
        raise DataError(
            f"{type(network).__name__} has no trunk, so its heads cannot learn {settings.heads_factor:g} times as fast:"
            " use a recipe whose heads_factor is 1"
        )
    inside = {id(parameter) for parameter in trunk.parameters()}
    heads = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    groups = [(_moving(trunk.parameters()), 1.0), (_moving(heads), settings.heads_factor)]
    return [(params, factor) for params, factor in groups if params]


def _moving(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]

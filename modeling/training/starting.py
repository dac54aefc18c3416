"""Weights to start from: those of another model, whose input channels may be others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modeling.errors import DataError
from modeling.model import LandslideModel


def adapted_state(network: nn.Module, channels: Sequence[str], start: LandslideModel) -> dict[str, torch.Tensor]:
    """The state of `network` with the weights of `start`, whose input channels may be others.

    The convolution that reads the input keeps the filters of the channels that both have; others stay as they are in
    `network`. Raises `DataError` when the networks differ in more than that.
    """
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, tensor in start.network.state_dict().items():
        mine = state.get(name)
        if mine is None or mine.ndim != tensor.ndim:
            raise DataError(f"cannot start from {start.named}: it has {name}, and this network has not")
        if mine.shape == tensor.shape:
            mine.copy_(tensor)
        elif mine.shape[1] == len(channels) and tensor.shape[1] == len(start.channels):
            for here, channel in enumerate(channels):
                if channel in start.channels:
                    mine[:, here] = tensor[:, start.channels.index(channel)]
        else:
            raise DataError(f"cannot start from {start.named}: {name} has shape {tuple(tensor.shape)}")
    return state

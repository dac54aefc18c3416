"""Which input bands the channel attentions (SE, CBAM, ECA) of a network listen to.

A weight of an attention belongs to a channel deep in the network, and every such channel has mixed all input bands: Yang
et al. 2024 left open what their SE weights say of the bands. The way taken here goes through the channels, in patches of
real input and without any change to the network:

- a_c(x) is channel c as it enters the attention, w_c(x) its weight, x without b the input with band b unknown (the model
  then sees the band's mean over its training data);
- d_cb = mean over patches and pixels of |a_c(x) - a_c(x without b)| is how much channel c draws on band b, and
  s_cb = d_cb / (sum over all bands of d_cb) its share;
- the *weight of band b* is (sum over c of s_cb w_c) / (sum over c of s_cb): the attention's weight, averaged over the
  channels in proportion to how much each draws on the band. Above the mean of all w_c, the attention favours what comes
  from the band;
- the *shift by band b* is the mean over patches and channels of |w_c(x) - w_c(x without b)|: how much the band moves the
  weights themselves.

Bands that say the same (red and NDVI, say) share what they have in common: each alone can look unimportant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from modeling.errors import ModelingError
from modeling.explaining.explain import Explainable, without
from modeling.networks.attention import ChannelAttention, channel_attentions


@dataclass(frozen=True)
class BandAttention:
    """One attention of a network, seen from the input bands."""

    module: str
    """Its path in the network."""
    kind: str
    """Its class: `SqueezeExcitation`, `PooledAttention` (CBAM), `EfficientChannelAttention` ..."""
    weights: tuple[float, ...] = field(repr=False)
    """The weight of each of its channels, mean over the patches."""
    mean_weight: float
    """Mean of `weights`: what a band's weight is compared with."""
    by_band: Mapping[str, float]
    """Weight of each input band; see the module's text."""
    shift: Mapping[str, float]
    """How much each input band moves the weights; see the module's text."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "weights": list(self.weights)}


def attention_by_band(model: Explainable, x: torch.Tensor) -> list[BandAttention]:
    """One entry an attention, in the order of definition, for physical values (batch, channel, y, x) of some patches.

    It takes one pass for each band and one more. A dozen patches with landslides in them suffice. Raises
    `ModelingError` when the network has no channel attention.
    """
    attentions = channel_attentions(model.network)
    if not attentions:
        raise ModelingError("the network has no channel attention (SE, CBAM or ECA) whose weights could be explained")
    device = next(model.network.parameters()).device
    x = x.to(device)
    with torch.no_grad(), _recorded(attentions) as seen:
        model.margin(x)
        whole = dict(seen)
        if idle := [path for path in attentions if path not in whole]:
            raise ModelingError(f"the attention {idle[0]} takes no part in the prediction: nothing can be said of it")
        draws: dict[str, list[torch.Tensor]] = {path: [] for path in attentions}
        shifts: dict[str, list[float]] = {path: [] for path in attentions}
        for band in range(len(model.channels)):
            model.margin(without(x, [band]))
            for path, (features, weights) in seen.items():
                before, weights_before = whole[path]
                draws[path].append((before - features).abs().mean((0, 2, 3)))
                shifts[path].append(float((weights_before - weights).abs().mean()))
    return [
        _entry(path, attentions[path], whole[path][1].mean(0), torch.stack(draws[path]), shifts[path], model.channels)
        for path in attentions
    ]


def _entry(
    path: str,
    module: nn.Module,
    weights: torch.Tensor,
    draws: torch.Tensor,
    shifts: list[float],
    bands: tuple[str, ...],
) -> BandAttention:
    """From the mean weights (C,) and how much each channel draws on each band, (band, C)."""
    total = draws.sum(0, keepdim=True)
    share = torch.where(total > 0, draws / total, torch.zeros_like(draws))
    reach = share.sum(1)
    mean = weights.mean()
    by_band = torch.where(reach > 0, (share @ weights) / reach, mean)
    return BandAttention(
        module=path,
        kind=type(module).__name__,
        weights=tuple(weights.tolist()),
        mean_weight=float(mean),
        by_band=dict(zip(bands, by_band.tolist(), strict=True)),
        shift=dict(zip(bands, shifts, strict=True)),
    )


@contextmanager
def _recorded(
    attentions: Mapping[str, ChannelAttention],
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """What enters each attention, and the weights that it gives, of the latest pass."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(path: str, module: ChannelAttention, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[path] = inputs[0].detach().clone(), module.weights(inputs[0]).detach()

    handles = [
        module.register_forward_pre_hook(lambda _, inputs, path=path, module=module: note(path, module, inputs))
        for path, module in attentions.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

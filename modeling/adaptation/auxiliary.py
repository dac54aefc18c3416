"""An auxiliary head on an inner level of any network: the second output that multi-level adaptation needs.

The paper puts it on the pyramid of MFFENet. For the others a level is chosen here (I): the pyramid where there is one,
the deepest features that the decoder starts from else, and layer 3 of residual trunks whose last layer the head reads
directly (as Tsai et al. 2018, AdaptSegNet, do). The network itself is not changed: the level's output is caught by a hook, so
what is adapted is stored as the network that it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from modeling.errors import ModelingError
from modeling.networks.layers import initialise, resize

LEVELS: Mapping[str, str] = {
    "msf-litenet": "pyramid",
    "fcn": "trunk.layer3",
    "deeplabv3": "pyramid",
    "vgg-unet": "trunk.features.42",
    "resunet-r50": "trunk.layer4",
    "resu-net": "encoder.2",
    "resu-senet": "encoder.2",
    "resu-senet-table": "encoder.2",
    "resu-senet-slim": "encoder.2",
    "resu-cbnet": "encoder.2",
    "dfpenet": "pyramid",
    "mffenet": "pyramid",
    "cgnet": "stages.0",
    "lanet": "trunk.layer3",
    "macu-net": "encoder.4",
    "unetplusplus": "nodes.4-0",
}
"""Network -> the module whose output, (batch, channel, y, x), the auxiliary head reads."""

_PROBE_PX = 64


def level_of(network_name: str) -> str:
    """The level of a network of the zoo; raises `ModelingError` when none is registered."""
    if network_name not in LEVELS:
        raise ModelingError(
            f"no auxiliary level is known for the network {network_name!r}: name the module whose output it should read"
        )
    return LEVELS[network_name]


class WithAuxiliary(nn.Module):
    """A network and a 1x1 convolution on one of its inner levels.

    Raises `ModelingError` when the network has no such module, or it gives no features (batch, channel, y, x).
    """

    def __init__(self, network: nn.Module, level: str, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.network = network
        try:
            self._module = [network.get_submodule(level)]  # in a list, so that it is not registered a second time
        except AttributeError as error:
            raise ModelingError(f"{type(network).__name__} has no module {level!r}: {error}") from error
        mode = network.training
        with torch.no_grad():
            _, features = self._caught(network.eval(), torch.zeros(1, in_channels, _PROBE_PX, _PROBE_PX))
        network.train(mode)
        if not isinstance(features, torch.Tensor) or features.ndim != 4:
            raise ModelingError(
                f"module {level!r} of {type(network).__name__} gives no (batch, channel, y, x) features"
            )
        self.auxiliary = nn.Conv2d(features.shape[1], classes, 1)
        initialise(self.auxiliary)

    @property
    def trunk(self) -> nn.Module:
        """What learns at the plain rate: the network's trunk, all but its last layers where it has none."""
        own = getattr(self.network, "trunk", None)
        if isinstance(own, nn.Module):
            return own
        return nn.ModuleList(child for name, child in self.network.named_children() if not name.endswith("head"))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Main and auxiliary logits, each (batch, classes, y, x), of what the network sees (batch, channel, y, x)."""
        main, features = self._caught(self.network, x)
        height, width = x.shape[-2:]
        # Networks pad at the bottom and right to multiples of their stride: enlarged by it, the features fit there.
        stride = 1 << (math.ceil(height / features.shape[-2]) - 1).bit_length()
        large = resize(self.auxiliary(features), (features.shape[-2] * stride, features.shape[-1] * stride))
        if large.shape[-2] < height or large.shape[-1] < width:
            large = resize(large, (height, width))
        return main, large[..., :height, :width]

    def _caught(self, network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        caught: list[Any] = []
        hook = self._module[0].register_forward_hook(lambda _module, _given, output: caught.append(output))
        try:
            main: torch.Tensor = network(x)
        finally:
            hook.remove()
        if len(caught) != 1:
            raise ModelingError(f"the auxiliary level is computed {len(caught)} times in one pass: name another module")
        return main, caught[0]


def pooled(logits: torch.Tensor, input_scale: int) -> torch.Tensor:
    """Float32 logits of an input that was enlarged, at its own size; as `modeling.forward.logits_of` does."""
    return functional.avg_pool2d(logits.float(), input_scale) if input_scale > 1 else logits.float()

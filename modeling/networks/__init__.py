"""The networks, by name: one file a network, and an explicit registry.

A network takes float32 (batch, in_channels, y, x) of any size and returns logits (batch, classes, y, x) of the same
size: it pads to what it needs and crops (`modeling.networks.shape`). Weights are not loaded here: see `modeling.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from modeling.errors import ModelingError
from modeling.networks.cgnet import CGNet
from modeling.networks.deeplabv3 import DeepLabV3
from modeling.networks.dfpenet import DFPENet
from modeling.networks.fcn import FCN
from modeling.networks.lanet import LANet
from modeling.networks.macu_net import MACUNet
from modeling.networks.mffenet import MFFENet
from modeling.networks.msf_litenet import MSFLiteNet
from modeling.networks.resu_cbnet import ResUCBNet
from modeling.networks.resu_net import ResUNet
from modeling.networks.resu_senet import ResUSENet
from modeling.networks.resu_senet_slim import ResUSENetSlim
from modeling.networks.resu_senet_table import ResUSENetTable
from modeling.networks.resunet_r50 import ResUNetR50
from modeling.networks.unetplusplus import UNetPlusPlus
from modeling.networks.vgg_unet import VGGUNet

_BUILDERS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "msf-litenet": MSFLiteNet,
    "fcn": FCN,
    "deeplabv3": DeepLabV3,
    "vgg-unet": VGGUNet,
    "resunet-r50": ResUNetR50,
    "resu-net": ResUNet,
    "resu-senet": ResUSENet,
    "resu-senet-table": ResUSENetTable,
    "resu-senet-slim": ResUSENetSlim,
    "resu-cbnet": ResUCBNet,
    "dfpenet": DFPENet,
    "mffenet": MFFENet,
    "cgnet": CGNet,
    "lanet": LANet,
    "macu-net": MACUNet,
    "unetplusplus": UNetPlusPlus,
}


def names() -> tuple[str, ...]:
    """The networks that `create` knows."""
    return tuple(_BUILDERS)


def create(name: str, *, in_channels: int, classes: int) -> nn.Module:
    """A freshly initialised network; `classes` is the number of logits a pixel.

    Its weights lie in channels-last layout, which is 1.5 times as fast on a CPU; give it channels-last input as well.

    Raises `ModelingError` for a name that is not registered or counts below one.
    """
    if name not in _BUILDERS:
        raise ModelingError(f"unknown network {name!r}: choose one of {', '.join(_BUILDERS)}")
    if in_channels < 1 or classes < 1:
        raise ModelingError(f"a network needs at least 1 channel and 1 class, not {in_channels} and {classes}")
    network = _BUILDERS[name](in_channels, classes)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return network

"""Which modules of each network are its trunk, its encoder and its head: what fine-tuning may leave as it is.

- `trunk`: the feature extractor that papers pre-train on pictures, or the contracting path of a U-Net.
- `encoder`: the trunk and the context module on top of it (pyramid pooling, ASPP), that is all before the decoder.
- `all-but-head`: everything but the convolutions that give the logits.
- `norms`: every batch norm, its weights and its statistics, while convolutions move.

Names are those of `named_modules`; give them to `modeling.training.train.fit(frozen=…)`, which holds the batch-norm
statistics of what they name as well. The papers freeze "some layers" and do not say which (Xu et al., DFPENet).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modeling import networks
from modeling.errors import DataError

PARTS = ("trunk", "encoder", "all-but-head", "norms")
"""What can be frozen by name."""


@dataclass(frozen=True)
class Layout:
    """The modules of a network by what they are for."""

    trunk: tuple[str, ...]
    """The feature extractor."""
    context: tuple[str, ...] = ()
    """What belongs to the encoder besides."""
    head: tuple[str, ...] = ("head",)
    """What gives the logits."""


_RESU = Layout(("stem", "encoder"))

LAYOUTS: Mapping[str, Layout] = {
    "msf-litenet": Layout(("backbone",), ("pyramid",)),
    "fcn": Layout(("trunk",)),
    "deeplabv3": Layout(("trunk",), ("pyramid",)),
    "vgg-unet": Layout(("trunk",)),
    "resunet-r50": Layout(("trunk",)),
    "resu-net": _RESU,
    "resu-senet": _RESU,
    "resu-senet-table": _RESU,
    "resu-senet-slim": _RESU,
    "resu-cbnet": _RESU,
    "dfpenet": Layout(("trunk",), ("pyramid",)),
    "mffenet": Layout(("trunk",), ("pyramid",)),
    "cgnet": Layout(("stem", "norms", "stages")),
    "lanet": Layout(("trunk",), head=("coarse_head", "fine_head")),
    "macu-net": Layout(("encoder",), ("down",)),
    "unetplusplus": Layout(("nodes.0-0", "nodes.1-0", "nodes.2-0", "nodes.3-0", "nodes.4-0")),
}
"""By the name of the network. CGNet has no decoder: its trunk is all but its head."""


def modules_of(network_name: str, *parts: str) -> tuple[str, ...]:
    """The modules that make up these parts of `PARTS`, none twice and none inside another.

    No part gives no module. Raises `DataError` for a part or a network that is not known here.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise DataError(f"unknown part {unknown[0]!r} of a network: choose some of {', '.join(PARTS)}")
    if not parts:
        return ()
    if network_name not in LAYOUTS:
        raise DataError(
            f"nobody has said which modules of {network_name!r} are its trunk: {', '.join(LAYOUTS)} are known"
        )
    found = tuple(dict.fromkeys(name for part in parts for name in _modules(network_name, part)))
    return tuple(name for name in found if not any(name.startswith(f"{other}.") for other in found))


def _modules(network_name: str, part: str) -> tuple[str, ...]:
    layout = LAYOUTS[network_name]
    if part == "trunk":
        return layout.trunk
    if part == "encoder":
        return (*layout.trunk, *layout.context)
    network = _outline(network_name)
    if part == "norms":
        return tuple(name for name, module in network.named_modules() if isinstance(module, _BatchNorm))
    children = [name for name, child in network.named_children() if list(child.parameters())]
    return tuple(name for name in children if name not in layout.head)


@lru_cache(maxsize=len(LAYOUTS))
def _outline(network_name: str) -> nn.Module:
    """The network without any memory for its weights; the names of its modules do not depend on its channels."""
    with torch.device("meta"):
        return networks.create(network_name, in_channels=3, classes=2)

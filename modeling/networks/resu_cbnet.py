"""ResU-CBNet: ResU-Net with convolutional block attention on the skips (Xing et al. 2026).

P: a residual U-Net with spatial and channel attention (CBAM) for optical bands together with terrain factors. I: the
attention lies on the three skips, reduction 16 with biases and a 7x7 spatial convolution without; the rest is
`modeling.networks.resu_net`. 9,612,611 parameters at 10 channels and 1 class.
"""

from __future__ import annotations

from modeling.networks.attention import CBAM
from modeling.networks.resu_net import ResUNet


class ResUCBNet(ResUNet):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, attention=CBAM)

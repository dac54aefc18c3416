"""ResU-SENet: ResU-Net with squeeze-and-excitation on the three skips (Yang et al. 2024), as their text has it.

P: squeeze-and-excitation between encoder and decoder, 88 x 88 patches of ten bands. I: reduction 16, dense layers with
biases; widths of the original ResU-Net, because Table III contradicts the text (`modeling.networks.resu_senet_table`
is the table). 9,612,317 parameters at 10 channels and 1 class, 5.760 G conv MAC on 88 x 88 pixels.
"""

from __future__ import annotations

from modeling.networks.attention import SqueezeExcitation
from modeling.networks.resu_net import ResUNet


class ResUSENet(ResUNet):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, attention=SqueezeExcitation)

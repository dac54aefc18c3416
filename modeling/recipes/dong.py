"""Dong et al. 2024 (LDTL): MSF-LiteNet and the four networks that it is compared with.

Stated: RGB of 256 x 256 pixels, Adam 1e-4, one warm-up epoch from a thousandth of it, then polynomial decay 0.9, 50
epochs, focal (alpha 0.5, gamma 2) plus two-class dice. Not stated, and ours: the batch of 8, and that the checkpoint is
that of the best validation F1.
"""

from __future__ import annotations

from modeling.recipes.parts import Optimiser, Recipe, Schedule

_NETWORKS = ("msf-litenet", "fcn", "deeplabv3", "vgg-unet", "resunet-r50")

RECIPES = tuple(
    Recipe(
        name=network,
        network=network,
        loss="focal+dice",
        optimiser=Optimiser("adam", 1e-4),
        schedule=Schedule("polynomial", power=0.9, warm_up_epochs=1, warm_up_from=1e-3),
        epochs=50,
        batch=8,
        patch_px=256,
        classes=2,
        normalisation="standardise",
        augmentation="resize-turn-colour",
        select_by="f1",
        about="Dong et al. 2024; batch and choice of the checkpoint are ours",
    )
    for network in _NETWORKS
)

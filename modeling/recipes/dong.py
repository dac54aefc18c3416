"""Dong et al. 2024 (LDTL): MSF-LiteNet and the four networks that it is compared with.

Stated: RGB of 256 x 256 pixels, Adam 1e-4, one warm-up epoch from a thousandth of it, then polynomial decay 0.9, 50
epochs, focal (alpha 0.5, gamma 2) plus two-class dice. Not stated, and ours: the batch of 8, and that the checkpoint is
that of the best validation F1.

Of the transfer (LDTL) is stated: pre-training on source regions, then light fine-tuning on the target with stronger
augmentation. In which order regions in between come, how long and how fast each stage learns, what is frozen and how much
stronger the augmentation is, is not stated, and ours.
"""

from __future__ import annotations

from dataclasses import replace

from modeling.recipes.adapting import Leg, Transfer
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

_LIGHT = Leg("target", "target", share=0.2, rate_factor=0.1, augmentation="strong")
_LDTL = Transfer(
    name="ldtl",
    legs=(Leg("source", "source"), Leg("between", "between", share=0.5, rate_factor=0.3), _LIGHT),
    warm_up=0.05,
    validations=4,
    about="Dong et al. 2024 (LDTL); shares, factors, warm-up, validations, that nothing is frozen and the strength of the "
    "stronger augmentation are ours",
)

TRANSFERS = (
    _LDTL,
    replace(
        _LDTL,
        name="ldtl-ordinary",
        legs=(*_LDTL.legs[:-1], replace(_LIGHT, augmentation="")),
        about="as ldtl without the stronger augmentation, to measure what that is worth; ours",
    ),
    replace(
        _LDTL,
        name="ldtl-frozen",
        legs=(*_LDTL.legs[:-1], replace(_LIGHT, freeze=("trunk",))),
        about="as ldtl with the trunk frozen on the target: the paper does not say what is frozen; ours",
    ),
)

"""Xu et al.: DFPENet, and MFFENet (2022).

DFPENet, stated: cross-entropy, SGD 0.007 with Nesterov momentum 0.9, weight decay 5e-4, polynomial decay 0.9, patches
of 512 x 512 pixels in batches of 4, 30,000 iterations, 1,000 for fine-tuning; ten times the rate outside the trunk is
read off the release. MFFENet: the boundary-aware loss; SGD 2.5e-4 with ten times the rate outside the trunk is what the
release of its adaptation (ADANet) uses; the rest is taken from DFPENet. Not stated, and ours: mirrors
as augmentation, and the checkpoint of the best validation F1.
"""

from __future__ import annotations

from dataclasses import replace

from modeling.recipes.parts import Optimiser, Recipe, Schedule

_DFPENET = Recipe(
    name="dfpenet",
    network="dfpenet",
    loss="cross-entropy",
    optimiser=Optimiser("sgd", 0.007, momentum=0.9, nesterov=True, weight_decay=5e-4, heads_factor=10.0),
    schedule=Schedule("polynomial", power=0.9),
    steps=30_000,
    batch=4,
    patch_px=512,
    classes=2,
    normalisation="standardise",
    augmentation="mirrors",
    select_by="f1",
    about="Xu et al. (DFPENet); augmentation and choice of the checkpoint are ours",
)

RECIPES = (
    _DFPENET,
    replace(_DFPENET, name="dfpenet-fine-tune", steps=1_000, about="Xu et al. (DFPENet), fine-tuning on a target"),
    replace(
        _DFPENET,
        name="mffenet",
        network="mffenet",
        loss="boundary-aware",
        optimiser=replace(_DFPENET.optimiser, learning_rate=2.5e-4),
        about="Xu et al. 2022 (MFFENet); the length and the batch are DFPENet's",
    ),
)

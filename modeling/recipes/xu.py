"""Xu et al.: DFPENet and its transfer, and MFFENet and its adaptation ADANet (2022).

DFPENet, stated: cross-entropy, SGD 0.007 with Nesterov momentum 0.9, weight decay 5e-4, polynomial decay 0.9, patches
of 512 x 512 pixels in batches of 4, 30,000 iterations, 1,000 for fine-tuning; ten times the rate outside the trunk is
read off the release. MFFENet: the boundary-aware loss; SGD 2.5e-4 with ten times the rate outside the trunk is what the
release of its adaptation (ADANet) uses; the rest is taken from DFPENet. Not stated, and ours: mirrors
as augmentation, and the checkpoint of the best validation F1.

DFPENet's three strategies for new images X2 after a training set X1 are stated: fine-tune on X2; the same with some layers
frozen; X1 and then X1 and X2 together; 1,000 steps after 30,000. Which layers are frozen is not, nor the rate of the
second training: the trunk and a tenth are ours, as are warm-up and validations. What ends in `-short` takes a fifth of the
steps instead of a thirtieth.

ADANet, read off the release: segmentation loss 1.0 main + 0.5 auxiliary, adversarial 0.01 main and 0.002 auxiliary, noisy
labels of the discriminators, SGD 2.5e-4 with heads times ten, Adam (0.9, 0.99) 1e-4 for the discriminators. Inferred, after
AdaptSegNet (Tsai et al. 2018), on which the release builds: momentum 0.9, weight decay 5e-4, polynomial decay 0.9 of both
rates. Not known, and ours: the number of steps, the batch, how noisy the labels are, the source's augmentation, the
statistics of batch norms, and that the checkpoint is picked by the source's validation part within a floor (the release picks
it by the target's labels, which leaks).
"""

from __future__ import annotations

from dataclasses import replace

from modeling.recipes.adapting import Adversarial, Leg, LegGround, Transfer
from modeling.recipes.parts import Optimiser, Recipe, Schedule

STRATEGIES = ("fine-tune", "freeze", "joint")
"""DFPENet's: fine-tune on X2; the same with frozen layers; X1 and then X1 and X2 together."""
_TRAINING, _FINE_TUNING = 30_000, 1_000  # steps

_DFPENET = Recipe(
    name="dfpenet",
    network="dfpenet",
    loss="cross-entropy",
    optimiser=Optimiser("sgd", 0.007, momentum=0.9, nesterov=True, weight_decay=5e-4, heads_factor=10.0),
    schedule=Schedule("polynomial", power=0.9),
    steps=_TRAINING,
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
    replace(
        _DFPENET, name="dfpenet-fine-tune", steps=_FINE_TUNING, about="Xu et al. (DFPENet), fine-tuning on a target"
    ),
    replace(
        _DFPENET,
        name="mffenet",
        network="mffenet",
        loss="boundary-aware",
        optimiser=replace(_DFPENET.optimiser, learning_rate=2.5e-4),
        about="Xu et al. 2022 (MFFENet); the length and the batch are DFPENet's",
    ),
)

_LENGTHS = {
    "": (_FINE_TUNING / _TRAINING, "1,000 steps after 30,000"),
    "-short": (1 / 5, "with a fifth of the steps before it (ours): a thirtieth of a training of hours is nothing"),
}
"""What follows a strategy's name -> its steps, as a share of those before it, and why."""


def _transfer(strategy: str, length: str) -> Transfer:
    share, why = _LENGTHS[length]
    frozen = ("trunk",) if strategy == "freeze" else ()
    ground: LegGround = "both" if strategy == "joint" else "target"
    return Transfer(
        name=f"dfpenet-transfer-{strategy}{length}",
        legs=(Leg("X1", "source"), Leg(strategy, ground, share, rate_factor=0.1, freeze=frozen)),
        warm_up=0.05,
        validations=4,
        about=f"Xu et al. (DFPENet), {why}; the second rate, warm-up, validations and what is frozen are ours",
    )


TRANSFERS = tuple(_transfer(strategy, length) for length in _LENGTHS for strategy in STRATEGIES)

_ADANET = Adversarial(
    name="adanet",
    optimiser=Optimiser("sgd", 2.5e-4, momentum=0.9, weight_decay=5e-4, heads_factor=10.0),
    discriminator=Optimiser("adam", 1e-4, betas=(0.9, 0.99)),
    schedule=Schedule("polynomial", power=0.9),
    steps=1_000,
    batch=8,
    augmentation="physical",
    auxiliary=0.5,
    adversarial=(0.01, 0.002),
    label_noise=0.2,
    norms_of="target",
    select_by="source-f1",
    floor=0.05,
    validations=10,
    most_patches=256,
    about="Xu et al. 2022 (ADANet), as released; momentum, weight decay and schedule are inferred (AdaptSegNet); steps, batch, "
    "noise of the labels, augmentation, statistics and choice of the checkpoint are ours",
)

ADVERSARIAL = (
    _ADANET,
    replace(
        _ADANET,
        name="adanet-scene",
        steps=300,
        about="as adanet with fewer steps: a scene is adapted to while somebody waits, on a laptop",
    ),
    replace(
        _ADANET,
        name="adanet-control",
        adversarial=(0.0, 0.0),
        about="as adanet without the adversary: what new statistics and more training on the source do alone; ours",
    ),
)

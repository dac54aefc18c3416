"""Yang et al. 2024 (ResU-SENet), and the networks that are trained on equal terms with it.

Stated: patches of 88 x 88 pixels, dice loss, Adam 1e-4, batch 5, min-max scaling, horizontal, vertical and diagonal
flips, the checkpoint of the lowest validation loss. Not stated, and ours: 100 epochs, stopped after 20 without a lower
loss. Xing et al. 2026 (ResU-CBNet) state neither optimiser nor loss, and the general-purpose networks of the comparison
come from papers about other data: all take these settings.
"""

from __future__ import annotations

from modeling.recipes.parts import Optimiser, Recipe

_STATED = "Yang et al. 2024; the number of epochs and the patience are ours"
_BORROWED = "the settings of Yang et al. 2024, for a comparison on equal terms"

_ABOUT = {
    "resu-net": _STATED,
    "resu-senet": _STATED,
    "resu-senet-table": _STATED,
    "resu-senet-slim": f"ours, a quarter of the width of Yang's network: {_BORROWED}",
    "resu-cbnet": f"Xing et al. 2026 do not state theirs: {_BORROWED}",
    "cgnet": _BORROWED,
    "lanet": _BORROWED,
    "macu-net": _BORROWED,
    "unetplusplus": _BORROWED,
}

RECIPES = tuple(
    Recipe(
        name=network,
        network=network,
        loss="dice",
        optimiser=Optimiser("adam", 1e-4),
        epochs=100,
        batch=5,
        patch_px=88,
        classes=1,
        normalisation="min-max",
        augmentation="mirrors",
        select_by="loss",
        patience=20,
        about=about,
    )
    for network, about in _ABOUT.items()
)

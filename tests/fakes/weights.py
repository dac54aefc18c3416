"""Networks with weights that nobody has trained: everything but their judgement is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from modeling import networks
from modeling.bands import assemble, band_set
from modeling.data.normalise import fit
from modeling.model import LandslideModel, save_model
from modeling.simulate import Region, layers_of


def untrained(region: Region, folder: Path, name: str, band_set_name: str, share: float) -> Path:
    """Weights of an untrained network that finds `share` of the pixels of `region` to be landslides (0: none at all)."""
    torch.manual_seed(7)
    wanted = band_set(band_set_name)
    layers, _ = layers_of(region)
    pixels = assemble(wanted, layers)
    known = pixels.reshape(len(wanted.channels), -1)
    network = networks.create("msf-litenet", in_channels=len(wanted.channels), classes=2).eval()
    model = LandslideModel(
        name, "msf-litenet", network, wanted, fit("standardise", known[:, np.isfinite(known).all(axis=0)]),
        temperature=1.0, threshold=1.0, weights_hash="", card={"trained_on": "nothing"},
    )  # fmt: skip
    if share > 0:
        probability = model.probability(torch.from_numpy(pixels)[None]).numpy()
        object.__setattr__(model, "threshold", float(np.quantile(probability, 1 - share)))
    return save_model(model, folder)

"""Networks with weights that nobody has trained: everything but their judgement is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from modeling import networks
from modeling.bands import assemble, band_set
from modeling.data.normalise import Normalisation, fit
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


def random_model(bands_name: str) -> LandslideModel:
    """A network with random weights that are always the same, in memory."""
    torch.manual_seed(0)
    bands = band_set(bands_name)
    channels = len(bands.channels)
    network = networks.create("msf-litenet", in_channels=channels, classes=2).eval()
    even = Normalisation("standardise", (0.0,) * channels, (1.0,) * channels, (0.0,) * channels, (-5.0, 5.0))
    return LandslideModel("m", "msf-litenet", network, bands, even, 1.0, 0.5, "ab" * 32, {})

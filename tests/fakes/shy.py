"""A network that knows the landslides of a region and hardly dares to say so: what a few polygons can mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from modeling import networks
from modeling.bands import assemble, band_set
from modeling.data.normalise import fit
from modeling.model import LandslideModel, save_model
from modeling.simulate import Region, layers_of

TOO_SHY = 6.0
"""By how much its margin is too low, so that its map misses most landslides."""


def shy_network(region: Region, folder: Path) -> Path:
    """Ten-band weights of the network `tiny`, which must be registered (`fakes.training`), trained on `region`."""
    torch.manual_seed(1)
    wanted = band_set("ten-band")
    pixels = assemble(wanted, layers_of(region)[0])
    known = pixels.reshape(len(wanted.channels), -1)
    normalisation = fit("standardise", known[:, np.isfinite(known).all(axis=0)])
    network = networks.create("tiny", in_channels=len(wanted.channels), classes=2).eval()
    x, truth = normalisation.apply(torch.from_numpy(pixels)[None]), torch.from_numpy(region.truth).float()
    optimiser = torch.optim.Adam(network.parameters(), 3e-2)
    weight = torch.where(truth > 0, 1 / truth.mean(), 1.0)
    for _ in range(60):
        logits = network(x)[0]
        loss = functional.binary_cross_entropy_with_logits(logits[1] - logits[0], truth, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        network.head[1].bias[1] -= TOO_SHY
    model = LandslideModel(
        "shy", "tiny", network, wanted, normalisation, 1.0, 0.5, "", {"about": "trained on simulated data only"}
    )
    return save_model(model, folder)

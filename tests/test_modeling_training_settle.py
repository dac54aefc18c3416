"""Statistics of batch norms are those of the weights as they are, not of weights long gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION, ToyBlocks, ToySampler, recipe
from torch import nn

from modeling import networks
from modeling.training.settle import SETTLING_PATCHES, settle_norms
from modeling.training.train import fit

CHANNELS = len(BANDS.channels)


class Lagging(nn.Module):
    """A network whose norm hardly moves while it trains, as that of MSF-LiteNet's backbone."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=1e-4), nn.ReLU(), nn.Dropout2d(0.1)
        )
        self.head = nn.Conv2d(8, classes, 1)
        nn.init.constant_(self.trunk[0].bias, 20.0)  # what a norm takes away while it trains

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))  # type: ignore[no-any-return]


def settle(network: nn.Module, batch: int = 8) -> None:
    settle_norms(
        network, ToySampler(batch=batch), NORMALISATION, channels=CHANNELS, batch=batch, device=torch.device("cpu")
    )


def test_the_statistics_become_those_of_the_first_batches() -> None:
    torch.manual_seed(0)
    network = Lagging(CHANNELS, 1).eval()
    weights = network.head.weight.clone()
    settle(network)
    sampler = ToySampler(batch=8)
    x = np.concatenate([sampler.draw(number)[0] for number in range(SETTLING_PATCHES // 8)])
    with torch.inference_mode():
        seen = network.trunk[0](NORMALISATION.apply(torch.from_numpy(x)))
    norm = network.trunk[1]
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    batches = seen.unflatten(0, (-1, 8)).transpose(1, 2).flatten(2).var(2).mean(0)
    torch.testing.assert_close(norm.running_var, batches, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 1e-4
    assert not network.training
    assert torch.equal(network.head.weight, weights)


def test_settling_again_changes_nothing() -> None:
    torch.manual_seed(0)
    network = Lagging(CHANNELS, 1).train()
    settle(network)
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settle(network)
    assert network.training
    assert all(torch.equal(first[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_whose_norms_lag_is_validated_and_kept_as_well_as_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks._BUILDERS, "lagging", Lagging)
    made = recipe(steps=60, validate_every=60, classes=1, network="lagging")
    scores = {}
    for name in ("settled", "lagging"):
        if name == "lagging":
            monkeypatch.setattr("modeling.training.train.settle_norms", lambda *_, **__: None)
        found = fit(
            made, ToySampler(batch=made.batch), ToyBlocks(), NORMALISATION, BANDS, tmp_path / name, device="cpu"
        )
        scores[name] = found.model.card["validation_f1"], found.progress.curve[-1].validation_loss
    assert scores["settled"][0] >= scores["lagging"][0]
    assert scores["settled"][1] < 0.8 * scores["lagging"][1]

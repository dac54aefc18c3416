"""ADANet for any network: the paper's counts and losses, a shift undone without labels, runs that go on where they stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.adaptation import Ground, Validation, dimmed, register_plain, toy_model
from fakes.training import ToySampler, register_tiny
from torch import nn

from modeling import networks
from modeling.adaptation.adversarial import adapt_adversarial
from modeling.adaptation.auxiliary import LEVELS, WithAuxiliary, level_of
from modeling.adaptation.loop import Adapted
from modeling.errors import ModelingError
from modeling.model import LandslideModel
from modeling.networks import discriminator
from modeling.networks.discriminator import Discriminator
from modeling.networks.mffenet import MFFENet
from modeling.recipes import Adversarial, Optimiser, adaptation
from modeling.scoring.evaluate import evaluate

QUICK = replace(
    adaptation("adanet", Adversarial), steps=6, optimiser=Optimiser("adam", 1e-2),
    discriminator=Optimiser("adam", 5e-3, betas=(0.9, 0.99)),
    adversarial=(0.1, 0.02), validations=2, batch=2, most_patches=6, norms_of="joint", select_by="last", floor=0.3,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discriminators that learn in a second; a network without batch norms, so that these cannot do the work."""
    monkeypatch.setattr(discriminator, "_WIDTHS", (16, 16, 16, 16))
    register_plain(monkeypatch)


def trained(model: LandslideModel, target: Ground, folder: Path, how: Adversarial = QUICK, **named: object) -> Adapted:
    return adapt_adversarial(
        model, ToySampler(), Validation(), target, folder, how, level="trunk", device="cpu", **named  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.usefixtures("small")
def test_a_shift_is_undone_by_the_discriminators_and_not_by_more_training(tmp_path: Path) -> None:
    model = toy_model(tmp_path, network_name="plain")
    kept = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    target = Ground(6, change=dimmed)
    f1 = {"before": evaluate(model, target).scores()["f1"]}
    for name, adversarial in (("control", (0.0, 0.0)), ("adapted", (0.1, 0.02))):
        how = replace(QUICK, steps=30, adversarial=adversarial)
        found = trained(model, target, tmp_path / name, how)
        f1[name] = evaluate(found.model, target).scores()["f1"]
        assert not found.kept_start
    assert f1["adapted"] > max(f1["before"], f1["control"]) + 0.2, f1
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.network.state_dict().items())
    entry = found.model.card["adaptation"][0]
    assert entry["method"] == "adversarial (ADANet)" and "no target label" in entry["chosen_by"]
    assert set(found.moments[-1].losses) == {"segmentation", "adversarial", "discriminators"}


@pytest.mark.usefixtures("small")
def test_it_goes_on_where_it_stopped_and_reads_no_truth_of_the_target(tmp_path: Path) -> None:
    model = toy_model(tmp_path, steps=5, classes=1, network_name="plain")
    whole = trained(model, Ground(4, change=dimmed), tmp_path / "whole")

    class StoppedError(Exception):
        pass

    class Stopping(ToySampler):
        calls = 0

        def draw(self, number: int):  # type: ignore[no-untyped-def]
            Stopping.calls += 1
            if Stopping.calls > 5:  # one of them looks at the size of patches, so four steps are done
                raise StoppedError
            return super().draw(number)

    scrambled = Ground(4, change=dimmed, truth="scrambled")
    with pytest.raises(StoppedError):
        adapt_adversarial(
            model, Stopping(), Validation(), scrambled, tmp_path / "stopped", QUICK, level="trunk", device="cpu",
            checkpoint_seconds=0.0,
        )  # fmt: skip
    again = trained(model, scrambled, tmp_path / "stopped")
    assert again.model.weights_hash == whole.model.weights_hash
    assert again.moments == whole.moments


def test_counts_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        assert _count(MFFENet(3, 2)) == 71_356_490
        assert _count(MFFENet(3, 2, auxiliary=True)) == 71_357_004
        assert _count(Discriminator(2)) == 2_763_713
        by_hook = WithAuxiliary(MFFENet(3, 2), level_of("mffenet"), in_channels=3, classes=2)
        assert _count(by_hook) == 71_357_004


def test_every_network_of_the_zoo_has_a_level() -> None:
    assert set(LEVELS) == {name for name in networks.names() if name not in {"tiny", "plain"}}
    with pytest.raises(ModelingError, match="name the module"):
        level_of("tiny")


@pytest.mark.parametrize("name", ["msf-litenet", "cgnet", "macu-net", "unetplusplus"])
def test_the_auxiliary_head_sees_the_ground_in_its_place(name: str) -> None:
    torch.manual_seed(0)
    plain = networks.create(name, in_channels=3, classes=2)
    both = WithAuxiliary(plain, level_of(name), in_channels=3, classes=2).eval()
    x = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        main, auxiliary = both(x)
        torch.testing.assert_close(main, plain(x))
    assert auxiliary.shape == main.shape == (1, 2, 50, 70)
    heads = {id(p) for p in both.parameters()} - {id(p) for p in both.trunk.parameters()}
    assert {id(p) for p in both.auxiliary.parameters()} < heads
    assert len(heads) < 30


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.names())
def test_any_network_of_the_zoo_takes_an_auxiliary_head(name: str) -> None:
    plain = networks.create(name, in_channels=4, classes=1)
    both = WithAuxiliary(plain, level_of(name), in_channels=4, classes=1).eval()
    with torch.no_grad():
        main, auxiliary = both(torch.randn(1, 4, 40, 64))
    assert main.shape == auxiliary.shape == (1, 1, 40, 64)
    assert [part for part in both.state_dict() if not part.startswith("network.")] == [
        "auxiliary.weight",
        "auxiliary.bias",
    ]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

"""Every network's parts are where they are said to be, and what is frozen stays as it is: weights and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakes.training import BANDS, NORMALISATION, ToyBlocks, ToySampler, recipe, register_tiny
from torch import nn

from modeling import networks
from modeling.adaptation.freezing import LAYOUTS, modules_of
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel
from modeling.recipes import Optimiser
from modeling.training.frozen import freeze, hold
from modeling.training.optimise import optimiser_for
from modeling.training.progress import Tick
from modeling.training.train import TrainedModel, fit


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outline(name: str) -> nn.Module:
    with torch.device("meta"):
        return networks.create(name, in_channels=3, classes=2)


def run(folder: Path, **named: object) -> TrainedModel:
    made = recipe(steps=6, validate_every=2)
    return fit(made, ToySampler(), ToyBlocks(), NORMALISATION, BANDS, folder, device="cpu", **named)  # type: ignore[arg-type]


def test_every_network_says_what_its_parts_are() -> None:
    assert set(LAYOUTS) == set(networks.names()) - {"tiny"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_parts_lie_within_each_other_and_leave_something_to_train(name: str) -> None:
    sizes = []
    for part in ("trunk", "encoder", "all-but-head"):
        network = outline(name)
        freeze(network, modules_of(name, part))
        sizes.append(sum(tensor.numel() for tensor in network.parameters() if tensor.requires_grad))
    whole = sum(tensor.numel() for tensor in outline(name).parameters())
    assert whole > sizes[0] >= sizes[1] >= sizes[2] > 0
    assert sizes[2] < 0.3 * whole  # a head is small


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_trunk_reads_the_input_and_the_head_gives_the_logits(name: str) -> None:
    network = outline(name)
    convolutions = [module for module, of in network.named_modules() if isinstance(of, nn.Conv2d)]
    inside = modules_of(name, "trunk")
    assert any(convolutions[0].startswith(part) for part in inside)
    frozen = modules_of(name, "all-but-head")
    left = [name for name in convolutions if not any(name.startswith(f"{part}.") for part in frozen)]
    assert dict(network.named_modules())[left[-1]].out_channels == 2


def test_norms_are_all_of_them_and_nothing_else() -> None:
    network = outline("msf-litenet")
    norms = modules_of("msf-litenet", "norms")
    found = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(norms) == found
    held = freeze(network, norms)
    assert all(isinstance(module, nn.BatchNorm2d) for module in held)


def test_several_parts_are_joined_and_none_lies_in_another() -> None:
    both = modules_of("dfpenet", "trunk", "norms")
    assert "trunk" in both
    assert not [name for name in both if name.startswith("trunk.")]
    assert modules_of("dfpenet") == ()


@pytest.mark.parametrize(("network", "part"), [("dfpenet", "nose"), ("no-net", "trunk")])
def test_what_is_not_known_is_refused(network: str, part: str) -> None:
    with pytest.raises(DataError, match=r"nose.*trunk|no-net"):
        modules_of(network, part)


def test_a_frozen_trunk_keeps_weights_and_statistics_while_the_head_learns(tmp_path: Path) -> None:
    start = run(tmp_path / "start", seed=1).model
    tuned = run(tmp_path / "tuned", start=start, frozen=("trunk",)).model
    before, after = start.network.state_dict(), tuned.network.state_dict()
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == name.startswith("trunk."), name
    free = run(tmp_path / "free", start=start).model.network.state_dict()
    assert not torch.equal(free["trunk.1.running_mean"], before["trunk.1.running_mean"])
    assert all(parameter.requires_grad for parameter in tuned.network.parameters())


def test_frozen_norms_stay_while_convolutions_around_them_move(tmp_path: Path) -> None:
    start = run(tmp_path / "start", seed=1).model
    tuned = run(tmp_path / "tuned", start=start, frozen=("trunk.1",)).model
    before, after = start.network.state_dict(), tuned.network.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in kept if "num_batches" not in name} == {
        f"trunk.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")
    }


class StoppedError(Exception):
    """What a listener raises to end a run."""


def test_a_frozen_run_can_be_stopped_and_goes_on(tmp_path: Path) -> None:
    start = run(tmp_path / "start", seed=1).model
    whole = run(tmp_path / "whole", start=start, frozen=("trunk",))

    def stop(tick: Tick) -> None:
        if tick.step == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(tmp_path / "cut", start=start, frozen=("trunk",), checkpoint_seconds=0.0, tell=stop)
    with pytest.raises(WeightsError, match="frozen"):
        run(tmp_path / "cut", start=start)  # nothing frozen is another run
    resumed = run(tmp_path / "cut", start=start, frozen=("trunk",))
    assert same(whole.model, resumed.model)
    assert resumed.progress.curve == whole.progress.curve


def same(one: LandslideModel, other: LandslideModel) -> bool:
    state = other.network.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in one.network.state_dict().items())


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_the_optimiser_sees_only_what_moves(factor: float) -> None:
    network = networks.create("tiny", in_channels=3, classes=2)
    freeze(network, ("trunk",))
    optimiser = optimiser_for(Optimiser("sgd", 1e-2, heads_factor=factor), network)
    seen = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    assert seen == {id(parameter) for parameter in network.get_submodule("head").parameters()}
    assert [group["factor"] for group in optimiser.param_groups] == [factor]


def test_a_frozen_part_computes_as_in_evaluation() -> None:
    network = networks.create("tiny", in_channels=3, classes=2)
    held = freeze(network, ("trunk",))
    network.train()
    hold(held)
    assert not any(module.training for module in network.get_submodule("trunk").modules())
    assert network.get_submodule("head").training


@pytest.mark.parametrize("names", [("nose",), ("",), ("trunk.2",), ("trunk", "head")])
def test_what_cannot_be_frozen_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"no part|nothing would be left"):
        freeze(networks.create("tiny", in_channels=3, classes=2), names)

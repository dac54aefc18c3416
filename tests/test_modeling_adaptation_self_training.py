"""Self-training: labels are balanced and sure, runs go on as if never stopped, and no label of the target is read."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.adaptation import Ground, Validation, dimmed, toy_model
from fakes.training import ToySampler, register_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.adaptation import judge
from modeling.adaptation.loop import CHECKPOINT, Adapted, Moment, score
from modeling.adaptation.self_training import balanced_labels, self_train
from modeling.calibrated import plain_sure_margin
from modeling.data.batches import IGNORE, Blocks
from modeling.errors import WeightsError
from modeling.model import LandslideModel, load_model, save_model
from modeling.recipes import Optimiser, SelfTraining, adaptation
from modeling.scoring.evaluate import evaluate
from modeling.training.progress import Tick

QUICK = replace(
    adaptation("self-training", SelfTraining), steps=6,
    optimiser=Optimiser("adam", 1e-3), labellings=3, validations=2, batch=2, augmentation="mirrors",
    most_patches=6, floor=1.0, norms_of="joint",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)
    monkeypatch.setattr(judge, "SETTLING_PATCHES", 8)


@pytest.fixture(scope="module")
def source_model(tmp_path_factory: pytest.TempPathFactory) -> LandslideModel:
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        return toy_model(tmp_path_factory.mktemp("toy"))


def trained(model: LandslideModel, target: Blocks, folder: Path, how: SelfTraining = QUICK, **named: object) -> Adapted:
    return self_train(model, ToySampler(), Validation(), target, folder, how, device="cpu", **named)  # type: ignore[arg-type]


@pytest.mark.parametrize("norms_of", ["joint", "target", "kept"])
def test_a_shift_is_learnt_from_its_own_labels(source_model: LandslideModel, tmp_path: Path, norms_of: str) -> None:
    before = copy.deepcopy(source_model.network.state_dict())
    target = Ground(6, change=dimmed)
    how = replace(QUICK, steps=24, labellings=4, norms_of=norms_of, optimiser=Optimiser("adam", 1e-2), floor=0.2)
    found = trained(source_model, target, tmp_path, how)
    scores = [evaluate(model, target).scores()["f1"] for model in (source_model, found.model)]
    assert scores[1] > scores[0] + 0.1
    assert all(torch.equal(tensor, before[name]) for name, tensor in source_model.network.state_dict().items())
    entry = found.model.card["adaptation"][0]
    assert (entry["method"], entry["chosen_step"]) == ("self-training", 24)
    assert "no target label" in entry["chosen_by"] and "on\n" not in entry["calibration"]
    assert [moment.step for moment in found.moments] == [0, 12, 24]
    assert not found.kept_start
    if norms_of == "kept":
        now = found.model.network.state_dict()
        assert all(torch.equal(now[name], kept) for name, kept in before.items() if "running" in name)


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_what_is_kept_back_follows_the_new_temperature(
    source_model: LandslideModel, tmp_path: Path, times: float
) -> None:
    careful = replace(source_model, sure_margin=times * plain_sure_margin(source_model.temperature))
    made = trained(careful, Ground(4, change=dimmed), tmp_path).model
    assert made.temperature != careful.temperature
    loaded = load_model(save_model(made, tmp_path))
    assert loaded.sure_margin == pytest.approx(times * plain_sure_margin(made.temperature))


def test_the_truth_of_the_target_changes_nothing(source_model: LandslideModel, tmp_path: Path) -> None:
    made = [
        trained(source_model, Ground(4, change=dimmed, truth=truth), tmp_path / truth).model.weights_hash
        for truth in ("kept", "scrambled")
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("draws", [7, 10])  # in the third step, in the validation after it
def test_a_stopped_run_goes_on_as_if_never_stopped(source_model: LandslideModel, tmp_path: Path, draws: int) -> None:
    target = Ground(4, change=dimmed)
    whole = trained(source_model, target, tmp_path / "whole", checkpoint_seconds=0.0)
    seen: list[int] = []

    def stopping(tick: Tick) -> None:
        seen.append(tick.step)

    class StoppedError(Exception):
        pass

    class Stopping(ToySampler):
        def draw(self, number: int):  # type: ignore[no-untyped-def]
            calls.append(number)
            if len(calls) > draws:
                raise StoppedError
            return super().draw(number)

    calls: list[int] = []
    folder = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        self_train(source_model, Stopping(), Validation(), target, folder, QUICK, device="cpu", checkpoint_seconds=0.0)
    again = trained(source_model, target, folder, tell=stopping)
    assert again.model.weights_hash == whole.model.weights_hash
    assert again.moments == whole.moments
    assert seen[-1] == QUICK.steps
    ended = trained(source_model, target, folder)
    assert ended.model.weights_hash == whole.model.weights_hash


def test_a_checkpoint_of_another_run_is_refused(source_model: LandslideModel, tmp_path: Path) -> None:
    trained(source_model, Ground(3), tmp_path)
    with pytest.raises(WeightsError, match=r"other settings \(target\)"):
        trained(source_model, Ground(4), tmp_path)
    with pytest.raises(WeightsError, match=r"\(settings\)"):
        trained(source_model, Ground(3), tmp_path, replace(QUICK, ema=0.5))
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="delete it"):
        trained(source_model, Ground(3), tmp_path)


def test_a_network_that_forgot_its_source_is_not_kept(source_model: LandslideModel, tmp_path: Path) -> None:
    wild = replace(QUICK, optimiser=Optimiser("sgd", 30.0), floor=0.0, select_by="target-information")
    found = trained(source_model, Ground(3, change=dimmed), tmp_path, wild)
    assert found.kept_start
    state = source_model.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.model.network.state_dict().items())
    assert found.model.threshold == source_model.threshold


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), portion=st.floats(0.05, 1), confidence=st.floats(0.5, 0.99))
def test_labels_are_the_surest_of_each_class(seed: int, portion: float, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.5, rng.uniform(0.5, 8), (2, 20, 20)).astype(np.float32)
    known = (rng.random(probability.shape) < 0.9).astype(np.uint8)
    labels, limits = balanced_labels(probability, known, portion=portion, confidence=confidence)
    assert (labels[known == 0] == IGNORE).all()
    for code, name in ((0, "background"), (1, "landslide")):
        sure = probability if code else 1 - probability
        of_class = (known > 0) & ((probability >= 0.5) == bool(code))
        labelled = labels == code
        assert (of_class | ~labelled).all()
        assert (sure[labelled] >= confidence).all()
        if labelled.any() and (of_class & ~labelled).any():
            assert sure[labelled].min() >= sure[of_class & ~labelled].max()
        if limits[name] > confidence:
            assert labelled.sum() >= portion * of_class.sum() - 1


def test_networks_are_chosen_as_the_recipe_says() -> None:
    moment = Moment(30, source_f1=0.5, information=0.1)
    assert score(moment, "source-f1") == 0.5
    assert score(moment, "target-information") == 0.1
    assert score(moment, "last") == 30

"""Batch norms take the target's statistics, exactly, in any share, and look at nothing but its channels."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.adaptation import Ground, shifted, toy_model
from fakes.training import BANDS, SIDE_PX, register_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modeling.adaptation.norms import adapt_norms, mix_statistics, statistics
from modeling.adaptation.result import adapted, copied
from modeling.adaptation.target import layers_of, pool_of
from modeling.bands import BAND_SETS, assemble
from modeling.data.batches import Block
from modeling.errors import DataError, ModelingError
from modeling.model import LandslideModel, load_model, save_model
from modeling.scoring.evaluate import evaluate


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


@pytest.fixture(scope="module")
def source_model(tmp_path_factory: pytest.TempPathFactory) -> LandslideModel:
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        return toy_model(tmp_path_factory.mktemp("toy"))


def norm_of(model: LandslideModel) -> nn.BatchNorm2d:
    (norm,) = (module for module in model.network.modules() if isinstance(module, nn.BatchNorm2d))
    return norm


def test_a_shift_of_the_colours_is_undone(source_model: LandslideModel) -> None:
    before = copy.deepcopy(source_model.network.state_dict())
    target = Ground(6, change=shifted)
    made = adapt_norms(source_model, target)
    scores = [evaluate(model, target).scores()["f1"] for model in (source_model, made)]
    assert scores[0] < 0.5 < 0.8 < scores[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in source_model.network.state_dict().items())
    assert (made.temperature, made.threshold) == (source_model.temperature, source_model.threshold)
    careful = adapt_norms(replace(source_model, sure_margin=50.0), Ground(2, change=shifted))
    assert careful.sure_margin == 50.0, "what is kept back stays kept back"
    assert made.name == f"{source_model.name}-norms"
    entry = made.card["adaptation"][-1]
    assert entry["settings"]["weight"] == 1.0
    assert "nobody has measured" in entry["calibration"]
    assert entry["before"]["sha256"] == source_model.weights_hash != made.weights_hash
    assert made.card["scores"] == {} and "adaptation" not in source_model.card


def test_with_another_temperature_as_much_is_kept_back(source_model: LandslideModel) -> None:
    model = replace(source_model, sure_margin=50.0)

    def made(**changes: float) -> LandslideModel:
        return adapted(
            model,
            copied(model),
            method="a test",
            settings={},
            data={},
            seconds=0.0,
            calibration="",
            suffix="test",
            **changes,
        )

    assert made(temperature=3 * model.temperature).sure_margin == pytest.approx(150.0)
    assert made(threshold=0.95).sure_margin == 0.0, "nothing is kept back of a map that begins there"


def test_the_truth_of_the_target_changes_nothing(source_model: LandslideModel) -> None:
    one, other = (adapt_norms(source_model, Ground(4, change=shifted, truth=truth)) for truth in ("kept", "scrambled"))
    assert one.weights_hash == other.weights_hash
    assert adapt_norms(source_model, Ground(4, change=shifted)).weights_hash == one.weights_hash


def test_statistics_are_those_of_all_values_pooled() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    parts = [torch.randn(2, 3, 5, 5) * 3 + 1, torch.randn(1, 3, 5, 5) - 7, torch.randn(4, 3, 2, 9)]
    kept = copy.deepcopy(network.state_dict())
    mean, variance = statistics(network, parts)["0"]
    values = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)
    torch.testing.assert_close(mean, values.mean(dim=1))
    torch.testing.assert_close(variance, values.var(dim=1, unbiased=False))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    assert network.training and network[0].momentum == 0.1


@settings(max_examples=20, deadline=None)
@given(patches=st.floats(0, 1000), weight=st.floats(0, 1))
def test_shares_are_those_of_the_paper(patches: float, weight: float) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))
    norm = network[0]
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(5.0)
    mix_statistics(network, {"0": (torch.tensor([4.0]), torch.tensor([1.0]))}, weight)
    assert float(norm.running_mean) == pytest.approx(2 + 2 * weight, abs=1e-5)
    assert float(norm.running_var) == pytest.approx(5 - 4 * weight, abs=1e-5)


def test_the_number_of_patches_weighs_the_source(source_model: LandslideModel) -> None:
    target = Ground(6, change=shifted)
    assert adapt_norms(source_model, target, source_patches=12).card["adaptation"][0]["settings"]["weight"] == 1 / 3
    untouched = adapt_norms(source_model, target, weight=0.0)
    torch.testing.assert_close(norm_of(untouched).running_mean, norm_of(source_model).running_mean)
    with pytest.raises(DataError, match="weight 2"):
        adapt_norms(source_model, target, weight=2.0)
    with pytest.raises(ModelingError, match="no batch norm"):
        statistics(nn.Sequential(nn.Conv2d(3, 1, 1)), [torch.zeros(1, 3, 4, 4)])


def test_a_pool_is_bounded_even_and_known() -> None:
    pool = pool_of(Ground(5, side_px=96), BANDS, patch_px=SIDE_PX, most_patches=7)
    assert (len(pool), pool.seen, pool.blocks, pool.patches.shape[1:]) == (7, 20, 5, (3, SIDE_PX, SIDE_PX))
    counts = np.bincount(np.concatenate([pool.chosen(number, 3, 0) for number in range(14)]), minlength=7)
    assert set(counts) == {6}
    assert len(pool_of(Ground(2), BANDS).patches) == 2
    dark = Block(np.full((3, 64, 64), np.nan, np.float32), np.zeros((64, 64), np.uint8), "dark", "toy")
    with pytest.raises(DataError, match="none of the target's 1 blocks"):
        pool_of([dark], BANDS)
    with pytest.raises(DataError, match="2 blocks is 64 pixels wide"):
        pool_of(Ground(2), BANDS, patch_px=64)
    wide, rest = (next(iter(Ground(1, side_px=side))) for side in (160, 30))
    at_the_edge = pool_of([wide, rest, wide], BANDS)
    assert (at_the_edge.blocks, at_the_edge.seen, at_the_edge.patches.shape[-1]) == (3, 8, 128), "the rest is left out"
    with pytest.raises(DataError, match="has 3 channels"):
        pool_of(Ground(1), BAND_SETS["ten-band"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_infrared_follows_from_red_and_ndvi(seed: int) -> None:
    bands = BAND_SETS["ten-band"]
    rng = np.random.default_rng(seed)
    layers = {name: rng.uniform(0.01, 0.6, (3, 4)).astype(np.float32) for name in bands.requires}
    channels = assemble(bands, layers)
    found = layers_of(bands, channels)
    np.testing.assert_allclose(found["nir_pre"], layers["nir_pre"], rtol=1e-4)
    np.testing.assert_allclose(assemble(bands, found), channels, atol=1e-5)


def test_an_adapted_model_is_stored_and_told_like_any_other(source_model: LandslideModel, tmp_path: Path) -> None:
    made = adapt_norms(source_model, Ground(4, change=shifted))
    again = load_model(save_model(made, tmp_path))
    assert again.weights_hash == made.weights_hash == again.card["sha256"]
    assert again.card["adaptation"] == made.card["adaptation"]
    twice = adapted(
        made, made.network, method="m", settings={}, data={}, seconds=0, calibration="", suffix="b", threshold=0.25
    )
    assert [entry["method"] for entry in twice.card["adaptation"]] == ["batch-norm statistics", "m"]
    assert twice.threshold == 0.25

"""From a patch data set to a model with its card, its curves and its logs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.patch_sets import write_toy_set
from fakes.training import recipe, register_tiny

from modeling import bands
from modeling.data.patches import PatchSet, open_patches
from modeling.domains.sample_file import load_fingerprint, sample_path
from modeling.errors import BandSetError, DataError, WeightsError
from modeling.model import load_model
from modeling.scoring.evaluate import evaluate
from modeling.training.card import card_text
from modeling.training.progress import Row, Tick
from modeling.training.train import CHECKPOINT
from modeling.training.train_patches import channels_of, data_facts, draw_curves, train_on

RECIPE = recipe(steps=None, epochs=6, batch=4, validate_every=None, augmentation="mirrors", normalisation="min-max")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> PatchSet:
    return open_patches(write_toy_set(tmp_path / "squares.zarr"))


def test_a_model_is_trained_scored_and_described(data: PatchSet, tmp_path: Path) -> None:
    ticks: list[Tick] = []
    found = train_on(data, RECIPE, tmp_path / "out", command="a command", tell=ticks.append)
    weights = tmp_path / "out" / "toy_squares.safetensors"
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        "toy_squares.json", "toy_squares.md", "toy_squares.png", "toy_squares.run", "toy_squares.safetensors",
        "toy_squares.sample.safetensors",
    ]  # fmt: skip
    model = load_model(weights)
    card = model.card
    assert card["sha256"] == model.weights_hash
    assert model.bands == data.band_set()
    assert model.normalisation.method == "min-max"
    assert card["data"]["sha256"] == data.sha256
    assert model.bfloat16 is not None
    assert model.bfloat16.f1_float32 == pytest.approx(card["scores"]["validation"]["model"]["pixels"]["f1"], abs=1e-3)
    assert card["data"]["licence"] == card["licence"] == "CC0-1.0"
    assert card["data"]["parts"]["training"] == {
        "here": "6 patches, 6 with landslides", "there": "6 patches, 6 with landslides",
    }  # fmt: skip
    assert card["recipe"] == RECIPE.to_json()
    # 12 patches in batches of 4 are 3 steps an epoch, and an epoch is validated once.
    assert [row["step"] for row in card["curve"]] == [3, 6, 9, 12, 15, 18]
    assert ticks[-1].curve == found.progress.curve
    parts = ("validation", "test")
    assert list(card["scores"]) == [f"{part}{of}" for part in parts for of in ("", ", here", ", there")]
    test = evaluate(model, data.blocks("test"))
    assert card["scores"]["test"]["model"]["pixels"]["f1"] == pytest.approx(test.scores()["f1"])
    text = weights.with_suffix(".md").read_text(encoding="utf-8")
    assert text == card_text(model)
    for score in ("precision", "recall", "f1", "iou", "miou", "mcc", "pa", "cpa", "oa"):
        assert f"pixel {score} |" in text
    for told in ("Trained on simulated data only", data.sha256, "CC0-1.0", model.weights_hash, "a command", "6 epochs"):
        assert told in text
    sample = load_fingerprint(sample_path(weights), card["sample"]["sha256"])
    assert sample.channels == model.channels
    assert set(sample.domains) == {"here", "there"}
    assert sample.simulated
    assert sample.reference is not None
    assert weights.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_goes_on_in_the_same_folder(data: PatchSet, tmp_path: Path) -> None:
    whole = train_on(data, RECIPE, tmp_path / "whole")

    def stop(tick: Tick) -> None:
        if tick.step >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on(data, RECIPE, tmp_path / "cut", tell=stop, checkpoint_seconds=0.0)
    assert not (tmp_path / "cut" / "toy_squares.safetensors").exists()
    assert (tmp_path / "cut" / "toy_squares.run" / CHECKPOINT).is_file()
    resumed = train_on(data, RECIPE, tmp_path / "cut")
    state = whole.model.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in resumed.model.network.state_dict().items())
    assert resumed.model.card["scores"] == whole.model.card["scores"]


def test_a_run_does_not_go_on_with_data_made_anew_at_the_same_path(data: PatchSet, tmp_path: Path) -> None:
    train_on(data, RECIPE, tmp_path / "out")
    weights = (tmp_path / "out" / "toy_squares.safetensors").read_bytes()
    shutil.rmtree(data.path)
    other = open_patches(write_toy_set(data.path, counts=(6, 3, 1)))
    assert other.sha256 != data.sha256
    with pytest.raises(WeightsError, match=f"data sha256 was {data.sha256}, is {other.sha256}"):
        train_on(other, RECIPE, tmp_path / "out")
    assert (tmp_path / "out" / "toy_squares.safetensors").read_bytes() == weights
    with pytest.raises(WeightsError, match="data patches was 12, is 4"):
        train_on(data, RECIPE, tmp_path / "out", limit=4)


def test_some_domains_some_patches_and_some_channels(data: PatchSet, tmp_path: Path) -> None:
    found = train_on(data, RECIPE, tmp_path, domains=["there"], limit=4, seed=3)
    assert found.model.name == "toy_squares_seed3"
    assert set(found.model.card["data"]["parts"]["test"]) == {"there"}
    assert list(found.model.card["scores"]) == ["validation", "test"]
    assert found.progress.step == 6
    with pytest.raises(BandSetError, match="slope"):
        train_on(data, RECIPE, tmp_path, bands="ten-band")
    with pytest.raises(DataError, match="no domain nowhere"):
        train_on(data, RECIPE, tmp_path, domains=["nowhere"])


def test_channels_are_a_band_set_where_the_layers_are_its_own(data: PatchSet) -> None:
    ten = bands.band_set("ten-band")
    simulated = replace(data, layers=tuple(reversed(ten.requires)))
    assert channels_of(simulated, None) == ten
    assert channels_of(simulated, "all").channels == simulated.layers
    assert channels_of(simulated, "rgb").name == "rgb"
    assert channels_of(data, None).channels == data.layers


def test_an_empty_part_is_named_before_anything_is_written(tmp_path: Path) -> None:
    no_validation = open_patches(write_toy_set(tmp_path / "half.zarr", counts=(4, 0, 2)))
    with pytest.raises(DataError, match="validation part is empty"):
        train_on(no_validation, RECIPE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_data_set_without_a_test_part_is_scored_on_validation(tmp_path: Path) -> None:
    data = open_patches(write_toy_set(tmp_path / "two.zarr", counts=(4, 3, 0), domains=("here",)))
    found = train_on(data, replace(RECIPE, epochs=1), tmp_path / "out")
    assert list(found.model.card["scores"]) == ["validation"]
    low, high = found.model.card["scores"]["validation"]["model"]["f1_interval"]
    assert 0 <= low <= high <= 1
    real = data_facts(replace(data, about=replace(data.about, source="Sentinel-2")))
    assert not real.simulated
    assert "at least 10 pixels apart" in real.split


def test_curves_are_drawn_from_few_rows_and_infinite_values(tmp_path: Path) -> None:
    rows = [Row(1, 1.0, float("inf"), 0.0, 1e-3), Row(2, 0.5, 0.7, 0.5, 1e-3)]
    for count in (1, 2):
        path = draw_curves(tmp_path / f"{count}.png", rows[:count], title="two rows", best_step=count)
        assert path.stat().st_size > 1000

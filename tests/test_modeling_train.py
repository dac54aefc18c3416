"""Training learns, splits honestly, and goes on after an interruption as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling import bands, networks
from modeling.augment import IGNORE, Augmentation, augment
from modeling.checkpoint import save_checkpoint
from modeling.dataset import STORED_LAYERS, PatchSampler, StoredRegion, open_region, store_region
from modeling.errors import DataError, WeightsError
from modeling.metrics import confusion
from modeling.model import load_model, save_model
from modeling.terrain import hillshade
from modeling.train import Settings, adapted_state, learning_rate, steps_within, train

TINY = Settings("rgb", steps=6, batch=2, patch_px=64, warm_up_steps=2, validate_every=2, learning_rate=3e-3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_region(cache: Path, seed: int) -> StoredRegion:
    """Bright square scars on dark noise: what any network must learn."""
    rng = np.random.default_rng(seed)
    shape = 128, 128
    truth = np.zeros(shape, dtype=bool)
    for top, left in rng.integers(0, 108, (6, 2)):
        truth[top : top + 20, left : left + 20] = True
    layers = {name: rng.normal(0.05, 0.005, shape).astype(np.float32) for name in STORED_LAYERS}
    scars = truth.astype(np.float32) / 4
    for name in STORED_LAYERS:
        if name.endswith("_post"):
            layers[name] += scars
    layers["hillshade"] = np.full(shape, 180, dtype=np.float32)
    valid = np.ones(shape, dtype=bool)
    valid[:4] = False
    return open_region(store_region(cache, "toy", seed, layers=layers, truth=truth, valid=valid))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> list[StoredRegion]:
    cache = tmp_path_factory.mktemp("regions")
    return [toy_region(cache, seed) for seed in range(3)]


def test_a_stored_region_comes_back(regions: list[StoredRegion]) -> None:
    region = regions[0]
    assert (region.name, region.domain, region.shape_yx) == ("toy-0", "toy", (128, 128))
    assert set(np.unique(region.truth)) == {0, 1, IGNORE}
    assert np.isnan(region.layers()["red_post"][:4]).all()
    assert all(region.truth[y, x] == 1 for y, x in region.centres_yx)


def test_an_incomplete_region_is_refused(regions: list[StoredRegion], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a complete"):
        open_region(tmp_path)
    with pytest.raises(DataError, match="slope"):
        layers = {name: values for name, values in regions[0].layers().items() if name != "slope"}
        nothing = np.zeros((128, 128), dtype=bool)
        store_region(tmp_path, "toy", 1, layers=layers, truth=nothing, valid=nothing)


def sampler(regions: list[StoredRegion], band_set: str, **sizes: float) -> PatchSampler:
    return PatchSampler(
        regions, bands.band_set(band_set), patch_px=64, batch=4, seed=0, sizes=replace(Augmentation(), **sizes)
    )


def test_batches_depend_on_their_number_only(regions: list[StoredRegion]) -> None:
    one, other = sampler(regions, "ten-band"), sampler(regions, "ten-band")
    other.draw(1)
    for left, right in zip(one.draw(5), other.draw(5), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.draw(5)[1], one.draw(6)[1])


def test_half_of_the_patches_lie_around_landslides(regions: list[StoredRegion]) -> None:
    for number in range(5):
        channels, truth = sampler(regions, "ten-band").draw(number)
        assert channels.shape == (4, 10, 64, 64)
        assert channels.dtype == np.float32
        assert all((patch == 1).any() for patch in truth[::2])


def test_mirrored_hillshade_is_the_hillshade_of_the_mirrored_ground() -> None:
    yy, xx = np.mgrid[0:40, 0:40].astype(np.float32)
    elevation = 40 * np.sin(xx / 7) * np.cos(yy / 5)
    untouched = Augmentation(
        gain=0, band_gain=0, contrast=0, haze=0, shading=0, noise=0, shift_px=0, blur_px=0, snow=0, gap=0,
        terrain_noise_deg=0,
    )  # fmt: skip
    layers = {"hillshade": hillshade(elevation, 10.0, 10.0), "red_post": elevation / 1000 + 0.2}
    layers["red_pre"] = layers["red_post"]
    seen = set()
    for seed in range(12):
        moved, _ = augment(
            layers, np.zeros((40, 40), np.uint8), np.random.default_rng(seed), untouched, quarter_turns=False
        )
        for name, ground in {
            "as it was": elevation,
            "mirrored east-west": elevation[:, ::-1],
            "mirrored north-south": elevation[::-1],
            "both": elevation[::-1, ::-1],
        }.items():
            expected = hillshade(np.ascontiguousarray(ground), 10.0, 10.0)
            if np.allclose(moved["red_post"], ground / 1000 + 0.2, atol=2e-3):
                seen.add(name)
                unclipped = (expected > 107) & (expected < 254)  # on both sides of the mirror
                assert np.abs(moved["hillshade"] - expected)[unclipped].max() <= 1.0
    assert len(seen) == 4


def test_augmentation_keeps_values_possible(regions: list[StoredRegion]) -> None:
    always = sampler(regions, "ten-band", gap=1.0, snow=1.0)
    channels, truth = always.draw(0)
    names = always.band_set.channels
    known = channels[:, names.index("red_pre")]
    assert np.isnan(known).any()
    assert np.nanmin(known) >= 0
    assert (truth[np.isnan(known)] == IGNORE).all()
    assert set(np.unique(truth)) <= {0, 1, IGNORE}


def test_learning_rate_warms_up_and_decays() -> None:
    settings = replace(TINY, steps=100, warm_up_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5**0.9)


def test_the_loss_falls_and_the_scars_are_found(regions: list[StoredRegion], tmp_path: Path) -> None:
    settings = replace(TINY, steps=60, validate_every=20, batch=4)
    model, progress = train(settings, regions[:2], regions[2:], tmp_path)
    losses = [loss for _, loss, _ in progress.curve]
    assert losses[-1] < 0.5 * losses[0]
    loaded = load_model(save_model(model, tmp_path))
    x = torch.from_numpy(bands.assemble(bands.band_set("rgb"), regions[2].layers()))[None]
    mapped = loaded.probability(x)[0].numpy() >= loaded.threshold
    truth = np.asarray(regions[2].truth)
    assert confusion(mapped, truth == 1, truth != IGNORE).scores()["f1"] > 0.8


def test_a_run_can_start_from_a_model_of_another_band_set(regions: list[StoredRegion], tmp_path: Path) -> None:
    start, _ = train(replace(TINY, band_set="rgb-terrain", steps=2), regions[:2], regions[2:], tmp_path)
    network = networks.create("msf-litenet", in_channels=3, classes=2)
    channels = bands.band_set("rgb").channels
    state = adapted_state(network, channels, start)
    theirs = start.network.state_dict()
    assert torch.equal(state["head.weight"], theirs["head.weight"])
    first = "backbone.0.0.weight"
    for here, channel in enumerate(channels):
        assert torch.equal(state[first][:, here], theirs[first][:, start.channels.index(channel)])
    one_class = networks.create("msf-litenet", in_channels=3, classes=1)
    with pytest.raises(DataError, match="head"):
        adapted_state(one_class, channels, start)
    model, _ = train(replace(TINY, steps=2, input_scale=2), regions[:2], regions[2:], tmp_path / "next", start=start)
    assert model.input_scale == 2


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    regions: list[StoredRegion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train(TINY, regions[:2], regions[2:], tmp_path / "whole")

    class KilledError(Exception):
        pass

    def killed_at_the_second_checkpoint(*arguments: Any, **named: Any) -> None:
        save_checkpoint(*arguments, **named)
        if named["progress"].step == 4:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("modeling.train.save_checkpoint", killed_at_the_second_checkpoint)
        with pytest.raises(KilledError):
            train(TINY, regions[:2], regions[2:], tmp_path / "cut")
    resumed, progress = train(TINY, regions[:2], regions[2:], tmp_path / "cut")
    assert [step for step, _, _ in progress.curve] == [2, 4, 6]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert (whole.temperature, whole.threshold) == (resumed.temperature, resumed.threshold)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(
    regions: list[StoredRegion], tmp_path: Path
) -> None:
    train(replace(TINY, steps=2), regions[:2], regions[2:], tmp_path)
    with pytest.raises(WeightsError, match="other settings"):
        train(replace(TINY, steps=2, seed=1), regions[:2], regions[2:], tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not a usable checkpoint"):
        train(replace(TINY, steps=2), regions[:2], regions[2:], tmp_path)


def test_training_and_validation_must_not_share_a_region(regions: list[StoredRegion], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toy-1"):
        train(TINY, regions[:2], regions[1:], tmp_path)


def test_minutes_become_steps(regions: list[StoredRegion]) -> None:
    few, more = (steps_within(minutes, TINY, regions) for minutes in (0.5, 50.0))
    assert 1 <= few < more


def test_patches_larger_than_a_region_are_refused(regions: list[StoredRegion], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="256"):
        train(replace(TINY, patch_px=256), regions[:2], regions[2:], tmp_path)

"""A scene's means of light move a share of the way to the training ground's, terrain's stay, and no truth is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.adaptation import Ground, toy_model
from fakes.training import register_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.adaptation.ensemble import ensemble_of
from modeling.adaptation.scene_means import LEAST_PIXELS, match_instead, match_scene, of_light, scene_means
from modeling.bands import BAND_SETS, BandSet
from modeling.data.batches import Block, FloatArray
from modeling.errors import DataError
from modeling.model import LandslideModel, load_model, save_model
from modeling.scoring.evaluate import evaluate

LIT = BandSet("lit", ("slope", "red_pre", "red_post"), "for tests")


def hazy(channels: FloatArray) -> FloatArray:
    """Everything brighter by more than scars are, in the channels of light."""
    return channels + np.array([0, 0.4, 0.4], np.float32)[:, None, None]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LandslideModel:
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        return replace(toy_model(tmp_path_factory.mktemp("toy")), bands=LIT)


@dataclass(frozen=True)
class Given:
    """Blocks as they are given."""

    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)


def block_of(channels: FloatArray, truth: int = 0) -> Block:
    return Block(channels, np.full(channels.shape[1:], truth, np.uint8), "block", "somewhere")


def test_light_is_what_a_camera_sees() -> None:
    lit = {name for name in BAND_SETS["ten-band"].channels if of_light(name)}
    assert lit == {f"{band}_{phase}" for band in ("red", "green", "blue", "ndvi") for phase in ("pre", "post")}


def test_a_shift_of_the_colours_is_undone(model: LandslideModel) -> None:
    target = Ground(6, change=hazy)
    made = match_scene(model, target, share=1.0)
    before, after = (evaluate(each, target).scores()["f1"] for each in (model, made))
    assert before < 0.5 < 0.8 < after
    assert made.name == f"{model.name}-scene-means"
    assert made.weights_hash != model.weights_hash
    entry = made.card["adaptation"][-1]
    assert entry["settings"] == {"share": 1.0}
    assert set(entry["data"]["shift"]) == set(model.channels)
    assert "nobody has measured" in entry["calibration"]


def test_the_truth_of_the_scene_changes_nothing(model: LandslideModel) -> None:
    one, other = (match_scene(model, Ground(4, change=hazy, truth=truth)) for truth in ("kept", "scrambled"))
    assert one.normalisation == other.normalisation
    assert one.weights_hash == other.weights_hash


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), means=st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_offsets_move_by_the_share_of_the_distance(model: LandslideModel, share: float, means: list[float]) -> None:
    flat = np.array(means, np.float32)[:, None, None] * np.ones((1, 40, 40), np.float32)
    made = match_scene(model, Given((block_of(flat),)), share=share)
    old, new = model.normalisation, made.normalisation
    for index, channel in enumerate(model.channels):
        trained = old.offset[index] + old.fill[index] * old.scale[index]
        moved = share * (float(flat[index, 0, 0]) - trained) if of_light(channel) else 0.0
        assert new.offset[index] == pytest.approx(old.offset[index] + moved, abs=1e-6)
    assert (new.scale, new.fill, new.clip) == (old.scale, old.fill, old.clip)


def test_means_are_over_what_is_known_and_nothing_is_said_of_too_little() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(len(LIT.channels), side, 50)).astype(np.float32) for side in (30, 20)]
    parts[0][:, :10] = np.nan
    parts[0][0], parts[1][0, 1:] = np.nan, np.nan  # fewer than LEAST_PIXELS of the first channel
    found = scene_means(Given(tuple(map(block_of, parts))), LIT)
    assert 50 < LEAST_PIXELS < 2000
    assert np.isnan(found[0])
    every = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    np.testing.assert_allclose(found[1:], np.nanmean(every[1:].astype(np.float64), axis=1))


def test_a_scene_of_which_nothing_is_known_shifts_nothing(model: LandslideModel) -> None:
    unseen = block_of(np.full((len(LIT.channels), 64, 64), np.nan, np.float32))
    made = match_scene(model, Given((unseen,)))
    assert made.normalisation == model.normalisation
    assert match_scene(model, Given(())).normalisation == model.normalisation


def test_each_member_of_an_ensemble_is_matched_to_its_own_training_ground(model: LandslideModel) -> None:
    far = replace(model, name="far", normalisation=replace(model.normalisation, offset=tuple(
        each + 0.1 for each in model.normalisation.offset
    )))  # fmt: skip
    ground = Ground(2, change=hazy)
    made = match_scene(ensemble_of([model, far]), ground, share=1.0)
    offsets = [member.normalisation.offset for member in made.members]  # type: ignore[attr-defined]
    light = [index for index, channel in enumerate(model.channels) if of_light(channel)]
    assert [offsets[0][index] for index in light] == pytest.approx([offsets[1][index] for index in light])
    alone = match_scene(model, ground, share=1.0)
    assert offsets[0] == alone.normalisation.offset


def test_a_matched_model_is_stored_like_any_other(model: LandslideModel, tmp_path: Path) -> None:
    ground = Ground(2, change=hazy)
    made = match_scene(model, ground)
    again = load_model(save_model(made, tmp_path))
    assert again.normalisation == made.normalisation
    x = torch.from_numpy(next(iter(ground)).channels)[None]
    torch.testing.assert_close(again.margin(x), made.margin(x))


def test_what_cannot_be_done_is_said(model: LandslideModel) -> None:
    with pytest.raises(DataError, match=r"share of 1\.5"):
        match_scene(model, Ground(1), share=1.5)
    with pytest.raises(DataError, match="has 2 channels, not"):
        match_scene(model, Given((block_of(np.zeros((2, 64, 64), np.float32)),)))


def test_the_light_of_one_scene_gives_way_to_that_of_another(model: LandslideModel) -> None:
    rng = np.random.default_rng(3)
    plain = rng.uniform(0, 0.3, (3, 40, 40)).astype(np.float32)
    one, other = Given((block_of(plain),)), Given((block_of(hazy(plain)),))
    adapted = match_scene(model, one, share=0.4)
    made = match_instead(adapted, one, other, share=0.4).normalisation.offset
    assert made == pytest.approx(match_scene(model, other, share=0.4).normalisation.offset, abs=1e-6)
    assert made[0] == model.normalisation.offset[0], "terrain stays"
    assert made != pytest.approx(adapted.normalisation.offset, abs=1e-3)

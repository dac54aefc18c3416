"""modeling/domains/zoo.py, select.py, novelty.py and own_maps.py: the nearest model is chosen, without labels, and why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import register_tiny
from safetensors.torch import load, save

from modeling import networks
from modeling.bands import BandSet, band_set
from modeling.data.batches import Block
from modeling.data.normalise import Normalisation
from modeling.domains.fingerprint import Fingerprint, Reference, fingerprint_of
from modeling.domains.mmd import Distance, Distances
from modeling.domains.novelty import PIECE_PX, calibrated, novelty
from modeling.domains.own_maps import own_maps
from modeling.domains.record import record_sample
from modeling.domains.sample_file import sample_path
from modeling.domains.select import SIGNALS, chosen, distances, rank
from modeling.domains.zoo import ZooModel, named_model, open_zoo
from modeling.errors import BandSetError, DataError, WeightsError
from modeling.model import LandslideModel, available_models, load_model, save_model

RGB = band_set("rgb").channels


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ground(
    level: float, *, count: int = 4, side: int = 40, channels: int = 3, seed: int = 0, spread: float = 0.02
) -> list[Block]:
    """Blocks whose channels lie about `level`, a little differently from block to block."""
    rng = np.random.default_rng((seed, int(1000 * level)))
    blocks = []
    for index in range(count):
        values = rng.normal(level + rng.normal(0, spread / 2), spread, (channels, side, side)).astype(np.float32)
        blocks.append(Block(values, np.zeros((side, side), np.uint8), f"{level} {seed} {index}", "toy"))
    return blocks


def sample(level: float, *, rows: int = 300, **options: int) -> Fingerprint:
    names = RGB if options.get("channels", 3) == 3 else band_set("rgb-terrain").channels
    return fingerprint_of(ground(level, **options), names, rows=rows)


def model(name: str, bands: BandSet | None = None, f1: float | None = 0.7) -> LandslideModel:
    torch.manual_seed(1)
    own = bands or band_set("rgb")
    size = len(own.channels)
    network = networks.create("tiny", in_channels=size, classes=2).eval()
    even = Normalisation("standardise", (0.0,) * size, (1.0,) * size, (0.0,) * size, (-5.0, 5.0))
    card = {} if f1 is None else {"scores": {"validation": {"model": {"pixels": {"f1": f1}}}}}
    return LandslideModel(name, "tiny", network, own, even, 1.0, 0.5, "ab" * 32, card)


def member(name: str, level: float, **options: float | None) -> ZooModel:
    return ZooModel.of(model(name, **options), sample(level))  # type: ignore[arg-type]


def test_the_nearest_model_comes_first_whatever_the_signal_of_distance() -> None:
    zoo = [member("far", 0.5), member("near", 0.11), member("middle", 0.2)]
    for by in ("mean_mmd2", "joint_mmd2", "max_mmd2"):
        ranked = rank(zoo, sample(0.1, seed=5), by=by)
        assert [one.model.name for one in ranked] == ["near", "middle", "far"]
        assert [one.place for one in ranked] == [1, 2, 3]
        values = [one.signals[by] for one in ranked]
        assert values == sorted(values)
    assert chosen(ranked).model.name == "near"
    assert any("the best by" in reason for reason in ranked[0].reasons)
    assert all(math.isnan(ranked[0].signals[name]) for name in ("entropy", "disagreement", "relative_mmd2"))
    assert set(ranked[0].signals) == set(SIGNALS)


def test_richer_channels_come_before_nearness_and_missing_ones_last() -> None:
    terrain = ZooModel.of(model("terrain", band_set("rgb-terrain")), sample(0.3, channels=8))
    ten = ZooModel.of(model("ten", band_set("ten-band")))
    region = sample(0.1, channels=8, seed=5)
    ranked = rank([member("rgb", 0.1), ten, terrain], region)
    assert [one.model.name for one in ranked] == ["terrain", "rgb", "ten"]
    assert ranked[2].missing == ("ndvi_pre", "ndvi_post")
    assert ranked[2].reasons == ("needs ndvi_pre, ndvi_post, which the region lacks",)
    assert not ranked[2].usable
    with pytest.raises(BandSetError, match=r"ten needs .*ndvi_post besides"):
        chosen(rank([ten], region))
    with pytest.raises(BandSetError, match="no model to choose"):
        chosen([])


def test_a_model_without_a_sample_can_be_used_but_not_before_one_that_is_known() -> None:
    ranked = rank([ZooModel.of(model("unknown")), member("far", 0.6)], sample(0.1))
    assert [one.model.name for one in ranked] == ["far", "unknown"]
    assert "no sample of its training ground" in " ".join(ranked[1].reasons)
    only = rank(
        [ZooModel.of(model("a", f1=0.5)), ZooModel.of(model("b", f1=0.9)), ZooModel.of(model("c", f1=None))], RGB
    )
    assert [one.model.name for one in only] == ["b", "a", "c"]


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(DataError, match="unknown signal 'guess': choose one of mean_mmd2"):
        rank([], RGB, by="guess")


def test_the_order_of_the_zoo_does_not_matter() -> None:
    zoo = [member("a", 0.3), member("b", 0.15), member("c", 0.15, f1=0.9)]
    names = [one.model.name for one in rank(zoo, sample(0.1))]
    assert names == [one.model.name for one in rank(zoo[::-1], sample(0.1))]
    assert names == ["c", "b", "a"], "equal distances: the better validation score"


def test_a_region_like_the_validation_ground_is_near_and_another_is_novel() -> None:
    fingerprint = calibrated(sample(0.1), ground(0.1, count=120, seed=1, side=20))
    assert fingerprint.reference is not None
    assert fingerprint.reference.bands.shape == (120, 3)
    called = []
    for seed in range(20, 60):
        held = novelty(distances(fingerprint, sample(0.1, seed=seed, count=1)), fingerprint.reference)
        called.append(held.novel)
    assert np.mean(called) <= 0.1
    held = novelty(distances(fingerprint, sample(0.4)), fingerprint.reference)
    assert held.novel
    assert held.p_value == pytest.approx(1 / 121)
    assert set(held.far_bands) == set(RGB)
    assert held.pieces == 120
    assert held.distance > held.threshold


def test_one_far_band_is_named() -> None:
    reference = Reference(np.full((200, 2), 0.1, np.float32) + np.linspace(0, 0.1, 200, dtype=np.float32)[:, None])
    found = Distances(
        {"red": Distance(0.15, 0.01, 9, 9), "slope": Distance(0.9, 0.01, 9, 9)}, Distance(0, 0, 9, 9), 0.01
    )
    held = novelty(found, reference)
    assert held.far_bands == ("slope",)
    assert held.threshold == pytest.approx(0.199, abs=2e-3)
    assert held.novel
    with pytest.raises(DataError, match="distances of 2 channels"):
        novelty(found, Reference(np.zeros((5, 3), np.float32)))


def test_large_blocks_are_cut_into_pieces_and_labels_are_not_read() -> None:
    big = ground(0.1, count=2, side=PIECE_PX + 10)
    fingerprint = fingerprint_of(big, RGB, rows=100)
    found = calibrated(fingerprint, big).reference
    assert found is not None
    assert len(found.bands) == 8
    scrambled = [replace(one, truth=np.ones_like(one.truth)) for one in big]
    again = calibrated(fingerprint, scrambled).reference
    assert again is not None
    assert np.array_equal(found.bands, again.bands)
    hidden = [replace(one, channels=np.full_like(one.channels, np.nan)) for one in big]
    with pytest.raises(DataError, match="no piece of the validation ground"):
        calibrated(fingerprint, hidden)


def test_the_shipped_models_are_whole_and_their_samples_small() -> None:
    zoo = open_zoo()
    assert sorted(one.name for one in zoo.models) == available_models()
    assert zoo.left_out == ()
    for one in zoo.models:
        assert one.fingerprint is not None
        assert one.fingerprint.reference is not None
        assert one.simulated
        assert one.fingerprint.simulated
        assert one.fingerprint.channels == one.bands.channels
        assert one.validation_f1 > 0.5
        assert one.path is not None
        assert sample_path(one.path).stat().st_size < 200_000


def stored(folder: Path, name: str, level: float) -> Path:
    weights = folder / f"{name}.safetensors"
    entry = record_sample(weights, ground(level), ground(level, seed=1), RGB)
    return save_model(replace(model(name), card={**model(name).card, **entry}), folder)


def test_models_of_a_folder_are_found_and_damaged_ones_named(tmp_path: Path) -> None:
    for name in ("good", "weights", "sample", "lost", "undescribed", "strange", "mute", "sure"):
        stored(tmp_path, name, 0.1)
    save_model(model("plain"), tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:-4])
    sample_path(tmp_path / "sample.safetensors").write_bytes(b"rubbish")
    sample_path(tmp_path / "lost.safetensors").unlink()
    (tmp_path / "undescribed.json").unlink()
    about = json.loads((tmp_path / "strange.json").read_text())
    (tmp_path / "strange.json").write_text(json.dumps({**about, "network": "abacus"}))
    about = json.loads((tmp_path / "sure.json").read_text())
    (tmp_path / "sure.json").write_text(json.dumps({**about, "temperature": 10**400}))
    mute = save(load((tmp_path / "mute.safetensors").read_bytes()))
    (tmp_path / "mute.safetensors").write_bytes(mute)
    about = json.loads((tmp_path / "mute.json").read_text())
    (tmp_path / "mute.json").write_text(json.dumps({**about, "sha256": hashlib.sha256(mute).hexdigest()}))
    zoo = open_zoo([tmp_path])
    own = {one.name: one for one in zoo.models if one.path is not None and one.path.parent == tmp_path}
    assert sorted(own) == ["good", "lost", "plain"]
    assert "lost.sample.safetensors is not there" in own["lost"].why_none
    assert own["lost"].fingerprint is None
    assert own["good"].fingerprint is not None
    assert own["good"].load().name == "good"
    assert own["plain"].why_none
    reasons = {one.name: one.reason for one in zoo.left_out}
    assert sorted(reasons) == ["mute", "sample", "strange", "sure", "undescribed", "weights"]
    for name, words in {
        "weights": "sha256", "sample": "changed or damaged", "mute": "mute.safetensors: its header states neither",
        "undescribed": "no description", "strange": "no network 'abacus'",
        "sure": "out of range",
    }.items():  # fmt: skip
        assert words in reasons[name]
    with pytest.raises(WeightsError, match="no folder of models"):
        open_zoo([tmp_path / "nowhere"])


def test_two_folders_with_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stored(tmp_path / folder, "same", 0.1)
    names = [one.name for one in open_zoo([tmp_path / "a", tmp_path / "b"]).models]
    assert names[-2:] == ["same", "b/same"]


def test_a_named_model_serves_whatever_its_sample_is_like(tmp_path: Path) -> None:
    path = stored(tmp_path, "mine", 0.1)
    assert named_model(path).fingerprint is not None
    sample_path(path).write_bytes(b"rubbish")
    found = named_model(path)
    assert found.fingerprint is None
    assert "changed or damaged" in found.why_none
    assert found.load().name == "mine"
    shipped = named_model("resu-senet-slim_rgb")
    assert shipped.fingerprint is not None
    assert shipped.weights_hash == load_model("resu-senet-slim_rgb").weights_hash
    with pytest.raises(WeightsError, match="nobody"):
        named_model("nobody")


class _Constant(LandslideModel):
    """A model that says the same of every pixel where the first channel is bright."""

    def probability(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] % 32 == 0
        return torch.where(torch.nan_to_num(x[:, 0]) > 0.1, torch.tensor(self.temperature), torch.tensor(0.05))


def says(name: str, probability: float) -> LandslideModel:
    return _Constant(**{**vars(model(name)), "temperature": probability})


def test_a_model_s_own_map_tells_how_sure_it_is_and_whom_it_agrees_with() -> None:
    blocks = ground(0.1, count=2, side=37)
    blocks[0].channels[1, :5] = np.nan
    scrambled = [replace(one, truth=np.ones_like(one.truth)) for one in blocks]
    found = own_maps([says("a", 0.95), says("b", 0.8), says("blind", 0.1)], blocks, RGB)
    assert found == own_maps([says("a", 0.95), says("b", 0.8), says("blind", 0.1)], scrambled, RGB)
    values = np.concatenate([one.channels[0][np.isfinite(one.channels).all(axis=0)] for one in blocks])
    bright = float((values > 0.1).mean())

    def entropy(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert found["a"].entropy == pytest.approx(bright * entropy(0.95) + (1 - bright) * entropy(0.05), rel=1e-4)
    assert found["a"].low_confidence == 0
    assert found["b"].low_confidence == pytest.approx(bright)
    assert found["a"].positive_share == pytest.approx(bright)
    assert found["blind"].positive_share == 0
    # All together say (0.95 + 0.8 + 0.1) / 3 where it is bright: landslide.
    assert [found[name].disagreement for name in ("a", "b", "blind")] == [0, 0, 1]
    heard = own_maps([says("a", 0.95), says("b", 0.8), says("blind", 0.1)], blocks, RGB, voices={"blind": 4})
    # (0.95 + 0.8 + 4 x 0.1) / 6 is below the threshold: all together map nothing, as the blind one does.
    assert [heard[name].disagreement for name in ("a", "b", "blind")] == [1, 1, 0]
    assert heard["a"].entropy == found["a"].entropy
    assert math.isnan(own_maps([says("a", 0.95)], blocks, RGB)["a"].disagreement)
    ranked = rank([ZooModel.of(says("b", 0.8)), ZooModel.of(says("a", 0.95))], RGB, by="entropy", own_maps=found)
    assert [one.model.name for one in ranked] == ["a", "b"]


def test_a_model_of_several_domains_counts_twice() -> None:
    parts = {"training": {"one": "some patches", "another": "some more"}}
    several = replace(model("several"), card={"data": {"parts": parts}})
    unreadable = replace(model("unreadable"), card={"data": {"parts": {"training": 3}}})
    assert [ZooModel.of(one).domains for one in (several, model("plain"), unreadable)] == [2, 1, 1]
    assert [ZooModel.of(one).voice for one in (several, model("plain"))] == [2, 1]


def test_own_maps_need_the_model_s_channels_and_some_ground() -> None:
    with pytest.raises(DataError, match=r"needs .*slope"):
        own_maps([model("a", band_set("rgb-terrain"))], ground(0.1), RGB)
    with pytest.raises(DataError, match="one name"):
        own_maps([model("a"), model("a")], ground(0.1), RGB)
    with pytest.raises(DataError, match="no pixel"):
        own_maps([model("a")], [], RGB)

"""A model comes back from its files exactly, and damaged or foreign files are refused without running anything."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION, register_tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from modeling import networks
from modeling.bands import BAND_SETS, BandSet, band_set
from modeling.calibrated import calibrated_logit
from modeling.data.normalise import fit
from modeling.errors import BandSetError, DataError, WeightsError
from modeling.forward import logits_of
from modeling.model import (
    WEIGHTS_FOLDER,
    LandslideModel,
    available_models,
    choose_model,
    load_model,
    load_state,
    save_model,
    stored_state,
    weights_digest,
)
from modeling.prediction.precision import Bfloat16Proof
from modeling.training.card import card_text
from modeling.training.shipped_regions import HELD_OUT_DOMAIN, TRAINING_DOMAINS
from modeling.weights_header import packed

PROOF = Bfloat16Proof(0.8, 0.7996, 1000, 100, "a test")
RGB = ["red_post", "green_post", "blue_post"]
RGB_TERRAIN = [*RGB, "red_pre", "green_pre", "blue_pre", "slope", "hillshade"]
TEN_BAND = [*RGB_TERRAIN, "nir_pre", "nir_post"]


@pytest.fixture(scope="module")
def model() -> LandslideModel:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = networks.create("msf-litenet", in_channels=3, classes=2).eval()
    load_state(network, stored_state(network))  # rounded as it will be stored
    return LandslideModel(
        name="small",
        network_name="msf-litenet",
        network=network,
        bands=band_set("rgb"),
        normalisation=fit("standardise", rng.normal(0.1, 0.05, (3, 1000)).astype(np.float32)),
        temperature=1.7,
        threshold=0.4,
        weights_hash="",
        card={"about": "a test"},
        sure_margin=6.0,
    )


@pytest.fixture
def stored(model: LandslideModel, tmp_path: Path) -> Path:
    return save_model(model, tmp_path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The smallest model, stored: its file is read hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        torch.manual_seed(0)
        network = networks.create("tiny", in_channels=3, classes=2).eval()
        made = LandslideModel("tiny", "tiny", network, BANDS, NORMALISATION, 1.0, 0.5, "", {})
        yield save_model(made, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(1)) * 0.3


def test_a_stored_model_predicts_the_same(model: LandslideModel, stored: Path, x: torch.Tensor) -> None:
    loaded = load_model(stored)
    assert torch.equal(loaded.probability(x), model.probability(x))
    assert (loaded.temperature, loaded.threshold, loaded.bands) == (1.7, 0.4, band_set("rgb"))
    assert loaded.sure_margin == 6.0
    assert loaded.card == {"about": "a test"}
    assert len(loaded.weights_hash) == 64
    assert stored.stat().st_size < 5_400_000


def test_the_weights_file_holds_the_normalisation_and_is_the_same_bytes_each_time(
    model: LandslideModel, stored: Path, tmp_path: Path
) -> None:
    loaded = load_model(stored)
    assert loaded.normalisation == model.normalisation
    assert not {"bands", "normalisation"} & json.loads(stored.with_suffix(".json").read_text()).keys()
    assert weights_digest(model) == loaded.weights_hash == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert weights_digest(replace(loaded, name="other", weights_hash="")) == loaded.weights_hash
    for number in range(3):
        assert save_model(loaded, tmp_path / str(number)).read_bytes() == stored.read_bytes()
    shifted = replace(model.normalisation, offset=(0.0, 0.0, 0.0))
    assert weights_digest(replace(model, normalisation=shifted)) != loaded.weights_hash


def test_a_model_may_state_channels_of_its_own_and_one_class(tmp_path: Path) -> None:
    own = BandSet("landslide4sense", ("B2", "B3", "slope"), "Sentinel-2 bands as they are named there")
    network = networks.create("msf-litenet", in_channels=3, classes=1).eval()
    values = np.random.default_rng(0).normal(0.1, 0.05, (3, 100)).astype(np.float32)
    made = LandslideModel(
        "own", "msf-litenet", network, own, fit("standardise", values), 1.0, 0.5, "", {}, classes=1, storage="float32",
        bfloat16=PROOF,
    )  # fmt: skip
    path = save_model(made, tmp_path)
    loaded = load_model(path)
    assert (loaded.bands, loaded.classes, loaded.storage, loaded.bfloat16) == (own, 1, "float32", PROOF)
    x = torch.rand(1, 3, 33, 31)
    assert torch.equal(loaded.probability(x), made.probability(x))  # float32 storage rounds nothing
    with pytest.raises(DataError, match="B2, B3, slope"):
        loaded.probability(torch.rand(1, 4, 8, 8))
    assert not list(tmp_path.glob("*.partial"))


def test_probability_is_calibrated_finite_and_in_range(model: LandslideModel, x: torch.Tensor) -> None:
    spoilt = x.clone()
    spoilt[0, :, :10] = torch.nan
    probability = model.probability(spoilt)
    assert probability.shape == (2, 50, 70)
    assert probability.dtype == torch.float32
    assert torch.isfinite(probability).all()
    assert probability.min() >= 0
    assert probability.max() <= 1
    with torch.inference_mode():
        assert torch.allclose(model.probability(x), torch.sigmoid(calibrated_logit(model.margin(x), 1.7, 6.0)))


def test_an_enlarged_input_gives_a_map_of_the_original_size(model: LandslideModel, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 33, 47, generator=torch.Generator().manual_seed(2)) * 0.3
    enlarged = replace(model, input_scale=2)
    assert enlarged.probability(x).shape == (1, 33, 47)
    assert not torch.allclose(enlarged.probability(x), model.probability(x))
    loaded = load_model(save_model(enlarged, tmp_path))
    assert loaded.input_scale == 2
    assert torch.equal(loaded.probability(x), enlarged.probability(x))


def test_enlarging_leaves_what_a_pixelwise_network_says() -> None:
    network = nn.Conv2d(3, 2, 1)
    normalisation = fit("standardise", np.random.default_rng(0).random((3, 100), dtype=np.float32))
    ramp = torch.linspace(0.2, 0.8, 20).expand(1, 3, 16, 20).contiguous()
    one, two = (logits_of(network, normalisation, ramp, scale)[..., 1:-1] for scale in (1, 2))
    assert torch.allclose(one, two, atol=1e-5)


def test_input_for_another_band_set_is_refused(model: LandslideModel) -> None:
    with pytest.raises(DataError, match="red_post, green_post, blue_post"):
        model.probability(torch.zeros(1, 10, 32, 32))


def test_one_changed_bit_in_the_weights_is_noticed(stored: Path) -> None:
    blob = bytearray(stored.read_bytes())
    blob[-1000] ^= 1
    stored.write_bytes(blob)
    with pytest.raises(WeightsError, match="changed or damaged"):
        load_model(stored)


def restate_hash(path: Path) -> None:
    """Make the JSON agree with whatever bytes are there, as an attacker or a careless copy would."""
    about = json.loads(path.with_suffix(".json").read_text())
    about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(about))


def test_truncated_weights_are_refused(stored: Path) -> None:
    stored.write_bytes(stored.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="changed or damaged"):
        load_model(stored)
    restate_hash(stored)
    with pytest.raises(WeightsError, match="does not hold the weights"):
        load_model(stored)


@given(place=st.integers(0), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_noticed_whatever_the_json_states(tiny: Path, place: int, value: int) -> None:
    whole, about = tiny.read_bytes(), tiny.with_suffix(".json").read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    changed = bytearray(whole)
    changed[place % (8 + length)] = value
    try:
        tiny.write_bytes(changed)
        if changed != whole:
            with pytest.raises(WeightsError, match=r"tiny\.safetensors was changed or damaged"):
                load_model(tiny)
        restate_hash(tiny)
        try:
            load_model(tiny)  # another offset is a model as good as any: only the hash knows that it is not this one
        except WeightsError as error:
            assert "tiny.safetensors" in str(error) or "tiny.json" in str(error)
    finally:
        tiny.write_bytes(whole)
        tiny.with_suffix(".json").write_bytes(about)


@given(kept=st.integers(0))
def test_weights_cut_anywhere_are_refused(tiny: Path, kept: int) -> None:
    whole, about = tiny.read_bytes(), tiny.with_suffix(".json").read_bytes()
    try:
        tiny.write_bytes(whole[: kept % len(whole)])
        restate_hash(tiny)
        with pytest.raises(WeightsError, match=r"tiny\.safetensors does not hold the weights"):
            load_model(tiny)
    finally:
        tiny.write_bytes(whole)
        tiny.with_suffix(".json").write_bytes(about)


def test_weights_without_a_normalisation_or_with_another_one_are_refused(model: LandslideModel, stored: Path) -> None:
    tensors = load(stored.read_bytes())
    other = replace(model.normalisation, scale=(1.0, 1.0, 1.0))
    stored.write_bytes(packed(tensors, model.bands, other))
    with pytest.raises(WeightsError, match=r"small\.safetensors was changed or damaged"):
        load_model(stored)
    stored.write_bytes(save(tensors))
    restate_hash(stored)
    with pytest.raises(WeightsError, match=r"small\.safetensors: its header states neither channels nor normalisation"):
        load_model(stored)
    stored.write_bytes(packed(tensors, band_set("ten-band"), model.normalisation))
    restate_hash(stored)
    with pytest.raises(WeightsError, match=r"small\.safetensors: normalisation of 3 channels for a band set of 10"):
        load_model(stored)


def test_numbers_that_torch_has_not_are_refused(stored: Path) -> None:
    header = b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}'
    stored.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    restate_hash(stored)
    with pytest.raises(WeightsError, match="does not hold the weights"):
        load_model(stored)


def test_a_pickle_is_never_opened(stored: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    stored.write_bytes(pickle.dumps(Bomb()))
    restate_hash(stored)
    with pytest.raises(WeightsError, match="does not hold the weights"):
        load_model(stored)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_named(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        load_model(tmp_path / "nowhere.safetensors")
    stored.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"small\.json"):
        load_model(stored)
    with pytest.raises(WeightsError, match="no model 'unheard-of'"):
        load_model("unheard-of")


def change(path: Path, **values: object) -> None:
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**about, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": 3}, "out of range"),
        ({"temperature": float("nan")}, "out of range"),
        ({"bfloat16": {"f1_float32": 0.8}}, "proof for bfloat16"),
        ({"storage": "int4"}, "storage 'int4'"),
        ({"classes": 1}, "shape"),
        ({"network": "unheard-of"}, "unknown network"),
        ({"temperature": 0.0}, "out of range"),
        ({"sure_margin": 1.0}, "out of range"),  # below the margin that the temperature calls 0.9
        ({"sure_margin": float("inf")}, "out of range"),
        ({"sure_margin": 9.0, "threshold": 0.9}, "out of range"),  # among what is kept back
        ({"threshold": 1.5}, "out of range"),
        ({"input_scale": 0}, "out of range"),
        ({"input_scale": float("inf")}, "not a model description"),
        ({"temperature": 10**400}, "not a model description"),
        ({"card": 3}, "not a model description"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(stored: Path, values: dict[str, object], message: str) -> None:
    change(stored, **values)
    with pytest.raises(WeightsError, match=message):
        load_model(stored)


def test_a_description_that_is_nested_too_deeply_is_refused(stored: Path) -> None:
    stored.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match=r"small\.json is not JSON"):
        load_model(stored)


def test_weights_of_another_shape_are_refused(model: LandslideModel, stored: Path) -> None:
    other = networks.create("msf-litenet", in_channels=4, classes=2)
    with pytest.raises(WeightsError, match="shape"):
        load_state(other, stored_state(model.network))
    with pytest.raises(WeightsError, match="missing"):
        load_state(other, {})


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        (TEN_BAND, "resu-senet-slim_ten-band"),
        (RGB_TERRAIN, "resu-senet-slim_rgb-terrain"),
        ([*RGB, "slope"], "resu-senet-slim_rgb"),
    ],
)
def test_the_richest_possible_model_is_chosen(layers: list[str], name: str) -> None:
    assert choose_model(layers) == name


def test_too_few_layers_are_refused() -> None:
    with pytest.raises(BandSetError, match="red_post"):
        choose_model(["slope"])


@pytest.mark.parametrize("name", ["resu-senet-slim_ten-band", "resu-senet-slim_rgb-terrain", "resu-senet-slim_rgb"])
def test_shipped_models_load_and_say_that_they_know_simulated_data_only(name: str) -> None:
    assert name in available_models()
    model = load_model(name)
    assert model.name == name
    assert f"_{model.bands.name}" in name
    assert model.bands == BAND_SETS[model.bands.name]
    assert "simulated" in model.card["about"]
    assert model.card["sha256"] == model.weights_hash
    parts = model.card["data"]["parts"]
    assert set(parts["training"]) == set(parts["validation"]) == set(TRAINING_DOMAINS)
    assert set(parts["held out"]) == {HELD_OUT_DOMAIN}
    assert (WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8") == card_text(model)
    channels = len(model.channels)
    assert model.probability(torch.full((1, channels, 64, 64), 0.1)).shape == (1, 64, 64)

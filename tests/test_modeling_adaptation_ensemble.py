"""Ensembles: means of what members say, wherever a model can stand, stored by name and sha256."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fakes.adaptation import Validation
from fakes.training import BANDS, NORMALISATION, register_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling import networks
from modeling.adaptation.ensemble import (
    DisagreementMap,
    Ensemble,
    disagreement,
    ensemble_of,
    save_ensemble,
    weights_of_distances,
)
from modeling.bands import BAND_SETS, BandSet
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel, available_models, load_model, save_model
from modeling.prediction.inference import choose, prepare
from modeling.scoring.evaluate import evaluate


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


def member(seed: int, bands: BandSet = BANDS, **changes: object) -> LandslideModel:
    torch.manual_seed(seed)
    width = len(bands.channels)
    network = networks.create("tiny", in_channels=width, classes=2).eval()
    normalisation = Normalisation("standardise", (0.1,) * width, (0.1,) * width, (0.0,) * width, (-6.0, 6.0))
    made = LandslideModel(
        f"m{seed}", "tiny", network, bands, normalisation, temperature=0.5 + seed, threshold=0.2 + 0.1 * seed,
        weights_hash=f"hash-{seed}", card={"about": "trained on simulated data only"}, storage="float32",
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


X = torch.randn(2, 3, 12, 9, generator=torch.Generator().manual_seed(5)) * 0.3


def test_probabilities_and_logits_are_pooled_as_stated() -> None:
    members = [member(0), member(1), member(2)]
    single = torch.stack([each.probability(X) for each in members])
    weights = torch.tensor([0.5, 0.3, 0.2]).view(3, 1, 1, 1)
    by_probability = ensemble_of(members, [5, 3, 2])
    torch.testing.assert_close(by_probability.probability(X), (weights * single).sum(0))
    assert by_probability.threshold == pytest.approx(0.5 * 0.2 + 0.3 * 0.3 + 0.2 * 0.4)
    by_logit = ensemble_of(members, [5, 3, 2], pooling="logit")
    torch.testing.assert_close(
        torch.logit(by_logit.probability(X)), (weights * torch.logit(single)).sum(0), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(ensemble_of(members[:1]).probability(X), single[0])
    assert by_probability.card["adaptation"][0]["method"] == "ensemble"
    assert by_probability.card["about"] == "trained on simulated data only"


@settings(max_examples=25, deadline=None)
@given(margins=st.lists(st.floats(-300, 300), min_size=1, max_size=5))
def test_the_linear_pool_is_never_surer_than_its_members(margins: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        made = ensemble_of([member(index) for index in range(len(margins))])
    pooled = float(made.pooled([torch.tensor([[[margin]]]) for margin in margins]))
    assert min(margins) - 1e-3 <= pooled <= max(margins) + 1e-3


def test_members_may_see_different_channels() -> None:
    ten, rgb = BAND_SETS["ten-band"], BAND_SETS["rgb"]
    one, other = member(0, rgb), member(1, ten)
    made = ensemble_of([one, other])
    assert made.bands == ten
    x = torch.rand(1, 10, 8, 8)
    expected = (one.probability(x[:, [6, 7, 8]]) + other.probability(x)) / 2
    torch.testing.assert_close(made.probability(x), expected)
    apart = ensemble_of([member(0, rgb), member(1)])
    assert apart.channels == (*rgb.channels, *BANDS.channels)
    with pytest.raises(DataError, match="takes"):
        made.probability(torch.rand(1, 3, 8, 8))


def test_disagreement_is_the_spread_of_the_members() -> None:
    members = [member(0), member(1)]
    made = ensemble_of(members)
    found = disagreement(made, X)
    single = torch.stack([each.probability(X) for each in members])
    torch.testing.assert_close(found.deviation, single.std(dim=0, unbiased=False), atol=1e-5, rtol=1e-4)
    assert float(found.mutual_information.min()) >= 0 and float(found.mutual_information.max()) <= 0.6932
    none = disagreement(ensemble_of([members[0], replace(members[0], name="copy")]), X)
    assert float(none.deviation.max()) < 1e-6 and float(none.mutual_information.max()) < 1e-6
    mapped = DisagreementMap(made, "mutual-information")
    assert torch.equal(mapped.probability(X), found.mutual_information) and mapped.bands == BANDS


def test_the_threshold_is_fitted_to_the_source() -> None:
    members = [member(0), member(1)]
    plain, fitted = ensemble_of(members), ensemble_of(members, validation=Validation())
    scores = [evaluate(made, Validation()).scores()["f1"] for made in (plain, fitted)]
    assert scores[1] >= scores[0]


def test_tiled_prediction_computes_an_ensemble_like_its_members() -> None:
    made = ensemble_of([member(0), member(1, BandSet("two", ("first", "third"), ""))], [3, 1])
    execution = choose(made, device="cpu", tile_px=64, symmetries=1)
    torch.testing.assert_close(prepare(made, execution).probability(X), made.probability(X), atol=1e-5, rtol=1e-4)
    assert choose(made, device="cpu").tile_px >= 256


@given(distances=st.lists(st.floats(0, 1e6), min_size=1, max_size=6), factor=st.floats(0.1, 1000))
def test_weights_fall_with_distance_in_any_unit(distances: list[float], factor: float) -> None:
    weights = weights_of_distances(distances)
    assert sum(weights) == pytest.approx(1)
    order = sorted(range(len(distances)), key=lambda index: distances[index])
    assert all(weights[near] >= weights[far] - 1e-9 for near, far in pairwise(order))
    if len(set(distances)) == 1:
        assert max(weights) == pytest.approx(min(weights))
    if max(distances) - min(distances) > 1e-3:
        scaled = weights_of_distances([factor * distance for distance in distances])
        assert scaled == pytest.approx(weights, abs=1e-4)


def test_what_is_no_ensemble_is_refused() -> None:
    members = [member(0), member(1)]
    for weights in ([1], [1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(DataError, match="weights"):
            ensemble_of(members, weights)
    with pytest.raises(DataError, match="its members"):
        ensemble_of([ensemble_of(members), members[0]])
    with pytest.raises(DataError, match="pooling"):
        ensemble_of(members, pooling="vote")  # type: ignore[arg-type]
    for distances in ([], [1.0, float("inf")]):
        with pytest.raises(DataError):
            weights_of_distances(distances)


def test_it_is_stored_by_its_members_and_loaded_wherever_a_model_is(tmp_path: Path) -> None:
    made = ensemble_of([member(0), member(1)], [2, 1], name="both", validation=Validation())
    path = save_ensemble(made, tmp_path)
    assert path.name == "both.ensemble.json" and path.stat().st_size < 5000
    for given_path in (path, str(path)):
        again = load_model(given_path)
        assert isinstance(again, Ensemble)
        torch.testing.assert_close(again.probability(X), made.probability(X))
        assert (again.name, again.threshold, again.weights, again.card) == (
            "both",
            made.threshold,
            made.weights,
            made.card,
        )
    assert load_model(path).weights_hash == load_model(path).weights_hash != ""
    with pytest.raises(WeightsError, match="no network"):
        save_model(made, tmp_path)
    with pytest.raises(DataError, match="share a name"):
        save_ensemble(ensemble_of([member(0), member(0)]), tmp_path)


def test_changed_and_hostile_files_are_refused(tmp_path: Path) -> None:
    path = save_ensemble(ensemble_of([member(0), member(1)], name="both"), tmp_path)
    save_model(member(5, name="m1"), tmp_path)  # another one under a member's name
    with pytest.raises(WeightsError, match=r"member m1\.safetensors has the sha256"):
        load_model(path)
    stored = json.loads(path.read_text())
    for change, message in (
        ({"members": []}, "out of range"),
        ({"members": [{"model": "../m0.safetensors", "sha256": "", "weight": 1}]}, "outside its folder"),
        ({"members": [{"model": "both.ensemble.json", "sha256": "", "weight": 1}]}, "names an ensemble"),
        ({"members": [{"model": "m0.safetensors"}]}, "not an ensemble"),
        ({"threshold": 2}, "out of range"),
    ):
        path.write_text(json.dumps(stored | change))
        with pytest.raises(WeightsError, match=message):
            load_model(path)


def test_shipped_members_are_named_and_not_copied(tmp_path: Path) -> None:
    names = available_models()
    if len(names) < 2:
        pytest.skip("fewer than two models ship")
    made = ensemble_of([load_model(name) for name in names[:2]], name="shipped")
    path = save_ensemble(made, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert [each["model"] for each in json.loads(path.read_text())["members"]] == names[:2]
    assert load_model(path).channels == made.channels
    assert NORMALISATION is not made.normalisation

"""What a map's facts say of probabilities of 0.9 and more: a measured share for the network as it ships, none for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.products import facts

from flows.settings import ModelSettings
from flows.sure_claims import with_sure_claims
from modeling.adaptation.ensemble import ensemble_of
from modeling.model import LandslideModel, load_model
from modeling.uncertainty.stored import uncertainty_of


@pytest.fixture(scope="module")
def model() -> LandslideModel:
    return load_model("resu-senet-slim_rgb")


def stated(model: LandslideModel, **settings: Any) -> tuple[bool, float | None]:
    source = with_sure_claims(facts(), model, ModelSettings(**settings)).provenance
    return source.kept_back, source.wrong_when_sure


def test_of_a_shipped_network_the_share_of_its_card_is_stated(model: LandslideModel) -> None:
    fitted = uncertainty_of(model)
    assert fitted is not None
    assert stated(model) == (True, max(fitted.about["wrong_at_090"]["after"].values()))


def test_what_was_not_measured_is_not_stated(model: LandslideModel) -> None:
    adapted = replace(model, card={**model.card, "adaptation": [{"method": "norms"}]})
    assert stated(adapted) == (True, None)
    assert stated(model, scene_means=0.5) == (True, None)
    assert stated(model, symmetries=4) == (True, None)
    assert stated(ensemble_of([model, model])) == (True, None)
    assert stated(replace(model, sure_margin=0.0)) == (False, None)

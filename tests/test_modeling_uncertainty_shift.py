"""Temperatures for unseen ground: from near domains, cautious about high confidence, and never touching the mask."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling.calibrated import calibrated_logit
from modeling.errors import DataError
from modeling.model import load_model
from modeling.scoring.calibrate import fit_temperature
from modeling.scoring.reliability import MarginHistogram
from modeling.uncertainty.shift import (
    ShiftCalibration,
    cautious_temperature,
    fit_shift,
    high_confidence,
    moved_threshold,
    recalibrated,
)


def histogram(seed: int, temperature: float, *, stuck: float = 0.0, count: int = 60_000) -> MarginHistogram:
    """Margins whose right temperature is `temperature`; a share `stuck` of the background looks like landslide."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-3, 3, count)
    truth = rng.random(count) < 1 / (1 + np.exp(-logit))
    logit[(rng.random(count) < stuck) & ~truth] = 4.0
    return MarginHistogram.of((temperature * logit).astype(np.float32), truth)


def test_claims_of_high_confidence_are_counted_by_hand() -> None:
    margin = np.array([5.0, 3.0, 2.5, 2.0, -4.0, -1.0], np.float32)
    truth = np.array([True, True, False, True, True, False])
    found = high_confidence(MarginHistogram.of(margin, truth), 1.0)  # 0.9 is a margin of 2.197
    assert (found.claimed, found.wrong, found.landslides) == (3, 1, 4)
    assert found.share == pytest.approx(1 / 3)
    assert found.reached == pytest.approx(2 / 4)
    assert high_confidence(MarginHistogram.of(margin, truth), 100.0).claimed == 0


def test_a_cautious_temperature_keeps_the_promise_and_is_never_below_the_likely_one() -> None:
    for seed, stuck in ((0, 0.0), (1, 0.004), (2, 0.02)):
        some = histogram(seed, 2.0, stuck=stuck)
        found = cautious_temperature(some)
        assert found >= fit_temperature(some) * 0.999
        assert high_confidence(some, found).share <= 0.02
        lower = found / 1.02
        if lower > fit_temperature(some):  # it is the lowest one that does
            assert high_confidence(some, lower).share > 0.02


def test_where_no_claim_can_be_sure_none_is_made() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 5, 10_000).astype(np.float32)
    margin[margin == margin.max()] = 20
    some = MarginHistogram.of(np.append(margin, 30).astype(np.float32), np.append(rng.random(10_000) < 0.3, False))
    assert high_confidence(some, cautious_temperature(some)).claimed == 0


def test_near_domains_count_most_and_far_ground_gets_the_most_cautious() -> None:
    fitted = ShiftCalibration({"near": 1.0, "middle": 2.0, "hot": 8.0}, scale=0.1, far=0.5)
    assert fitted.temperature({"near": 0.0, "middle": 0.4, "hot": 0.9}) == pytest.approx(1.0)
    assert fitted.temperature({"near": 0.9, "middle": 0.4, "hot": 0.0}) == pytest.approx(8.0)
    assert fitted.temperature({"near": 0.8, "middle": 0.7, "hot": 0.9}) == pytest.approx(8.0)
    assert fitted.temperature() == pytest.approx(8.0)  # three quarters of three domains are all three
    with pytest.raises(DataError, match="hot"):
        fitted.temperature({"near": 0.1, "middle": 0.2})


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0.1, 50), st.floats(-0.05, 1)), min_size=1),
    st.floats(0.01, 1),
    st.floats(0.1, 1),
)
def test_a_temperature_is_always_one_of_the_domains(
    domains: dict[str, tuple[float, float]], scale: float, caution: float
) -> None:
    fitted = ShiftCalibration({name: each[0] for name, each in domains.items()}, scale, 0.5, caution)
    found = fitted.temperature({name: each[1] for name, each in domains.items()})
    assert min(fitted.temperatures.values()) * 0.999 <= found <= max(fitted.temperatures.values()) * 1.001


def test_fitting_takes_the_highest_of_several_models_and_its_scale_from_the_domains() -> None:
    fitted = fit_shift(
        {"a": [histogram(1, 1.5), histogram(2, 3.0)], "b": [histogram(3, 1.0)]},
        {"a": {"b": 0.2}, "b": {"a": 0.4}},
    )
    assert fitted.temperatures["a"] == cautious_temperature(histogram(2, 3.0)) > cautious_temperature(histogram(1, 1.5))
    assert fitted.far == pytest.approx(0.4)
    assert fitted.scale == pytest.approx(0.1)
    assert ShiftCalibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    alone = fit_shift({"a": [histogram(1, 1.5)]})
    assert ShiftCalibration.from_json(json.loads(json.dumps(alone.to_json(), allow_nan=False))) == alone
    with pytest.raises(DataError, match="at least one domain"):
        fit_shift({})
    with pytest.raises(DataError, match="out of range"):
        ShiftCalibration.from_json({**fitted.to_json(), "temperatures": {"a": -1.0}})


@given(st.floats(0.01, 0.99), st.floats(0.2, 20), st.floats(0.2, 20), st.floats(-30, 30))
def test_the_mask_does_not_change_with_the_temperature(
    threshold: float, before: float, after: float, margin: float
) -> None:
    cut = before * math.log(threshold / (1 - threshold))
    if abs(margin - cut) < 1e-3 or abs(cut / after) > 30:
        return
    moved = moved_threshold(threshold, before, after)
    assert (1 / (1 + math.exp(-margin / after)) >= moved) == (margin > cut)


def test_a_shipped_model_keeps_its_mask_and_becomes_less_sure() -> None:
    model = load_model("resu-senet-slim_rgb")
    x = torch.rand(1, len(model.channels), 32, 32)
    softer = recalibrated(model, 3 * model.temperature)
    first, second = model.probability(x), softer.probability(x)
    assert torch.equal(first >= model.threshold, second >= softer.threshold)
    assert (second - 0.5).abs().mean() < (first - 0.5).abs().mean()
    with pytest.raises(DataError):
        recalibrated(model, math.inf)


def test_claims_alone_take_the_cautious_temperature() -> None:
    model = replace(load_model("resu-senet-slim_rgb"), threshold=0.45, temperature=1.0, sure_margin=0.0)
    x = torch.rand(1, len(model.channels), 32, 32)
    made = recalibrated(model, 1.0, 2.0)
    margin = model.margin(x).detach()
    margin = margin / margin.abs().max() * 12  # so that all ranges are there
    first = torch.sigmoid(calibrated_logit(margin, model.temperature))
    second = torch.sigmoid(calibrated_logit(margin, made.temperature, made.sure_margin))
    assert torch.equal(first >= model.threshold, second >= made.threshold)
    assert torch.equal(second >= 0.9, torch.sigmoid(margin / 2.0) >= 0.9)
    assert torch.equal(second[first < 0.89], first[first < 0.89])
    assert recalibrated(model, 2.0, 1.0).sure_margin == 0.0, "a cautious temperature below the likely one says nothing"
    late = replace(model, threshold=0.95)
    assert recalibrated(late, 1.0, 2.0) == recalibrated(late, 2.0), "a map that begins among what is kept back"

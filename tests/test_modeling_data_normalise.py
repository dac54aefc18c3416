"""Normalisation is fitted to training values, survives its JSON and never lets NaN through."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
import torch

from modeling.data.normalise import METHODS, Normalisation, fit
from modeling.errors import DataError, WeightsError


@pytest.fixture
def values() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    made = np.stack([rng.normal(20, 8, 5000), rng.gamma(2, 0.05, 5000)]).astype(np.float32)
    made[0, :50] = np.nan
    return made


def applied(normalisation: Normalisation, values: npt.NDArray[np.float32]) -> torch.Tensor:
    return normalisation.apply(torch.from_numpy(values)[None, :, None, :])[0, :, 0]


def test_standardise_gives_mean_0_and_deviation_1(values: npt.NDArray[np.float32]) -> None:
    y = applied(fit("standardise", values), values)
    assert torch.allclose(y.mean(dim=1), torch.zeros(2), atol=0.01)
    assert torch.allclose(y.std(dim=1), torch.ones(2), atol=0.02)


def test_min_max_spans_0_to_1_and_percentile_its_middle(values: npt.NDArray[np.float32]) -> None:
    known = values[:, 50:]
    y = applied(fit("min-max", known), known)
    assert (y.min().item(), y.max().item()) == pytest.approx((0, 1))
    inside = applied(fit("percentile", known), known)
    assert ((inside >= 0) & (inside <= 1)).float().mean().item() == pytest.approx(0.96, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
def test_unknown_values_become_the_training_mean(method: str, values: npt.NDArray[np.float32]) -> None:
    normalisation = fit(method, values)
    y = applied(normalisation, np.full((2, 1), np.nan, dtype=np.float32))
    mean = applied(normalisation, np.nanmean(values, axis=1, keepdims=True))
    assert torch.allclose(y, mean, atol=1e-3)
    assert torch.isfinite(applied(normalisation, np.full((2, 1), np.inf, dtype=np.float32))).all()


def test_outliers_are_cut(values: npt.NDArray[np.float32]) -> None:
    normalisation = fit("standardise", values)
    assert applied(normalisation, np.full((2, 1), 1e9, dtype=np.float32)).max().item() == normalisation.clip[1]


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    y = applied(fit("standardise", np.ones((1, 10), dtype=np.float32)), np.ones((1, 3), dtype=np.float32))
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("method", METHODS)
def test_json_brings_it_back(method: str, values: npt.NDArray[np.float32]) -> None:
    normalisation = fit(method, values)
    assert Normalisation.from_json(json.loads(json.dumps(normalisation.to_json()))) == normalisation


def test_bad_stored_values_are_refused(values: npt.NDArray[np.float32]) -> None:
    stored = fit("standardise", values).to_json()
    for spoilt in (
        {**stored, "scale": [0.0, 1.0]}, {**stored, "fill": [0.0]}, {"method": "standardise"},
        {**stored, "method": "other"}, {**stored, "method": []}, {**stored, "offset": "12"}, {**stored, "clip": [1, 0]},
        {**stored, "offset": [float("nan"), 0.0]}, {**stored, "offset": [10**400, 0]}, {**stored, "offset": ["1", "2"]},
    ):  # fmt: skip
        with pytest.raises(WeightsError):
            Normalisation.from_json(spoilt)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(DataError, match="min-max"):
        fit("unknown", np.ones((1, 3), dtype=np.float32))
    with pytest.raises(DataError, match="no finite"):
        fit("min-max", np.full((1, 3), np.nan, dtype=np.float32))


def test_another_number_of_channels_is_refused(values: npt.NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match="2"):
        fit("standardise", values).apply(torch.zeros(1, 3, 4, 4))

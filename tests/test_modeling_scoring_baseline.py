"""The baseline finds the thresholds that made the data, and maps with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from modeling.errors import BandSetError, DataError, WeightsError
from modeling.scoring.baseline import load_baseline, predict_baseline, save_baseline, tune_baseline

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def region(seed: int) -> tuple[str, dict[str, FloatArray], BoolArray, BoolArray]:
    """Landslides are exactly where NDVI fell by at least 0.3 on slopes of at least 20 degrees."""
    rng = np.random.default_rng(seed)
    shape = 80, 80
    ndvi_pre, ndvi_post = rng.uniform(0, 0.9, (2, *shape))
    layers = {"slope": rng.uniform(0, 50, shape)}
    for phase, ndvi in (("pre", ndvi_pre), ("post", ndvi_post)):
        layers[f"red_{phase}"] = np.full(shape, 0.1)
        layers[f"nir_{phase}"] = 0.1 * (1 + ndvi) / (1 - ndvi)
    truth = (ndvi_pre - ndvi_post >= 0.301) & (layers["slope"] >= 20)
    return (
        f"toy-{seed}",
        {name: values.astype(np.float32) for name, values in layers.items()},
        truth,
        np.ones(shape, bool),
    )


def test_tuning_recovers_the_thresholds() -> None:
    baseline = tune_baseline([region(0), region(1)])
    assert (baseline.ndvi_drop, baseline.slope_deg) == (0.3, 20)
    assert baseline.f1 > 0.99
    assert baseline.tuned_on == ("toy-0", "toy-1")


def test_stated_f1_is_that_of_the_prediction() -> None:
    _, layers, truth, valid = region(2)
    truth = truth ^ (np.random.default_rng(3).random(truth.shape) < 0.05)
    baseline = tune_baseline([("noisy", layers, truth, valid)])
    predicted = baseline.predict(layers, valid)
    f1 = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    assert baseline.f1 == pytest.approx(f1, abs=1e-6)


def test_unknown_pixels_are_no_landslides_and_do_not_count() -> None:
    name, layers, truth, valid = region(4)
    layers["nir_post"][:10] = np.nan
    valid[-5:] = False
    baseline = tune_baseline([(name, layers, truth, valid)])
    predicted = baseline.predict(layers, valid)
    assert predicted.any()
    assert not predicted[:10].any()
    assert not predicted[-5:].any()


def test_stored_thresholds_come_back(tmp_path: Path) -> None:
    baseline = tune_baseline([region(0)])
    save_baseline(baseline, tmp_path / "baseline.json")
    assert load_baseline(tmp_path / "baseline.json") == baseline
    with pytest.raises(WeightsError, match="nowhere"):
        load_baseline(tmp_path / "nowhere.json")


def test_the_shipped_baseline_predicts_and_was_tuned_without_the_held_out_domain() -> None:
    _, layers, _, valid = region(5)
    predicted = predict_baseline(layers, valid)
    assert predicted.shape == valid.shape
    assert not any("luding" in name for name in load_baseline().tuned_on)


def test_what_cannot_be_tuned_is_refused() -> None:
    name, layers, truth, valid = region(0)
    with pytest.raises(DataError, match="no pixel"):
        tune_baseline([(name, layers, np.zeros_like(truth), valid)])
    del layers["nir_pre"]
    with pytest.raises(BandSetError, match="nir_pre"):
        tune_baseline([(name, layers, truth, valid)])

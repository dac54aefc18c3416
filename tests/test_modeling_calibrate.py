"""Temperature and threshold are recovered where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.calibrate import best_threshold, calibration_error, fit_temperature
from modeling.errors import DataError


def test_temperature_of_overconfident_logits_is_recovered() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 200_000)
    truth = rng.random(honest.size) < 1 / (1 + np.exp(-honest))
    margin = (3 * honest).astype(np.float32)
    assert fit_temperature(margin, truth) == pytest.approx(3, rel=0.03)
    before, after = (1 / (1 + np.exp(-margin / t)) for t in (1.0, 3.0))
    assert calibration_error(after, truth) < 0.01 < calibration_error(before, truth)


def test_threshold_has_the_highest_f1_of_all() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(20_000) < 0.1
    probability = np.clip(rng.normal(np.where(truth, 0.6, 0.3), 0.15), 0, 1).astype(np.float32)
    threshold, f1 = best_threshold(probability, truth)

    def f1_at(t: float) -> float:
        predicted = probability >= t
        return 2 * float((predicted & truth).sum()) / float(predicted.sum() + truth.sum())

    assert f1 == pytest.approx(f1_at(threshold), abs=2e-3)
    assert f1 >= max(f1_at(t) for t in np.linspace(0.05, 0.95, 91)) - 2e-3


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(DataError, match="landslide"):
        best_threshold(np.zeros(4, dtype=np.float32), np.zeros(4, dtype=bool))
    with pytest.raises(DataError, match="no validation pixel"):
        fit_temperature(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool))

"""Temperature and threshold are recovered where they are known, from histograms as from the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from modeling.errors import DataError
from modeling.scoring.calibrate import best_threshold, calibration_error, fit_temperature
from modeling.scoring.reliability import MarginHistogram


@pytest.mark.parametrize("temperature", [0.2, 3.0, 40.0])
def test_temperature_of_overconfident_logits_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 200_000)
    truth = rng.random(honest.size) < special.expit(honest)
    histogram = MarginHistogram.of((temperature * honest).astype(np.float32), truth)
    assert fit_temperature(histogram) == pytest.approx(temperature, rel=0.03)
    assert calibration_error(histogram, temperature) < 0.01 < calibration_error(histogram, 1.0)


def test_the_histogram_gives_the_temperature_of_the_pixels() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(30_000) < 0.2
    margin = rng.normal(np.where(truth, 3, -4), 4).astype(np.float32)
    signed = np.where(truth, margin, -margin).astype(np.float64)
    found = fit_temperature(MarginHistogram.of(margin, truth))
    loss = [-special.log_expit(signed / t).mean() for t in (0.999 * found, found, 1.001 * found)]
    assert min(loss) == loss[1]


def test_threshold_has_the_highest_f1_of_all() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(20_000) < 0.1
    margin = rng.normal(np.where(truth, 0.6, -1.3), 1).astype(np.float32)
    threshold, f1 = best_threshold(MarginHistogram.of(margin, truth), 1.7)
    probability = special.expit(margin.astype(np.float64) / 1.7)

    def f1_at(t: float) -> float:
        predicted = probability >= t
        return 2 * float((predicted & truth).sum()) / float(predicted.sum() + truth.sum())

    assert f1 == pytest.approx(f1_at(threshold), abs=1e-12)
    assert f1 >= max(f1_at(t) for t in np.linspace(0.05, 0.95, 181)) - 1e-3


def test_a_threshold_between_two_clear_groups_lies_in_their_middle() -> None:
    margin, truth = np.repeat([-4.0, 4.0], 50).astype(np.float32), np.repeat([False, True], 50)
    threshold, f1 = best_threshold(MarginHistogram.of(margin, truth))
    assert f1 == 1
    assert threshold == pytest.approx(0.5, abs=1e-3)


def test_nothing_to_choose_from_is_refused() -> None:
    nothing = MarginHistogram.empty()
    with pytest.raises(DataError, match="landslide"):
        best_threshold(MarginHistogram.of(np.zeros(4, dtype=np.float32), np.zeros(4, dtype=bool)))
    with pytest.raises(DataError, match="no validation pixel"):
        fit_temperature(nothing)
    with pytest.raises(DataError, match="no pixel"):
        calibration_error(nothing)

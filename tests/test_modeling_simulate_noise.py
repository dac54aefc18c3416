"""Random streams and fields of the simulator: independent, seeded, of the spectrum that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.simulate.noise import fractal, patches, ramp, resample, stream


def test_streams_depend_on_seed_and_purpose_only() -> None:
    first = stream(1, "clouds", 2).random(4)
    assert np.array_equal(first, stream(1, "clouds", 2).random(4))
    for other in (stream(2, "clouds", 2), stream(1, "clouds", 3), stream(1, "terrain")):
        assert not np.array_equal(first, other.random(4))


@pytest.mark.parametrize("shortest_px", [2.0, 12.0])
def test_a_field_has_no_mean_about_unit_variance_and_its_shape(shortest_px: float) -> None:
    field = fractal(stream(1, "field"), (150, 211), 20, shortest_px)
    assert field.shape == (150, 211)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.1
    assert 0.8 < field.std() < 1.1


def test_the_power_of_a_field_falls_with_the_exponent_asked_for() -> None:
    beta = 2.4
    power = np.zeros((256, 129))
    for seed in range(6):
        power += np.abs(np.fft.rfft2(fractal(stream(seed, "power"), (256, 256), 1e4, 1.0, beta))) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    middle = (frequency > 0.02) & (frequency < 0.12)
    slope = np.polyfit(np.log(frequency[middle]), np.log(power[middle]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.25)


def test_waves_shorter_than_the_shortest_are_missing() -> None:
    field = fractal(stream(1, "short"), (128, 128), 60, 16)
    step = np.abs(np.diff(field, axis=0)).mean()
    assert step < 0.2 * np.abs(field[16:] - field[:-16]).mean()


def test_resampling_interpolates_between_and_clamps_outside() -> None:
    field = np.array([[0, 1, 2], [10, 11, 12]], dtype=np.float32)
    y, x = np.array([-3, 0.5, 9], dtype=np.float32), np.array([0, 1.25, 7], dtype=np.float32)
    assert np.allclose(resample(field, y, x), [[0, 1.25, 2], [5, 6.25, 7], [10, 11.25, 12]])
    assert np.array_equal(field, [[0, 1, 2], [10, 11, 12]])


def test_a_ramp_is_flat_outside_and_rises_between() -> None:
    value = ramp(np.array([-1, 2, 3, 4, 9], dtype=np.float32), 2, 4)
    assert np.allclose(value, [0, 0, 0.5, 1, 1])


def test_patches_are_the_highest_share() -> None:
    field = fractal(stream(1, "patches"), (160, 160), 40)
    for share in (0.05, 0.3):
        chosen = patches(field, share)
        assert chosen.mean() == pytest.approx(share, abs=0.02)
        assert field[chosen].min() >= field[~chosen].max()
    assert not patches(field, 0).any()

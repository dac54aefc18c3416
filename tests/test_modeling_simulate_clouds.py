"""Clouds cover about what is asked, throw shadows away from the sun, and are mostly found by the score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modeling.simulate.clouds import Clouds, make_clouds, seen_through
from modeling.simulate.noise import FloatArray
from modeling.simulate.optics import Sun

SHAPE = (220, 240)
PIXEL_M = 20.0


def clouds_of(seed: int, cover: float = 0.25, sun: Sun | None = None) -> Clouds:
    return make_clouds(np.random.default_rng(seed), SHAPE, cover, sun or Sun(35.0, 150.0), PIXEL_M)


def moved(field: FloatArray, down: int, right: int) -> tuple[FloatArray, tuple[slice, slice]]:
    """What of `field` is still inside after it is moved, and where it then lies."""
    rows, cols = field.shape
    source = field[max(0, -down) : rows - max(0, down), max(0, -right) : cols - max(0, right)]
    place = slice(max(0, down), rows - max(0, -down)), slice(max(0, right), cols - max(0, -right))
    return source, place


def agreement(clouds: Clouds, height_m: float, sun: Sun) -> float:
    """Correlation of the shadow with the clouds moved by where a cloud of that height throws it."""
    reach = height_m * math.tan(math.radians(sun.zenith_deg)) / PIXEL_M
    azimuth = math.radians(sun.azimuth_deg)
    north, east = -reach * math.cos(azimuth), -reach * math.sin(azimuth)
    cloud, place = moved(clouds.opacity, round(-north), round(east))
    return float(np.corrcoef(cloud.ravel(), clouds.shade[place].ravel())[0, 1])


@pytest.mark.parametrize("azimuth", [150.0, 60.0, 250.0])
def test_shadows_lie_away_from_the_sun_by_height_times_the_tangent(azimuth: float) -> None:
    sun = Sun(35.0, azimuth)
    heights = range(600, 2501, 25)
    for seed in (1, 2, 4):
        clouds = clouds_of(seed, sun=sun)
        right = max(agreement(clouds, height, sun) for height in heights)
        wrong = max(agreement(clouds, -height, sun) for height in heights)
        assert right > 0.9
        assert wrong < right - 0.2


def test_the_lower_the_sun_the_farther_the_shadow() -> None:
    found = []
    for zenith in (15.0, 45.0):  # the same seed hangs the clouds at the same height
        sun = Sun(zenith, 150.0)
        clouds = clouds_of(1, sun=sun)
        found.append(max(range(600, 2501, 25), key=lambda height: agreement(clouds, height, sun)))
    assert found[0] == pytest.approx(found[1], rel=0.12)


@pytest.mark.parametrize("cover", [0.1, 0.3, 0.6])
def test_cover_is_about_what_is_asked(cover: float) -> None:
    share = np.mean([clouds_of(seed, cover).cloud.mean() for seed in range(16)])
    assert 0.6 * cover < share < 1.2 * cover


def test_the_score_is_low_in_cloud_and_shadow_and_high_in_the_clear() -> None:
    for seed in range(4):
        clouds = clouds_of(seed)
        assert clouds.score.min() >= 0
        assert clouds.score.max() <= 1
        assert clouds.score[clouds.opacity > 0.8].mean() < 0.2
        assert clouds.score[clouds.shade > 0.8].mean() < 0.5
        clear = (clouds.opacity < 0.02) & (clouds.shade < 0.02)
        assert clouds.score[clear].mean() > 0.85


def test_the_usual_threshold_keeps_most_clear_ground_and_little_cloud() -> None:
    missed, kept = [], []
    for seed in range(6):
        clouds = clouds_of(seed)
        usable = clouds.score >= 0.6
        missed.append(usable[clouds.cloud].mean())
        kept.append(usable[~clouds.cloud & ~clouds.shadow].mean())
    assert np.mean(missed) < 0.25
    assert np.mean(kept) > 0.8


def test_a_clear_sky_has_neither_cloud_nor_shadow() -> None:
    clouds = clouds_of(1, 0.0)
    assert not clouds.cloud.any()
    assert not clouds.shadow.any()
    assert clouds.score.min() > 0.8


def test_shadow_is_told_apart_from_cloud() -> None:
    clouds = clouds_of(1)
    assert clouds.shadow.any()
    assert not (clouds.shadow & clouds.cloud).any()


def test_cloud_hides_what_is_below() -> None:
    opacity, shade = np.array([[0, 1, 0, 0.5]], np.float32), np.array([[0, 0, 1, 0]], np.float32)
    ground = np.full((2, 1, 4), 0.2, np.float32)
    seen = seen_through(Clouds(opacity, shade, opacity), ground, np.array([0.7, 0.5], np.float32))
    assert np.allclose(seen[0, 0], [0.2, 0.7, 0.2, 0.45])
    assert np.allclose(seen[1, 0], [0.2, 0.5, 0.2, 0.35])
    assert np.allclose(ground, 0.2)

"""modeling/rasters/coregister.py: a known shift is found to a tenth of a pixel, and where it cannot be found that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from modeling.rasters.coregister import (
    LEAST_WINDOWS,
    Shift,
    WindowShift,
    combine,
    margin_px,
    moved,
    shifted,
    stable_ground,
    taps,
    window_shift,
)

REACH = 4.0
SIDE = 96
rng = np.random.default_rng(8)


def ground_image(move: tuple[float, float] = (0.0, 0.0), seed: int = 1, detail_px: float = 1.2) -> np.ndarray:
    """Reflectance (2, y, x) of rolling ground, moved by `move` before it is sampled."""
    size = SIDE + 2 * margin_px(REACH)
    fine = np.random.default_rng(seed).standard_normal((2, size + 40, size + 40))
    smooth = np.stack([ndimage.gaussian_filter(band, detail_px) for band in fine])
    spread = np.stack([ndimage.shift(band, move, order=5, mode="nearest") for band in smooth])
    return (0.15 + 0.05 * spread / smooth.std())[:, 20:-20, 20:-20].astype(np.float32)


EVERYWHERE = np.ones(ground_image().shape[1:], bool)


@pytest.mark.parametrize("move", [(0.0, 0.0), (0.3, -0.4), (-0.5, 0.5), (1.3, -2.2), (3.1, 0.05)])
def test_a_known_shift_is_found(move: tuple[float, float]) -> None:
    noise = 0.004 * rng.standard_normal(ground_image().shape).astype(np.float32)
    found = window_shift(ground_image(move) + noise, ground_image(), EVERYWHERE, reach_px=REACH, centre_yx=(5, 6))
    assert found is not None
    assert (found.dy_px, found.dx_px) == pytest.approx(move, abs=0.03)
    assert (found.y_px, found.x_px) == (5, 6)


def test_brightness_contrast_and_sign_of_the_light_do_not_matter() -> None:
    other = 0.6 * ground_image((0.4, -0.3)) ** 2 + 0.1
    found = window_shift(other, ground_image(), EVERYWHERE, reach_px=REACH)
    assert found is not None
    assert (found.dy_px, found.dx_px) == pytest.approx((0.4, -0.3), abs=0.05)


def test_a_torn_mask_does_not_draw_the_shift_to_zero() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(4).standard_normal(EVERYWHERE.shape), 3) > 0.02
    after = ground_image()
    after[:, ~mask] = ground_image(seed=9)[:, ~mask]  # something else altogether
    found = window_shift(ground_image((0.5, -0.7)), after, ndimage.binary_erosion(mask), reach_px=REACH)
    assert found is not None
    assert (found.dy_px, found.dx_px) == pytest.approx((0.5, -0.7), abs=0.05)


def test_gaps_of_the_image_before_are_left_out() -> None:
    before = ground_image((0.5, 0.25))
    before[:, 20:30, 40:60] = np.nan
    found = window_shift(before, ground_image(), EVERYWHERE, reach_px=REACH)
    assert found is not None
    assert (found.dy_px, found.dx_px) == pytest.approx((0.5, 0.25), abs=0.05)


def test_noise_and_even_ground_have_no_shift() -> None:
    first, second = (0.1 + 0.01 * rng.random((2, *EVERYWHERE.shape)).astype(np.float32) for _ in range(2))
    assert window_shift(first, second, EVERYWHERE, reach_px=REACH) is None
    even = np.full_like(first, 0.2)
    assert window_shift(even, even, EVERYWHERE, reach_px=REACH) is None


def test_too_little_ground_and_too_long_a_shift_are_not_measured() -> None:
    little = np.zeros_like(EVERYWHERE)
    little[40:60, 40:60] = True
    assert window_shift(ground_image(), ground_image(), little, reach_px=REACH) is None
    assert window_shift(ground_image((6.0, 0.0)), ground_image(), EVERYWHERE, reach_px=REACH) is None


def windows(moves: list[tuple[float, float]], peak: float = 20.0) -> list[WindowShift]:
    return [
        WindowShift(100.0 * (index // 4), 100.0 * (index % 4), dy, dx, 5000, peak)
        for index, (dy, dx) in enumerate(moves)
    ]


def test_the_median_stands_against_outliers_and_says_how_sure_it_is() -> None:
    noise = 0.05 * np.random.default_rng(2).standard_normal((16, 2))
    moves = [(0.4 + a, -0.2 + b) for a, b in noise] + [(4.0, 4.0), (-3.0, 2.0)]
    found = combine(windows(moves), 30, maximum_px=3.0)
    assert found.measured
    assert found.why == ""
    assert (found.dy_px, found.dx_px) == pytest.approx((0.4, -0.2), abs=0.04)
    assert found.dy_error_px is not None
    assert 0.005 < found.dy_error_px < 0.04
    assert (found.windows, found.looked_at) == (18, 30)


def test_clear_windows_count_more_than_faint_ones() -> None:
    faint = windows([(1.0, 1.0)] * 6, peak=6.0)
    clear = windows([(0.1, 0.0)] * 4, peak=40.0)
    found = combine([*faint, *clear], 10, maximum_px=3.0)
    assert (found.dy_px, found.dx_px) == pytest.approx((0.1, 0.0), abs=0.01)


@pytest.mark.parametrize(
    ("moves", "words"),
    [
        ([], "only 0 of 9 windows"),
        ([(0.1, 0.1)] * (LEAST_WINDOWS - 1), "only 3 of 9 windows"),
        ([(2.0, 0.0), (-2.0, 1.0), (0.0, -2.0), (1.0, 2.0), (-1.0, -1.0)], "disagree"),
        ([(3.0, 3.0)] * 8, "a shift of 4.2 px is more than the 3 px that are believed"),
    ],
)
def test_what_cannot_be_measured_says_why(moves: list[tuple[float, float]], words: str) -> None:
    found = combine(windows(moves), 9, maximum_px=3.0)
    assert not found.measured
    assert words in found.why


def test_a_ramp_is_told_from_one_shift() -> None:
    even = combine(windows([(0.5, 0.2)] * 16), 16, maximum_px=3.0)
    assert even.ramp_px == pytest.approx(0.0, abs=1e-6)
    ramp = combine(windows([(0.2 * (index // 4), 0.1 * (index % 4)) for index in range(16)]), 16, maximum_px=3.0)
    assert ramp.ramp_px == pytest.approx(np.hypot(0.6, 0.3), abs=0.02)
    assert ramp.spread_px is not None
    assert ramp.spread_about_ramp_px is not None
    assert ramp.spread_about_ramp_px < 0.1 * ramp.spread_px


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_a_plane_is_shifted_exactly_and_nothing_is_made_up(dy: float, dx: float) -> None:
    y, x = np.mgrid[0:24, 0:26].astype(np.float32)
    image = (0.01 * y - 0.02 * x).astype(np.float32)
    image[10, 12] = np.nan
    out = shifted(image, dy, dx)
    known = np.isfinite(out)
    expected = 0.01 * (y + dy) - 0.02 * (x + dx)
    np.testing.assert_allclose(out[known], expected[known], atol=2e-6)
    needed = np.isnan(image)
    for axis, along in ((-2, dy), (-1, dx)):
        needed = np.logical_or.reduce([moved(needed, offset, axis, True) for offset, _ in taps(along)])
    assert (known == ~needed).all(), "unknown exactly where a pixel that is needed is unknown or beyond the edge"


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_a_whole_shift_moves_pixels_unchanged(dy: int, dx: int) -> None:
    image = np.random.default_rng(1).random((9, 7)).astype(np.float32)
    out = shifted(image, dy, dx)
    for (row, column), value in np.ndenumerate(out):
        inside = 0 <= row + dy < 9 and 0 <= column + dx < 7
        assert value == image[row + dy, column + dx] if inside else np.isnan(value)


def test_weights_add_up_to_one() -> None:
    for move in np.linspace(-2, 2, 41):
        assert sum(weight for _, weight in taps(float(move))) == pytest.approx(1)


def test_stable_ground_leaves_out_change_water_snow_and_the_unseen() -> None:
    shape = (120, 120)
    pre = {name: np.full(shape, level, np.float32) for name, level in (("green", 0.08), ("red", 0.05), ("nir", 0.3))}
    pre = {name: image + 0.005 * rng.standard_normal(shape).astype(np.float32) for name, image in pre.items()}
    post = {name: image.copy() for name, image in pre.items()}
    post["red"][20:40, 20:40] += 0.15  # a landslide
    post["nir"][60:80, 20:40] = 0.02  # water
    pre["green"][60:70, 70:80] = 0.6  # snow
    clear = np.ones(shape, bool)
    clear[100:] = False
    pre["nir"][5, 5] = np.nan
    stable = stable_ground(pre, post, clear)
    for inside in (np.s_[22:38, 22:38], np.s_[60:80, 20:40], np.s_[60:70, 67:83], np.s_[100:, :], np.s_[5, 5]):
        assert not stable[inside].any()
    assert stable[45:55, 45:110].mean() > 0.95


def test_a_sub_pixel_shift_alone_is_no_change() -> None:
    before, after = ground_image((0.7, -0.6)), ground_image()
    stable = stable_ground({"red": before[0]}, {"red": after[0]}, EVERYWHERE)
    assert stable[5:-5, 5:-5].mean() > 0.9


def test_a_shift_knows_its_length() -> None:
    assert replace(Shift(True, ""), dy_px=0.3, dx_px=-0.4).length_px == pytest.approx(0.5)

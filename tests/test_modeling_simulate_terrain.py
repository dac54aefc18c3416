"""The ground of a simulated region: drained, as steep as its domain says, and without cliffs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from modeling.simulate import DOMAINS, domain
from modeling.simulate.terrain import STEP, Terrain, make_terrain

SHAPE = (200, 231)


@pytest.fixture(scope="module", params=DOMAINS)
def ground(request: pytest.FixtureRequest) -> tuple[str, Terrain]:
    return request.param, make_terrain(domain(request.param), 7, SHAPE, 10.0)


def test_arrays_have_the_region_s_shape(ground: tuple[str, Terrain]) -> None:
    _, terrain = ground
    for one in (terrain.elevation_m, terrain.slope_deg, terrain.channel_area_m2, terrain.above_valley_m):
        assert one.shape == SHAPE
        assert one.dtype == np.float32
        assert np.isfinite(one).all()


def test_hardly_any_cell_is_a_pit(ground: tuple[str, Terrain]) -> None:
    _, terrain = ground
    coarse = terrain.elevation_m[::STEP, ::STEP]
    pits = coarse <= ndimage.minimum_filter(coarse, size=3)
    assert pits[1:-1, 1:-1].mean() < 0.01


def test_slopes_end_near_the_hillslope_angle(ground: tuple[str, Terrain]) -> None:
    name, terrain = ground
    angle = domain(name).hillslope
    assert angle - 4 < np.percentile(terrain.slope_deg, 95) < angle + 6
    assert np.percentile(terrain.slope_deg, 99.5) < angle + 11  # gullies are steeper
    assert (terrain.slope_deg > angle - 12).mean() > 0.3


def test_there_are_no_cliffs(ground: tuple[str, Terrain]) -> None:
    name, terrain = ground
    steepest = 10.0 * math.tan(math.radians(domain(name).hillslope + 18))
    for axis in (0, 1):
        assert np.abs(np.diff(terrain.elevation_m, axis=axis)).max() < steepest


def test_slope_is_that_of_the_elevation(ground: tuple[str, Terrain]) -> None:
    _, terrain = ground
    z, (y, x) = terrain.elevation_m, (60, 100)
    dy, dx = (z[y + 1, x] - z[y - 1, x]) / 20, (z[y, x + 1] - z[y, x - 1]) / 20
    assert terrain.gradient[0][y, x] == pytest.approx(dy, abs=1e-4)
    assert terrain.gradient[1][y, x] == pytest.approx(dx, abs=1e-4)
    assert terrain.slope_deg[y, x] == pytest.approx(math.degrees(math.atan(math.hypot(dy, dx))), abs=1e-2)


def test_valleys_are_flat_and_carry_the_water(ground: tuple[str, Terrain]) -> None:
    _, terrain = ground
    floor = terrain.above_valley_m < 3
    assert 0.02 < floor.mean() < 0.6
    assert np.median(terrain.slope_deg[floor]) < 0.6 * np.median(terrain.slope_deg[~floor])
    river = terrain.channel_area_m2 > np.quantile(terrain.channel_area_m2, 0.99)
    assert floor[river].mean() > 0.8


def test_the_flow_is_that_of_the_coarse_grid(ground: tuple[str, Terrain]) -> None:
    _, terrain = ground
    assert terrain.coarse_shape == tuple(math.ceil(n / STEP) + 1 for n in SHAPE)
    assert terrain.receiver.size == math.prod(terrain.coarse_shape)
    assert terrain.channel_area_m2.min() >= (10 * STEP) ** 2 * 0.999
    assert terrain.channel_area_m2.max() <= terrain.receiver.size * (10 * STEP) ** 2 * 1.001


def test_the_seed_decides(ground: tuple[str, Terrain]) -> None:
    name, terrain = ground
    again, other = (make_terrain(domain(name), seed, SHAPE, 10.0) for seed in (7, 8))
    assert np.array_equal(terrain.elevation_m, again.elevation_m)
    assert not np.array_equal(terrain.elevation_m, other.elevation_m)


def test_denser_valleys_leave_less_relief() -> None:
    fine, wide = (
        make_terrain(replace(domain("luding"), valley_spacing=spacing), 7, SHAPE, 10.0) for spacing in (150.0, 600.0)
    )
    assert np.ptp(fine.elevation_m) < 0.8 * np.ptp(wide.elevation_m)

"""Landslide areas follow the published distribution; slides start on steep shaken ground and run downhill."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from modeling.simulate import domain
from modeling.simulate.landslides import draw_areas, inverse_gamma_cdf, make_slides, susceptibility
from modeling.simulate.noise import FloatArray
from modeling.simulate.terrain import STEP, Terrain, make_terrain

PIXEL_M = 10.0
SHAPE = (216, 240)
EVERY_SIZE = replace(domain("luding"), slide_min_m2=1.0, slide_max_m2=1e9)


def published_density(area_km2: float) -> float:
    """Equation 3 of Malamud et al. (2004), 1/km2."""
    rho, a, s = 1.40, 1.28e-3, -1.32e-4
    shifted = area_km2 - s
    return float((a / shifted) ** (rho + 1) * math.exp(-a / shifted) / (a * math.gamma(rho)))


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    return make_terrain(domain("luding"), 5, SHAPE, PIXEL_M)


@pytest.fixture(scope="module")
def mmi() -> FloatArray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray(7.5 - 0.02 * np.hypot(y - 100, x - 120), dtype=np.float32)


@pytest.mark.parametrize("area_m2", [150.0, 400.0, 2_000.0, 50_000.0])
def test_the_distribution_is_the_integral_of_the_published_density(area_m2: float) -> None:
    step = 0.01 * area_m2
    below, above = inverse_gamma_cdf(np.array([area_m2 - step, area_m2 + step]))
    assert (above - below) / (2 * step * 1e-6) == pytest.approx(published_density(area_m2 * 1e-6), rel=1e-2)


def test_it_rolls_over_at_400_m2_and_has_the_published_tail() -> None:
    area = np.linspace(50, 2000, 3901)
    density = np.diff(inverse_gamma_cdf(area))
    assert area[np.argmax(density)] == pytest.approx(400, abs=5)
    far = np.array([1e6, 1.01e6, 1e7, 1.01e7])
    first, _, last = np.diff(inverse_gamma_cdf(far))
    assert math.log10(last / first / 10) == pytest.approx(-2.4, abs=0.01)


def test_drawn_areas_follow_it() -> None:
    areas = draw_areas(np.random.default_rng(1), 20_000, EVERY_SIZE)
    low = inverse_gamma_cdf(np.array([1.0]))[0]
    assert stats.kstest(areas, lambda area: (inverse_gamma_cdf(area) - low) / (1 - low)).pvalue > 0.01
    density, edges = np.histogram(areas, np.arange(0, 3000, 100))
    assert 250 <= edges[np.argmax(density)] + 50 <= 550
    tail = areas[areas > 10_000]
    hill = 1 + 1 / np.log(tail / 10_000).mean()
    assert hill == pytest.approx(2.4, abs=0.15)


def test_drawn_areas_are_truncated_to_the_domain_and_scale_with_it() -> None:
    base = domain("iburi")
    areas = draw_areas(np.random.default_rng(1), 20_000, base)
    assert areas.min() >= base.slide_min_m2 * 0.999
    assert areas.max() <= base.slide_max_m2 * 1.001
    low, high = inverse_gamma_cdf(np.array([base.slide_min_m2, base.slide_max_m2]))
    assert stats.kstest(areas, lambda area: (inverse_gamma_cdf(area) - low) / (high - low)).pvalue > 0.01
    wider = replace(EVERY_SIZE, slide_scale=3.0)
    small, large = (draw_areas(np.random.default_rng(2), 20_000, one) for one in (EVERY_SIZE, wider))
    assert np.median(large) == pytest.approx(3 * np.median(small), rel=0.02)


def test_slides_start_on_steep_shaken_ground_above_the_floor(terrain: Terrain, mmi: FloatArray) -> None:
    one = domain("luding")
    chance = susceptibility(one, terrain, mmi)
    assert chance.min() >= 0
    assert not chance[terrain.slope_deg < one.friction - 6].any()
    assert not chance[mmi < 5.6].any()
    assert not chance[terrain.above_valley_m < 5].any()
    assert not susceptibility(one, terrain, np.full_like(mmi, 5.0)).any()
    weaker = susceptibility(one, terrain, mmi - np.float32(0.5))
    assert (weaker <= chance).all()


def test_slides_lie_on_steeper_and_more_strongly_shaken_ground_than_average(mmi: FloatArray) -> None:
    crowns, drops = [], []
    for name, seed in (("luding", 5), ("palu", 6), ("jiuzhaigou", 7), ("iburi", 8)):
        one = domain(name)
        ground = make_terrain(one, seed, SHAPE, PIXEL_M)
        slides = make_slides(one, seed, ground, susceptibility(one, ground, mmi), one.slide_share, "event", PIXEL_M)
        inside = slides.label > 0
        assert mmi[inside].mean() > mmi.mean() + 0.2
        for number in np.unique(slides.label[inside]):
            z = np.where(slides.label == number, ground.elevation_m, np.nan)
            crown = np.unravel_index(np.nanargmax(z), SHAPE)
            crowns.append(ground.slope_deg[crown] - ground.slope_deg.mean())
            drops.append(np.nanmax(z) - np.nanmin(z))
    assert len(crowns) > 60
    assert np.mean(crowns) > 2
    assert np.median(drops) > 20


def test_a_slide_runs_downhill_from_where_it_starts(terrain: Terrain) -> None:
    big = replace(domain("luding"), slide_min_m2=15_000.0, slide_max_m2=15_100.0)
    high = (terrain.above_valley_m > 150) & (terrain.slope_deg > 30)
    high[:30], high[-30:], high[:, :30], high[:, -30:] = False, False, False, False
    starts = np.argwhere(high)[:: max(1, high.sum() // 12)]
    assert len(starts) > 5
    for number, (y, x) in enumerate(starts):
        chance = np.zeros(SHAPE, np.float32)
        chance[y, x] = 1
        slides = make_slides(big, number, terrain, chance, 1e-6, "event", PIXEL_M)
        inside = np.argwhere(slides.label > 0)
        assert slides.drawn_m2.size == 1
        away = np.hypot(*(inside - (y, x)).T)
        toe = tuple(inside[np.argmax(away)])
        fall = terrain.elevation_m[y, x] - terrain.elevation_m[toe]
        assert away.min() < 2
        assert fall > 0.3 * away.max() * PIXEL_M  # much steeper than any valley floor
        assert fall > 0.8 * (terrain.elevation_m[y, x] - terrain.elevation_m[slides.label > 0].min())


@pytest.mark.parametrize(("area_m2", "low", "high"), [(2_000.0, 0.8, 1.1), (15_000.0, 0.85, 1.15)])
def test_painted_slides_have_about_the_drawn_area(terrain: Terrain, area_m2: float, low: float, high: float) -> None:
    one = replace(domain("luding"), slide_min_m2=0.999 * area_m2, slide_max_m2=1.001 * area_m2)
    inner = np.zeros(SHAPE, np.float32)
    inner[20:-20, 20:-20] = (terrain.slope_deg > 28)[20:-20, 20:-20] & (terrain.above_valley_m > 20)[20:-20, 20:-20]
    painted = [
        float((make_slides(one, seed, terrain, inner, 1e-6, "event", PIXEL_M).label > 0).sum()) * PIXEL_M**2
        for seed in range(30)
    ]
    assert low < np.mean(painted) / area_m2 < high


def test_labels_are_connected_but_for_frayed_edges(terrain: Terrain, mmi: FloatArray) -> None:
    one = domain("luding")
    slides = make_slides(one, 3, terrain, susceptibility(one, terrain, mmi), 0.04, "event", PIXEL_M)
    kept = 0
    for number in np.unique(slides.label[slides.label > 0]):
        pieces, _ = ndimage.label(slides.label == number, np.ones((3, 3)))
        kept += int(np.bincount(pieces.ravel())[1:].max())
    assert kept > 0.95 * (slides.label > 0).sum()
    assert slides.label.max() <= slides.drawn_m2.size
    assert ((slides.depth > 0) >= (slides.label > 0)).all()
    assert not slides.depth[slides.label == 0].any()
    assert 0 <= slides.depth.min() <= slides.depth.max() <= 1


def test_without_shaking_or_without_a_share_nothing_slides(terrain: Terrain, mmi: FloatArray) -> None:
    one = domain("luding")
    for chance, share in ((np.zeros(SHAPE, np.float32), 0.03), (susceptibility(one, terrain, mmi), 0.0)):
        slides = make_slides(one, 1, terrain, chance, share, "event", PIXEL_M)
        assert not slides.label.any()
        assert slides.drawn_m2.size == 0


def test_seed_and_purpose_decide(terrain: Terrain, mmi: FloatArray) -> None:
    one = domain("luding")
    chance = susceptibility(one, terrain, mmi)
    first, again, other, old = (
        make_slides(one, seed, terrain, chance, 0.03, purpose, PIXEL_M).label
        for seed, purpose in ((1, "event"), (1, "event"), (2, "event"), (1, "old"))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, old)
    assert terrain.coarse_shape[0] == SHAPE[0] // STEP + 1


def test_a_slide_ends_a_little_way_out_on_the_valley_floor() -> None:
    one = replace(domain("iburi"), elongation=20.0, slide_min_m2=60_000.0, slide_max_m2=60_100.0)
    ground = make_terrain(one, 5, SHAPE, PIXEL_M)
    near = ((ground.above_valley_m > 10) & (ground.above_valley_m < 40)).astype(np.float32)
    on_floor = []
    for seed in range(30):
        inside = make_slides(one, seed, ground, near, 1e-6, "event", PIXEL_M).label > 0
        on_floor.append((ground.above_valley_m[inside] < 2).mean())
    assert np.mean(on_floor) < 0.6  # 0.8 if it ran on along the river

"""Sun, seasons, light, air, and what a pixel is mixed of."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from modeling.simulate import BANDS, DOMAINS, Domain, domain
from modeling.simulate.landcover import BROADLEAF, WATER, Cover, make_cover
from modeling.simulate.landslides import Slides, make_slides, susceptibility
from modeling.simulate.noise import FloatArray, stream
from modeling.simulate.optics import (
    SURFACES,
    Sun,
    autumn_share,
    cast_shadow,
    illumination,
    leaf_on,
    mixture,
    season,
    spectra,
    sun_at,
    tint,
    to_sensor,
)
from modeling.simulate.terrain import Terrain, make_terrain

SHAPE = (96, 110)
JANUARY, MARCH, JULY = (dt.datetime(2019, month, 15, tzinfo=dt.UTC) for month in (1, 3, 7))
HIGH_SUN = Sun(30.0, 150.0)


@pytest.fixture(scope="module")
def scene() -> tuple[Terrain, Cover, Slides]:
    one = replace(domain("iburi"), clearcut_share=0.05, old_scar_share=0.05)
    terrain = make_terrain(one, 9, SHAPE, 10.0)
    chance = susceptibility(one, terrain, np.full(SHAPE, 7, np.float32))
    return terrain, make_cover(one, 9, terrain, 10.0), make_slides(one, 9, terrain, chance, 0.05, "event", 10.0)


def mixed(
    scene: tuple[Terrain, Cover, Slides], time: dt.datetime, *, after: bool, region: Domain | None = None
) -> dict[str, FloatArray]:
    terrain, cover, slides = scene
    one = region or domain("iburi")
    shares = mixture(one, terrain, cover, slides, time, after=after, rng=stream(1, "mixture"))
    return dict(zip(SURFACES, shares, strict=True))


def plane(east: float, north: float) -> Terrain:
    """A tilted plane: `east` and `north` are the rise per metre that way."""
    flat = np.zeros((3, 3), np.float32)
    gradient = (np.full_like(flat, -north), np.full_like(flat, east))
    slope = np.degrees(np.arctan(np.hypot(*gradient)))
    return Terrain(flat, slope, gradient, flat, flat, np.arange(9), (3, 3))


def dark(bands: Sequence[str], aerosol: float, sun: Sun = HIGH_SUN, reflectance: float = 0.02) -> dict[str, float]:
    ground = np.full((len(bands), 1, 1), reflectance, np.float32)
    seen = to_sensor(ground, np.ones((1, 1), np.float32), sun, aerosol, bands)
    return dict(zip(bands, seen.ravel().tolist(), strict=True))


def test_the_sun_on_the_equator_at_the_equinox() -> None:
    sun = sun_at(dt.datetime(2019, 3, 22, tzinfo=dt.UTC), 0.0)
    assert sun.zenith_deg == pytest.approx(22.5, abs=0.2)  # an hour and a half before noon
    assert sun.azimuth_deg == pytest.approx(90, abs=1)


def test_the_sun_over_hokkaido_in_winter_and_summer() -> None:
    winter, summer = (sun_at(time, 42.73) for time in (JANUARY, JULY))
    assert winter.zenith_deg == pytest.approx(67.3, abs=0.5)
    assert summer.zenith_deg == pytest.approx(28.4, abs=0.5)
    assert 150 < winter.azimuth_deg < 170
    assert 110 < summer.azimuth_deg < 140


def test_the_sun_stands_in_the_north_in_the_south_and_never_sets() -> None:
    azimuth = sun_at(JULY, -35.0).azimuth_deg
    assert 20 < azimuth < 60
    assert sun_at(JANUARY, 75.0).zenith_deg < 83.2


def test_seasons_are_mirrored_between_the_hemispheres() -> None:
    assert season(JULY, 45) > 0.95
    assert season(JANUARY, 45) < -0.95
    assert season(JULY, -45) == pytest.approx(-season(JULY, 45))
    for day in range(0, 360, 30):
        time = JANUARY + dt.timedelta(days=day)
        half_a_year_on = time + dt.timedelta(days=183)
        assert leaf_on(time, -45, 1.0) == pytest.approx(leaf_on(half_a_year_on, 45, 1.0), abs=0.1)


def test_leaves_come_and_fall() -> None:
    year = [float(leaf_on(JANUARY + dt.timedelta(days=day), 43, 1.0)) for day in range(365)]
    assert 0 <= min(year) < 0.05
    assert 0.95 < max(year) <= 1
    assert float(leaf_on(JULY, 43, 1.0)) > 0.95
    assert float(leaf_on(JANUARY, 43, 1.0)) < 0.05
    assert float(leaf_on(JANUARY, 43, 0.0)) == 1
    assert float(leaf_on(JANUARY, 43, 0.6)) == pytest.approx(0.4, abs=0.05)


def test_spring_is_later_in_the_north_and_where_it_is_delayed() -> None:
    april = dt.datetime(2019, 4, 20, tzinfo=dt.UTC)
    assert leaf_on(april, 30, 1.0) > leaf_on(april, 45, 1.0)
    delayed = leaf_on(dt.datetime(2019, 5, 15, tzinfo=dt.UTC), 45, 1.0, np.array([-10, 0, 10], np.float32))
    assert (np.diff(delayed) < 0).all()


@pytest.mark.parametrize("name", DOMAINS)
def test_ground_reflectances_are_possible(name: str) -> None:
    table = spectra(domain(name), BANDS)
    assert table.shape == (len(SURFACES), len(BANDS))
    assert 0 < table.min() < table.max() < 1
    leaf, snow, water, scar = (
        dict(zip(BANDS, table[SURFACES.index(surface)], strict=True))
        for surface in ("broadleaf", "snow", "water", "scar")
    )
    assert leaf["B8"] > 5 * leaf["B4"]
    assert snow["B3"] > 5 * snow["B11"]
    assert water["B8"] < water["B2"]
    assert scar["B4"] > 5 * leaf["B4"]


def test_a_band_subset_has_the_same_spectra_and_a_tint_multiplies_them() -> None:
    one = domain("palu")
    full = spectra(one, BANDS)
    assert np.array_equal(spectra(one, ("B8", "B2")), full[:, [BANDS.index("B8"), BANDS.index("B2")]])
    shades = tint(np.random.default_rng(1))
    assert shades.shape == full.shape
    assert np.allclose(spectra(one, BANDS, shades), full * shades)
    assert np.exp(np.abs(np.log(shades)).mean()) < 1.3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("time", [JANUARY, MARCH, JULY])
def test_shares_add_up_to_one_but_where_herbs_are_dormant(
    scene: tuple[Terrain, Cover, Slides], time: dt.datetime, after: bool
) -> None:
    shares = mixed(scene, time, after=after)
    cover = scene[1]
    total = np.sum(list(shares.values()), axis=0)
    plain = (cover.old_scar == 0) & (cover.felled == 0)
    assert min(float(share.min()) for share in shares.values()) >= 0
    assert np.allclose(total[plain], 1, atol=1e-5)
    assert 0.86 < total.min() <= total.max() < 1 + 1e-5


def test_landslides_and_changes_bare_the_ground_only_after(scene: tuple[Terrain, Cover, Slides]) -> None:
    _, cover, slides = scene
    before, later = (mixed(scene, JULY, after=after) for after in (False, True))
    inside = (slides.label > 0) & (cover.old_scar == 0)
    assert not before["scar"][inside].any()
    assert later["scar"][inside].mean() > 0.5
    fresh = (cover.felled > 0) & (slides.label == 0)
    assert not before["slash"].any()
    assert later["slash"][fresh].mean() > 0.3
    assert not later["slash"][cover.felled == 0].any()


def test_woods_lose_their_leaves_and_snow_covers_the_north_in_winter(scene: tuple[Terrain, Cover, Slides]) -> None:
    _, cover, _ = scene
    no_snow = replace(domain("iburi"), snow_line_winter=9000.0, snow_line_summer=9000.0)
    winter, summer = (mixed(scene, time, after=False, region=no_snow) for time in (JANUARY, JULY))
    woods = cover.classes == BROADLEAF
    assert winter["leafless"][woods].mean() > 0.7 > 0.1 > winter["broadleaf"][woods].mean()
    assert summer["broadleaf"][woods].mean() > 0.7
    assert np.allclose(summer["water"][cover.classes == WATER], 1)
    assert mixed(scene, JANUARY, after=False)["snow"].mean() > 0.3
    assert mixed(scene, JULY, after=False)["snow"].max() == 0


def test_slopes_facing_the_sun_are_brighter() -> None:
    morning = Sun(45.0, 90.0)
    facing, level, away = (illumination(plane(east, 0.0), morning, 0.1, BANDS).mean() for east in (-0.5, 0.0, 0.5))
    assert facing > level > away
    assert level == pytest.approx(1)
    south = Sun(45.0, 180.0)
    north_up, south_up = (illumination(plane(0.0, north), south, 0.1, BANDS).mean() for north in (0.5, -0.5))
    assert north_up > 1 > south_up
    perpendicular = illumination(plane(-1.0, 0.0), morning, 0.0, ("B12",)).mean()
    assert perpendicular == pytest.approx(0.97 * math.sqrt(2) + 0.03 * 0.5 * (1 + math.sqrt(0.5)), rel=1e-3)


def test_a_slope_turned_from_the_sun_keeps_the_light_of_the_sky() -> None:
    light = illumination(plane(3.0, 0.0), Sun(60.0, 90.0), 0.1, BANDS)
    assert 0 < light.min() < light.max() < 0.3
    blue, far = BANDS.index("B2"), BANDS.index("B12")
    assert light[blue].mean() > 3 * light[far].mean()  # the sky is blue


def test_cloud_shade_leaves_the_light_of_the_sky() -> None:
    ground, sun = plane(0.0, 0.0), Sun(45.0, 150.0)
    lit = illumination(ground, sun, 0.1, ("B2", "B8"))
    shaded = illumination(ground, sun, 0.1, ("B2", "B8"), shade=np.ones((3, 3), np.float32))
    assert lit.mean() == pytest.approx(1)
    assert 0.1 < shaded[1].mean() < shaded[0].mean() < 0.4


@pytest.mark.parametrize(("azimuth", "behind"), [(90.0, (0, -1)), (180.0, (-1, 0)), (270.0, (0, 1)), (0.0, (1, 0))])
def test_a_ridge_throws_a_shadow_as_long_as_the_sun_is_low(azimuth: float, behind: tuple[int, int]) -> None:
    height, zenith = 100.0, 60.0
    ground = np.zeros((81, 81), np.float32)
    ground[40, 40] = height
    shadow = cast_shadow(ground, Sun(zenith, azimuth), 10.0) > 0.5
    length = int(height * math.tan(math.radians(zenith)) / 10)
    along = [bool(shadow[40 + k * behind[0], 40 + k * behind[1]]) for k in range(1, length + 5)]
    assert all(along[: length - 1])
    assert not any(along[length + 1 :])
    assert shadow.sum() == sum(along)
    assert not cast_shadow(ground, Sun(0.0, azimuth), 10.0).any()


def test_haze_takes_contrast_and_leaves_the_mean() -> None:
    ground = np.zeros((1, 60, 60), np.float32)
    ground[:, ::2] = 0.3
    flat = np.ones((60, 60), np.float32)
    plain, near = (to_sensor(ground, flat, HIGH_SUN, 0.4, ("B4",), around_px=size) for size in (0, 20))
    assert near.std() < 0.9 * plain.std()
    assert near.mean() == pytest.approx(plain.mean(), rel=0.01)


def test_leaves_turn_before_they_fall() -> None:
    september, october, november = (dt.datetime(2019, month, 20, tzinfo=dt.UTC) for month in (9, 10, 11))
    turned = [autumn_share(time, 43, 1.0) for time in (JULY, september, october, november)]
    assert turned[0] < 0.01 < turned[1] < 0.5 < turned[2] < turned[3]
    assert float(leaf_on(october, 43, 1.0)) > 0.3  # coloured leaves hang
    assert autumn_share(october, 43, 0.0) == 0
    assert autumn_share(dt.datetime(2019, 4, 20, tzinfo=dt.UTC), -43, 1.0) > 0.5


def test_air_brightens_dark_ground_most_in_the_blue() -> None:
    seen = dark(BANDS, 0.1)
    assert seen["B1"] > seen["B2"] > seen["B3"] > seen["B4"] > seen["B8"]
    assert seen["B2"] > 1.5 * seen["B4"]
    assert 0.05 < seen["B2"] < 0.12  # what Sentinel-2 sees over forest
    assert seen["B11"] == pytest.approx(0.02, abs=0.01)


def test_haze_brightens_dark_and_dims_bright_ground() -> None:
    assert dark(("B4",), 0.5)["B4"] > dark(("B4",), 0.05)["B4"]
    assert dark(("B8",), 0.5, reflectance=0.6)["B8"] < dark(("B8",), 0.05, reflectance=0.6)["B8"]


def test_a_low_sun_lights_more_air() -> None:
    assert dark(("B2",), 0.1, Sun(70, 160))["B2"] > dark(("B2",), 0.1, Sun(25, 160))["B2"]


def test_ground_in_shade_is_darker_but_not_black() -> None:
    ground = np.full((1, 1, 2), 0.2, np.float32)
    seen = to_sensor(ground, np.array([[1.0, 0.2]], np.float32), HIGH_SUN, 0.1, ("B4",))
    assert 0 < seen[0, 0, 1] < 0.5 * seen[0, 0, 0]
    assert np.array_equal(ground, np.full((1, 1, 2), 0.2, np.float32))

"""A whole simulated earthquake: reproducible, shaken as published, seen before and after, with its truth."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from pyproj import Transformer
from scipy import ndimage

from modeling.errors import DataError
from modeling.simulate import BANDS, Region, domain, simulate_region
from modeling.simulate.landcover import CLASSES
from modeling.simulate.noise import BoolArray, FloatArray
from modeling.simulate.region import shaking

SHAPE = (192, 208)
COLOURS = ("B2", "B3", "B4", "B8")


@pytest.fixture(scope="module")
def region() -> Region:
    return simulate_region(domain("iburi"), seed=5, shape_yx=SHAPE, dates_pre=2, dates_post=3)


def tiny(seed: int = 1, **changes: object) -> Region:
    one = replace(domain("luding"), **changes)  # type: ignore[arg-type]
    return simulate_region(one, seed=seed, shape_yx=(96, 100), dates_pre=1, dates_post=1, bands=COLOURS)


def same(one: Region, other: Region) -> bool:
    for field in fields(Region):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if field.name == "passes":
            pairs = zip(first, second, strict=True)
            if not all(
                a.time == b.time and np.array_equal(a.dn, b.dn) and np.array_equal(a.cs, b.cs, equal_nan=True)
                for a, b in pairs
            ):
                return False
        elif not np.array_equal(first, second):
            return False
    return True


def test_the_same_seed_gives_the_same_bits_and_another_one_others() -> None:
    first = tiny(seed=1)
    assert same(first, tiny(seed=1))
    other = tiny(seed=2)
    assert not same(first, other)
    assert not np.array_equal(first.elevation_m, other.elevation_m)
    assert not np.array_equal(first.truth, other.truth)


HASHED = """
import hashlib
from modeling.simulate import domain, layers_of, simulate_region
region = simulate_region(domain("luding"), seed=3, shape_yx=(160, 160), dates_pre=1, dates_post=1)
digest = hashlib.sha256(region.truth.tobytes())
for taken in region.passes:
    digest.update(taken.dn.tobytes())
print(digest.hexdigest())
"""


def test_threads_of_the_machine_do_not_change_a_bit() -> None:
    """BLAS sums in another order with another number of them, so nothing may be left to it."""
    made = [
        subprocess.run(
            [sys.executable, "-c", HASHED],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert made[0] == made[1]


def test_the_truth_is_the_labels(region: Region) -> None:
    assert np.array_equal(region.truth, region.landslide_id > 0)
    assert 0.005 < region.truth.mean() < 0.25
    assert region.landcover.max() < len(CLASSES)
    assert region.shape_yx == SHAPE == region.mmi.shape == region.elevation_m.shape


def test_it_lies_in_the_domain_s_utm_zone_on_a_snapped_grid(region: Region) -> None:
    assert region.crs == "EPSG:32654"
    a, b, left, d, e, top = region.transform
    assert (a, b, d, e) == (10.0, 0.0, 0.0, -10.0)
    assert left % 10 == top % 10 == 0
    lon, lat = Transformer.from_crs(region.crs, "EPSG:4326", always_xy=True).transform(
        left + a * SHAPE[1] / 2, top + e * SHAPE[0] / 2
    )
    assert (lon, lat) == pytest.approx((141.96, 42.73), abs=1e-4)
    assert tiny(latitude=-9.0).crs == "EPSG:32748"


def test_the_epicentre_is_where_it_shakes_most(region: Region) -> None:
    to_utm = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True)
    x, y = to_utm.transform(region.event.lon, region.event.lat)
    column, row = (x - region.transform[2]) / 10, (region.transform[5] - y) / 10
    peak = np.unravel_index(np.argmax(ndimage.gaussian_filter(region.mmi, 8)), SHAPE)
    assert math.hypot(peak[0] - row, peak[1] - column) < 30
    assert region.event.time.date() == dt.date(2018, 9, 6)


def test_shaking_is_that_of_allen_wald_and_worden() -> None:
    # M 6 at 4 km: saturation 1 + 0.813 e = 3.210. At the epicentre sqrt(4^2 + 3.210^2) = 5.129 km gives
    # 3.950 + 0.913 * 6 - 1.107 ln 5.129 = 7.618. MMI 6 is reached at an epicentral distance of 21.52 km; half way
    # there sqrt(10.76^2 + 4^2 + 3.210^2) = 11.92 km gives 6.685.
    one = replace(domain("iburi"), magnitude=6.0, depth_km=4.0, contour_share=0.8)
    y, x = np.ogrid[:201, :201]
    distance = np.hypot(y - 100, x - 100)
    centre, half, contour = [], [], []
    for seed in range(12):  # the site's noise averages out
        mmi = shaking(one, seed, (201, 201), np.array([100.0, 100.0]))
        centre.append(mmi[100, 100])
        half.append(mmi[np.abs(distance - 40) < 0.7].mean())
        contour.append(mmi[np.abs(distance - 80) < 0.7].mean())
    assert np.mean(centre) == pytest.approx(7.618, abs=0.12)
    assert np.mean(half) == pytest.approx(6.685, abs=0.06)
    assert np.mean(contour) == pytest.approx(6.0, abs=0.02)


def test_shaking_decreases_from_the_epicentre_and_its_contour_of_6_closes() -> None:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for seed, share in ((1, 0.88), (2, 0.88), (3, 0.6)):
        centre = np.array([90.0, 110.0])
        mmi = shaking(replace(domain("palu"), contour_share=share), seed, SHAPE, centre)
        edge = np.concatenate([mmi[0], mmi[-1], mmi[:, 0], mmi[:, -1]])
        assert edge.max() < 6 < mmi[90, 110]
        _, pieces = ndimage.label(mmi >= 6)
        assert pieces == 1
        ring = (np.hypot(y - 90, x - 110) // 10).astype(int)
        means = ndimage.mean(mmi, ring, np.arange(9))
        assert (np.diff(means) < 0).all()


def test_passes_lie_around_the_quake_at_half_past_ten(region: Region) -> None:
    times = [one.time for one in region.passes]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert [one.phase for one in region.passes] == ["pre"] * 2 + ["post"] * 3
    for one in region.passes:
        assert (one.time < region.event.time) == (one.phase == "pre")
        local = one.time + dt.timedelta(hours=141.96 / 15)
        assert abs(local.hour + local.minute / 60 - 10.5) < 0.02
    assert (region.event.time - times[1]).days <= 13
    assert (times[2] - region.event.time).days <= 10


def test_digital_numbers_are_top_of_atmosphere_reflectance(region: Region) -> None:
    for one in region.passes:
        assert one.dn.shape == (len(BANDS), *SHAPE)
        assert one.dn.dtype == np.uint16
        clear = one.cs > 0.9
        by_band = {band: np.median(one.dn[i][clear]) for i, band in enumerate(region.bands)}
        assert all(50 < value < 6000 for value in by_band.values())
        assert by_band["B1"] > by_band["B4"]
        assert by_band["B8"] > 1.3 * by_band["B4"]  # a wooded region in September
        assert one.cloud_percent == pytest.approx(100 * one.cloud.mean())


def test_no_data_is_zero_exactly_where_the_score_is_missing() -> None:
    region = tiny(seed=3, swath_edge=1.0, cloudiness=0.3)
    before, after = region.passes
    gap = np.isnan(before.cs)
    assert 0.05 < gap.mean() < 0.95
    assert np.array_equal(before.dn == 0, np.broadcast_to(gap, before.dn.shape))
    assert np.array_equal(before.observed, ~gap)
    assert after.observed.all()
    assert not np.isnan(after.cs).any()


def test_a_landslide_shows_as_a_fall_of_ndvi(region: Region) -> None:
    def ndvi(phase: str) -> tuple[FloatArray, BoolArray]:
        one = max((p for p in region.passes if p.phase == phase), key=lambda p: float((p.cs > 0.8).mean()))
        red, nir = (one.dn[region.bands.index(band)].astype(np.float32) for band in ("B4", "B8"))
        return (nir - red) / (nir + red), one.cs > 0.8

    (before, clear_before), (after, clear_after) = ndvi("pre"), ndvi("post")
    fall, clear = before - after, clear_before & clear_after
    assert np.median(fall[clear & region.truth]) > 0.2
    assert abs(np.median(fall[clear & ~region.truth])) < 0.1


def test_a_noisier_sensor_adds_noise_and_nothing_else() -> None:
    plain, noisy = (tiny(seed=4, sensor_noise=factor, cloudiness=0.0) for factor in (1.0, 4.0))
    assert np.array_equal(plain.truth, noisy.truth)
    assert np.array_equal(plain.passes[0].cs, noisy.passes[0].cs)

    def roughness(region: Region) -> float:
        band = region.passes[0].dn[0].astype(np.float64)  # blue, where the ground hardly differs
        return float(np.abs(band - ndimage.median_filter(band, 3)).mean())

    assert roughness(noisy) > 1.5 * roughness(plain)


def test_bands_come_as_asked_and_unknown_ones_are_named() -> None:
    region = simulate_region(domain("palu"), seed=1, shape_yx=(64, 64), dates_pre=1, dates_post=1, bands=("B8", "B4"))
    assert region.bands == ("B8", "B4")
    assert all(one.dn.shape[0] == 2 for one in region.passes)
    with pytest.raises(DataError, match=r"B10.*B8A"):
        simulate_region(domain("palu"), seed=1, shape_yx=(64, 64), bands=("B4", "B10"))

"""The plain reference of what the pipeline sees: composites as a loop over pixels gives them, and elevation models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.transform import array_bounds
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from modeling.errors import DataError
from modeling.simulate import Region, domain, layers_of, simulate_region, srtm_like
from modeling.simulate.reference import coarse_elevation, terrain_layers

SHAPE = (140, 151)
BANDS = ("B2", "B4", "B8", "B11")


@pytest.fixture(scope="module")
def region() -> Region:
    cloudy = replace(domain("iburi"), cloudiness=0.35, swath_edge=0.6)
    return simulate_region(cloudy, seed=21, shape_yx=SHAPE, dates_pre=4, dates_post=3, bands=BANDS)


def test_layers_are_those_that_the_bands_allow(region: Region) -> None:
    layers, _ = layers_of(region)
    optical = {f"{colour}_{phase}" for colour in ("blue", "red", "nir", "swir1") for phase in ("pre", "post")}
    assert set(layers) == optical | {"elevation", "slope", "hillshade"}
    assert all(layer.shape == SHAPE and layer.dtype == np.float32 for layer in layers.values())


def test_valid_is_exactly_where_both_phases_have_a_clear_pass(region: Region) -> None:
    layers, valid = layers_of(region)
    clear = {
        phase: np.any([np.nan_to_num(one.cs, nan=0) >= 0.6 for one in region.passes if one.phase == phase], axis=0)
        for phase in ("pre", "post")
    }
    assert np.array_equal(valid, clear["pre"] & clear["post"])
    assert 0.3 < valid.mean() < 1
    for phase, seen in clear.items():
        assert np.array_equal(np.isfinite(layers[f"red_{phase}"]), seen)


def test_composites_equal_a_loop_over_pixels(region: Region) -> None:
    layers, _ = layers_of(region)
    band = BANDS.index("B8")
    rng = np.random.default_rng(1)
    counts = set()
    for y, x in zip(rng.integers(0, SHAPE[0], 600), rng.integers(0, SHAPE[1], 600), strict=True):
        seen: dict[str, list[float]] = {"pre": [], "post": []}
        for one in region.passes:  # in order of time
            if one.cs[y, x] >= 0.6:
                seen[one.phase].append(one.dn[band, y, x] / 10_000)
        before = np.median(seen["pre"]) if seen["pre"] else np.nan
        after = seen["post"][0] if seen["post"] else np.nan
        assert layers["nir_pre"][y, x] == pytest.approx(before, abs=1e-6, nan_ok=True)
        assert layers["nir_post"][y, x] == pytest.approx(after, abs=1e-6, nan_ok=True)
        counts.add(len(seen["pre"]))
    assert len(counts) >= 3  # odd, even and few numbers of clear passes were all met


def test_a_stricter_score_leaves_less(region: Region) -> None:
    shares = [layers_of(region, cloud_score_threshold=threshold)[1].mean() for threshold in (0.3, 0.6, 0.9)]
    assert shares[0] > shares[1] > shares[2]


def test_without_passes_of_a_phase_it_says_so(region: Region) -> None:
    only_before = replace(region, passes=tuple(one for one in region.passes if one.phase == "pre"))
    with pytest.raises(DataError, match="no post passes"):
        layers_of(only_before)


def test_terrain_layers_are_those_of_a_30_m_model(region: Region) -> None:
    layers = terrain_layers(region)
    difference = layers["elevation"] - region.elevation_m
    assert abs(difference.mean()) < 0.5
    assert difference.std() < 3
    dy, dx = np.gradient(ndimage.uniform_filter(region.elevation_m, 3), 10.0)
    slope = np.degrees(np.arctan(np.hypot(dy, dx)))
    assert np.corrcoef(slope.ravel(), layers["slope"].ravel())[0, 1] > 0.9
    assert 0 <= layers["slope"].min() < layers["slope"].max() < 60
    assert 0 <= layers["hillshade"].min() < layers["hillshade"].max() <= 255
    # The sun stands in the west: ground that falls to the west (rises to the east) is lit.
    assert np.corrcoef(dx.ravel(), layers["hillshade"].ravel())[0, 1] > 0.8


def test_the_coarse_model_is_in_whole_metres_and_covers_the_rest_of_the_last_cells(region: Region) -> None:
    coarse = coarse_elevation(region)
    assert coarse.shape == (47, 51)
    assert np.array_equal(coarse, np.rint(coarse))


def test_srtm_like_is_a_geographic_grid_of_one_arcsecond(region: Region) -> None:
    elevation, transform = srtm_like(region)
    assert elevation.dtype == np.int16
    assert transform.a == pytest.approx(1 / 3600)
    assert transform.e == pytest.approx(-1 / 3600)
    for start in (transform.c, transform.f):
        assert start * 3600 == pytest.approx(round(start * 3600), abs=1e-6)
    west, south, east, north = array_bounds(*elevation.shape, transform)
    left, top = region.transform[2], region.transform[5]
    lon, lat = Transformer.from_crs(region.crs, "EPSG:4326", always_xy=True).transform(
        [left, left + 10 * SHAPE[1]], [top, top - 10 * SHAPE[0]]
    )
    assert west <= min(lon) < max(lon) <= east
    assert south <= min(lat) < max(lat) <= north


def test_srtm_like_is_near_the_truth_inside_and_sea_level_outside(region: Region) -> None:
    elevation, transform = srtm_like(region)
    truth = np.full(elevation.shape, np.nan, np.float32)
    reproject(
        region.elevation_m, truth, src_transform=Affine(*region.transform), src_crs=region.crs, dst_nodata=np.nan,
        dst_transform=transform, dst_crs="EPSG:4326", resampling=Resampling.bilinear,
    )  # fmt: skip
    inside = np.isfinite(truth)
    error = np.abs(elevation - truth)[inside]
    assert error.mean() < 3
    assert np.isfinite(truth).mean() > 0.8
    well_outside = ~ndimage.binary_dilation(inside, iterations=2)
    assert not elevation[well_outside].any()
    assert (elevation[inside] > 0).mean() > 0.99


def test_the_elevation_model_is_reproducible(region: Region) -> None:
    assert np.array_equal(srtm_like(region)[0], srtm_like(region)[0])

"""Regions are stored complete or not at all, and patches are drawn from them by number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeling import bands
from modeling.data.augment import Augmentation, augment
from modeling.data.batches import IGNORE, Blocks, Sampler
from modeling.data.dataset import STORED_LAYERS, PatchSampler, RegionBlocks, StoredRegion, open_region, store_region
from modeling.errors import DataError
from modeling.rasters.terrain import hillshade


def toy_region(cache: Path, seed: int) -> StoredRegion:
    """Bright square scars on dark noise: what any network must learn."""
    rng = np.random.default_rng(seed)
    shape = 128, 128
    truth = np.zeros(shape, dtype=bool)
    for top, left in rng.integers(0, 108, (6, 2)):
        truth[top : top + 20, left : left + 20] = True
    layers = {name: rng.normal(0.05, 0.005, shape).astype(np.float32) for name in STORED_LAYERS}
    scars = truth.astype(np.float32) / 4
    for name in STORED_LAYERS:
        if name.endswith("_post"):
            layers[name] += scars
    layers["hillshade"] = np.full(shape, 180, dtype=np.float32)
    valid = np.ones(shape, dtype=bool)
    valid[:4] = False
    return open_region(store_region(cache, "toy", seed, layers=layers, truth=truth, valid=valid))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> list[StoredRegion]:
    cache = tmp_path_factory.mktemp("regions")
    return [toy_region(cache, seed) for seed in range(3)]


def test_a_stored_region_comes_back(regions: list[StoredRegion]) -> None:
    region = regions[0]
    assert (region.name, region.domain, region.shape_yx) == ("toy-0", "toy", (128, 128))
    assert set(np.unique(region.truth)) == {0, 1, IGNORE}
    assert np.isnan(region.layers()["red_post"][:4]).all()
    assert all(region.truth[y, x] == 1 for y, x in region.centres_yx)


def test_an_incomplete_region_is_refused(regions: list[StoredRegion], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a complete"):
        open_region(tmp_path)
    with pytest.raises(DataError, match="slope"):
        layers = {name: values for name, values in regions[0].layers().items() if name != "slope"}
        nothing = np.zeros((128, 128), dtype=bool)
        store_region(tmp_path, "toy", 1, layers=layers, truth=nothing, valid=nothing)


def sampler(regions: list[StoredRegion], band_set: str, **sizes: float) -> PatchSampler:
    return PatchSampler(
        regions, bands.band_set(band_set), patch_px=64, batch=4, seed=0, sizes=replace(Augmentation(), **sizes)
    )


def test_batches_depend_on_their_number_only(regions: list[StoredRegion]) -> None:
    one, other = sampler(regions, "ten-band"), sampler(regions, "ten-band")
    other.draw(1)
    for left, right in zip(one.draw(5), other.draw(5), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.draw(5)[1], one.draw(6)[1])


def test_half_of_the_patches_lie_around_landslides(regions: list[StoredRegion]) -> None:
    for number in range(5):
        channels, truth = sampler(regions, "ten-band", gap=0, snow=0).draw(number)  # which may hide a landslide
        assert channels.shape == (4, 10, 64, 64)
        assert channels.dtype == np.float32
        assert all((patch == 1).any() for patch in truth[::2])


def test_mirrored_hillshade_is_the_hillshade_of_the_mirrored_ground() -> None:
    yy, xx = np.mgrid[0:40, 0:40].astype(np.float32)
    elevation = 40 * np.sin(xx / 7) * np.cos(yy / 5)
    untouched = Augmentation(
        gain=0, band_gain=0, contrast=0, haze=0, shading=0, noise=0, shift_px=0, blur_px=0, snow=0, gap=0,
        terrain_noise_deg=0,
    )  # fmt: skip
    layers = {"hillshade": hillshade(elevation, 10.0, 10.0), "red_post": elevation / 1000 + 0.2}
    layers["red_pre"] = layers["red_post"]
    seen = set()
    for seed in range(12):
        moved, _ = augment(layers, np.zeros((40, 40), np.uint8), np.random.default_rng(seed), untouched)
        for name, ground in {
            "as it was": elevation,
            "mirrored east-west": elevation[:, ::-1],
            "mirrored north-south": elevation[::-1],
            "both": elevation[::-1, ::-1],
        }.items():
            expected = hillshade(np.ascontiguousarray(ground), 10.0, 10.0)
            if np.allclose(moved["red_post"], ground / 1000 + 0.2, atol=2e-3):
                seen.add(name)
                unclipped = (expected > 107) & (expected < 254)  # on both sides of the mirror
                assert np.abs(moved["hillshade"] - expected)[unclipped].max() <= 1.0
    assert len(seen) == 4


def test_augmentation_keeps_values_possible(regions: list[StoredRegion]) -> None:
    always = sampler(regions, "ten-band", gap=1.0, snow=1.0)
    channels, truth = always.draw(0)
    names = always.band_set.channels
    known = channels[:, names.index("red_pre")]
    assert np.isnan(known).any()
    assert np.nanmin(known) >= 0
    assert (truth[np.isnan(known)] == IGNORE).all()
    assert set(np.unique(truth)) <= {0, 1, IGNORE}


def test_patches_larger_than_a_region_are_refused(regions: list[StoredRegion]) -> None:
    with pytest.raises(DataError, match="256"):
        PatchSampler(regions, bands.band_set("rgb"), patch_px=256, batch=2, seed=0, sizes=Augmentation())


def test_regions_are_a_sampler_and_blocks_in_fixed_order(regions: list[StoredRegion]) -> None:
    blocks = RegionBlocks(regions, bands.band_set("rgb"))
    assert isinstance(blocks, Blocks)
    assert isinstance(sampler(regions, "rgb"), Sampler)
    assert [block.name for block in blocks] == [block.name for block in blocks] == ["toy-0", "toy-1", "toy-2"]
    assert len(blocks) == 3
    first = next(iter(blocks))
    assert (first.channels.shape, first.truth.shape, first.domain) == ((3, 128, 128), (128, 128), "toy")

"""flows/mapping.py: what was not seen is never called stable, whatever the network says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from fakes.scenes import ArrayScene, array_scene
from fakes.weights import random_model
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.geology import map_rules
from flows.mapping import Sides, execution_for, inventory_mask, seen, survey, windows, write_mask
from flows.mapping import write_probability as map_scene
from flows.settings import ModelSettings
from gee.types import Grid, Observed
from modeling.bands import band_set
from modeling.vectors.inventory import vectorise

RGB, TEN = band_set("rgb"), band_set("ten-band")


def codes_of(scene: ArrayScene, name: str) -> np.ndarray:
    height, width = scene.grid.shape_yx
    return seen(scene.read_tile(slice(0, height), slice(0, width)), band_set(name))


def test_the_phase_after_comes_first_and_outside_before_all() -> None:
    scene = array_scene((2, 3))
    scene.observed[0] = [[Observed.NO_PASS, Observed.CLEAR, Observed.OUTSIDE], [Observed.CLOUD, 1, 1]]
    scene.observed[1] = [[Observed.CLOUD, Observed.SNOW, Observed.CLEAR], [Observed.CLEAR, 1, 1]]
    assert codes_of(scene, "ten-band").tolist() == [
        [Observed.CLOUD, Observed.SNOW, Observed.OUTSIDE],
        [Observed.CLOUD, Observed.CLEAR, Observed.CLEAR],
    ]


def test_a_network_that_needs_no_image_before_is_not_held_to_one() -> None:
    scene = array_scene((2, 2))
    scene.observed[0] = Observed.NO_PASS
    assert (codes_of(scene, "rgb") == Observed.CLEAR).all()
    assert (codes_of(scene, "ten-band") == Observed.NO_PASS).all()


def test_a_layer_without_a_value_counts_as_not_seen() -> None:
    scene = array_scene((1, 3))
    scene.layers["slope"][0, 0] = np.nan
    scene.layers["nir_post"][0, 1] = np.nan
    assert codes_of(scene, "ten-band").tolist() == [[Observed.NO_TERRAIN, Observed.NO_PASS, Observed.CLEAR]]
    assert (codes_of(scene, "rgb") == Observed.CLEAR).all()


@given(st.tuples(st.integers(1, 1300), st.integers(1, 1300)))
def test_windows_cover_every_pixel_once(shape_yx: tuple[int, int]) -> None:
    count = np.zeros(shape_yx, np.uint8)
    for window in windows(Grid("EPSG:32654", (10, 0, 0, 0, -10, 0), shape_yx)):
        part = count[window]
        assert 0 < part.size <= 512 * 512
        part += 1
    assert (count == 1).all()


def test_a_probability_is_there_exactly_where_the_ground_was_seen(tmp_path: Path) -> None:
    scene = array_scene((70, 90))
    scene.observed[1, :20] = Observed.CLOUD
    scene.observed[0, :, :10] = Observed.OUTSIDE
    map_scene(scene, random_model("rgb"), tmp_path / "p.tif", ModelSettings(tile_px=64, halo_px=8))
    with rasterio.open(tmp_path / "p.tif") as file:
        probability = file.read(1)
        tags = file.tags()
    assert (np.isnan(probability) == (codes_of(scene, "rgb") != Observed.CLEAR)).all()
    known = probability[~np.isnan(probability)]
    assert ((known >= 0) & (known <= 1)).all()
    assert (tags["model"], tags["weights_sha256"]) == ("m", "ab" * 32)


def test_compilation_is_left_to_the_machine_or_asked_for() -> None:
    network, pixels = random_model("rgb"), 10**11
    assert not execution_for(network, ModelSettings(device="cpu", tile_px=64), pixels).compiled
    assert execution_for(network, ModelSettings(device="cpu", tile_px=64, compiled=True), 1).compiled
    assert ModelSettings.model_validate({"compiled": "true"}).compiled is True
    with pytest.raises(ValidationError):
        ModelSettings.model_validate({"compiled": "perhaps"})


def test_how_long_a_cluster_is_waited_for_makes_no_other_run() -> None:
    assert ModelSettings(network_wait_s=1.0).model_dump() == ModelSettings().model_dump()


@pytest.fixture
def scene() -> ArrayScene:
    """Larger than a window, with every reason not to see."""
    made = array_scene((530, 560))
    made.observed[0, :, 540:] = Observed.NO_PASS
    made.observed[1, 520:, :] = Observed.CLOUD
    made.observed[:, :8, :] = Observed.OUTSIDE
    made.layers["slope"][10, 10:20] = np.nan
    return made


Surveyed = tuple[Sides, geopandas.GeoDataFrame]


@pytest.fixture
def probability(scene: ArrayScene, tmp_path: Path) -> np.ndarray:
    """With bodies of high probability, some of which border on what was not seen or cross a window."""
    probability = np.full(scene.grid.shape_yx, 0.1, np.float32)
    for top, left, height, width in ((100, 100, 9, 7), (505, 30, 10, 10), (300, 505, 20, 35), (490, 200, 10, 30)):
        probability[top : top + height, left : left + width] = 0.9
    probability[codes_of(scene, "ten-band") != Observed.CLEAR] = np.nan
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "height": 530, "width": 560}
    with rasterio.open(tmp_path / "p.tif", "w", **profile, crs="EPSG:32654", transform=scene.grid.affine) as file:
        file.write(probability, 1)
    return probability


def surveyed(scene: ArrayScene, tmp_path: Path, threshold: float = 0.5) -> Surveyed:
    network = replace(random_model("ten-band"), threshold=threshold)
    settings = ModelSettings(minimum_area_m2=400)
    sides, found = survey(
        scene, network, tmp_path / "p.tif", tmp_path / "observed.tif", settings,
        event_id="us1", run_key="k", rules=map_rules(settings, network.bands),
    )  # fmt: skip
    assert not len(found.dropped)
    return sides, found.kept


@pytest.mark.usefixtures("probability")
def test_what_was_observed_is_written_and_counted(scene: ArrayScene, tmp_path: Path) -> None:
    scene.date[1, 300:310] += 4
    scene.date[1, :8] += 9
    codes = codes_of(scene, "ten-band")
    sides, _ = surveyed(scene, tmp_path)
    with rasterio.open(tmp_path / "observed.tif") as file:
        assert (file.read(1) == codes).all()
        assert file.nodata == Observed.OUTSIDE
    values, counts = np.unique(codes, return_counts=True)
    assert sides.counts == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert sides.counts[Observed.NO_TERRAIN] == 10
    part = np.s_[500:520, 490:530]
    assert (sides.codes(part) == codes[part]).all()
    before, after = (int(scene.date[phase][400, 100]) for phase in (0, 1))
    assert sides.days == {"pre": (before, before), "post": (after, after + 4)}, "days outside the area do not count"


def test_dates_of_what_was_not_observed_do_not_count(
    scene: ArrayScene, probability: np.ndarray, tmp_path: Path
) -> None:
    scene.observed[1] = Observed.CLOUD
    sides, _ = surveyed(scene, tmp_path)
    assert sides.days == {}


def test_the_mask_is_the_inventory_burnt_back(scene: ArrayScene, probability: np.ndarray, tmp_path: Path) -> None:
    sides, inventory = surveyed(scene, tmp_path)
    write_mask(inventory, sides, scene.grid, tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as file:
        mask = file.read(1)
    expected = np.where(np.isnan(probability), 255, probability >= 0.5)
    assert (mask == expected).all()
    assert inventory["area_m2"].sum() == 100 * (mask == 1).sum()
    assert inventory["touches_unobserved"].any()


def test_the_inventory_of_windows_is_that_of_the_whole_map(
    scene: ArrayScene, probability: np.ndarray, tmp_path: Path
) -> None:
    scene.date[1, :, 200:210] += 4
    _, inventory = surveyed(scene, tmp_path)
    whole = vectorise(
        probability, threshold=0.5, transform=scene.grid.affine, crs=scene.grid.crs,
        slope_deg=scene.layers["slope"], elevation_m=scene.layers["elevation"], pre_date_days=scene.date[0],
        post_date_days=scene.date[1], observed=codes_of(scene, "ten-band"), event_id="us1", version="k",
        model="ab" * 32, minimum_area_m2=400,
    )  # fmt: skip
    assert_geodataframe_equal(inventory, whole)
    assert len(inventory) == 4


@pytest.mark.usefixtures("probability")
def test_an_empty_inventory_masks_nothing(scene: ArrayScene, tmp_path: Path) -> None:
    sides, inventory = surveyed(scene, tmp_path, threshold=0.95)
    assert len(inventory) == 0
    mask = inventory_mask(inventory, sides, scene.grid, (slice(0, 530), slice(0, 560)))
    assert set(np.unique(mask)) == {0, 255}

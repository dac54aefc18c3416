"""flows/scoring.py: agreement with truth, over what was observed and is known, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from fakes.scenes import ArrayScene, array_scene

from flows.errors import FlowError
from flows.mapping import Sides
from flows.scoring import BASELINE, score, write_metrics
from gee.types import Observed
from modeling.rasters.cog import class_profile, write_cog
from modeling.vectors.inventory import vectorise

SHAPE = (60, 80)
SLIDE = np.s_[20:40, 10:30]
OTHER = np.s_[5:15, 50:60]


@pytest.fixture
def scene() -> ArrayScene:
    """Two slides that lost their vegetation."""
    made = array_scene(SHAPE)
    for where in (SLIDE, OTHER):
        made.layers["nir_post"][where] = 0.12
        made.layers["red_post"][where] = 0.13
    return made


def sides_of(scene: ArrayScene, folder: Path, *found: tuple[slice, slice]) -> tuple[Sides, geopandas.GeoDataFrame]:
    """What a network that finds exactly `found` would have made."""
    observed = scene.observed[1]
    probability = np.full(SHAPE, 0.1, np.float32)
    for where in found:
        probability[where] = 0.9
    probability[observed != Observed.CLEAR] = np.nan
    write_cog(
        folder / "observed.tif", observed, class_profile(scene.grid.crs, scene.grid.affine, SHAPE, ("observed",), {})
    )
    sides = Sides(folder / "observed.tif", {}, {})
    inventory = vectorise(
        probability, threshold=0.5, transform=scene.grid.affine, crs=scene.grid.crs,
        slope_deg=scene.layers["slope"], elevation_m=scene.layers["elevation"], pre_date_days=scene.date[0],
        post_date_days=scene.date[1], observed=observed, event_id="us1", version="1", model="ab", minimum_area_m2=0,
    )  # fmt: skip
    return sides, inventory


def write_truth(
    path: Path, scene: ArrayScene, truth: np.ndarray, *, shift_px: int = 0, nodata: int | None = 255
) -> Path:
    at = scene.grid.affine @ Affine.translation(shift_px, 0)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": truth.shape[0], "width": truth.shape[1]}
    with rasterio.open(path, "w", **profile, crs=scene.grid.crs, transform=at, nodata=nodata) as file:
        file.write(truth, 1)
    return path


def truth_of(*slides: tuple[slice, slice]) -> np.ndarray:
    truth = np.zeros(SHAPE, np.uint8)
    for where in slides:
        truth[where] = 1
    return truth


def test_a_perfect_map_scores_one_and_half_a_map_less(scene: ArrayScene, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.tif", scene, truth_of(SLIDE, OTHER))
    network, threshold = score(scene, *sides_of(scene, tmp_path, SLIDE, OTHER), truth, model_name="net")
    assert (network.name, threshold.name) == ("net", BASELINE)
    assert network.pixel == {"precision": 1, "recall": 1, "f1": 1, "iou": 1, "mcc": pytest.approx(1)}
    assert network.objects == {"precision": 1, "recall": 1, "f1": 1}
    assert threshold.pixel["f1"] > 0.9, "bare ground on a slope is what the threshold is made for"
    half = score(scene, *sides_of(scene, tmp_path, SLIDE), truth, model_name="net")[0]
    assert (half.pixel["precision"], half.pixel["recall"]) == (1, pytest.approx(0.8))
    assert half.objects["recall"] == 0.5


def test_what_was_not_observed_or_is_not_known_does_not_count(scene: ArrayScene, tmp_path: Path) -> None:
    scene.observed[1][SLIDE] = Observed.CLOUD
    truth = truth_of(SLIDE, OTHER)
    truth[50:, :] = 255
    found = sides_of(scene, tmp_path, OTHER, np.s_[52:58, 5:20])
    network = score(scene, *found, write_truth(tmp_path / "t.tif", scene, truth), model_name="net")[0]
    assert (network.pixel["precision"], network.pixel["recall"]) == (1, 1)


@pytest.mark.parametrize("nodata", [255, None])
def test_truth_on_another_grid_is_read_where_it_lies(scene: ArrayScene, tmp_path: Path, nodata: int | None) -> None:
    truth = truth_of(SLIDE)[:, 5:60]
    path = write_truth(tmp_path / "t.tif", scene, truth, shift_px=5, nodata=nodata)
    network = score(scene, *sides_of(scene, tmp_path, SLIDE), path, model_name="net")[0]
    assert network.pixel["f1"] == 1


def test_without_near_infrared_there_is_no_threshold_to_compare_with(tmp_path: Path) -> None:
    scene = array_scene(SHAPE, ("red", "green", "blue"))
    truth = write_truth(tmp_path / "t.tif", scene, truth_of(SLIDE))
    assert len(score(scene, *sides_of(scene, tmp_path, SLIDE), truth, model_name="net")) == 1


def test_truth_that_says_nothing_is_refused(scene: ArrayScene, tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    found = sides_of(scene, tmp_path, SLIDE)
    with pytest.raises(FlowError, match=r"text\.tif cannot be read as GeoTIFF"):
        score(scene, *found, tmp_path / "text.tif", model_name="net")
    far = write_truth(tmp_path / "far.tif", scene, truth_of(SLIDE), shift_px=9_000)
    with pytest.raises(FlowError, match=r"far\.tif: none of its pixels was observed"):
        score(scene, *found, far, model_name="net")


def test_metrics_hold_both_methods(scene: ArrayScene, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.tif", scene, truth_of(SLIDE, OTHER))
    write_metrics(
        score(scene, *sides_of(scene, tmp_path, SLIDE), truth, model_name="net"),
        tmp_path / "metrics.json",
        simulated=True,
    )
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert (told["truth"], told["model"]) == ("simulated", "net")
    assert set(told["methods"]) == {"net", BASELINE}
    assert told["methods"]["net"]["pixel"]["recall"] == pytest.approx(0.8)

"""How well a map agrees with known landslides, beside what a plain threshold on vegetation loss would have said."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from flows.errors import FlowError
from flows.facts import Scores
from flows.mapping import Sides, inventory_mask, windows
from flows.scene import Scene
from gee.types import Grid, Observed
from modeling.scoring.baseline import load_baseline
from modeling.scoring.metrics import confusion
from modeling.scoring.objects import object_scores

BoolArray = npt.NDArray[np.bool_]
BASELINE = "dNDVI and slope threshold"
"""Name of the method that every map is compared with."""

_PIXEL_SCORES = ("precision", "recall", "f1", "iou", "mcc")
_OBJECT_SCORES = ("precision", "recall", "f1")


def score(
    scene: Scene, sides: Sides, inventory: geopandas.GeoDataFrame, truth: Path, *, model_name: str
) -> tuple[Scores, ...]:
    """Scores of the map, and of the threshold where near infrared exists, over the observed pixels of the truth.

    `truth` is a raster that is 1 inside landslides, 0 outside and nodata where unknown, on any grid; it is read by
    nearest neighbour. Raises `FlowError` when it cannot be read or does not meet the map.
    """
    grid = scene.grid
    known, landslide = _read_truth(truth, grid)
    valid = known & (sides.codes((slice(0, grid.shape_yx[0]), slice(0, grid.shape_yx[1]))) == Observed.CLEAR)
    if not valid.any():
        raise FlowError(f"truth {truth}: none of its pixels was observed, so nothing can be scored")
    mapped = np.zeros(grid.shape_yx, bool)
    for window in windows(grid):
        mapped[window] = inventory_mask(inventory, sides, grid, window) == 1
    scores = [_scores(model_name, mapped, landslide, valid)]
    plain = _baseline(scene, valid)
    if plain is not None:
        scores.append(_scores(BASELINE, plain, landslide, valid))
    return tuple(scores)


def write_metrics(scores: tuple[Scores, ...], path: Path, *, simulated: bool) -> None:
    """Write `metrics.json`: per method, pixel and object scores."""
    methods = {each.name: {"pixel": dict(each.pixel), "objects": dict(each.objects)} for each in scores}
    document = {"truth": "simulated" if simulated else "given", "model": scores[0].name, "methods": methods}
    path.write_text(json.dumps(document, indent=1) + "\n")


def _scores(name: str, mapped: BoolArray, truth: BoolArray, valid: BoolArray) -> Scores:
    pixel = confusion(mapped, truth, valid).scores()
    objects = object_scores(mapped, truth, valid)
    return Scores(
        name, {key: pixel[key] for key in _PIXEL_SCORES}, {key: objects[key] for key in _OBJECT_SCORES}
    )  # fmt: skip


def _read_truth(path: Path, grid: Grid) -> tuple[BoolArray, BoolArray]:
    known, landslide = (np.zeros(grid.shape_yx, bool) for _ in range(2))
    try:
        with (
            rasterio.open(path, driver="GTiff") as source,
            WarpedVRT(
                source, crs=grid.crs, transform=grid.affine, height=grid.shape_yx[0], width=grid.shape_yx[1],
                resampling=Resampling.nearest, add_alpha=source.nodata is None,
            ) as warped,
        ):  # fmt: skip
            for window in windows(grid):
                part = Window.from_slices(*window)
                known[window] = warped.dataset_mask(window=part) > 0
                landslide[window] = (warped.read(1, window=part) == 1) & known[window]
    except rasterio.errors.RasterioError as error:
        raise FlowError(f"truth {path} cannot be read as GeoTIFF: {error}") from error
    return known, landslide


def _baseline(scene: Scene, valid: BoolArray) -> BoolArray | None:
    needed = ("red_pre", "nir_pre", "red_post", "nir_post", "slope")
    if any(name not in scene.layer_names for name in needed):
        return None
    baseline = load_baseline()
    mapped = np.zeros(scene.grid.shape_yx, bool)
    for window in windows(scene.grid):
        mapped[window] = baseline.predict(scene.read_tile(*window, layers=needed).layers, valid[window])
    return mapped

"""The shipped model on the real pair: its map, and how it agrees with the plain rule for scars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from modeling.model import LandslideModel
from modeling.prediction.predict import predict_tiles
from modeling.realism.scenes import CLOUD_BLUE, HILLS_DEG, BoolArray, FloatArray, Scene

LEAST_PX = 9
SNOW_BLUE = 0.18
"""Blue reflectance before the event from which a pixel is taken for snow or cloud."""
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Mapped:
    """A map and its components of nine pixels and more."""

    probability: FloatArray
    """(y, x), NaN where not observed."""
    label: npt.NDArray[np.int32]
    """(y, x): number of the component, 0 outside."""
    kinds: dict[str, tuple[int, float]]
    """Kind of ground -> (components, km2); each component is of the first kind that holds for it."""
    missed: tuple[int, float, int]
    """Scars of the rule on observed ground that no component touches: how many, km2, of how many."""
    model: str
    """Name of the model."""
    weights_hash: str
    """sha256 of its weights."""
    threshold: float
    """Probability from which ground is mapped."""


def map_scene(scene: Scene, model: LandslideModel, scars: BoolArray, *, pixel_m2: float = 100.0) -> Mapped:
    """Map `scene` with `model` and sort what it maps by the ground it lies on; `scars` (y, x) are the rule's."""
    names = model.bands.requires
    valid = np.logical_and.reduce([np.isfinite(scene.layers[name]) for name in names])
    probability = np.full(scene.shape_yx, np.nan, np.float32)

    def read(where: tuple[slice, slice]) -> tuple[dict[str, FloatArray], BoolArray]:
        return {name: scene.layers[name][where] for name in names}, valid[where]

    def write(where: tuple[slice, slice], part: FloatArray) -> None:
        probability[where] = part

    with torch.inference_mode():
        predict_tiles(model, read, scene.shape_yx, write)
    found, _ = ndimage.label(np.nan_to_num(probability) >= model.threshold, structure=_EIGHT)
    size = np.bincount(found.ravel())
    size[0] = 0
    kept = size >= LEAST_PX
    label = np.where(kept, np.cumsum(kept), 0)[found].astype(np.int32)
    return Mapped(
        probability, label, _kinds(scene, label, scars, pixel_m2), _missed(valid, label, scars, pixel_m2), model.name,
        model.weights_hash, model.threshold,
    )  # fmt: skip


def _kinds(
    scene: Scene, label: npt.NDArray[np.int32], scars: BoolArray, pixel_m2: float
) -> dict[str, tuple[int, float]]:
    index = np.arange(1, int(label.max()) + 1)
    if not index.size:
        return {}
    size = np.bincount(label.ravel(), minlength=index.size + 1)[1:]

    def share(mask: BoolArray) -> npt.NDArray[np.float64]:
        return np.bincount(label.ravel(), mask.ravel(), index.size + 1)[1:] / size

    with np.errstate(invalid="ignore"):
        after, before = scene.layers["blue_post"] > CLOUD_BLUE, scene.layers["blue_pre"] > SNOW_BLUE
        greener = np.log(scene.layers["red_post"] / scene.layers["green_post"]) < 0
        flat = scene.layers["slope"] < HILLS_DEG
    tests = {
        "on cloud or white ground after (blue above 0.19)": share(after) > 0.3,
        "on flat ground (mean of it below 8 degrees)": share(flat) > 0.5,
        "touching a bright scar of the rule": share(scars) > 0.1,
        "on snow or cloud before (blue above 0.18)": share(before) > 0.3,
        "on ground that is greener than red after": share(greener) > 0.5,
    }
    left = np.ones(index.size, bool)
    kinds = {}
    for name, holds in tests.items():
        chosen = left & holds
        kinds[name] = (int(chosen.sum()), float(size[chosen].sum() * pixel_m2 / 1e6))
        left &= ~holds
    kinds["on other hillsides, not as bright as the rule asks"] = (
        int(left.sum()),
        float(size[left].sum() * pixel_m2 / 1e6),
    )
    return kinds


def _missed(
    valid: BoolArray, label: npt.NDArray[np.int32], scars: BoolArray, pixel_m2: float
) -> tuple[int, float, int]:
    number, _ = ndimage.label(scars & valid)
    size = np.bincount(number.ravel())
    touched = np.zeros(size.size, bool)
    touched[np.unique(number[label > 0])] = True
    large = size >= LEAST_PX
    large[0] = False
    missed = large & ~touched
    return int(missed.sum()), float(size[missed].sum() * pixel_m2 / 1e6), int(large.sum())

"""Bright fresh scars on hills, found by one plain rule on real and simulated images alike, and what they look like.

Nobody has mapped the real scene, so its scars cannot be taken from a truth. The rule knows nothing of networks; how
much of the simulated truth it finds is reported beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.realism.distance import blocks_of
from modeling.realism.patch_features import BLOCK_PX, Patches
from modeling.realism.scenes import COLOURS, HILLS_DEG, PIXEL_M, BoolArray, FloatArray, Scene
from modeling.realism.shapes import shapes

RISE = 0.035
"""By how much red, after the event, exceeds the median of its surroundings."""
AROUND_PX = 41
"""Side of the surroundings."""
LEAST_PX = 9
"""Smallest scar: 900 m2, the simulator's smallest slide."""
_RING_PX = (2, 6)
_GREENEST = -0.02  # log(red / green): fresh soil is not green


@dataclass(frozen=True)
class Scars:
    """The scars of one scene."""

    found: BoolArray
    """(y, x)."""
    patches: Patches
    """One row a scar: its features."""
    recall: float | None
    """Share of the simulated landslides' area that the rule finds; None where the truth is unknown."""
    precision: float | None
    """Share of the area found that is simulated landslide."""
    share: float
    """Area of the scars over that of the known hills."""


def scars(scene: Scene, *, first_block: int = 0, folds: int = 5) -> Scars:
    """Find and describe the scars of `scene`."""
    hills = scene.known("post") & (np.nan_to_num(scene.layers["slope"]) >= HILLS_DEG)
    red, green = scene.layers["red_post"], scene.layers["green_post"]
    filled = np.where(np.isfinite(red), red, np.float32(np.nanmedian(red)))
    # The median of every second pixel is the median, four times as fast.
    around = ndimage.zoom(ndimage.median_filter(filled[::2, ::2], AROUND_PX // 2), 2, order=1)
    around = np.pad(around, ((0, max(0, red.shape[0] - around.shape[0])), (0, max(0, red.shape[1] - around.shape[1]))))
    rise = filled - around[: red.shape[0], : red.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        candidate = hills & (rise > RISE) & (np.log(red / green) > _GREENEST)
    label, count = ndimage.label(candidate)
    size = np.bincount(label.ravel(), minlength=count + 1)
    size[0] = 0
    kept = size >= LEAST_PX
    found = kept[label]
    number = np.where(kept, np.cumsum(kept), 0)[label]
    described = _described(scene, number.astype(np.int64), hills, around[: red.shape[0], : red.shape[1]])
    block, column = blocks_of(scene.shape_yx, BLOCK_PX, first_block), np.arange(red.shape[1])[None, :]
    index = np.arange(1, int(number.max()) + 1)
    where = ndimage.mean(np.broadcast_to(column, red.shape), number, index) if index.size else np.zeros(0)
    middle = ndimage.median(block, number, index) if index.size else np.zeros(0)
    patches = Patches(
        tuple(described), np.stack(list(described.values()), axis=1), np.asarray(middle, np.int64),
        np.minimum((np.asarray(where) * folds / red.shape[1]).astype(np.int64), folds - 1),
    )  # fmt: skip
    recall = precision = None
    if scene.truth is not None:
        true = scene.truth & hills
        both = float((found & true).sum())
        recall, precision = both / max(float(true.sum()), 1.0), both / max(float(found.sum()), 1.0)
    return Scars(found, patches, recall, precision, float(found.sum() / max(hills.sum(), 1)))


def _described(
    scene: Scene, number: npt.NDArray[np.int64], hills: BoolArray, around: FloatArray
) -> dict[str, npt.NDArray[np.float64]]:
    """Feature -> one value a scar."""
    index = np.arange(1, int(number.max()) + 1)
    outside = hills & (number == 0)
    # The ring of a scar: known hillside two to six pixels away, of the scar that is nearest.
    distance, nearest = ndimage.distance_transform_edt(number == 0, return_indices=True)
    ring = np.where(outside & (distance >= _RING_PX[0]) & (distance <= _RING_PX[1]), number[tuple(nearest)], 0)
    out: dict[str, npt.NDArray[np.float64]] = {}

    def mean(layer: FloatArray, of: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        members = np.bincount(of.ravel(), minlength=index.size + 1)[1:]
        total = np.bincount(of.ravel(), np.where(of > 0, np.nan_to_num(layer), 0).ravel(), index.size + 1)[1:]
        return np.where(members > 0, total / np.maximum(members, 1), np.nan)

    for colour in COLOURS:
        layer = scene.layers[f"{colour}_post"]
        inside, beside = mean(layer, number), mean(layer, ring)
        out[f"brightness: {colour} inside"] = inside
        out[f"contrast: {colour} over ring"] = inside / beside
        out[f"surroundings: {colour} in the ring"] = beside
    out["colour: red/green inside"] = out["brightness: red inside"] / out["brightness: green inside"]
    out["colour: green/blue inside"] = out["brightness: green inside"] / out["brightness: blue inside"]
    red = scene.layers["red_post"]
    filled = np.where(np.isfinite(red), red, around)
    square = mean(filled * filled, number) - out["brightness: red inside"] ** 2
    out["texture: spread of red inside"] = np.sqrt(np.maximum(square, 0)) / out["brightness: red inside"]
    gy, gx = np.gradient(filled)
    edge = (number > 0) & ndimage.binary_dilation(number == 0)
    step = out["brightness: red inside"] - out["surroundings: red in the ring"]
    out["edges: gradient at the rim over the step"] = mean(
        np.hypot(gy, gx).astype(np.float32), np.where(edge, number, 0)
    ) / np.maximum(step, 0.01)
    out["terrain: slope"] = mean(scene.layers["slope"], number)
    drop = ndimage.maximum(scene.layers["elevation"], number, index) - ndimage.minimum(
        scene.layers["elevation"], number, index
    )  # fmt: skip
    out["terrain: height of fall"] = np.asarray(drop, np.float64)
    for name, values in shapes(number, PIXEL_M).items():
        out[f"shape: {name}"] = values
    return {
        name: np.where(np.isfinite(values), values, np.median(values[np.isfinite(values)])) if index.size else values
        for name, values in out.items()
    }

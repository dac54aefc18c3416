"""What a patch of ground looks like, in a few dozen numbers: brightness, colour, contrast, texture, light, relief, change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.realism.scenes import PIXEL_M, FloatArray, Scene

DoubleArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

PATCH_PX = 32
"""Side of a patch: 320 m."""
BLOCK_PX = 128
"""Side of the blocks of ground by which intervals are drawn: 1.28 km."""
SCALES_PX = (1, 2, 4, 8)
"""Standard deviations of the Gaussians between which texture is taken."""
_LEAST_KNOWN = 0.9
_DARK = 1e-3


@dataclass(frozen=True)
class Patches:
    """Patches of one scene or several."""

    names: tuple[str, ...]
    """Of the features: `<family>: <what>`."""
    values: DoubleArray
    """(patch, feature)."""
    block: IndexArray
    """(patch,): block of ground."""
    fold: IndexArray
    """(patch,): which part of the ground: a strip of the real scene, or a simulated region."""

    def family(self, *families: str) -> Patches:
        """The features of some families only."""
        kept = [index for index, name in enumerate(self.names) if name.split(":")[0] in families]
        return Patches(tuple(self.names[index] for index in kept), self.values[:, kept], self.block, self.fold)


def features(scene: Scene, *phases: str, first_block: int = 0, folds: int = 5) -> Patches:
    """Features of the patches of `scene` that are known in `phases` (`post`, or `pre` and `post`) to nine tenths.

    `pre` adds the image before and the change. Unknown pixels are left out of the statistics. Folds are strips from west
    to east.
    """
    known = scene.known(*phases)
    maps = _maps(scene, phases)
    rows, columns = (size // PATCH_PX for size in scene.shape_yx)
    values, block, fold = [], [], []
    names: tuple[str, ...] = ()
    for row in range(rows):
        for column in range(columns):
            window = slice(row * PATCH_PX, (row + 1) * PATCH_PX), slice(column * PATCH_PX, (column + 1) * PATCH_PX)
            inside = known[window]
            if inside.mean() < _LEAST_KNOWN:
                continue
            found = _of_patch({name: layer[window][inside].astype(np.float64) for name, layer in maps.items()}, phases)
            names = tuple(found)
            values.append(list(found.values()))
            block.append(
                first_block + (row * PATCH_PX // BLOCK_PX) * 1000 + column * PATCH_PX // BLOCK_PX
            )  # fmt: skip
            fold.append(column * folds // columns)
    return Patches(names, np.array(values), np.array(block, np.int64), np.array(fold, np.int64))


def together(parts: list[Patches], *, by_scene: bool) -> Patches:
    """Patches of several scenes as one; `by_scene` makes each scene a fold, else each keeps its strips."""
    fold = [np.full_like(part.fold, index) if by_scene else part.fold for index, part in enumerate(parts)]
    return Patches(
        parts[0].names, np.concatenate([part.values for part in parts]),
        np.concatenate([part.block for part in parts]), np.concatenate(fold),
    )  # fmt: skip


def _maps(scene: Scene, phases: tuple[str, ...]) -> dict[str, FloatArray]:
    """Per-pixel maps (y, x) from which patches take their statistics."""
    elevation = scene.layers["elevation"]
    maps: dict[str, FloatArray] = {"slope": scene.layers["slope"], "elevation": elevation}
    for name, axis in (("south", 0), ("east", 1)):
        maps[name] = np.asarray(np.gradient(_filled(elevation), PIXEL_M, axis=axis), np.float32)
    for phase in phases:
        for colour in ("red", "green", "blue"):
            maps[f"{colour}_{phase}"] = scene.layers[f"{colour}_{phase}"]
        red = _filled(scene.layers[f"red_{phase}"])
        smooth = [red, *(ndimage.gaussian_filter(red, scale) for scale in SCALES_PX)]
        for scale, fine, coarse in zip(SCALES_PX, smooth, smooth[1:], strict=False):
            maps[f"band{scale}_{phase}"] = fine - coarse
        gy, gx = np.gradient(red)
        maps[f"gradient_{phase}"] = np.hypot(gy, gx)
    return maps


def _filled(layer: FloatArray) -> FloatArray:
    """Unknown pixels take the nearest known value, so that filters do not spread NaN; they are not counted later."""
    unknown = ~np.isfinite(layer)
    if not unknown.any() or unknown.all():
        return np.nan_to_num(layer)
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return np.asarray(layer[tuple(nearest)])


def _of_patch(pixel: Mapping[str, DoubleArray], phases: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for phase in phases:
        red, green, blue = (np.maximum(pixel[f"{colour}_{phase}"], _DARK) for colour in ("red", "green", "blue"))
        for colour, values in (("red", red), ("green", green), ("blue", blue)):
            found[f"brightness: mean {colour} {phase}"] = float(values.mean())
        found[f"brightness: darkest red {phase}"] = float(np.quantile(red, 0.05))
        found[f"brightness: brightest red {phase}"] = float(np.quantile(red, 0.95))
        for name, ratio in (("red/green", red / green), ("green/blue", green / blue)):
            found[f"colour: {name} {phase}"] = float(np.log(ratio).mean())
            found[f"colour: spread of {name} {phase}"] = float(np.log(ratio).std())
        found[f"colour: red with blue {phase}"] = _correlation(red, blue)
        found[f"contrast: red {phase}"] = float(np.log(red.std() + _DARK))
        found[f"contrast: skewness of red {phase}"] = _skewness(red)
        for scale in SCALES_PX:
            found[f"texture: at {scale} px {phase}"] = float(np.log(pixel[f"band{scale}_{phase}"].std() + 1e-5))
        gradient = pixel[f"gradient_{phase}"]
        found[f"texture: finest share {phase}"] = (
            found[f"texture: at {SCALES_PX[0]} px {phase}"] - found[f"texture: at {SCALES_PX[2]} px {phase}"]
        )
        found[f"edges: mean gradient {phase}"] = float(np.log(gradient.mean() + 1e-5))
        found[f"edges: strong over mean {phase}"] = float(np.quantile(gradient, 0.95) / (gradient.mean() + 1e-6))
        found[f"light: shading strength {phase}"] = _explained(red + green + blue, pixel["south"], pixel["east"])
    found["relief: mean slope"] = float(pixel["slope"].mean())
    found["relief: spread of slope"] = float(pixel["slope"].std())
    found["relief: height range"] = float(np.ptp(pixel["elevation"]))
    if "pre" in phases:
        for colour in ("red", "green", "blue"):
            change = pixel[f"{colour}_post"] - pixel[f"{colour}_pre"]
            found[f"change: mean {colour}"] = float(change.mean())
            found[f"change: spread {colour}"] = float(np.log(change.std() + _DARK))
        found["change: before with after"] = _correlation(pixel["red_pre"], pixel["red_post"])
    return found


def _correlation(one: DoubleArray, other: DoubleArray) -> float:
    spread = one.std() * other.std()
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 1e-12 else 0.0


def _skewness(values: DoubleArray) -> float:
    spread = values.std()
    return float((((values - values.mean()) / spread) ** 3).mean()) if spread > 1e-9 else 0.0


def _explained(values: DoubleArray, *by: DoubleArray) -> float:
    """Share of the variance that is linear in `by` (R squared): brightness by the two gradients is shading."""
    matrix = np.stack([np.ones_like(values), *by], axis=1)
    fitted, *_ = np.linalg.lstsq(matrix, values, rcond=None)
    variance = values.var()
    return float(1 - (values - matrix @ fitted).var() / variance) if variance > 1e-12 else 0.0

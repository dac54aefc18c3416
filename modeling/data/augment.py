"""Augmentation of training patches, as a recipe states it: mirrors and turns, scale, colours, other scenes, lost bands.

Works on layers in physical units, before channels such as NDVI are derived from them. Everything is drawn from the
generator that is passed in; what a recipe leaves out draws nothing.

Geometry. The stored hillshade is lit from the west (azimuth 270), so it holds the east-west part of the surface's tilt:
`255 (cos z + sin z sin s cos(270 - aspect))` with z = 45 degrees. Mirroring north-south leaves it true; mirroring
east-west turns the second term's sign, hence `hillshade -> 510 cos(45) - hillshade`; a quarter turn would need the
north-south tilt, which it does not hold. So patches with hillshade are only mirrored unless a recipe says that it takes
the hillshade for a picture (`relight` off), as the papers do. The sun of the optical bands comes then from impossible
azimuths too, which is meant: colour and contrast are to be learnt, not one morning's light.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modeling.data.augment_picture import drop_bands, recolour, rescale
from modeling.data.augment_scene import Scene, change_scene
from modeling.data.batches import ByteArray, FloatArray
from modeling.errors import DataError

_FLAT_HILLSHADE = 255 * math.cos(math.radians(45))


@dataclass(frozen=True)
class Augmentation(Scene):
    """What is changed at random in each training patch, and how far: geometry, picture, and those of `Scene`."""

    flips: bool = True
    """Mirror north-south and east-west, each in half of the patches."""
    diagonal: bool = True
    """Mirror at the diagonal in half of the patches; with `flips` that makes all eight orientations."""
    quarter_turns: bool = False
    """Turn by 0, 90, 180 or 270 degrees."""
    relight: bool = True
    """Keep a hillshade true: relight it when mirrored, and leave out the turns that it cannot follow."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor by which a patch is enlarged; what is beyond its edge is unknown."""
    brightness: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor on the image layers of a phase."""
    saturation: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor on how far red, green and blue lie from their grey."""
    band_dropout: float = 0.0
    """Share of layers that become unknown; one always stays."""


_STILL = Augmentation(
    gain=0, band_gain=0, contrast=0, haze=0, shading=0, noise=0, shift_px=0, blur_px=0, snow=0, gap=0,
    terrain_noise_deg=0, flips=False, diagonal=False, relight=False,
)  # fmt: skip

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "physical": Augmentation(),
    "none": _STILL,
    "mirrors": replace(_STILL, flips=True, diagonal=True),
    "resize-turn-colour": replace(
        _STILL, flips=True, quarter_turns=True, scale=(0.5, 1.5), brightness=(0.8, 1.2), saturation=(0.8, 1.2)
    ),
    "dropout": Augmentation(band_dropout=0.1),
    "strong": Augmentation(quarter_turns=True, scale=(0.5, 1.5), brightness=(0.7, 1.3), saturation=(0.7, 1.3)),
}
"""By name: `physical` makes the shipped models, `mirrors` is that of Yang et al. 2024 (horizontal, vertical, diagonal),
`resize-turn-colour` that of Dong et al. 2024, `dropout` is `physical` with one layer in ten unknown, `strong` is both
`physical` and, a little stronger, `resize-turn-colour`: for fine-tuning on few patches."""


def augmentation(name: str) -> Augmentation:
    """The augmentation called `name`; raises `DataError` naming the ones there are."""
    try:
        return AUGMENTATIONS[name]
    except KeyError:
        raise DataError(f"unknown augmentation {name!r}: choose one of {', '.join(AUGMENTATIONS)}") from None


def augment(
    layers: Mapping[str, FloatArray], truth: ByteArray, rng: np.random.Generator, sizes: Augmentation
) -> tuple[dict[str, FloatArray], ByteArray]:
    """One patch, changed: `layers` (y, x) by name, `truth` (y, x) of 0, 1, 255; the patch must be square."""
    stack = np.stack(list(layers.values()), dtype=np.float32, casting="unsafe")
    changed, moved = augment_batch([(stack, truth)], tuple(layers), [rng], sizes)
    return dict(zip(layers, changed[0], strict=True)), moved[0]


def augment_batch(
    patches: Sequence[tuple[FloatArray, ByteArray]],
    names: Sequence[str],
    rngs: Sequence[np.random.Generator],
    sizes: Augmentation,
) -> tuple[FloatArray, ByteArray]:
    """Patches of one size, each changed by what its own generator draws, into new arrays.

    A patch is its layers float32 (layer, y, x), called `names`, and its truth (y, x); it stays as it is. Returns layers
    (patch, layer, y, x) and truth (patch, y, x). Eight patches at once take little more than half of the time of one by
    one: much of that goes into finding out what to do.
    """
    first, labels = patches[0]
    stack, truth = np.empty((len(patches), *first.shape), np.float32), np.empty((len(patches), *labels.shape), np.uint8)
    for patch, rng, layers_out, truth_out in zip(patches, rngs, stack, truth, strict=True):
        _orient(*patch, names, rng, sizes, layers_out, truth_out)
    if sizes.scale != (1.0, 1.0):
        stack, truth = rescale(stack, truth, rngs, sizes.scale)
    if sizes.changes_scene:
        for layers, labels, rng in zip(stack, truth, rngs, strict=True):
            before = dict(zip(names, layers, strict=True))
            for name, layer in change_scene(before, labels, rng, sizes).items():
                if layer is not before[name]:
                    before[name][...] = layer
    recolour(stack, names, rngs, sizes.brightness, sizes.saturation)
    drop_bands(stack, rngs, sizes.band_dropout)
    return stack, truth


def _orient(
    layers: FloatArray, truth: ByteArray, names: Sequence[str], rng: np.random.Generator, sizes: Augmentation,
    layers_out: FloatArray, truth_out: ByteArray,
) -> None:  # fmt: skip
    """Mirror and turn a patch (layer, y, x) with its truth (y, x)."""
    north_south, east_west, turn = rng.random(3) < 0.5
    bound = sizes.relight and "hillshade" in names
    north_south, east_west = north_south and sizes.flips, east_west and sizes.flips
    turn = turn and sizes.diagonal and not bound
    quarters = int(rng.integers(4)) if sizes.quarter_turns and not bound else 0

    def moved(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        array = array[..., ::-1, :] if north_south else array
        array = array[..., ::-1] if east_west else array
        array = array.swapaxes(-2, -1) if turn else array
        return np.rot90(array, quarters, axes=(-2, -1)) if quarters else array

    layers_out[...], truth_out[...] = moved(layers), moved(truth)
    if east_west and bound:
        hillshade = layers_out[names.index("hillshade")]
        hillshade[...] = np.clip(2 * _FLAT_HILLSHADE - hillshade, 0, 255)

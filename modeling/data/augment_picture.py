"""The augmentations that the papers borrow from photographs: scale, brightness, saturation, and bands left out.

For a whole batch at once: layers float32 (patch, layer, y, x), truth (patch, y, x), and a generator for each patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from modeling.data.augment_scene import optical
from modeling.data.batches import IGNORE, ByteArray, FloatArray

_GREY = {"red": np.float32(0.299), "green": np.float32(0.587), "blue": np.float32(0.114)}
"""Shares of red, green and blue in their grey (Rec. 601)."""

Range = tuple[float, float]
Generators = Sequence[np.random.Generator]
Positions = npt.NDArray[np.float64]


def rescale(stack: FloatArray, truth: ByteArray, rngs: Generators, factors: Range) -> tuple[FloatArray, ByteArray]:
    """Enlarge each patch by a factor drawn from `factors`, bilinearly (truth: nearest), and cut or pad to the same size.

    What lies beyond the patch's edge is unknown (NaN) and does not count (`IGNORE`).
    """
    lengths = truth.shape[1:]
    grid, turned = np.empty((*truth.shape, 2), np.float32), np.empty_like(truth)
    places = [_places(rng, factors, lengths) for rng in rngs]
    for (rows, columns), at, labels, labels_out in zip(places, grid, truth, turned, strict=True):
        # Torch counts from -1 at a patch's one edge to 1 at the other, x before y.
        at[..., 0] = (2 * columns + 1) / lengths[1] - 1
        at[..., 1] = ((2 * rows + 1) / lengths[0] - 1)[:, None]
        labels_out[...] = labels.take(_nearest(rows), axis=0).take(_nearest(columns), axis=1)
    moved: FloatArray = functional.grid_sample(
        torch.from_numpy(stack), torch.from_numpy(grid), padding_mode="border", align_corners=False
    ).numpy()
    for (rows, columns), layers, labels in zip(places, moved, turned, strict=True):
        (top, bottom), (left, right) = _inside(rows), _inside(columns)
        for array, unknown in ((layers, np.nan), (labels, IGNORE)):
            array[..., :top, :] = array[..., bottom:, :] = unknown
            array[..., :left] = array[..., right:] = unknown
    return moved, turned


def _places(rng: np.random.Generator, factors: Range, lengths: Sequence[int]) -> tuple[Positions, Positions]:
    """Rows and columns of a patch, fractional, at which the pixels of the enlarged one lie."""
    factor = rng.uniform(*factors)
    size = np.array(lengths, dtype=np.float64)
    room = size - size / factor  # of the window that is cut (positive) or of the margin that is padded (negative)
    # Pixel i of the result has its centre at (i + 0.5) / factor + start of the patch, in pixels from its corner.
    offset = room * rng.random(2) + 0.5 / factor - 0.5
    rows, columns = (np.arange(length) / factor + start for length, start in zip(lengths, offset, strict=True))
    return rows, columns


def _nearest(at: Positions) -> npt.NDArray[np.intp]:
    return np.clip(np.rint(at), 0, len(at) - 1).astype(np.intp)


def _inside(at: Positions) -> tuple[int, int]:
    """First and end of the positions, ascending, in the patch: up to half a pixel beyond its outermost centres."""
    return int(at.searchsorted(-0.5)), int(at.searchsorted(len(at) - 0.5, side="right"))


def recolour(stack: FloatArray, names: Sequence[str], rngs: Generators, brightness: Range, saturation: Range) -> None:
    """Multiply each phase's image by one factor, and its colours' distance from grey by another, in place."""
    for phase in ("pre", "post"):
        images = {
            kind.colour: stack[:, index]
            for index, kind in enumerate(map(optical, names))
            if kind is not None and kind.phase == phase
        }
        if not images:
            continue
        if brightness != (1.0, 1.0):
            factor = _drawn(rngs, brightness)
            for colour in images:
                images[colour] *= factor
        if saturation != (1.0, 1.0) and all(colour in images for colour in _GREY):
            factor = _drawn(rngs, saturation)
            grey = sum(share * images[colour] for colour, share in _GREY.items())
            grey *= 1 - factor
            for colour in _GREY:
                images[colour] *= factor
                images[colour] += grey
                np.maximum(images[colour], np.float32(0), out=images[colour])


def _drawn(rngs: Generators, between: Range) -> FloatArray:
    """A factor for each patch, (patch, 1, 1)."""
    return np.array([rng.uniform(*between) for rng in rngs], np.float32)[:, None, None]


def drop_bands(stack: FloatArray, rngs: Generators, share: float) -> None:
    """Make each layer of each patch unknown (NaN) with the chance `share`, in place, but never all of a patch."""
    if share == 0:
        return
    for layers, rng in zip(stack, rngs, strict=True):
        lost = rng.random(len(layers)) < share
        lost[rng.integers(len(layers))] = False
        layers[lost] = np.nan

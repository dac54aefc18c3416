"""The augmentations that the papers borrow from photographs: scale, brightness, saturation, and bands left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from modeling.data.augment_scene import optical
from modeling.data.batches import IGNORE, ByteArray, FloatArray

_RGB = ("red", "green", "blue")
_GREY = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
"""Shares of red, green and blue in their grey (Rec. 601)."""

Range = tuple[float, float]


def rescale(
    layers: Mapping[str, FloatArray], truth: ByteArray, rng: np.random.Generator, factors: Range
) -> tuple[dict[str, FloatArray], ByteArray]:
    """Enlarge by a factor drawn from `factors`, bilinearly (truth: nearest), and cut or pad to the same size.

    What lies beyond the patch's edge is unknown (NaN) and does not count (`IGNORE`).
    """
    factor = rng.uniform(*factors)
    size = np.array(truth.shape, dtype=np.float64)
    room = size - size / factor  # of the window that is cut (positive) or of the margin that is padded (negative)
    # Pixel i of the result has its centre at (i + 0.5) / factor + start of the patch, in pixels from its corner.
    offset = room * rng.random(2) + 0.5 / factor - 0.5

    rows, columns = (np.arange(length) / factor + start for length, start in zip(truth.shape, offset, strict=True))
    stack = np.stack(list(layers.values()), dtype=np.float32, casting="unsafe")
    # Along rows twice: neighbours in memory are gathered several times as fast as those a row apart.
    moved = _turned(_between(_turned(_between(stack, rows)), columns))
    nearest = [np.clip(np.rint(at), 0, len(at) - 1).astype(np.intp) for at in (rows, columns)]
    turned = truth[np.ix_(*nearest)]
    turned[_beyond(rows)] = IGNORE
    turned[:, _beyond(columns)] = IGNORE
    return dict(zip(layers, moved, strict=True)), turned


def _turned(stack: FloatArray) -> FloatArray:
    """(layer, y, x) to (layer, x, y), neighbours in memory again."""
    return np.ascontiguousarray(stack.transpose(0, 2, 1))


def _beyond(at: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Positions outside the patch: a centre may lie up to half a pixel beyond the outermost centres and still be inside."""
    return (at < -0.5) | (at > len(at) - 0.5)


def _between(stack: FloatArray, at: npt.NDArray[np.float64]) -> FloatArray:
    """Rows of (layer, y, x) at fractional positions, linearly between their neighbours; NaN outside the patch."""
    inside = np.clip(at, 0, len(at) - 1)
    lower = np.minimum(inside.astype(np.intp), max(len(at) - 2, 0))
    share = (inside - lower).astype(np.float32)[:, None]
    share[_beyond(at)] = np.nan
    found: FloatArray = stack.take(np.minimum(lower + 1, len(at) - 1), axis=1)
    below = stack.take(lower, axis=1)
    found -= below
    found *= share
    found += below
    return found


def recolour(
    layers: Mapping[str, FloatArray], rng: np.random.Generator, brightness: Range, saturation: Range
) -> dict[str, FloatArray]:
    """Multiply each phase's image by one factor, in place, and its colours' distance from grey by another."""
    out = dict(layers)
    kinds = {name: kind for name in layers if (kind := optical(name))}
    for phase in ("pre", "post"):
        images = {kind.colour: name for name, kind in kinds.items() if kind.phase == phase}
        if not images:
            continue
        if brightness != (1.0, 1.0):
            factor = np.float32(rng.uniform(*brightness))
            for name in images.values():
                out[name] *= factor
        if saturation != (1.0, 1.0) and all(colour in images for colour in _RGB):
            rgb = np.stack([out[images[colour]] for colour in _RGB])
            grey = (rgb * _GREY).sum(axis=0)
            rgb -= grey
            rgb *= np.float32(rng.uniform(*saturation))
            rgb += grey
            np.maximum(rgb, np.float32(0), out=rgb)
            out |= {images[colour]: layer for colour, layer in zip(_RGB, rgb, strict=True)}
    return out


def drop_bands(layers: Mapping[str, FloatArray], rng: np.random.Generator, share: float) -> dict[str, FloatArray]:
    """Make each layer unknown (NaN) with the chance `share`, but never all of them."""
    if share == 0:
        return dict(layers)
    lost = rng.random(len(layers)) < share
    lost[rng.integers(len(layers))] = False
    return {
        name: np.full_like(layer, np.nan) if gone else layer
        for (name, layer), gone in zip(layers.items(), lost, strict=True)
    }

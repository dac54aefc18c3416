"""What is done to one tile of a GeoTIFF: coding, halving, and a sum to recognise it by. Pure, and free of Python's lock.

Deflate comes from ISA-L, which codes probabilities three times as fast as libdeflate, and masks six times, at the size of
libdeflate's fastest level; every reader of deflate reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

Array = npt.NDArray[Any]
Halving = Callable[[Array, float | None], Array]

TILE_PX = 512
"""Side of a tile."""
_LEVEL = 1


class Coded(NamedTuple):
    """One tile, ready for the file."""

    data: bytes
    """Compressed."""
    check: int
    """CRC-32 of its pixels inside the raster."""
    half: Array | None
    """The pixels inside the raster at half the resolution, if they were asked for."""


def predictor_of(dtype: npt.DTypeLike) -> int:
    """TIFF's predictor for samples of a type: differences of whole numbers, of the bytes of floats, none for bytes."""
    kind = np.dtype(dtype)
    return 3 if kind.kind == "f" else 1 if kind.itemsize == 1 else 2


def code(tile: Array, inside_yx: tuple[int, int], nodata: float | None, halve: Halving | None) -> Coded:
    """Code `tile` (band, y, x), of which the first `inside_yx` pixels are inside the raster."""
    inside = tile[:, : inside_yx[0], : inside_yx[1]]
    check = checksum(inside)
    half = None if halve is None else halve(inside, nodata)
    return Coded(isal_zlib.compress(_predicted(np.ascontiguousarray(np.moveaxis(tile, 0, -1))), _LEVEL), check, half)


def checksum(pixels: Array) -> int:
    """CRC-32 of pixels (band, y, x), whatever their memory order."""
    found: int = isal_zlib.crc32(np.ascontiguousarray(pixels))
    return found


def _predicted(samples: Array) -> Array:
    """Samples (y, x, band) as the predictor of their type leaves them."""
    predictor, bands = predictor_of(samples.dtype), samples.shape[-1]
    if predictor == 1:
        return samples
    rows = samples.reshape(len(samples), -1)
    if predictor == 3:
        # Adobe, TIFF Technical Note 3: the bytes of a row, most significant ones first, then differences.
        size = rows.dtype.itemsize
        by_byte = rows.view(np.uint8).reshape(*rows.shape, size)
        rows = np.moveaxis(by_byte[..., ::-1], -1, 1).reshape(len(rows), -1)
    differences = np.empty(rows.shape, f"u{rows.dtype.itemsize}")
    unsigned = rows.view(differences.dtype)
    differences[:, :bands] = unsigned[:, :bands]
    np.subtract(unsigned[:, bands:], unsigned[:, :-bands], out=differences[:, bands:])
    return differences


def average(pixels: Array, nodata: float | None) -> Array:
    """Means of 2 x 2 pixels of (band, y, x), of the known ones among them; an odd last row or column stands for two."""
    even = _even_sided(pixels)
    kind = even.dtype
    if kind.kind == "f" and (nodata is None or np.isnan(nodata)):
        quick: Array = _sum_of_four(even) * kind.type(0.25)
        if not np.isnan(quick).any():
            return quick
        unknown = np.isnan(even)
    else:
        unknown = np.isnan(even) if nodata is None else even == nodata
    total = _sum_of_four(np.where(unknown, 0, even).astype(np.float64))
    known = _sum_of_four((~unknown).astype(np.uint8))
    blank = 0 if nodata is None else nodata
    mean = np.divide(total, known, out=np.full(total.shape, blank, np.float64), where=known > 0)
    return (mean if kind.kind == "f" else np.round(mean)).astype(kind)


def nearest(pixels: Array, _nodata: float | None) -> Array:
    """Every second pixel of every second row of (band, y, x)."""
    return np.ascontiguousarray(pixels[:, ::2, ::2])


HALVINGS: Mapping[str, Halving] = {"average": average, "nearest": nearest}
"""How the next overview is made: name -> function."""


def _even_sided(pixels: Array) -> Array:
    odd_y, odd_x = (side % 2 for side in pixels.shape[1:])
    return np.pad(pixels, ((0, 0), (0, odd_y), (0, odd_x)), mode="edge") if odd_y or odd_x else pixels


def _sum_of_four(pixels: Array) -> Array:
    rows = pixels[:, ::2] + pixels[:, 1::2]
    total: Array = rows[..., ::2] + rows[..., 1::2]
    return total

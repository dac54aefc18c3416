"""Shapes burnt into pixels, one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import rasterio.features

from infra.local.earthengine.grid import Array, PixelGrid

# rasterio silences a warning while it rasterises by exchanging the filters of the whole process: a second thread that
# ends in between switches them back on for the first.
_lock = threading.Lock()


def burnt(shapes: Iterable[Any], grid: PixelGrid, dtype: str = "uint8", *, all_touched: bool = False) -> Array:
    """(h, w) of `dtype`: 1, or the value that comes with it as (shape, value), where a shape covers a pixel's centre.

    The last shape is on top; 0 where there is none. With `all_touched` every pixel that a shape touches counts.
    """
    with _lock:
        made: Array = rasterio.features.rasterize(
            shapes, grid.shape_yx, transform=grid.affine, dtype=dtype, all_touched=all_touched
        )
    return made

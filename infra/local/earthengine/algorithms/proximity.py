"""Distances to the nearest pixel that is not zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image
from infra.local.earthengine.pixeltype import FLOAT
from infra.local.earthengine.raster import Raster
from infra.local.earthengine.sampling import Neighbourhood

MAX_NEIGHBOURHOOD = 1024
METRICS: dict[str, Callable[[Array], Array]] = {
    "squared_euclidean": lambda empty: ndimage.distance_transform_edt(empty) ** 2,
    "manhattan": lambda empty: ndimage.distance_transform_cdt(empty, "taxicab"),
    "chebyshev": lambda empty: ndimage.distance_transform_cdt(empty, "chessboard"),
}
"""Distance of each True pixel to the nearest False one."""


@algorithm("Image.fastDistanceTransform")
def fast_distance_transform(
    image: Image, neighborhood: int = 256, units: str = "pixels", metric: str = "squared_euclidean"
) -> Image:
    """Distance in pixels (squared by default) to the nearest valid pixel that is not zero, band `distance`.

    Of the first band, on the pixels of the grid that is asked for. Pixels without one within the neighbourhood are
    masked; the image's own mask plays no part.
    """
    if metric not in METRICS or units != "pixels" or not 0 < neighborhood <= MAX_NEIGHBOURHOOD:
        raise ArgumentError(
            f"Image.fastDistanceTransform: Use a metric of {', '.join(METRICS)}, units of pixels and a neighborhood of 1 to "
            f"{MAX_NEIGHBOURHOOD}, got '{metric}', '{units}' and {neighborhood}."
        )
    if not image.bands:
        raise ArgumentError("Image.fastDistanceTransform: The image has no bands.")
    first = image.bands[0]
    node = Neighbourhood((first.node,), neighborhood, partial(_distances, metric, neighborhood))
    return image.with_bands([Band("distance", node, FLOAT, first.projection, first.shape_yx)])


def _distances(metric: str, reach: int, grid: PixelGrid, wide: list[Raster]) -> Raster:
    height, width = grid.shape_yx
    empty = ~(wide[0].mask & (wide[0].values != 0))
    inner = (slice(reach, reach + height), slice(reach, reach + width))
    if empty.all():
        return Raster(np.zeros(grid.shape_yx, "float32"), np.zeros(grid.shape_yx, bool))
    found = METRICS[metric](empty)[inner].astype("float32")
    return Raster(found, found <= (reach**2 if metric == "squared_euclidean" else reach))

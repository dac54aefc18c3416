"""How long and how wide a polygon is: the sides of the smallest rectangle, in any direction, around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

Doubles = npt.NDArray[np.float64]


def rectangle_sides(polygons: npt.NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Longer and shorter side (polygon,) of each polygon's minimum rotated rectangle, in the polygons' unit."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(polygons)).reshape(len(polygons), 5, 2)
    sides = np.hypot(*np.moveaxis(np.diff(corners[:, :3], axis=1), -1, 0))
    return sides.max(axis=1), sides.min(axis=1)

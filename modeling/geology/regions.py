"""The rules on rasters: the regions of a mask, what is measured of each, and the mask that is left of them.

Regions are connected over pixel edges, as the bodies of an inventory (`modeling.vectors`), and measured by the same code:
the mask that is left is the one that an inventory under the same rules gives. How a scene is cut into windows changes
nothing, because regions are put together before they are measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from modeling.errors import DataError
from modeling.geology.rules import GeologyRules, Measures, Verdicts, judge
from modeling.vectors.burn import burn, polygon_runs
from modeling.vectors.inventory import STEEP_SHARE, whole_degrees
from modeling.vectors.outlines import Polygons
from modeling.vectors.rectangle import rectangle_sides
from modeling.vectors.vectorise import Vectoriser

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]
Window = tuple[tuple[slice, slice], BoolArray, FloatArray | None]
"""A window of a scene: where it lies, its mask (y, x), and its slope in degrees (y, x) if that is known."""

_ROWS_PX = 512


@dataclass(frozen=True)
class Regions:
    """The regions of a mask, the largest (of equals the northernmost) first."""

    polygons: Polygons
    """Outlines along pixel edges in metres from the raster's corner, y downwards negative; (region,)."""
    pixels: Index
    """Number of pixels, (region,)."""
    measures: Measures
    """What the rules look at."""
    shape_yx: tuple[int, int]
    """Of the raster."""
    pixel_m: float
    """Side of a pixel in metres."""

    def __len__(self) -> int:
        return len(self.pixels)

    def mask(self, which: npt.NDArray[np.generic]) -> BoolArray:
        """The pixels (y, x) of some of the regions: a bool array or indices."""
        return burn(self.polygons[which], self.shape_yx, _transform(self.pixel_m))

    def numbers(self) -> npt.NDArray[np.int32]:
        """The number of each pixel's region (y, x), counted from 1; 0 where there is none."""
        runs, owner = polygon_runs(self.polygons, self.shape_yx, _transform(self.pixel_m))
        found = np.zeros(self.shape_yx, np.int32)
        found.reshape(-1)[runs.flat(self.shape_yx[1])] = np.repeat(owner + 1, runs.pixels)
        return found


@dataclass(frozen=True)
class Applied:
    """A mask under rules."""

    mask: BoolArray
    """What is left, (y, x)."""
    regions: Regions
    """All regions there were."""
    verdicts: Verdicts
    """What the rules said of each."""


def regions_in(windows: Iterable[Window], shape_yx: tuple[int, int], pixel_m: float) -> Regions:
    """The regions of a scene that comes window by window, from left to right and from top to bottom in rows of windows.

    Memory follows the regions, not the scene. Raises `DataError` for a pixel without a size, `InventoryError` when
    windows do not follow each other or leave something out.
    """
    if not pixel_m > 0:
        raise DataError(f"a pixel cannot be {pixel_m} m wide")
    vectoriser = Vectoriser(shape_yx, _transform(pixel_m))
    for where, mask, slope_deg in windows:
        unknown = np.full(mask.shape, np.nan, np.float32) if slope_deg is None else slope_deg
        vectoriser.add(where, mask, codes={"slope_deg": whole_degrees(unknown)})
    found = vectoriser.finish()
    length, width = rectangle_sides(found.polygons)
    pixels = found.attributes.pixels
    steep = found.attributes.votes["slope_deg"].quantile(STEEP_SHARE)
    measures = Measures((pixels * pixel_m**2).astype(np.float64), length / width, steep)
    return Regions(found.polygons, pixels, measures, shape_yx, pixel_m)


def regions_of(mask: BoolArray, *, slope_deg: FloatArray | None = None, pixel_m: float) -> Regions:
    """The regions of a whole mask (y, x); `slope_deg` (y, x) is NaN where not known."""
    height, width = mask.shape
    rows = [slice(top, min(top + _ROWS_PX, height)) for top in range(0, height, _ROWS_PX)]
    windows = (((each, slice(0, width)), mask[each], None if slope_deg is None else slope_deg[each]) for each in rows)
    return regions_in(windows, (height, width), pixel_m)


def apply_rules(
    mask: BoolArray, rules: GeologyRules, *, slope_deg: FloatArray | None = None, pixel_m: float
) -> Applied:
    """Drop the regions of `mask` (y, x) that break a rule; never adds a pixel, and applied twice changes nothing."""
    regions = regions_of(mask, slope_deg=slope_deg, pixel_m=pixel_m)
    verdicts = judge(regions.measures, rules)
    return Applied(regions.mask(verdicts.kept), regions, verdicts)


def _transform(pixel_m: float) -> Affine:
    return Affine(pixel_m, 0, 0, 0, -pixel_m, 0)

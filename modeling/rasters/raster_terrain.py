"""Elevation, slope and hillshade of a user's elevation model, window by window on another grid.

Slope is taken on the model's own grid and only then resampled bilinearly, as the cube does it: the slope of a
resampled model is smoother than what the networks learnt from. A model finer than the grid is first averaged to about
the grid's pixel, for the same reason: the slope of a 1 m model is roughness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioIOError
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from modeling.errors import RasterError
from modeling.rasters.raster import RasterGrid, SlicesYX, is_metric
from modeling.rasters.resample import Resampler
from modeling.rasters.terrain import hillshade, slope_deg, spacing_m

FloatArray = npt.NDArray[np.float32]

TERRAIN_LAYERS = ("elevation", "slope", "hillshade")
_PLAUSIBLE_M = (-1_000.0, 9_500.0)  # below and above lie undeclared fill values such as -9999 and -32768


@dataclass(frozen=True)
class TerrainReader:
    """Terrain layers of an open elevation model on windows of another grid."""

    path: str
    """For messages."""
    file: Any
    """An open dataset; band 1 is elevation in metres."""
    resampler: Resampler
    """From the model's grid to the other."""

    @classmethod
    def of(cls, path: str, file: Any, grid: RasterGrid) -> TerrainReader:
        """Check the model against the metric grid that will be asked for.

        Raises `RasterError` when it lies elsewhere, or its own grid is neither in degrees nor true in metres.
        """
        own = RasterGrid.of(file)
        left, bottom, right, top = transform_bounds(grid.crs, own.crs, *grid.bounds, densify_pts=21)
        if left >= own.bounds[2] or right <= own.bounds[0] or bottom >= own.bounds[3] or top <= own.bounds[1]:
            raise RasterError(f"{path} does not cover the images: it spans {own.bounds} in {own.crs[:60]}")
        # After its place: far from its meridian even UTM is not true, and then that is not what is wrong.
        if not file.crs.is_geographic and not is_metric(own):
            raise RasterError(f"{path}: slope cannot be taken on {own.crs[:60]}, which is not in true metres: use UTM")
        return cls(path, file, Resampler.between(own, grid))

    def read(self, grid: RasterGrid) -> dict[str, FloatArray]:
        """`TERRAIN_LAYERS` on `grid`, each (y, x): metres, degrees, 0 to 255; NaN where the model knows nothing."""
        native, at = self.resampler.native(grid, self._elevation, layers=1)
        elevation = native[0]
        dx_m, dy_m = spacing_m(at, len(elevation), geographic=self.file.crs.is_geographic)
        layers = np.stack([elevation, slope_deg(elevation, dx_m, dy_m), hillshade(elevation, dx_m, dy_m)])
        return dict(zip(TERRAIN_LAYERS, self.resampler.sample(layers, at, grid), strict=True))

    def _elevation(self, where: SlicesYX) -> FloatArray:
        """(1, y, x) of a part of the model, NaN where it has none; raises `RasterError` when the file is damaged."""
        try:
            stored = self.file.read([1], window=Window.from_slices(*where), masked=True)
        except RasterioIOError as error:
            raise RasterError(
                f"{self.path} is damaged or cut short ({error.__cause__ or error}): copy or download it again"
            ) from error
        elevation: FloatArray = stored.astype(np.float32).filled(np.nan)
        elevation[(elevation < _PLAUSIBLE_M[0]) | (elevation > _PLAUSIBLE_M[1])] = np.nan
        return elevation

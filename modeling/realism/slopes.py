"""Slope, relief and grain of the real elevation models and of simulated terrain, by the same operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from scipy import ndimage

from modeling import simulate
from modeling.errors import DataError, ModelingError
from modeling.rasters.raster import open_raster
from modeling.rasters.terrain import EARTH_RADIUS_M, slope_deg
from modeling.realism.distance import Distance, Sample, blocks_of, measure
from modeling.simulate.reference import coarse_elevation

FloatArray = npt.NDArray[np.float32]

RELIEF_M = 300.0
"""Side of the window within which relief is taken."""
_BLOCK_M = 1500.0


@dataclass(frozen=True)
class Ground:
    """An elevation model."""

    name: str
    """What it is."""
    elevation: FloatArray
    """(y, x), metres."""
    pixel_m: tuple[float, float]
    """Width and height of a pixel (x, y)."""


def real_grounds(data: Path) -> list[Ground]:
    """The elevation models under `data`; those that are missing or unreadable are left out."""
    found = []
    for read in (_iburi, _slovenia, _svalbard):
        try:
            found.append(read(data))
        except (ModelingError, OSError, ValueError):
            continue
    return found


def simulated_grounds(preset: str, seeds: Sequence[int], size_px: int, pixel_m: float) -> list[Ground]:
    """Terrain of one preset: as a 30 m elevation model has it from 25 m on, else the fine grid with its whole metres."""
    found = []
    for seed in seeds:
        region = simulate.simulate_region(
            simulate.domain(preset), seed=seed, shape_yx=(size_px, size_px), dates_pre=0, dates_post=0, bands=("B4",)
        )
        if pixel_m > 25:
            found.append(Ground(f"{preset}-{seed}", coarse_elevation(region), (30.0, 30.0)))
        else:
            step = max(1, round(pixel_m / region.transform[0]))
            smooth = ndimage.uniform_filter(region.elevation_m, step)[::step, ::step]
            found.append(Ground(f"{preset}-{seed}", np.rint(smooth), (10.0 * step, 10.0 * step)))
    return found


def distances(real: Ground, others: Sequence[Ground]) -> list[Distance]:
    """Slope, relief within 300 m, and grain: how much of the height above 600 m means lies in waves under 250 m."""
    name = f"{real.name} by {others[0].name.split('-')[0]}"
    found = []
    for what, unit, of in (
        ("slope", "degrees", slope),
        ("relief within 300 m", "m", relief),
        ("curvature (Laplacian)", "1/100 m", curvature),
    ):
        pieces = [of(ground) for ground in others]
        blocks = [
            blocks_of(piece.shape, _block_px(ground), 10_000 * number)
            for number, (piece, ground) in enumerate(zip(pieces, others, strict=True))
        ]
        simulated = Sample.of(np.concatenate([p.ravel() for p in pieces]), np.concatenate([b.ravel() for b in blocks]))
        own = of(real)
        found.append(measure(f"{what}: {name}", unit, Sample.of(own, blocks_of(own.shape, _block_px(real))), simulated))
    return found


def slope(ground: Ground) -> FloatArray:
    """Degrees (y, x); NaN at the edge."""
    return slope_deg(ground.elevation, ground.pixel_m[0], ground.pixel_m[1])


def relief(ground: Ground) -> FloatArray:
    """Highest less lowest ground within 300 m (y, x), metres."""
    size = tuple(max(3, round(RELIEF_M / step)) for step in reversed(ground.pixel_m))
    high, low = ndimage.maximum_filter(ground.elevation, size), ndimage.minimum_filter(ground.elevation, size)
    return np.asarray(high - low, np.float32)


def curvature(ground: Ground) -> FloatArray:
    """Laplacian of the heights (y, x), per 100 m: sharp ridges and valleys have the largest."""
    east, north = (np.gradient(np.gradient(ground.elevation, step, axis=axis), step, axis=axis)
                   for axis, step in ((1, ground.pixel_m[0]), (0, ground.pixel_m[1])))  # fmt: skip
    return np.asarray(100 * (east + north), np.float32)


def _block_px(ground: Ground) -> int:
    return max(8, round(_BLOCK_M / ground.pixel_m[1]))


def _iburi(data: Path) -> Ground:
    with open_raster(data / "iburi2018" / "dsm_aw3d30.tif") as file:
        stored, step = file.read(1), file.transform.a
        latitude = file.transform.f + file.transform.e * file.height / 2
    # The model was stretched from 1 arcsecond by nearest neighbour: repeated rows and columns are no terrain.
    rows = np.concatenate([[True], (np.diff(stored, axis=0) != 0).any(axis=1)])
    columns = np.concatenate([[True], (np.diff(stored, axis=1) != 0).any(axis=0)])
    native = stored[rows][:, columns].astype(np.float32)
    north = EARTH_RADIUS_M * np.deg2rad(step) * len(rows) / rows.sum()
    east = EARTH_RADIUS_M * np.deg2rad(step) * np.cos(np.deg2rad(latitude)) * len(columns) / columns.sum()
    return Ground("Iburi (AW3D30, 30 m)", native, (float(east), float(north)))


def _slovenia(data: Path) -> Ground:
    path = data / "sentinel2_timeseries" / "DEM.npy"
    heights = np.load(path, allow_pickle=False)[..., 0]
    if heights.ndim != 2:
        raise DataError(f"{path} has shape {heights.shape}: a map of heights is needed")
    return Ground("Slovenia (10 m)", np.asarray(heights, np.float32), (10.0, 10.0))


def _svalbard(data: Path) -> Ground:
    path = data / "terrain_reference" / "shifted_reprojected_xoff20.0_yoff20.0.tif"
    with rasterio.open(path) as file:
        heights = file.read(1, masked=True).astype(np.float32).filled(np.nan)
        step = float(file.transform.a)
    known = np.isfinite(heights)
    rows, columns = known.mean(axis=1) > 0.5, known.mean(axis=0) > 0.5
    return Ground("Svalbard (20 m)", np.asarray(heights[rows][:, columns]), (step, step))

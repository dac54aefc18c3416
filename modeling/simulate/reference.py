"""What the pipeline would see of a region: the composite, and terrain from an elevation model of 1 arcsecond or 30 m."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy import ndimage

from modeling.errors import DataError
from modeling.rasters.terrain import hillshade, slope_deg
from modeling.simulate.noise import BoolArray, FloatArray, resample, stream
from modeling.simulate.region import SCALE, Region

COLOURS = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "swir1": "B11", "swir2": "B12"}
"""Layer names and the bands behind them."""
ARCSECOND = 1 / 3600
"""Spacing of SRTM's grid, degrees."""
DEM_NOISE_M = 0.8
"""Standard deviation of the elevation model's error, correlated over two of its pixels."""


def layers_of(region: Region, *, cloud_score_threshold: float = 0.6) -> tuple[dict[str, FloatArray], BoolArray]:
    """The composite in plain numpy: layers (y, x) in physical units, NaN where not observed, and where both phases are.

    Clear is what has a score of `cloud_score_threshold` or more. Before: the median of the clear passes. After: the
    earliest clear pass. Terrain: slope and hillshade of a 30 m elevation model on its own grid, then bilinear. Raises
    `DataError` when a phase has no passes at all.
    """
    layers: dict[str, FloatArray] = {}
    valid = np.ones(region.shape_yx, bool)
    for phase in ("pre", "post"):
        passes = [one for one in region.passes if one.phase == phase]
        if not passes:
            raise DataError(f"the region has no {phase} passes: simulate at least one date before and one after")
        clear = np.stack([np.nan_to_num(one.cs, nan=-1) >= cloud_score_threshold for one in passes])
        valid &= clear.any(axis=0)
        for colour, band in COLOURS.items():
            if band not in region.bands:
                continue
            index = region.bands.index(band)
            stack = np.stack([one.dn[index] for one in passes]).astype(np.float32) / np.float32(SCALE)
            stack[~clear] = np.nan
            layers[f"{colour}_{phase}"] = _median(stack) if phase == "pre" else _first(stack)
    layers |= terrain_layers(region)
    return layers, valid


def _median(stack: FloatArray) -> FloatArray:
    """Median over the first axis, NaN where nothing is known; Earth Engine's median averages the middle two as well."""
    ordered = np.sort(stack, axis=0)  # NaN last
    count = np.isfinite(stack).sum(axis=0)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, len(stack) - 1)
    middle = 0.5 * (_take(ordered, low) + _take(ordered, high))
    return np.where(count > 0, middle, np.nan).astype(np.float32)


def _first(stack: FloatArray) -> FloatArray:
    """The first known value along the first axis (which is time), NaN where nothing is known."""
    return _take(stack, np.argmax(np.isfinite(stack), axis=0))


def _take(stack: FloatArray, index: npt.NDArray[np.integer]) -> FloatArray:
    return np.asarray(np.take_along_axis(stack, index[np.newaxis], axis=0)[0])


def terrain_layers(region: Region) -> dict[str, FloatArray]:
    """Elevation (m), slope (degrees) and hillshade (0 to 255), each (y, x), as a 30 m elevation model gives them."""
    coarse = coarse_elevation(region)
    step = 3
    cell = region.transform[0] * step
    y, x = ((np.arange(n, dtype=np.float32) - np.float32((step - 1) / 2)) / np.float32(step) for n in region.shape_yx)
    padded = np.pad(coarse, 1, mode="edge")
    on_dem = {
        "elevation": coarse,
        "slope": slope_deg(padded, cell, cell)[1:-1, 1:-1],
        "hillshade": hillshade(padded, cell, cell)[1:-1, 1:-1],
    }
    return {name: resample(np.ascontiguousarray(values, np.float32), y, x) for name, values in on_dem.items()}


def coarse_elevation(region: Region) -> FloatArray:
    """Elevation in whole metres (y, x) on a UTM grid three times coarser, with the noise of a radar model."""
    rows, cols = (-(-n // 3) * 3 for n in region.shape_yx)
    padded = np.pad(region.elevation_m, [(0, rows - region.shape_yx[0]), (0, cols - region.shape_yx[1])], mode="edge")
    mean = padded.reshape(rows // 3, 3, cols // 3, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(mean + _dem_noise(region, mean.shape)), dtype=np.float32)


def srtm_like(region: Region) -> tuple[npt.NDArray[np.int16], Affine]:
    """Elevation in metres (y, x) as a 1-arcsecond model has it, EPSG:4326, and its transform; 0 outside the region."""
    rows, cols = region.shape_yx
    a, _, left, _, e, top = region.transform
    corners = Transformer.from_crs(region.crs, "EPSG:4326", always_xy=True).transform(
        [left, left + a * cols, left, left + a * cols], [top, top, top + e * rows, top + e * rows]
    )
    west, east = np.floor(min(corners[0]) / ARCSECOND), np.ceil(max(corners[0]) / ARCSECOND)
    south, north = np.floor(min(corners[1]) / ARCSECOND), np.ceil(max(corners[1]) / ARCSECOND)
    transform = Affine(ARCSECOND, 0, west * ARCSECOND, 0, -ARCSECOND, north * ARCSECOND)
    out = np.full((int(north - south), int(east - west)), np.nan, np.float32)
    reproject(
        region.elevation_m, out, src_transform=Affine(*region.transform), src_crs=region.crs, src_nodata=np.nan,
        dst_transform=transform, dst_crs="EPSG:4326", dst_nodata=np.nan, resampling=Resampling.average,
    )  # fmt: skip
    out += _dem_noise(region, out.shape)
    return np.nan_to_num(np.rint(out), nan=0).astype(np.int16), transform


def _dem_noise(region: Region, shape: tuple[int, ...]) -> FloatArray:
    """Error of the elevation model (y, x), metres; the quake's time is the seed."""
    rng = stream(int(region.event.time.timestamp()), "dem")
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0)
    return np.asarray(noise * np.float32(DEM_NOISE_M / max(float(noise.std()), 1e-6)), dtype=np.float32)

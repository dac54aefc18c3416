"""A Slovenian hillside through three years against the simulator at the same place: NDVI, reflectance and cloud."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling import simulate
from modeling.errors import DataError
from modeling.realism.distance import Distance, Sample, blocks_of, measure
from modeling.simulate.landcover import CONIFER

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

LONGITUDE, LATITUDE, ELEVATION_M = 14.557, 45.871, 664.0
"""Middle of the real square kilometre, and its lowest ground."""
WINDOW_PX = 100
"""Side of the real series, and of the simulated windows within which cloud is counted."""
SEASONS = {"winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11)}
REFERENCE_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""Order of the 13 bands of the real scenes; B10 sees no ground and is not simulated."""
_WIDE_PX = 300
CLEAR, COVERED = 0.02, 0.98
_BLOCK_PX = 25
_HAZY_BLUE = 0.12
_LEAST_CLEAR = 0.5


@dataclass(frozen=True)
class Series:
    """NDVI and cloud of many dates."""

    times: tuple[dt.datetime, ...]
    """One a date."""
    ndvi: FloatArray
    """(date, y, x), top of atmosphere, NaN under cloud."""
    cloud: BoolArray
    """(date, y, x)."""


def read_series(folder: Path) -> Series:
    """The series of `sentinel2_timeseries`; raises `DataError` when its files do not fit together."""
    try:
        times = tuple(dt.datetime.fromisoformat(text) for text in json.loads((folder / "timestamps.json").read_text()))
        ndvi = np.load(folder / "NDVI.npy", allow_pickle=False)[..., 0]
        cloud = np.load(folder / "CLM.npy", allow_pickle=False)[..., 0] > 0
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{folder} holds no readable series: {error}") from error
    if not len(times) == len(ndvi) == len(cloud):
        raise DataError(f"{folder}: {len(times)} dates, but {len(ndvi)} of NDVI and {len(cloud)} of cloud")
    return Series(times, np.where(cloud, np.nan, ndvi).astype(np.float32), cloud)


def read_reference(folder: Path) -> FloatArray:
    """The clear scenes of `sentinel2_timeseries`, (scene, y, x, band), undated; hazy and cloudy ones are left out."""
    try:
        scenes = np.load(folder / "REFERENCE_SCENES.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no readable reference scenes: {error}") from error
    clear = np.median(scenes[..., REFERENCE_BANDS.index("B2")], axis=(1, 2)) < _HAZY_BLUE
    return np.asarray(scenes[clear], np.float32)


def like_slovenia(date: str, cloudiness: float = 0.0) -> simulate.Domain:
    """The Iburi preset at the real place. Its mixture of cover is the preset's, not a map of the place."""
    return replace(
        simulate.domain("iburi"), longitude=LONGITUDE, latitude=LATITUDE, base_elevation=ELEVATION_M, event_date=date,
        pre_gap_days=(1, 9), pre_step_days=(9, 11), post_gap_days=(1, 2), cloudiness=cloudiness, slide_share=0.0,
        snow_line_winter=900.0, snow_line_summer=3500.0,
    )  # fmt: skip


def simulated_series(seeds: Sequence[int], months: Sequence[int] = tuple(range(1, 13)), year: int = 2017) -> Series:
    """Three cloudless passes in each month for each seed; each date is of one square kilometre."""
    times, ndvi = [], []
    for seed in seeds:
        for month in months:
            region = simulate.simulate_region(
                like_slovenia(f"{year}-{month:02d}-28"), seed=seed, shape_yx=(_WIDE_PX, _WIDE_PX), dates_pre=3,
                dates_post=0, bands=("B4", "B8"),
            )  # fmt: skip
            window = _most_wooded(region)
            for one in region.passes:
                red, nir = one.dn[:, *window].astype(np.float32)
                times.append(one.time.replace(tzinfo=None))
                hidden = (one.cloud | one.shadow)[window]
                ndvi.append(np.where(hidden, np.nan, (nir - red) / np.maximum(nir + red, 1)))
    stack = np.stack(ndvi).astype(np.float32)
    return Series(tuple(times), stack, ~np.isfinite(stack))


def simulated_reference(seeds: Sequence[int]) -> FloatArray:
    """Cloudless scenes of July and August, (scene, y, x, band) of the simulator's bands."""
    scenes = []
    for seed in seeds:
        region = simulate.simulate_region(
            like_slovenia("2017-08-10"), seed=seed, shape_yx=(_WIDE_PX, _WIDE_PX), dates_pre=2, dates_post=0
        )
        window = _most_wooded(region)
        scenes += [np.moveaxis(one.dn[:, *window] / np.float32(10_000), 0, -1) for one in region.passes]
    return np.asarray(np.stack(scenes), np.float32)


def simulated_cloud(seeds: Sequence[int], size_px: int) -> list[BoolArray]:
    """Cloud masks of windows of a square kilometre, at the cloudiness of the presets, in pixels of 80 m.

    The real masks were made at that size and interpolated back.
    """
    windows = []
    for seed in seeds:
        region = simulate.simulate_region(
            like_slovenia("2017-06-15", simulate.domain("iburi").cloudiness), seed=seed, shape_yx=(size_px, size_px),
            dates_pre=6, dates_post=0, bands=("B4",),
        )  # fmt: skip
        for one in region.passes:
            for top in range(0, size_px - WINDOW_PX + 1, WINDOW_PX):
                windows += [
                    _as_coarse(one.cloud[top : top + WINDOW_PX, left : left + WINDOW_PX])
                    for left in range(0, size_px - WINDOW_PX + 1, WINDOW_PX)
                ]
    return windows


def course(real: Series, other: Series) -> list[Distance]:
    """NDVI of clear ground, by season."""
    return [
        measure(f"NDVI in {name}", "NDVI", _ndvi(real, months), _ndvi(other, months))
        for name, months in SEASONS.items()
    ]  # fmt: skip


def monthly(series: Series) -> dict[int, tuple[float, float, float, int]]:
    """Month -> (lower quartile, median, upper quartile of the NDVI of clear pixels; dates), of dates clear by half."""
    found = {}
    for month in range(1, 13):
        dates = [
            ndvi[~cloud]
            for time, ndvi, cloud in zip(series.times, series.ndvi, series.cloud, strict=True)
            if time.month == month and cloud.mean() < _LEAST_CLEAR
        ]
        if dates:
            low, middle, high = np.nanquantile(np.concatenate(dates), (0.25, 0.5, 0.75))
            found[month] = (float(low), float(middle), float(high), len(dates))
    return found


def reflectance(real: FloatArray, other: FloatArray) -> list[Distance]:
    """Reflectance in summer, band by band, and what a tint cannot change: ratios of bands."""
    found = []
    for band in simulate.BANDS:
        one, two = real[..., REFERENCE_BANDS.index(band)], other[..., simulate.BANDS.index(band)]
        found.append(measure(f"{band} in summer", "reflectance", _blocked(one), _blocked(two)))
    return found


def cloud(real: Series, other: Sequence[BoolArray]) -> tuple[list[Distance], dict[str, tuple[float, float]]]:
    """Distances of partly cloudy windows, and shares (real, simulated) of windows clear, partly and wholly covered."""
    cover = [np.array([mask.mean() for mask in masks]) for masks in (real.cloud, other)]
    shares = {
        "clear": tuple(float((share < CLEAR).mean()) for share in cover),
        "partly": tuple(float(((share >= CLEAR) & (share <= COVERED)).mean()) for share in cover),
        "covered": tuple(float((share > COVERED).mean()) for share in cover),
    }
    partly = [[mask for mask in masks if CLEAR <= mask.mean() <= COVERED] for masks in (list(real.cloud), list(other))]
    if min(len(masks) for masks in partly) < 5:
        raise DataError("fewer than five windows are partly cloudy on one side: raise --seeds or --size")
    found = []
    for name, unit, of in (
        ("cover of partly cloudy square kilometres", "share", lambda mask: float(mask.mean())),
        ("cloud edge over cloud area", "1/pixel", _edge_density),
        ("pieces of cloud in a square kilometre", "log10 count", lambda mask: float(np.log10(ndimage.label(mask)[1]))),
    ):
        values = [np.array([of(mask) for mask in masks]) for masks in partly]
        found.append(measure(name, unit, *(Sample.of(each, np.arange(each.size)) for each in values)))
    return found, {name: (pair[0], pair[1]) for name, pair in shares.items()}


def _most_wooded(region: simulate.Region) -> tuple[slice, slice]:
    """The window with most forest: the real square kilometre is wooded, with some meadows."""
    wooded = region.landcover <= CONIFER
    corners = [
        (top, left)
        for top in range(0, _WIDE_PX - WINDOW_PX + 1, WINDOW_PX // 2)
        for left in range(0, _WIDE_PX - WINDOW_PX + 1, WINDOW_PX // 2)
    ]
    top, left = max(corners, key=lambda at: wooded[at[0] : at[0] + WINDOW_PX, at[1] : at[1] + WINDOW_PX].mean())
    return slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)


def _as_coarse(mask: BoolArray) -> BoolArray:
    """The mask as one of 80 m pixels shows it, smoothed as s2cloudless smooths its probabilities."""
    share = ndimage.zoom(ndimage.uniform_filter(mask.astype(np.float32), 8)[4::8, 4::8], 8, order=1)
    wide = np.pad(share, [(0, max(0, n - m)) for n, m in zip(mask.shape, share.shape, strict=True)], mode="edge")
    return np.asarray(wide[: mask.shape[0], : mask.shape[1]] > 0.4)


def _edge_density(mask: BoolArray) -> float:
    edges = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    return float(edges / mask.sum())


def _ndvi(series: Series, months: Sequence[int]) -> Sample:
    """Blocks are dates: pixels of one date share their light and leaves."""
    chosen = [index for index, time in enumerate(series.times) if time.month in months]
    values = series.ndvi[chosen][:, ::5, ::5]
    return Sample.of(values, np.broadcast_to(np.arange(len(chosen))[:, None, None], values.shape))


def _blocked(scenes: FloatArray) -> Sample:
    block = np.stack(
        [blocks_of((scenes.shape[1], scenes.shape[2]), _BLOCK_PX, 1000 * number) for number in range(len(scenes))]
    )
    return Sample.of(scenes, block)

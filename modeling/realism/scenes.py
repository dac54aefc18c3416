"""The real Iburi pair and simulated pairs of the same season, brought onto a grid by the same steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from modeling import simulate
from modeling.rasters.raster_pair import open_pair
from modeling.simulate.reference import terrain_layers

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

COLOURS = ("red", "green", "blue")
"""Bands that the real pair has."""
PIXEL_M = 10.0
"""Pixel of every scene."""
HILLS_DEG = 8.0
"""Slope, by the 30 m elevation model, from which ground counts as hills."""
CLOUD_BLUE = 0.19
"""Blue reflectance after the event from which a pixel is taken for cloud, on both sides: neither has a cloud mask."""
_DEGREES = 8.983152841195215e-05
_LAYERS = ("elevation", "slope", "hillshade", *(f"{colour}_{phase}" for phase in ("pre", "post") for colour in COLOURS))


@dataclass(frozen=True)
class Scene:
    """A pair of images and its terrain, 10 m pixels, north up; arrays are (y, x)."""

    name: str
    """What it is, for tables."""
    layers: Mapping[str, FloatArray]
    """`elevation` (m), `slope` (degrees), `hillshade` (0 to 255), `red_pre` … `blue_post` (reflectance); NaN unknown."""
    truth: BoolArray | None = None
    """Where landslides are; None for the real scene, where nobody has mapped them."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.layers["slope"].shape
        return rows, columns

    def known(self, *phases: str) -> BoolArray:
        """Where terrain and the images of `phases` are known and the image after is no cloud (y, x)."""
        names = ["slope", "blue_post", *(f"{colour}_{phase}" for phase in phases for colour in COLOURS)]
        seen = np.logical_and.reduce([np.isfinite(self.layers[name]) for name in names])
        return np.asarray(seen & (np.nan_to_num(self.layers["blue_post"], nan=1.0) < CLOUD_BLUE))


def real_iburi(folder: Path) -> Scene:
    """The recorded pair of `iburi2018`: top-of-atmosphere red, green, blue; AW3D30. Warped as `map-raster` does it."""
    files = {phase: [folder / f"s2_{phase}_{band}.tif" for band in ("B4", "B3", "B2")] for phase in ("pre", "post")}
    with open_pair(files["pre"], files["post"], folder / "dsm_aw3d30.tif") as pair:
        rows, columns = pair.grid.shape_yx
        layers, _ = pair.read((slice(0, rows), slice(0, columns)), _LAYERS)
    return Scene("Iburi 2018, real", layers)


def like_iburi() -> simulate.Domain:
    """The simulator's Iburi in the season of the real pair, and nearly cloudless like it.

    The real dates are not recorded: before, leafless woods with remains of snow (taken for the first half of April);
    after, autumn leaves (the second half of October).
    """
    return replace(
        simulate.domain("iburi"), pre_gap_days=(144, 158), pre_step_days=(5, 6), post_gap_days=(42, 54),
        post_step_days=(5, 6), cloudiness=0.004,
    )  # fmt: skip


def simulated_iburi(seed: int, size_px: int, *, varied: bool = False) -> Scene:
    """A simulated pair, one pass before and one after; `varied` as training regions are (any season, any relief)."""
    domain = simulate.domain("iburi")
    domain = simulate.vary(domain, np.random.default_rng(seed)) if varied else like_iburi()
    region = simulate.simulate_region(
        replace(domain, cloudiness=0.004, swath_edge=0.0), seed=seed, shape_yx=(size_px, size_px), dates_pre=1,
        dates_post=1, bands=("B4", "B3", "B2"),
    )  # fmt: skip
    layers = dict(terrain_layers(region))
    for one in region.passes:
        image = one.dn.astype(np.float32) / np.float32(10_000)
        bands = resampled_like_the_real(image, region.crs, Affine(*region.transform))
        layers |= {f"{colour}_{one.phase}": band for colour, band in zip(COLOURS, bands, strict=True)}
    return Scene(f"{domain.name}-{seed}, simulated", layers, region.truth)


def levelled(scene: Scene, like: Scene) -> Scene:
    """`scene` with each band of each date moved and stretched so that its median and deciles on hills are those of `like`.

    What is left to tell the two apart is structure: neither the haze, the light and the colours of two days, which no two
    real scenes share either.
    """
    layers = dict(scene.layers)
    for phase in ("pre", "post"):
        for colour in COLOURS:
            name = f"{colour}_{phase}"
            (low, middle, high), (to_low, to_middle, to_high) = (_deciles(one, name, phase) for one in (scene, like))
            factor = (to_high - to_low) / max(high - low, 1e-4)
            layers[name] = (scene.layers[name] - np.float32(middle)) * np.float32(factor) + np.float32(to_middle)
    return Scene(scene.name, layers, scene.truth)


def _deciles(scene: Scene, name: str, phase: str) -> tuple[float, float, float]:
    inside = scene.known(phase) & (np.nan_to_num(scene.layers["slope"]) >= HILLS_DEG)
    low, middle, high = np.quantile(scene.layers[name][inside], (0.1, 0.5, 0.9))
    return float(low), float(middle), float(high)


def resampled_like_the_real(image: FloatArray, crs: str, transform: Affine) -> FloatArray:
    """`image` (band, y, x) warped to the real pair's grid of degrees by nearest neighbour, and back bilinearly.

    The real pair was exported so by Earth Engine, and `map-raster` warps it back: texture is only comparable after both.
    """
    rows, columns = image.shape[1:]
    corner = transform.c, transform.f + rows * transform.e, transform.c + columns * transform.a, transform.f
    west, south, east, north = transform_bounds(crs, "EPSG:4326", *corner, densify_pts=21)
    width, height = (math.ceil(extent / _DEGREES) for extent in (east - west, north - south))
    to = Affine(_DEGREES, 0, west, 0, -_DEGREES, north)
    degrees = np.full((len(image), height, width), np.nan, np.float32)
    common = {"src_nodata": np.nan, "dst_nodata": np.nan}
    reproject(
        image, degrees, src_transform=transform, src_crs=crs, dst_transform=to, dst_crs="EPSG:4326",
        resampling=Resampling.nearest, **common,
    )  # fmt: skip
    back = np.full_like(image, np.nan)
    reproject(
        degrees, back, src_transform=to, src_crs="EPSG:4326", dst_transform=transform, dst_crs=crs,
        resampling=Resampling.bilinear, **common,
    )  # fmt: skip
    return back

"""Terrain with drainage: hills in the steady state of river incision, valleys filled with sediment, rounded by creep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.simulate.domains import Domain
from modeling.simulate.drainage import IndexArray, accumulate, climb, route
from modeling.simulate.noise import FloatArray, fractal, ramp, resample, stream

STEP = 3
"""The terrain is made on a grid of this many pixels, and interpolated: water does not see single pixels."""
ROUNDS = 8
"""How often flow and heights are brought into agreement; they hardly change after that."""
OUTLET_SHARE = 0.15
"""Share of the region's edge through which rivers leave."""
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Terrain:
    """The ground of a region; arrays are (y, x)."""

    elevation_m: FloatArray
    """Elevation on the fine grid."""
    slope_deg: FloatArray
    """Slope on the fine grid, degrees, central differences."""
    gradient: tuple[FloatArray, FloatArray]
    """dz/dy (downwards in the array) and dz/dx, dimensionless."""
    channel_area_m2: FloatArray
    """Drained area, on the fine grid, nearest neighbour; of the network in `receiver`."""
    above_valley_m: FloatArray
    """Height above the fill of the nearest valley floor; negative, by a little, where the fill was laid."""
    receiver: IndexArray
    """Flow on the coarse grid: flat index of the cell below each cell, before ridges were rounded and valleys filled."""
    coarse_shape: tuple[int, int]
    """Shape of the coarse grid."""


def make_terrain(domain: Domain, seed: int, shape_yx: tuple[int, int], pixel_m: float) -> Terrain:
    """Terrain of a region of `shape_yx` pixels, deterministic in `seed`.

    Slopes follow the steady state of the stream-power law, S = S0 (A/A0)**-theta, capped at the hillslope gradient S0
    (Whipple and Tucker 1999, J. Geophys. Res. 104), along a D8 network that is routed anew in each round. Here theta
    is the domain's concavity plus 0.08 and A0 = (0.45 valley_spacing)**2.
    """
    coarse = (math.ceil(shape_yx[0] / STEP) + 1, math.ceil(shape_yx[1] / STEP) + 1)
    cell = pixel_m * STEP
    rng = stream(seed, "terrain")
    height = _first_guess(rng, coarse)
    edge = np.zeros(coarse, bool)
    edge[[0, -1]], edge[:, [0, -1]] = True, True
    outlet = edge & (height < np.quantile(height[edge], OUTLET_SHARE))
    # Rock and soil are not alike everywhere: the angle at which hillslopes fail varies over kilometres and less.
    strength = np.exp(
        np.float32(domain.hillslope_spread) * (fractal(stream(seed, "rock"), coarse, 60, 6, beta=2.0) - 0.7)
    )
    steepest = math.tan(math.radians(domain.hillslope)) * np.clip(strength, 0.3, 1.1).ravel().astype(np.float64)
    cliff = 1.15 * cell * float(steepest.max())
    head_m2 = (0.45 * domain.valley_spacing) ** 2
    for rounds in range(ROUNDS):
        network = route(height, outlet, cell)
        area = accumulate(network, np.full(height.size, cell * cell))
        slope = np.minimum(steepest, steepest * (area / head_m2) ** -(domain.concavity + 0.08))
        height = climb(network, slope * network.distance_m, np.zeros(height.size)).reshape(coarse).astype(np.float32)
        height = _without_cliffs(height, cliff)
        height = ndimage.gaussian_filter(height, 0.6)
        if rounds < ROUNDS // 2:
            height += 2.0 * fractal(rng, coarse, 60, 3)
    drained = area.reshape(coarse).astype(np.float32)
    height = ndimage.gaussian_filter(height, max(domain.ridge_rounding / cell, 0.3))
    height += (0.02 * domain.hillslope) * fractal(rng, coarse, 25, 3)
    height, above = _fill_valleys(height, drained, domain)
    y, x = (np.arange(n, dtype=np.float32) / np.float32(STEP) for n in shape_yx)
    fine = ndimage.gaussian_filter(resample(height, y, x), 0.8) + np.float32(domain.base_elevation)
    # Gullies and slumps too small for the coarse grid roughen hillslopes; valley floors are smooth.
    hilly = ramp(resample(above, y, x), 2.0, 12.0)
    fine += (np.float32(0.2) + np.float32(0.8) * hilly) * fractal(rng, shape_yx, 24, 2.5, beta=2.6)
    dy, dx = np.gradient(fine, np.float32(pixel_m))
    slope_deg = np.degrees(np.arctan(np.hypot(dy, dx))).astype(np.float32)
    rows, cols = (np.minimum((np.arange(n) + 1) // STEP, m - 1) for n, m in zip(shape_yx, coarse, strict=True))
    return Terrain(
        fine, slope_deg, (dy.astype(np.float32), dx.astype(np.float32)), drained[np.ix_(rows, cols)],
        resample(above, y, x), network.receiver, coarse,
    )  # fmt: skip


def _first_guess(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Broad relief and a tilt: where the rivers will run."""
    tilt_y, tilt_x = rng.normal(size=2)
    y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in shape)
    broad = fractal(rng, shape, 0.8 * max(shape), 4, beta=2.6)
    return np.asarray(broad + 0.8 * (tilt_y * y[:, None] + tilt_x * x[None, :]), dtype=np.float32)


def _without_cliffs(height: FloatArray, rise_m: float) -> FloatArray:
    """Lower what stands more than `rise_m` above a neighbouring cell: basins with far outlets meet at cliffs otherwise."""
    for _ in range(ROUNDS * 5):
        lowest = ndimage.minimum_filter(height, footprint=_CROSS, mode="nearest")
        height = np.minimum(height, lowest + np.float32(rise_m))
    return height


def _fill_valleys(height: FloatArray, drained_m2: FloatArray, domain: Domain) -> tuple[FloatArray, FloatArray]:
    """Fill the valleys of larger streams with sediment, level across; returns the ground and its height above the fill."""
    channel = drained_m2 > max(2.5e5, float(np.quantile(drained_m2, 0.985)))
    nearest: npt.NDArray[np.intp] = ndimage.distance_transform_edt(
        ~channel, return_distances=False, return_indices=True
    )
    bed = height[tuple(nearest)]
    size = drained_m2[tuple(nearest)] / float(drained_m2.max())
    fill = bed + np.float32(6.0 * domain.floodplain) * size ** np.float32(0.4)
    fill = ndimage.gaussian_filter(fill, 4.0)
    ground = np.maximum(height, fill + np.float32(0.02) * (height - fill))
    return ground.astype(np.float32), (ground - fill).astype(np.float32)

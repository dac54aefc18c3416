"""Landslides: where they start, how large they are, and how they run downhill.

The areas are drawn from a published distribution; the outline, the run-out and the susceptibility are rules of thumb,
not mechanics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from modeling.simulate.domains import Domain
from modeling.simulate.noise import FloatArray, IntArray, fractal, ramp, stream
from modeling.simulate.terrain import STEP, Terrain

RHO, A_KM2, S_KM2 = 1.40, 1.28e-3, -1.32e-4
"""rho, a (km2) and s (km2) of the inverse-gamma distribution of landslide areas.

Malamud, Turcotte, Guzzetti and Reichenbach (2004), Earth Surf. Process. Landf. 29, 687-711.
"""
_PAINTED = 1.09
"""Factor on widths: bends, and ends narrower than the middle, take a little."""
MAXIMUM_COUNT = 20_000
"""No region gets more landslides than this, whatever its size."""


def inverse_gamma_cdf(area_m2: npt.ArrayLike, scale: float = 1.0) -> npt.NDArray[np.float64]:
    """Share of landslides smaller than `area_m2`: Q(rho, a / (A - s)), Malamud et al. (2004), areas times `scale`."""
    shifted = np.asarray(area_m2, dtype=np.float64) / scale / 1e6 - S_KM2
    return np.asarray(special.gammaincc(RHO, A_KM2 / shifted))


def draw_areas(rng: np.random.Generator, count: int, domain: Domain) -> FloatArray:
    """`count` areas in m2 from the inverse gamma, truncated to what the domain says is drawn (inverse transform)."""
    low, high = inverse_gamma_cdf(np.array([domain.slide_min_m2, domain.slide_max_m2]), domain.slide_scale)
    share = rng.uniform(low, high, count)
    return np.asarray((A_KM2 / special.gammainccinv(RHO, share) + S_KM2) * 1e6 * domain.slide_scale, dtype=np.float32)


@dataclass(frozen=True)
class Slides:
    """Landslides on the fine grid; arrays are (y, x)."""

    label: IntArray
    """0 outside, else the number of the landslide."""
    depth: FloatArray
    """How thoroughly the ground was bared: 1 along the axis, falling to about 0.3 at the edge, 0 outside."""
    drawn_m2: FloatArray
    """The areas that were drawn, m2, by number from 1.

    A slide alone is painted at about this area (0.9 to 1.15 times, on average over many). Overlap and an early stop on
    the valley floor take from it.
    """


def susceptibility(domain: Domain, terrain: Terrain, mmi: FloatArray) -> FloatArray:
    """Relative chance (y, x) that a slide starts: steep for the domain's friction, shaken (from MMI 5.6), off the floor.

    A product of three ramps, in the sense of the published correlations of earthquake-triggered landslides with slope
    and shaking; not a stability analysis.
    """
    steep = ramp(terrain.slope_deg, domain.friction - 6.0, domain.friction + 10.0)
    shaken = np.clip((mmi - np.float32(5.6)) / np.float32(2.0), 0, 1.5) ** 1.5
    off_floor = ramp(terrain.above_valley_m, 5.0, 30.0)
    return np.asarray(steep * shaken * off_floor, dtype=np.float32)


def make_slides(
    domain: Domain, seed: int, terrain: Terrain, chance: FloatArray, share: float, purpose: str, pixel_m: float
) -> Slides:
    """Slides started in proportion to `chance` (y, x) and run down the flow, deterministic in `seed` and `purpose`.

    As many as have, on average, `share` of the region's area by the areas drawn (see `Slides.drawn_m2`); in a small
    region a few large ones make it differ much from that.
    """
    rng = stream(seed, "slides", purpose)
    shape = terrain.slope_deg.shape
    closeness, label = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    weight = chance.ravel().astype(np.float64)
    wanted_m2 = share * weight.size * pixel_m**2
    if weight.sum() <= 0 or wanted_m2 <= 0:
        return Slides(label, closeness, np.zeros(0, np.float32))
    mean_m2 = float(draw_areas(rng, 4000, domain).mean())
    areas = draw_areas(rng, min(max(1, round(wanted_m2 / mean_m2)), MAXIMUM_COUNT), domain)
    starts = np.searchsorted(np.cumsum(weight), rng.uniform(0, weight.sum(), areas.size))
    for number, (start, area_m2) in enumerate(zip(starts.tolist(), areas.tolist(), strict=True), start=1):
        _run_out(
            domain,
            rng,
            terrain,
            divmod(min(start, weight.size - 1), shape[1]),
            area_m2,
            number,
            closeness,
            label,
            pixel_m,
        )
    edge = closeness + np.float32(0.22) * fractal(rng, shape, 14, 2)
    inside = (edge > 0.30) & (label > 0)
    return Slides(np.where(inside, label, 0).astype(np.int32), np.where(inside, np.clip(closeness, 0, 1), 0), areas)


def _run_out(
    domain: Domain, rng: np.random.Generator, terrain: Terrain, start: tuple[int, int], area_m2: float, number: int,
    closeness: FloatArray, label: IntArray, pixel_m: float,
) -> None:  # fmt: skip
    """Paint one slide along the flow from its crown; ends after its length, or its width out on the valley floor."""
    elongation = 1 + (domain.elongation - 1) * math.exp(0.55 * rng.standard_normal())
    # A band with round ends, `elongation` times as long as wide: area = width**2 (elongation - 1 + pi/4).
    width_px = math.sqrt(area_m2 / (elongation - 1 + math.pi / 4)) / pixel_m
    half_px, length_px = _PAINTED * 0.5 * width_px, (elongation - 1) * width_px
    y, x = float(start[0]), float(start[1])
    _, cols = terrain.coarse_shape
    cell = round(y / STEP) * cols + round(x / STEP)
    gone, on_floor = 0.0, 0.0
    while True:
        along = gone / max(length_px, 1e-6)
        width = half_px * (0.75 + 0.5 * math.sin(math.pi * min(along * 1.15, 1.0)))
        _disc(y, x, max(width, 0.8), number, closeness, label)
        if gone >= length_px:
            break
        below = int(terrain.receiver[cell])
        if below == cell:
            break
        to_y, to_x = float(below // cols * STEP), float(below % cols * STEP)
        distance = math.hypot(to_y - y, to_x - x)
        if distance > length_px - gone > 0:  # the last step ends where the slide does
            part = (length_px - gone) / distance
            to_y, to_x, distance = y + part * (to_y - y), x + part * (to_x - x), length_px - gone
        pieces = max(1, round(distance / max(1.0, 0.6 * half_px)))
        for i in range(1, pieces):
            _disc(y + (to_y - y) * i / pieces, x + (to_x - x) * i / pieces, max(width, 0.8), number, closeness, label)
        y, x, cell = to_y, to_x, below
        gone += distance
        row, col = min(int(y), label.shape[0] - 1), min(int(x), label.shape[1] - 1)
        if terrain.above_valley_m[row, col] < 2.0:
            on_floor += distance
            if on_floor > 2.0 * half_px + 2.0:
                break


def _disc(y: float, x: float, radius: float, number: int, closeness: FloatArray, label: IntArray) -> None:
    """Raise `closeness` to a cone about (y, x), and take over the label where it was raised; changes both in place."""
    top, left = max(0, math.floor(y - radius)), max(0, math.floor(x - radius))
    bottom, right = min(label.shape[0], math.ceil(y + radius) + 1), min(label.shape[1], math.ceil(x + radius) + 1)
    if top >= bottom or left >= right:
        return
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    cols = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    value = np.float32(1.3) - np.sqrt(rows * rows + cols * cols) / np.float32(radius)
    part = closeness[top:bottom, left:right]
    nearer = value > part
    np.copyto(part, value, where=nearer)
    label[top:bottom, left:right][nearer & (value > 0)] = number

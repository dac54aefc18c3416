"""Land cover and how it changes: woods, fields, rivers, towns, and everything that looks like a landslide and is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from modeling.simulate.domains import Domain
from modeling.simulate.drainage import IndexArray
from modeling.simulate.landslides import make_slides
from modeling.simulate.noise import BoolArray, CodeArray, FloatArray, fractal, patches, ramp, resample, stream
from modeling.simulate.terrain import STEP, Terrain

BROADLEAF, CONIFER, OPEN, CROP, ROCK, TOWN, WATER, GRAVEL = range(8)
CLASSES = ("broadleaf forest", "conifer forest", "shrub and grass", "crops", "rock", "town", "water", "river gravel")
"""Names of the codes of the land-cover raster."""


@dataclass(frozen=True)
class Cover:
    """What covers the ground; arrays are (y, x)."""

    classes: CodeArray
    """Codes of `CLASSES` before the event."""
    density: FloatArray
    """How dense the vegetation is, 0.6 to 1.25; `optics.mixture` takes all above 1 as closed."""
    tone: FloatArray
    """Brightness of the ground relative to its class, 0.5 to 1.6."""
    field_phase: FloatArray
    """Days by which the calendar of each field runs late (negative: early)."""
    harvested: FloatArray
    """1 in fields that are harvested or ploughed between the dates."""
    felled: FloatArray
    """Share felled between the dates (clear-cuts), 0 to 1."""
    burnt: FloatArray
    """Share burnt between the dates, 0 to 1."""
    opened: FloatArray
    """Share bared between the dates: 1 in quarries and building sites, less along tracks."""
    old_scar: FloatArray
    """How bare scars of earlier landslides are, on both dates, 0 to 1."""
    flooded: FloatArray
    """How far river gravel is under water on one of the two dates only: up to +1 before, down to -1 after."""


def make_cover(domain: Domain, seed: int, terrain: Terrain, pixel_m: float) -> Cover:
    """Land cover of a region and its changes between the dates, deterministic in `seed`."""
    rng = stream(seed, "cover")
    shape = terrain.slope_deg.shape
    flat = (terrain.above_valley_m < 3.0) & (terrain.slope_deg < 9.0)
    classes, phase, harvested = _classes(domain, rng, terrain, flat, pixel_m)
    hills = ~flat & (classes != WATER) & (classes != GRAVEL)
    woods = np.isin(classes, (BROADLEAF, CONIFER, OPEN)) & hills
    opened = _roads(domain, rng, terrain, woods, pixel_m)
    np.maximum(opened, _blocks(rng, shape, domain.sites * shape[0] * shape[1] * pixel_m**2 / 1e8, (4, 14)), out=opened)
    opened[classes == WATER] = 0
    felled = _clearcuts(domain, rng, woods, pixel_m)
    burnt_core = fractal(rng, shape, 90, 6) + 0.35 * fractal(rng, shape, 12, 2)
    limit = np.quantile(burnt_core[woods], 1 - min(domain.burnt_share, 0.5)) if woods.any() else np.inf
    burnt = np.where(woods, ramp(burnt_core, float(limit), float(limit) + 0.25), 0).astype(np.float32)
    chance = ramp(terrain.slope_deg, domain.friction - 10.0, domain.friction + 8.0) * ramp(
        terrain.above_valley_m, 5, 30
    )
    old = make_slides(domain, seed, terrain, chance.astype(np.float32), domain.old_scar_share, "old", pixel_m)
    bare = rng.uniform(0.15, 1.0, old.drawn_m2.size + 1).astype(np.float32)
    river = (classes == WATER) | (classes == GRAVEL)
    stage = ramp(fractal(rng, shape, 40, 3), 0.2, 0.8) * river * np.float32(rng.choice([-1.0, 0.0, 1.0]))
    return Cover(
        classes=classes,
        density=np.clip(1.0 + 0.08 * fractal(rng, shape, 60, 2, beta=1.6), 0.6, 1.25),
        tone=np.clip(1.0 + 0.10 * fractal(rng, shape, 60, 2, beta=1.4), 0.5, 1.6),
        field_phase=phase,
        harvested=harvested,
        felled=felled,
        burnt=burnt,
        opened=opened,
        old_scar=bare[old.label] * (old.label > 0) * np.clip(old.depth * 1.6, 0, 1),
        flooded=stage.astype(np.float32),
    )


def _classes(
    domain: Domain, rng: np.random.Generator, terrain: Terrain, flat: BoolArray, pixel_m: float
) -> tuple[CodeArray, FloatArray, FloatArray]:
    """(codes of `CLASSES`, calendar delay in days, 1 in fields harvested between the dates), each (y, x)."""
    shape = flat.shape
    classes = np.full(shape, BROADLEAF, np.uint8)
    elevation = terrain.elevation_m
    height = (elevation - elevation.min()) / max(float(np.ptp(elevation)), 1.0)
    classes[patches(fractal(rng, shape, 160, 10, beta=3.2) + 0.5 * height, domain.conifer_share)] = CONIFER
    classes[patches(fractal(rng, shape, 140, 6, beta=3.2), domain.open_share)] = OPEN
    uneven_m = min(80.0, 0.2 * float(np.ptp(elevation)))
    classes[elevation + uneven_m * fractal(rng, shape, 60, 5) > domain.tree_line] = OPEN
    rocky = ramp(terrain.slope_deg, domain.hillslope - 9, domain.hillslope + 9) + 0.5 * fractal(rng, shape, 60, 8)
    rocky += 0.8 * ramp(elevation, domain.tree_line - 100, domain.tree_line + 400)
    classes[patches(rocky, domain.rock_share)] = ROCK
    number, phase, harvest = _fields(rng, shape, pixel_m)
    cropped = rng.random(number.max() + 1) < domain.crop_share
    classes[flat] = np.where(cropped[number[flat]], CROP, OPEN)
    town = flat & patches(fractal(rng, shape, 50, 5), domain.town_share)
    classes[town] = TOWN
    half_px = np.clip(np.sqrt(terrain.channel_area_m2 / max(float(terrain.channel_area_m2.max()), 1.0)), 0.15, 1)
    wide = terrain.channel_area_m2 > max(1.0e6, float(np.quantile(terrain.channel_area_m2, 0.985)))
    distance = _from_channels(wide)
    local = ndimage.grey_dilation(np.where(wide, half_px, 0).astype(np.float32), size=9)
    reach = local * np.float32(domain.river_width / pixel_m / 2)
    wander = 0.5 * fractal(rng, shape, 25, 3)
    classes[distance < 2.2 * reach + wander] = GRAVEL
    classes[distance < 0.9 * reach + 0.4 * wander + 0.3] = WATER
    return classes, phase, np.where(classes == CROP, harvest, 0).astype(np.float32)


def _from_channels(wide: BoolArray) -> FloatArray:
    """Distance (y, x) in pixels from the middle lines of channels, which are known on the terrain's coarse grid only."""
    coarse = ndimage.distance_transform_edt(~wide[::STEP, ::STEP]).astype(np.float32) * STEP
    y, x = (np.arange(n, dtype=np.float32) / np.float32(STEP) for n in wide.shape)
    return resample(coarse, y, x)


def _fields(
    rng: np.random.Generator, shape: tuple[int, int], pixel_m: float
) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Rectangular fields on a turned grid: number, calendar delay in days, and whether harvested between the dates."""
    angle = rng.uniform(0, math.pi / 2)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    long_m, short_m = rng.uniform(120, 260), rng.uniform(50, 110)
    u = (x * math.cos(angle) + y * math.sin(angle)) * pixel_m / long_m
    v = (-x * math.sin(angle) + y * math.cos(angle)) * pixel_m / short_m
    row = np.floor(v).astype(np.int64)
    shift = np.random.default_rng(int(rng.integers(2**31))).uniform(0, 1, 4096)
    column = np.floor(u + shift[row % 4096].astype(np.float32)).astype(np.int64)
    number = (row * 7919 + column * 104729) % 4096
    phase = rng.normal(0, 18, 4096).astype(np.float32)[number]
    harvest = (rng.random(4096) < 0.35).astype(np.float32)[number]
    return number, phase, harvest


def _clearcuts(domain: Domain, rng: np.random.Generator, woods: BoolArray, pixel_m: float) -> FloatArray:
    """Share felled (y, x): turned rectangles of 70 to 300 m a side with frayed edges, one intensity a region."""
    shape = woods.shape
    area_px = domain.clearcut_share * woods.size
    mean_px = 2.2e4 / pixel_m**2
    cut = _blocks(rng, shape, area_px / mean_px, (70 / pixel_m, 300 / pixel_m))
    frayed = cut * (0.9 + 0.3 * fractal(rng, shape, 8, 2)) > 0.55
    return np.where(frayed & woods, rng.uniform(0.7, 1.0), 0).astype(np.float32)


def _blocks(
    rng: np.random.Generator, shape: tuple[int, int], count: float, sides_px: tuple[float, float]
) -> FloatArray:
    """About `count` (Poisson) turned rectangles with sides in `sides_px`, 1 inside (y, x)."""
    out = np.zeros(shape, np.float32)
    for _ in range(rng.poisson(max(count, 0.0))):
        cy, cx, angle = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(0, math.pi)
        a, b = (rng.uniform(*sides_px) / 2 for _ in range(2))
        reach = math.ceil(math.hypot(a, b)) + 1
        top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
        part = out[top : int(cy) + reach, left : int(cx) + reach]
        y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]].astype(np.float32)
        u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        v = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
        np.maximum(part, ((np.abs(u) < a) & (np.abs(v) < b)).astype(np.float32), out=part)
    return out


def _roads(domain: Domain, rng: np.random.Generator, terrain: Terrain, woods: BoolArray, pixel_m: float) -> FloatArray:
    """Share bared (y, x) by new tracks in the woods: winding along the contours, one to two pixels wide."""
    shape = woods.shape
    out = np.zeros(shape, np.float32)
    wanted_px = domain.road_km * 1e3 / pixel_m * (shape[0] * shape[1] * pixel_m**2 / 1e8)
    dy, dx = terrain.gradient
    drawn = 0.0
    while drawn < wanted_px:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        side, climb = rng.choice([-1.0, 1.0]), rng.normal(0, 0.25)
        for _ in range(int(rng.uniform(60, 260))):
            row, col = int(y), int(x)
            if not (0 <= row < shape[0] and 0 <= col < shape[1]):
                break
            out[row, col] = 1.0
            gy, gx = float(dy[row, col]), float(dx[row, col])
            norm = math.hypot(gy, gx) + 1e-3
            y += side * gx / norm + climb * gy / norm
            x += -side * gy / norm + climb * gx / norm
            drawn += 1
        drawn += 1
    if rng.random() < 0.5:
        out = ndimage.grey_dilation(out, size=2)
    return np.where(woods, out * np.float32(rng.uniform(0.5, 0.95)), 0).astype(np.float32)

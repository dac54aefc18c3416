"""The polygons of Noto 2024 and simulated landslides, on one 10 m grid: area, elongation, compactness, clustering."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
from affine import Affine

from modeling import simulate
from modeling.errors import DataError
from modeling.realism.distance import Distance, Sample, measure
from modeling.realism.shapes import moments, pair_correlation, shapes
from modeling.vectors.burn import burn, polygon_runs

DoubleArray = npt.NDArray[np.float64]

CRS, PIXEL_M = "EPSG:32653", 10.0
LEAST_M2 = 900.0
"""Smallest landslide compared: the smallest that the simulator draws."""
RINGS_M = (1.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
WINDOW_M = 7680.0
"""Side of the windows within which clustering is taken: a simulated region of 768 pixels."""
LEAST_IN_WINDOW = 20
_LATEST = (
    ("hokai_all_20240106_suzu-wajimaEAST", "IdentifyArea_20240106_suzu-wajimaEAST", "cloud_poly_20240106_suzu-wajimaEAST-Re"),
    ("hokai_all_20240115_wajimaCENTRAL_Re2", "IdentifyArea_20240106_wajimaCENTRAL", "cloud_poly_20240115_wajimaCENTRAL_Re2"),
    ("hokai_all_20240112_wajimaWEST", "IdentifyArea_20240112_wajimaWEST", "cloud_poly_20240112_wajimaWEST"),
    ("hokai_all_20240118_anamizu", "IdentifyArea_20240106_anamizu", "cloud_poly_20240106_anamizu"),
    ("hokai_all_20240118_nanao", "IdentifyArea_20240109_nanao", "cloud_poly_20240109_nanao"),
)  # fmt: skip
"""Latest polygons of each sheet, the ground that was interpreted, and what of it lay under cloud."""


@dataclass(frozen=True)
class Inventory:
    """Landslides of 900 m2 and more, and how they cluster."""

    polygons: int
    """How many there are before the small ones are left out."""
    shape: dict[str, DoubleArray]
    """`area`, `elongation`, `compactness` of each (see `modeling.realism.shapes`)."""
    block: npt.NDArray[np.int64]
    """Window or region of each."""
    clustering: DoubleArray
    """(window, ring): pairs of landslides in each ring of `RINGS_M`, over those of evenly spread points."""


def real_noto(folder: Path) -> Inventory:
    """All sheets of `noto2024`; raises `DataError` when one cannot be read."""
    shape: dict[str, list[DoubleArray]] = {}
    block, clustering, polygons = [], [], 0
    for number, (slides, extent, cloud) in enumerate(_LATEST):
        drawn, seen, hidden = (_read(folder / f"{name}.fgb") for name in (slides, extent, cloud))
        polygons += len(drawn)
        left, bottom, right, top = (float(edge) for edge in seen.total_bounds)
        transform = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top)
        size = int((top - bottom) / PIXEL_M) + 1, int((right - left) / PIXEL_M) + 1
        runs, whose = polygon_runs(drawn.geometry.to_numpy(), size, transform)
        flat = runs.flat(size[1])
        owner = np.repeat(whose, runs.stop - runs.start) + 1
        found = moments(
            (flat // size[1]).astype(np.float64), (flat % size[1]).astype(np.float64), owner,
            _edges(flat, owner, len(drawn), size), PIXEL_M,
        )  # fmt: skip
        kept = found["area"] >= np.log10(LEAST_M2) - 1e-9
        for name, values in found.items():
            shape.setdefault(name, []).append(values[kept])
        centre = np.stack([drawn.geometry.centroid.x, drawn.geometry.centroid.y], axis=1)[kept]
        looked_at = burn(seen.geometry.to_numpy(), size, transform) & ~burn(hidden.geometry.to_numpy(), size, transform)
        window = _windows(centre, left, top)
        block.append(window + 1_000_000 * number)
        clustering.extend(_clustering(centre, window, looked_at, left, top))
    return Inventory(
        polygons,
        {name: np.concatenate(values) for name, values in shape.items()},
        np.concatenate(block),
        np.array(clustering),
    )


def simulated(seeds: list[int], size_px: int, preset: str = "iburi") -> Inventory:
    """Slides of regions of one preset, from their labels; clustering over the whole region."""
    shape: dict[str, list[DoubleArray]] = {}
    block, clustering, drawn = [], [], 0
    for seed in seeds:
        region = simulate.simulate_region(
            simulate.domain(preset), seed=seed, shape_yx=(size_px, size_px), dates_pre=0, dates_post=0, bands=("B4",)
        )
        found = shapes(region.landslide_id, PIXEL_M)
        y, x = np.nonzero(region.landslide_id)
        owner = region.landslide_id[y, x]
        count = np.bincount(owner, minlength=len(found["area"]) + 1)[1:]
        drawn += int((count > 0).sum())
        kept = count * PIXEL_M**2 >= LEAST_M2
        for name, values in found.items():
            shape.setdefault(name, []).append(values[kept])
        block.append(np.full(int(kept.sum()), seed))
        middle = [np.bincount(owner, at, len(count) + 1)[1:] / np.maximum(count, 1) * PIXEL_M for at in (x, -y)]
        if kept.sum() >= LEAST_IN_WINDOW:
            points = np.stack(middle, axis=1)[kept]
            looked_at = np.ones(region.shape_yx, bool)
            clustering.extend(_clustering(points, np.zeros(len(points), np.int64), looked_at, 0.0, 0.0))
    return Inventory(
        drawn,
        {name: np.concatenate(values) for name, values in shape.items()},
        np.concatenate(block),
        np.array(clustering),
    )


def distances(real: Inventory, other: Inventory) -> list[Distance]:
    """Area, elongation and compactness, then clustering by ring."""
    units = {"area": "log10 m2", "elongation": "log10 length/width", "compactness": "1 = a circle"}
    found = [
        measure(
            f"landslide {name}",
            unit,
            Sample.of(real.shape[name], real.block),
            Sample.of(other.shape[name], other.block),
        )
        for name, unit in units.items()
    ]
    for ring, (near, far) in enumerate(pairwise(RINGS_M)):
        one, two = real.clustering[:, ring], other.clustering[:, ring]
        found.append(
            measure(
                f"landslides {near:.0f} to {far:.0f} m apart", "log10 times as many as even",
                Sample.of(_logged(one), np.arange(len(one))), Sample.of(_logged(two), np.arange(len(two))),
            )
        )  # fmt: skip
    return found


def _logged(values: DoubleArray) -> DoubleArray:
    return np.asarray(np.log10(np.maximum(values, 0.1)))


def _read(path: Path) -> gpd.GeoDataFrame:
    try:
        return gpd.read_file(path).to_crs(CRS)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as polygons: {error}") from error


def _edges(flat: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], count: int, size: tuple[int, int]) -> DoubleArray:
    """Outer pixel edges of each polygon, by number from 1, overlapping polygons apart."""
    own = np.sort(owner * (size[0] * size[1] * 2) + flat)
    edges = np.zeros(count + 1)
    for step in (1, -1, size[1], -size[1]):
        there = own + step
        at = np.minimum(np.searchsorted(own, there), own.size - 1)
        edges += np.bincount(own[own[at] != there] // (size[0] * size[1] * 2), minlength=count + 1)
    return edges


def _windows(points: DoubleArray, left: float, top: float) -> npt.NDArray[np.int64]:
    column, row = (points[:, 0] - left) // WINDOW_M, (top - points[:, 1]) // WINDOW_M
    return np.asarray(row * 1000 + column, dtype=np.int64)


def _clustering(
    points: DoubleArray, window: npt.NDArray[np.int64], looked_at: npt.NDArray[np.bool_], left: float, top: float
) -> list[DoubleArray]:
    """The pair correlation of each window that has landslides enough."""
    rng = np.random.default_rng(0)
    y, x = np.nonzero(looked_at[::5, ::5])
    places = np.stack([left + (x * 5 + 2.5) * PIXEL_M, top - (y * 5 + 2.5) * PIXEL_M], axis=1)
    of_place = _windows(places, left, top) if np.unique(window).size > 1 else np.full(len(places), window[0])
    out = []
    for each in np.unique(window):
        inside, around = points[window == each], places[of_place == each]
        if len(inside) < LEAST_IN_WINDOW or len(around) < 200:
            continue
        even = around[rng.permutation(len(around))[:3000]] + rng.uniform(-25, 25, (min(len(around), 3000), 2))
        out.append(pair_correlation(inside, even, RINGS_M))
    return out

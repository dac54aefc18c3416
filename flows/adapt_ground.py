"""The ground of a scene that drawn polygons are about: what lies in them, around them, and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from flows.labels_file import Labels, LabelsError
from flows.mapping import NetworkReader, windows
from flows.scene import FloatArray, Scene
from gee.types import OBSERVED_LABELS, Grid, Observed
from modeling.adaptation.changes import Change
from modeling.adaptation.drawn import MOST_WINDOWS, SIDE_PX, UNDRAWN, Ground, windows_around
from modeling.adaptation.judging import WholeMap
from modeling.bands import BandSet, assemble
from modeling.vectors.burn import burn, polygon_runs

UNDRAWN_WINDOWS = 24
"""Windows of ground that nobody has drawn on: half anywhere, half where the map before has landslides."""
MOST_OVERLAP = 0.1
"""Share of a polygon that may lie in one of the other class; such pixels count for neither."""

BoolArray = npt.NDArray[np.bool_]
Corner = tuple[int, int]


@dataclass(frozen=True)
class MapBefore:
    """The map that was drawn on."""

    probability: Path
    """Its probabilities."""
    changes: Path
    """Where an earlier adaptation changed it, or was kept from doing so; there need be no such file."""

    def of(self, window: Window) -> FloatArray:
        """(y, x) probabilities of the network that made the map; NaN where they were kept from one before it."""
        with rasterio.open(self.probability, driver="GTiff") as file:
            found: FloatArray = file.read(1, window=window)
        if self.changes.is_file():
            with rasterio.open(self.changes, driver="GTiff") as file:
                kept = np.isin(file.read(1, window=window), [Change.KEPT_BACKGROUND, Change.KEPT_LANDSLIDE])
            found[kept] = np.nan
        return found


def check_on_map(labels: Labels, observed: Path) -> None:
    """Raise `LabelsError` naming the first polygon that the map of `observed` says nothing about, or that two classes claim.

    `labels` are in the coordinates of the map, `observed` is its raster of codes.
    """
    pixels: list[npt.NDArray[np.int64]] = []
    with rasterio.open(observed, driver="GTiff") as file:
        shape, transform = (file.height, file.width), file.transform
        extent = shapely.box(*file.bounds)
        for polygon in labels.polygons:
            where = labels.feature(polygon)
            if not polygon.geometry.intersects(extent):
                raise LabelsError(f"{where} lies outside the map: draw on the map, or check its coordinate system")
            inside = polygon_runs([polygon.geometry], shape, transform)[0].flat(shape[1])
            if not len(inside):
                raise LabelsError(f"{where} covers the centre of no pixel of the map: draw it larger, or take it out")
            rows, columns = np.divmod(inside, shape[1])
            part = Window(columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
            codes = file.read(1, window=part)[rows - rows.min(), columns - columns.min()]
            if not (codes == Observed.CLEAR).any():
                _refuse_unseen(where, codes)
            pixels.append(np.asarray(inside, np.int64))
    for index, polygon in enumerate(labels.polygons):
        for other in range(index):
            second = labels.polygons[other]
            if second.landslide == polygon.landslide or not second.geometry.intersects(polygon.geometry):
                continue
            both = len(np.intersect1d(pixels[index], pixels[other]))
            if both > MOST_OVERLAP * min(len(pixels[index]), len(pixels[other])):
                raise LabelsError(
                    f"{labels.feature(polygon)} and feature {second.number} overlap and are of different classes: draw "
                    "one of them again"
                )


def _refuse_unseen(where: str, codes: npt.NDArray[np.uint8]) -> None:
    if (codes == Observed.OUTSIDE).all():
        raise LabelsError(f"{where} lies outside the area of the map: take it out")
    reasons = sorted({OBSERVED_LABELS[int(code)] for code in np.unique(codes)})
    raise LabelsError(f"{where} lies wholly on ground that was not observed ({', '.join(reasons)}): take it out")


def drawn_ground(scene: Scene, bands: BandSet, labels: Labels, before: MapBefore) -> Ground:
    """The windows around the polygons, at most `MOST_WINDOWS` each: the ones that hold most of it."""
    corners: list[Corner] = []
    own: list[int] = []
    inverse = ~scene.grid.affine
    for index, polygon in enumerate(labels.polygons):
        left, bottom, right, top = polygon.geometry.bounds
        (x0, y0), (x1, y1) = inverse @ (left, top), inverse @ (right, bottom)
        found = list(windows_around((max(y0, 0), max(x0, 0), y1, x1)))
        if len(found) > MOST_WINDOWS:
            sizes = [burn([polygon.geometry], *_place(scene.grid, corner)).sum() for corner in found]
            found = [found[i] for i in sorted(np.argsort(sizes)[::-1][:MOST_WINDOWS].tolist())]
        corners += found
        own += [index] * len(found)
    return _cut(scene, bands, labels, corners, own, before)


def undrawn_ground(
    scene: Scene, bands: BandSet, labels: Labels, before: MapBefore, threshold: float, seed: int
) -> tuple[Ground, WholeMap]:
    """Windows around `UNDRAWN_WINDOWS` pixels of the map, the same for the same seed, and the map as a whole.

    Drawn pixels do not count. How many pixels of the scene each stands for is one by how often it would be drawn (Hansen
    and Hurwitz 1943).
    """
    rng = np.random.default_rng(seed)
    half = UNDRAWN_WINDOWS // 2
    kept: list[list[tuple[float, int, int]]] = [[], []]
    known = claimed = 0
    right = 0.0
    with rasterio.open(before.probability, driver="GTiff") as file:
        for window in windows(scene.grid):
            values = file.read(1, window=Window.from_slices(*window))
            claims = values >= threshold
            known, claimed = known + int(np.isfinite(values).sum()), claimed + int(claims.sum())
            right += float(values[claims].sum(dtype=np.float64))
            for among, where in zip(kept, (np.isfinite(values), claims), strict=True):
                rows, columns = np.nonzero(where)
                keys = rng.random(len(rows))
                first = np.argsort(keys)[:half]
                among += [
                    (float(keys[i]), int(rows[i]) + window[0].start, int(columns[i]) + window[1].start) for i in first
                ]
                among[:] = sorted(among)[:half]
        corners = [(row - SIDE_PX // 2, column - SIDE_PX // 2) for among in kept for _, row, column in among]
        rates = (len(kept[0]) / max(known, 1), len(kept[1]) / max(claimed, 1))
        stands_for = np.array([_stands_for(file, corner, threshold, rates) for corner in corners], np.float32)
    ground = _cut(scene, bands, labels, corners, [UNDRAWN] * len(corners), before)
    free = ground.owner == UNDRAWN
    found = replace(
        ground, observed=ground.observed & free, owner=np.full_like(ground.owner, UNDRAWN), stands_for=stands_for
    )
    return found, WholeMap(float(claimed), right)


def _stands_for(file: Any, corner: Corner, threshold: float, rates: tuple[float, float]) -> FloatArray:
    """(y, x) of a window: one by the number of windows that hold a pixel on average, 0 where the map is unknown.

    `rates`: how many windows lie around each known pixel of the map, and around each that it claims besides.
    """
    # All that windows lie around which hold a pixel of this one.
    values = np.full((2 * SIDE_PX - 1, 2 * SIDE_PX - 1), np.nan, np.float32)
    first = SIDE_PX // 2 - 1  # where the window begins in it
    inside = [
        slice(max(start - first, 0), max(min(start - first + len(values), size), 0))
        for start, size in zip(corner, file.shape, strict=True)
    ]
    at = tuple(slice(p.start - start + first, p.stop - start + first) for p, start in zip(inside, corner, strict=True))
    values[at] = file.read(1, window=Window.from_slices(*inside))
    often = rates[0] * _boxed(np.isfinite(values)) + rates[1] * _boxed(values >= threshold)
    here = np.isfinite(values[first : first + SIDE_PX, first : first + SIDE_PX])
    return np.divide(1.0, often, out=np.zeros(here.shape), where=here & (often > 0)).astype(np.float32)


def _boxed(where: BoolArray) -> npt.NDArray[np.float64]:
    """How many are true in each square of `SIDE_PX` that lies wholly inside."""
    sums = np.pad(where.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows = sums[SIDE_PX:] - sums[:-SIDE_PX]
    return np.asarray(rows[:, SIDE_PX:] - rows[:, :-SIDE_PX])


def _place(grid: Grid, corner: Corner) -> tuple[tuple[int, int], Affine]:
    """Shape and transform of a window."""
    return (SIDE_PX, SIDE_PX), grid.affine @ Affine.translation(corner[1], corner[0])


def _cut(
    scene: Scene, bands: BandSet, labels: Labels, corners: Sequence[Corner], own: Sequence[int], before: MapBefore
) -> Ground:
    shape = (len(corners), SIDE_PX, SIDE_PX)
    channels = np.full((shape[0], len(bands.channels), SIDE_PX, SIDE_PX), np.nan, np.float32)
    observed, owner, mapped = (
        np.zeros(shape, bool),
        np.full(shape, UNDRAWN, np.int32),
        np.full(shape, np.nan, np.float32),
    )
    geometries = np.asarray([polygon.geometry for polygon in labels.polygons], object)
    tree, read = shapely.STRtree(geometries), NetworkReader(scene, bands)
    for number, corner in enumerate(corners):
        inside = [
            slice(max(start, 0), max(min(start + SIDE_PX, size), 0))
            for start, size in zip(corner, scene.grid.shape_yx, strict=True)
        ]
        if any(part.stop <= part.start for part in inside):
            continue
        at = tuple(slice(p.start - start, p.stop - start) for p, start in zip(inside, corner, strict=True))
        layers, valid = read((inside[0], inside[1]))
        channels[number][:, *at] = assemble(bands, layers)
        observed[number][at] = valid
        mapped[number][at] = before.of(Window.from_slices(*inside))
        size, transform = _place(scene.grid, corner)
        left, top = transform @ (0, 0)
        right, bottom = transform @ (SIDE_PX, SIDE_PX)
        claims = np.zeros((2, *size), bool)
        for index in sorted(tree.query(shapely.box(left, bottom, right, top)).tolist()):
            pixels = burn([geometries[index]], size, transform)
            claims[int(labels.polygons[index].landslide)] |= pixels
            owner[number][pixels & (owner[number] == UNDRAWN)] = index
        contested = claims.all(axis=0)
        owner[number][contested] = UNDRAWN
        observed[number][contested] = False
    return Ground(channels, observed, owner, np.asarray(own, np.int32), mapped)


def apart(labels: Labels) -> npt.NDArray[np.float64]:
    """(polygon, polygon) the distances between the edges of the polygons, in the unit of the map; 0 where they touch."""
    geometries = np.asarray([polygon.geometry for polygon in labels.polygons], object)
    distances: npt.NDArray[np.float64] = shapely.distance(geometries[:, None], geometries[None, :])
    return distances


def near(labels: Labels, reach_m: float, grid: Grid, window: tuple[slice, slice]) -> BoolArray:
    """(y, x) the pixels of a window within `reach_m` of a polygon."""
    rows, columns = window
    transform = grid.affine @ Affine.translation(columns.start, rows.start)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    around = [shapely.buffer(polygon.geometry, reach_m) for polygon in labels.polygons]
    return burn(around, shape, transform)


def class_of(labels: Labels) -> BoolArray:
    """(polygon,) whether each is a landslide."""
    return np.asarray([polygon.landslide for polygon in labels.polygons])


def layer_window(scene: Scene, bands: BandSet, window: tuple[slice, slice], margin: int) -> FloatArray:
    """(channel, y, x) the channels of a window with a margin around it; beyond the scene its edge is repeated."""
    wide = [
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(window, scene.grid.shape_yx, strict=True)
    ]
    layers, _ = NetworkReader(scene, bands)((wide[0], wide[1]))
    values = assemble(bands, layers)
    pad = [(w.start - (p.start - margin), p.stop + margin - w.stop) for w, p in zip(wide, window, strict=True)]
    pad = [(low if low > 0 else 0, high if high > 0 else 0) for low, high in pad]
    return np.pad(values, [(0, 0), *pad], mode="edge")

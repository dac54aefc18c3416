"""Polygons as an analyst would draw them on a simulated scene: landslides of the truth, and ground that is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
from affine import Affine
from rasterio.features import shapes
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnPolygons:
    """Polygons in the coordinates of the scene, with their class."""

    geometries: tuple[shapely.Geometry, ...]
    landslide: tuple[bool, ...]


def draw(
    truth: BoolArray, mapped: BoolArray, known: BoolArray, transform: Affine, *, count: int, seed: int,
    least_px: int = 20, missed_only: bool = False,
) -> DrawnPolygons:  # fmt: skip
    """About `count` polygons, half of them landslides: where the map is wrong in every second place, else anywhere.

    With `missed_only` no landslide that the map has found for the most part, so that there may be fewer. Everything lies on
    `known` ground; arrays are (y, x), `transform` takes pixel corners to coordinates.
    """
    rng = np.random.default_rng(seed)
    landslides = _blobs(truth & known, mapped, least_px, rng, wrong_only=missed_only)[: count // 2]
    far = ~ndimage.binary_dilation(truth, iterations=2) & known
    alarms = _blobs(ndimage.binary_dilation(mapped & ~truth, iterations=1) & far, ~mapped, least_px, rng)
    other = [*alarms[: count // 4]]
    inside = ndimage.binary_erosion(far, iterations=9, border_value=0)
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    for place in rng.permutation(np.argwhere(inside)):
        if len(other) == count - count // 2:
            break
        disc = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 <= rng.integers(5, 9) ** 2
        if not any((disc & blob).any() for blob in other):  # with classes dealt out at random they must not overlap
            other.append(disc)
    drawn = [(_outline(blob, transform), True) for blob in landslides] + [
        (_outline(b, transform), False) for b in other
    ]
    return DrawnPolygons(tuple(geometry for geometry, _ in drawn), tuple(flag for _, flag in drawn))


def roughened(drawn: DrawnPolygons, off: float, seed: int) -> DrawnPolygons:
    """The same polygons, each moved by `off` in some direction and grown or shrunk by up to that, in the scene's unit.

    Those of which nothing would be left are not shrunk.
    """
    rng = np.random.default_rng(seed)
    made = []
    for geometry in drawn.geometries:
        angle, grown = rng.uniform(0, 2 * np.pi), rng.uniform(-off, off)
        changed = shapely.buffer(geometry, grown)
        kept = geometry if changed.is_empty or changed.geom_type != "Polygon" else changed
        made.append(shapely.affinity.translate(kept, off * np.cos(angle), off * np.sin(angle)))
    return DrawnPolygons(tuple(made), drawn.landslide)


def scrambled(drawn: DrawnPolygons, seed: int) -> DrawnPolygons:
    """The same polygons with their classes dealt out at random."""
    order = np.random.default_rng(seed).permutation(len(drawn.landslide))
    return DrawnPolygons(drawn.geometries, tuple(drawn.landslide[index] for index in order))


def _blobs(
    where: BoolArray, right: BoolArray, least_px: int, rng: np.random.Generator, *, wrong_only: bool = False
) -> list[BoolArray]:
    """Connected blobs, those that are mostly not `right` in every second place, or alone."""
    labels, count = ndimage.label(where)
    numbers = [n for n in range(1, count + 1) if (labels == n).sum() >= least_px]
    numbers = rng.permutation(numbers).tolist()
    wrong = [n for n in numbers if right[labels == n].mean() < 0.5]
    other = [] if wrong_only else [n for n in numbers if n not in wrong]
    order: list[int] = []
    while wrong or other:
        order += [part.pop(0) for part in (wrong, other) if part]
    return [labels == n for n in order]


def _outline(blob: BoolArray, transform: Affine) -> shapely.Geometry:
    found = [shapely.geometry.shape(g) for g, v in shapes(blob.astype(np.uint8), blob, transform=transform) if v]
    return max(found, key=lambda geometry: geometry.area).simplify(abs(transform.a) / 2)

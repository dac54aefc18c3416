"""Scores counted in landslides instead of pixels, in all and by the landslides' size; accumulated over whole test sets.

Objects are 8-connected components. A true landslide is found when the map covers at least half of it; a mapped object
is right when at least half of it is true. Halves rather than a one-to-one match by IoU, because neighbouring scars grow
together in one map and apart in another, and each of them is found all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.errors import DataError

BoolArray = npt.NDArray[np.bool_]
Counts = tuple[int, ...]
"""One count a size class."""

OVERLAP = 0.5
"""Share of an object that must be covered for it to count as found."""
SIZE_EDGES_M2 = (1_000.0, 3_000.0, 10_000.0, 30_000.0)
"""Where size classes meet: at 10 m these are landslides of 10, 30, 100 and 300 pixels."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class ObjectCounts:
    """Landslides and mapped objects by size class; add those of several maps, then ask for scores."""

    edges_m2: tuple[float, ...]
    """Rising areas at which the classes meet; the first class begins at 0, the last is open."""
    true: Counts
    """True landslides."""
    found: Counts
    """Of these, covered by the map by at least half."""
    true_pixels: Counts
    """Pixels of the true landslides."""
    found_pixels: Counts
    """Of these, mapped as landslide."""
    mapped: Counts
    """Mapped objects, by their own size."""
    right: Counts
    """Of these, true by at least half."""

    @classmethod
    def none(cls, edges_m2: tuple[float, ...] = SIZE_EDGES_M2) -> ObjectCounts:
        """Nothing counted yet."""
        zeros = (0,) * (len(edges_m2) + 1)
        return cls(edges_m2, *(zeros for _ in fields(cls)[1:]))

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        if self.edges_m2 != other.edges_m2:
            raise DataError(f"objects were counted in other size classes: {self.edges_m2} and {other.edges_m2} m²")
        names = [field.name for field in fields(self)[1:]]
        sums = (tuple(map(sum, zip(getattr(self, name), getattr(other, name), strict=True))) for name in names)
        return ObjectCounts(self.edges_m2, *sums)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """true, found, mapped, right: over all sizes."""
        return sum(self.true), sum(self.found), sum(self.mapped), sum(self.right)

    def scores(self) -> dict[str, float]:
        """precision, recall, f1 over all sizes, and the counts true_objects, found, mapped_objects, right."""
        true, found, mapped, right = self.counts
        precision, recall = _ratio(right, mapped), _ratio(found, true)
        return {
            "precision": precision,
            "recall": recall,
            "f1": _ratio(2 * precision * recall, precision + recall),
            "true_objects": float(true),
            "found": float(found),
            "mapped_objects": float(mapped),
            "right": float(right),
        }

    def by_size(self) -> list[dict[str, Any]]:
        """A row a size class, smallest first: its bounds in m² (the last has no `high_m2`), counts and scores.

        `recall` and `pixel_recall` are of the true landslides of that size, `precision` of the mapped objects of it. A
        score of no objects is None.
        """
        lows, highs = (0.0, *self.edges_m2), (*self.edges_m2, None)
        rows = zip(
            lows,
            highs,
            self.true,
            self.found,
            self.true_pixels,
            self.found_pixels,
            self.mapped,
            self.right,
            strict=True,
        )
        return [
            {
                "low_m2": low, "high_m2": high,
                "true": true, "found": found, "recall": found / true if true else None,
                "pixel_recall": found_pixels / true_pixels if true_pixels else None,
                "mapped": mapped, "right": right, "precision": right / mapped if mapped else None,
            }
            for low, high, true, found, true_pixels, found_pixels, mapped, right in rows
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ObjectCounts:
        """The inverse of `to_json`; raises `DataError` when fields are missing or uneven."""
        try:
            edges = tuple(float(edge) for edge in stored["edges_m2"])
            counts = [tuple(int(count) for count in stored[field.name]) for field in fields(cls)[1:]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored object counts cannot be read: {error!r}") from error
        if any(len(part) != len(edges) + 1 for part in counts):
            raise DataError(f"stored object counts do not have the {len(edges) + 1} size classes of their edges")
        return cls(edges, *counts)


def object_counts(
    predicted: BoolArray,
    truth: BoolArray,
    valid: BoolArray,
    *,
    pixel_area_m2: float = 100.0,
    min_pixels: int = 1,
    edges_m2: tuple[float, ...] = SIZE_EDGES_M2,
) -> ObjectCounts:
    """Count the objects of one map; bool arrays (y, x).

    Objects are measured inside `valid`; those with less than half of their pixels there, or fewer than `min_pixels`,
    are left out. Their size is that of the component as it was drawn: what a patch's edge cuts off is not known here,
    so sizes are best taken from whole regions.
    """
    edges = np.asarray(edges_m2, dtype=np.float64) / pixel_area_m2
    true, found, true_pixels, found_pixels = _covered(truth, predicted, valid, min_pixels, edges)
    mapped, right, _, _ = _covered(predicted, truth, valid, min_pixels, edges)
    return ObjectCounts(edges_m2, true, found, true_pixels, found_pixels, mapped, right)


def object_scores(predicted: BoolArray, truth: BoolArray, valid: BoolArray, *, min_pixels: int = 1) -> dict[str, float]:
    """`ObjectCounts.scores` of one map."""
    return object_counts(predicted, truth, valid, min_pixels=min_pixels).scores()


def _covered(
    objects: BoolArray, other: BoolArray, valid: BoolArray, min_pixels: int, edges_px: npt.NDArray[np.float64]
) -> tuple[Counts, Counts, Counts, Counts]:
    """By size: components of `objects`, those that `other` covers by half, their pixels, and those that it covers."""
    labels, count = ndimage.label(objects, structure=_EIGHT_NEIGHBOURS)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    seen = np.bincount(labels[valid], minlength=count + 1)[1:]
    hit = np.bincount(labels[valid & other], minlength=count + 1)[1:]
    counts = (seen >= OVERLAP * size) & (seen >= max(min_pixels, 1))
    group = np.searchsorted(edges_px, size, side="right")

    def by_group(amount: npt.NDArray[np.int64] | BoolArray) -> Counts:
        sums = np.zeros(len(edges_px) + 1, dtype=np.int64)
        np.add.at(sums, group[counts], amount[counts])
        return tuple(int(total) for total in sums)

    return by_group(counts), by_group(hit >= OVERLAP * seen), by_group(seen), by_group(hit)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""Training, validation and test patches that share no ground and do not touch.

Neighbouring patches show the same slope, field or cloud: a network that has seen one is not tested by the other. So the
ground is cut into square blocks of several patches, whole blocks go to one part, and of two patches that are nearer than
a stated distance but in different parts one is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from modeling.data.patch_store import PARTS
from modeling.errors import DataError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

LEFT_OUT = -1
"""Part of a patch that belongs to none."""

_BLOCK_PATCHES = (8, 4, 2)
_TRIES = 24


@dataclass(frozen=True)
class Split:
    """How patches are divided."""

    shares: tuple[int, ...] = (7, 3)
    """Of training, validation and, if there are three, test."""
    distance_px: int | None = None
    """Fewest pixels between patches of different parts; None: the side of a patch."""
    seed: int = 0
    """Decides which blocks go where."""

    def __post_init__(self) -> None:
        """Raise `DataError` for shares that are no split."""
        if not 2 <= len(self.shares) <= len(PARTS) or min(self.shares) < 0 or self.shares[0] < 1:
            raise DataError(f"a split of {':'.join(map(str, self.shares))} cannot be made: write 7:3 or 7:2:1")
        if self.distance_px is not None and self.distance_px < 0:
            raise DataError(f"a distance of {self.distance_px} pixels between parts cannot be kept")

    @classmethod
    def parse(cls, text: str, *, distance_px: int | None = None, seed: int = 0) -> Split:
        """From `7:3` or `7:2:1`."""
        try:
            shares = tuple(int(share) for share in text.split(":"))
        except ValueError:
            raise DataError(f"a split of {text!r} cannot be made: write 7:3 or 7:2:1") from None
        return cls(shares, distance_px, seed)

    @property
    def fractions(self) -> FloatArray:
        """The shares, of 1."""
        return np.array(self.shares) / sum(self.shares)

    def __str__(self) -> str:
        return ":".join(map(str, self.shares))


def split_by_space(
    corners_yx: IntArray, place: IntArray, positive: BoolArray, patch_px: int, split: Split
) -> npt.NDArray[np.int8]:
    """The part of each patch, (n,): a number in `PARTS` or `LEFT_OUT`.

    `corners_yx` (n, 2) are upper left corners in pixels; patches of different `place` share no ground. Among many
    divisions into blocks the one is taken that keeps the shares, for patches with and without landslides alike, and
    leaves out few. Raises `DataError` when no division leaves patches with landslides in every part.
    """
    distance = patch_px if split.distance_px is None else split.distance_px
    near = _near_pairs(corners_yx, place, patch_px + distance)
    weight = _weights(positive)
    best: tuple[float, npt.NDArray[np.int8]] | None = None
    for drawn in _divisions(corners_yx, place, weight, patch_px, split):
        part = _parted(drawn, near)
        kept = np.stack([weight[part == number].sum(axis=0) for number in range(len(split.shares))])
        if any(share > 0 and row[0] == 0 for share, row in zip(split.shares, kept, strict=True)):
            continue
        out = 1 - kept.sum(axis=0)
        wrong = np.abs(kept / np.maximum(kept.sum(axis=0), 1e-9) - split.fractions[:, None]).sum(axis=0)
        cost = float((wrong + out) @ np.array([0.7, 0.3]))
        if best is None or cost < best[0]:
            best = cost, part
    if best is None:
        raise DataError(
            f"{len(positive)} patches, {int(positive.sum())} of them with landslides, cannot be split {split} with "
            f"{distance} pixels between the parts: take a larger area, a smaller distance, or smaller patches"
        )
    return best[1]


def measured_distance(corners_yx: IntArray, place: IntArray, part: npt.NDArray[np.int8], patch_px: int) -> float | None:
    """Fewest pixels between two patches of different parts in one place, 0 where they touch; None without such a pair."""
    points = _points(corners_yx, place)
    nearest = np.inf
    for number in range(len(PARTS)):
        own, others = points[part == number], points[(part > number)]
        if len(own) and len(others):
            found, _ = cKDTree(own).query(others, p=np.inf)
            nearest = min(nearest, float(found.min()))
    return None if nearest >= _APART else nearest - patch_px


def balance(part: npt.NDArray[np.int8], positive: BoolArray, negatives: float, seed: int) -> BoolArray:
    """Which patches to keep so that each part has at most `negatives` patches without landslides for each one with.

    Those without are thinned at random; those with are all kept, for they are the scarce ones. Patches that are
    `LEFT_OUT` stay out.
    """
    rng = np.random.default_rng((seed, 1))
    keep = np.asarray(positive & (part != LEFT_OUT), bool)
    for number in range(len(PARTS)):
        wanted = round(int((keep & (part == number)).sum()) * negatives)
        keep[rng.permutation(np.flatnonzero((part == number) & ~positive))[:wanted]] = True
    return keep


_APART = 2.0**40


def _points(corners_yx: IntArray, place: IntArray) -> FloatArray:
    """Coordinates for a tree, none of them 0: where tiny numbers are flushed to zero, as a process that trains sets it,
    SciPy's tree looks for the number next to 0 for ever.
    """
    least = corners_yx.min(axis=0, initial=0)
    return np.column_stack([corners_yx.astype(np.float64) - least + 1.0, (place + 1.0) * _APART])


def _near_pairs(corners_yx: IntArray, place: IntArray, reach_px: int) -> IntArray:
    """Pairs (m, 2) of patches of one place whose corners are less than `reach_px` apart along both axes."""
    tree = cKDTree(_points(corners_yx, place))
    return np.asarray(tree.query_pairs(reach_px - 0.5, p=np.inf, output_type="ndarray"), np.int64)


def _divisions(
    corners_yx: IntArray, place: IntArray, weight: FloatArray, patch_px: int, split: Split
) -> Iterator[npt.NDArray[np.int8]]:
    """Parts by blocks: scattered ones, and compact ones for areas too small for those."""
    rng = np.random.default_rng(split.seed)
    for side in _BLOCK_PATCHES:
        blocks = np.column_stack([place, corners_yx // (side * patch_px)])
        which, of_patch = np.unique(blocks, axis=0, return_inverse=True)
        of_patch = of_patch.ravel()
        sums = _sums(of_patch, weight, len(which))
        for number in range(_TRIES):
            order = rng.permutation(len(which))
            if number % 4 == 3:
                order = np.argsort(np.hypot(*(which[:, 1:] - which[order[0], 1:]).T), kind="stable")
                yield _in_a_row(order, sums, split)[of_patch]
            else:
                yield _filled(order, sums, split)[of_patch]


def _weights(positive: BoolArray) -> FloatArray:
    """What each patch counts for, (n, 2): a share of all with, and of all without landslides."""
    return np.stack([kind / max(int(kind.sum()), 1) for kind in (positive, ~positive)], axis=1).astype(np.float64)


def _sums(of_group: IntArray, weight: FloatArray, groups: int) -> FloatArray:
    """The weights of each group, (group, 2)."""
    return np.stack([np.bincount(of_group, kind, groups) for kind in weight.T], axis=1).astype(np.float64)


def _filled(order: IntArray, sums: FloatArray, split: Split) -> npt.NDArray[np.int8]:
    """Groups to parts, one after the other to the part that lacks most."""
    out = np.zeros(len(sums), np.int8)
    lacking = np.repeat(split.fractions[:, None], 2, axis=1)
    for group in order:
        number = int(np.argmax(lacking @ np.array([0.7, 0.3])))
        out[group] = number
        lacking[number] -= sums[group]
    return out


def _in_a_row(order: IntArray, sums: FloatArray, split: Split) -> npt.NDArray[np.int8]:
    """Groups to parts in their order: the last part gets the first ones."""
    reached = np.cumsum(sums[order] @ np.array([0.7, 0.3]))
    edges = np.cumsum(split.fractions[::-1])[:-1] * reached[-1]
    out = np.zeros(len(sums), np.int8)
    out[order] = len(split.shares) - 1 - np.searchsorted(edges, reached, side="left")
    return out


def _parted(part: npt.NDArray[np.int8], near: IntArray) -> npt.NDArray[np.int8]:
    """Leave out patches near another part: of each pair the one whose part has the larger share, which comes first."""
    first, second = near.T
    apart = part[first] != part[second]
    first, second = first[apart], second[apart]
    out = part.copy()
    out[np.where(part[first] < part[second], first, second)] = LEFT_OUT
    return out

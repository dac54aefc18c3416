"""Patches from imagery and a mapped inventory: clip, stack, cut and split, the four tools of Yang et al. 2024, as one step.

The ground is cut into patches side by side. Those of which enough is known are split by space, thinned until those with
and without landslides balance, and written. The imagery is read twice, a row of patches at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modeling.data.batches import IGNORE, ByteArray, FloatArray
from modeling.data.patch_split import LEFT_OUT, Split, balance, measured_distance, split_by_space
from modeling.data.patch_store import PARTS, About, Patch, require_free, writing
from modeling.data.patch_truth import Inventory
from modeling.data.patches import PatchSet, open_patches
from modeling.errors import BandSetError, DataError
from modeling.rasters.raster import RasterGrid, SlicesYX

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

Tell = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is to do."""

PATCH_PX = 88
"""The patches of Yang et al. 2024."""
_STRIP_PX = 2048


class Source(Protocol):
    """Imagery and terrain on one grid; `modeling.rasters.raster_pair.RasterPair` is one."""

    @property
    def grid(self) -> RasterGrid:
        """The grid of everything that is read."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are."""

    def read(self, where: SlicesYX, wanted: Sequence[str]) -> tuple[Mapping[str, FloatArray], BoolArray]:
        """The wanted layers of a window, (y, x) each in physical units with NaN where unknown, and where all are known."""


@dataclass(frozen=True)
class NoImagery:
    """A source without layers, for patches of truth alone."""

    grid: RasterGrid
    """Where truth is wanted."""
    layer_names: tuple[str, ...] = ()
    """None."""

    def read(self, where: SlicesYX, wanted: Sequence[str]) -> tuple[Mapping[str, FloatArray], BoolArray]:
        """Nothing, known everywhere."""
        if wanted:
            raise BandSetError(f"{', '.join(wanted)} cannot be had: there is no imagery")
        return {}, np.ones(self.grid.window(where).shape_yx, bool)


@dataclass(frozen=True)
class Cut:
    """How patches are cut and chosen."""

    patch_px: int = PATCH_PX
    """Side of a patch."""
    minimum_known: float = 0.5
    """Smallest share of a patch that must count: imagery and truth known."""
    negatives: float = 1.0
    """Patches without landslides for each one with."""
    split: Split = field(default_factory=Split)
    """Training, validation and test."""

    def __post_init__(self) -> None:
        """Raise `DataError` for sizes that cannot be."""
        if self.patch_px < 8 or not 0 < self.minimum_known <= 1 or self.negatives < 0:
            raise DataError(
                f"patches of {self.patch_px} pixels, {self.minimum_known} known, {self.negatives} negatives each: "
                "at least 8 pixels, a share in (0, 1] and a number from 0 are needed"
            )


def build_patches(
    path: Path,
    source: Source,
    inventory: Inventory,
    about: About,
    *,
    domain: str,
    layers: Sequence[str] | None = None,
    cut: Cut | None = None,
    tell: Tell | None = None,
) -> PatchSet:
    """Cut a data set from a source and an inventory; `about` gets the split and its distance.

    `layers` are the source's if none are named. Raises `DataError` when no patch with a landslide is known well enough,
    or when they cannot be split (see `split_by_space`).
    """
    require_free(path)
    cut = cut or Cut()
    wanted = tuple(source.layer_names if layers is None else layers)
    inventory = inventory.in_system(source.grid.crs)
    found = _survey(source, inventory, wanted, cut, tell)
    part = split_by_space(
        found.corners_yx, np.zeros(len(found.positive), np.int64), found.positive, cut.patch_px, cut.split
    )
    part[~balance(part, found.positive, cut.negatives, cut.split.seed)] = LEFT_OUT
    chosen = np.flatnonzero(part != LEFT_OUT)
    distance = measured_distance(
        found.corners_yx[chosen], np.zeros(len(chosen), np.int64), part[chosen], cut.patch_px
    )  # fmt: skip
    few = " where there are so many" if _too_few(part, found.positive, cut.negatives) else ""
    about = replace(about, split=_in_words(cut, few), distance_px=distance)
    grid = source.grid
    a, _, left, _, e, top = grid.transform
    with writing(path, wanted, cut.patch_px, about) as writer:
        for done, index in enumerate(chosen, start=1):
            y, x = (int(corner) for corner in found.corners_yx[index])
            stack, truth = _patch(source, inventory, wanted, (y, x), cut.patch_px)
            writer.append(
                Patch(
                    layers=stack, truth=truth, name=f"{domain}/y{y}x{x}", domain=domain, part=int(part[index]),
                    crs=grid.crs, x=left + a * x, y=top + e * y, pixel=a,
                )
            )  # fmt: skip
            if tell is not None:
                tell("write patches", done, len(chosen))
    return open_patches(path)


@dataclass(frozen=True, eq=False)
class _Found:
    """The patches of which enough is known."""

    corners_yx: IntArray
    positive: BoolArray


def _survey(source: Source, inventory: Inventory, wanted: tuple[str, ...], cut: Cut, tell: Tell | None) -> _Found:
    """Where patches can be cut, and which of them have landslides."""
    height, width = source.grid.shape_yx
    side = cut.patch_px
    rows, columns = height // side, width // side
    if rows == 0 or columns == 0:
        raise DataError(f"patches of {side} pixels do not fit into {source.grid}")
    corners: list[tuple[int, int]] = []
    positive: list[bool] = []
    mapped = 0
    for row in range(rows):
        for first, last in _strips(columns, side):
            where = slice(row * side, (row + 1) * side), slice(first * side, last * side)
            truth = inventory.truth(source.grid, where)
            mapped += int((truth == 1).sum())
            if (truth != IGNORE).any():
                truth = _with_imagery(truth, source.read(where, wanted)[1])
            tiles = truth.reshape(side, last - first, side).swapaxes(0, 1).reshape(last - first, -1)
            for column in np.flatnonzero((tiles != IGNORE).mean(axis=1) >= cut.minimum_known):
                corners.append((row * side, (first + int(column)) * side))
                positive.append(bool((tiles[column] == 1).any()))
        if tell is not None:
            tell("look for patches", row + 1, rows)
    if not any(positive):
        why = "no landslide of the inventory lies in it" if mapped == 0 else "too little is known where landslides are"
        raise DataError(f"{source.grid}: there is no patch with a landslide ({why})")
    return _Found(np.array(corners, np.int64), np.array(positive, bool))


def _strips(columns: int, side: int) -> Iterator[tuple[int, int]]:
    """First and last patch of pieces of a row that are read at once."""
    many = max(1, _STRIP_PX // side)
    return ((first, min(first + many, columns)) for first in range(0, columns, many))


def _patch(
    source: Source, inventory: Inventory, wanted: tuple[str, ...], corner_yx: tuple[int, int], side: int
) -> tuple[FloatArray | None, ByteArray]:
    y, x = corner_yx
    where = slice(y, y + side), slice(x, x + side)
    layers, valid = source.read(where, wanted)
    truth = _with_imagery(inventory.truth(source.grid, where), valid)
    return (np.stack([layers[name] for name in wanted]) if wanted else None), truth


def _with_imagery(truth: ByteArray, valid: BoolArray) -> ByteArray:
    """What the imagery does not show does not count."""
    return np.where(valid, truth, np.uint8(IGNORE))


def _too_few(part: npt.NDArray[np.int8], positive: BoolArray, negatives: float) -> bool:
    """Whether a part has fewer patches without landslides than asked for."""
    parts = [part == number for number in range(len(PARTS))]
    return any(int((own & ~positive).sum()) < round(int((own & positive).sum()) * negatives) for own in parts)


def _in_words(cut: Cut, few: str) -> str:
    distance = cut.patch_px if cut.split.distance_px is None else cut.split.distance_px
    parts = ":".join(PARTS[: len(cut.split.shares)])
    return (
        f"{parts} = {cut.split} by blocks of ground, at least {distance} pixels between parts, "
        f"{cut.negatives:g} without landslides for each with one{few}; seed {cut.split.seed}"
    )

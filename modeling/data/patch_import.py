"""Other people's data sets as patches: labels checked one by one, large pictures cut, parts kept or made.

Everything is read twice: first the labels, to know which patches there are and what their values mean, then all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.data.batches import IGNORE, ByteArray
from modeling.data.patch_arrays import LabelArray
from modeling.data.patch_build import Tell
from modeling.data.patch_formats import Collection, Item, find
from modeling.data.patch_split import LEFT_OUT, Split, measured_distance, split_by_space
from modeling.data.patch_store import PARTS, About, Patch, require_free, writing
from modeling.data.patches import PatchSet, open_patches
from modeling.errors import DataError

IntArray = npt.NDArray[np.int64]
ImageArray = npt.NDArray[Any]

_LARGE_PX = 512
_CUT_PX = 256
_MINIMUM_INSIDE = 0.25


@dataclass(frozen=True)
class _Tile:
    """A patch of an item."""

    item: int
    top: int
    left: int
    positive: bool


def import_patches(
    path: Path,
    folder: Path,
    *,
    kind: str = "auto",
    split: Split | None = None,
    patch_px: int | None = None,
    licence: str = "unknown",
    command: str = "",
    tell: Tell | None = None,
) -> PatchSet:
    """A data set of patches from a folder of one that others have published; `kind` as in `patch_formats.find`.

    Parts that the folders name (train, val, test) are kept; else they are made by `split`: by space where files have
    coordinates or are cut into several patches, picture by picture where they have not. Patches are as large as the
    images where all are alike and small, else `patch_px` or 256. A mask may hold 0 and 1, or 0 and 255, or 0, 1 and 255
    for what does not count. Raises `DataError` naming the file for labels that are NaN or anything else, and for images
    and masks that do not fit.
    """
    require_free(path)
    found = find(folder, kind)
    shapes, values = _survey(found, tell)
    landslide = _landslide_value(found, values)
    side = patch_px or _side(shapes)
    tiles = _tiles(found, shapes, landslide, side, tell)
    part, words, distance = _parts(found.items, tiles, side, split or Split())
    note = f" ({found.note})" if found.note else ""
    about = About(f"{found.kind}: {len(found.items)} images{note}", licence, command, words, distance)
    kept = [(tile, int(number)) for tile, number in zip(tiles, part, strict=True) if number != LEFT_OUT]
    places = {item: number for number, item in enumerate(sorted({tile.item for tile, _ in kept}))}
    last, image, truth = -1, np.empty(0), np.empty(0, np.uint8)
    with writing(path, found.layers, side, about, dtype=found.dtype) as writer:
        for done, (tile, number) in enumerate(kept, start=1):
            item = found.items[tile.item]
            if tile.item != last:
                last, image, truth = tile.item, *_read(item, landslide)
            writer.append(_patch(item, tile, image, truth, side, number, 0 if item.place else 1 + places[tile.item]))
            if tell is not None:
                tell("import patches", done, len(kept))
    return open_patches(path)


def _survey(found: Collection, tell: Tell | None) -> tuple[list[tuple[int, int]], list[frozenset[float]]]:
    """Shape and values of every mask."""
    shapes: list[tuple[int, int]] = []
    values: list[frozenset[float]] = []
    for done, item in enumerate(found.items, start=1):
        label = item.label()
        if label.dtype.kind == "f" and (unknown := int(np.isnan(label).sum())):
            raise DataError(
                f"{item.label_file}: {unknown} labels of {item.name} are NaN; mark with 255 what does not count"
            )
        if label.shape != (size := item.size()):
            raise DataError(f"{item.label_file} has shape {label.shape}, but its image {item.name} {size}")
        shapes.append(size)
        values.append(frozenset(float(value) for value in np.unique(label)[:16]))
        if tell is not None:
            tell("check labels", done, len(found.items))
    return shapes, values


def _landslide_value(found: Collection, values: Sequence[frozenset[float]]) -> int:
    """Which value means landslide: 1, or 255 where no mask has a 1; raises `DataError` for values that mean nothing."""
    together = frozenset[float]().union(*values)
    for item, own in zip(found.items, values, strict=True):
        if wrong := sorted(own - {0.0, 1.0, float(IGNORE)}):
            raise DataError(
                f"{item.label_file}: {item.name} has the label {wrong[0]:g}; labels are 0 and 1 (or 255) for landslides, "
                "and 255 beside 1 for what does not count"
            )
    return IGNORE if IGNORE in together and 1.0 not in together else 1


def _side(shapes: Sequence[tuple[int, int]]) -> int:
    """The images' own size where they are all square, alike and small."""
    (common, count), *_ = Counter(shapes).most_common(1)
    return common[0] if count == len(shapes) and common[0] == common[1] <= _LARGE_PX else _CUT_PX


def _as_truth(label: LabelArray, landslide: int) -> ByteArray:
    if landslide == IGNORE:
        label = label == IGNORE
    return np.asarray(label, np.uint8)


def _read(item: Item, landslide: int) -> tuple[ImageArray, ByteArray]:
    image, truth = item.image(), _as_truth(item.label(), landslide)
    return image, np.where(np.isfinite(image).any(axis=0), truth, np.uint8(IGNORE))


def _tiles(
    found: Collection, shapes: Sequence[tuple[int, int]], landslide: int, side: int, tell: Tell | None
) -> list[_Tile]:
    """The patches of every image, side by side; the last ones may reach beyond it."""
    tiles = []
    for index, (item, (height, width)) in enumerate(zip(found.items, shapes, strict=True)):
        truth = _as_truth(item.label(), landslide)
        for top in range(0, height, side):
            for left in range(0, width, side):
                inside = truth[top : top + side, left : left + side]
                if inside.size >= _MINIMUM_INSIDE * side**2:
                    tiles.append(_Tile(index, top, left, bool((inside == 1).any())))
        if tell is not None:
            tell("cut images", index + 1, len(found.items))
    if not tiles:
        raise DataError(f"no image is large enough for patches of {side} pixels: ask for smaller ones")
    return tiles


def _parts(
    items: Sequence[Item], tiles: Sequence[_Tile], side: int, split: Split
) -> tuple[npt.NDArray[np.int8], str, float | None]:
    """The part of each tile, the rule in words, and the distance between parts where it is known."""
    named = {item.part for item in items}
    if None not in named and len(named) > 1:
        part = np.array([items[tile.item].part for tile in tiles], np.int8)
        return part, "as the folders name the parts; distances between them are not known", None
    positive = np.array([tile.positive for tile in tiles])
    corners, place = _ground(items, tiles)
    part = split_by_space(corners, place, positive, side, split)
    parts = ":".join(PARTS[: len(split.shares)])
    distance = side if split.distance_px is None else split.distance_px
    words = f"{parts} = {split} by blocks of ground, at least {distance} pixels between parts; seed {split.seed}"
    if any(item.place is None for item in items):
        words += "; images without coordinates are taken for different places, which nobody has said"
        return part, words, None
    kept = part != LEFT_OUT
    return part, words, measured_distance(corners[kept], place[kept], part[kept], side)


def _ground(items: Sequence[Item], tiles: Sequence[_Tile]) -> tuple[IntArray, IntArray]:
    """Corners (n, 2) in pixels and place (n,) of each tile: one place a coordinate system and pixel size, or an image."""
    corners, places = [], []
    numbers: dict[object, int] = {}
    for tile in tiles:
        item = items[tile.item]
        y, x = tile.top, tile.left
        key: object = tile.item
        if item.place is not None:
            crs, (a, _, c, _, e, f) = item.place
            y, x, key = y + round(f / e), x + round(c / a), (crs, round(a, 9))
        corners.append((y, x))
        places.append(numbers.setdefault(key, len(numbers)))
    return np.array(corners, np.int64), np.array(places, np.int64)


def _patch(item: Item, tile: _Tile, image: ImageArray, truth: ByteArray, side: int, part: int, place: int) -> Patch:
    window = slice(tile.top, tile.top + side), slice(tile.left, tile.left + side)
    inside, label = image[:, *window].astype(np.float32), truth[window]
    pad = [(0, side - size) for size in label.shape]
    patch = Patch(
        layers=np.pad(inside, [(0, 0), *pad], constant_values=np.nan), truth=np.pad(label, pad, constant_values=IGNORE),
        name=item.name if image.shape[1:] == (side, side) else f"{item.name}/y{tile.top}x{tile.left}",
        domain=item.domain, part=part, place=place,
    )  # fmt: skip
    if item.place is None:
        return patch
    crs, (a, _, c, _, e, f) = item.place
    return replace(patch, crs=crs, x=c + a * tile.left, y=f + e * tile.top, pixel=a)

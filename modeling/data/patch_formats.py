"""Landslide data sets that others publish, found in a folder: Landslide4Sense, HR-GLDD, and folders of images and masks.

Only what the files are called and how they are laid out is decided here; an `Item` reads its arrays when it is asked to.
Files are outside input: what they declare is weighed first, links to other files are not followed, nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.data.patch_arrays import LabelArray, hdf5, hdf5_image, hdf5_size, npy, npy_image, npy_label, npy_size
from modeling.data.patch_pictures import (
    PICTURES,
    picture_dtype,
    picture_layers,
    picture_place,
    picture_size,
    read_picture,
)
from modeling.data.patch_store import PARTS
from modeling.errors import DataError
from modeling.rasters.raster import Transform

LANDSLIDE4SENSE_BANDS = tuple(f"B{number}" for number in range(1, 15))
"""Names of its documentation: B1 to B12 of Sentinel-2, B13 slope and B14 elevation, all scaled by its makers."""
HR_GLDD_BANDS = ("red_planet_dn", "green_planet_dn", "blue_planet_dn", "nir_planet_dn")
"""PlanetScope, scaled by its makers (Meena et al. 2023, ESSD 15, 3283)."""

_PART = re.compile(r"(train|val|test)[a-z]*", re.IGNORECASE)
_BIJIE = re.compile(r"(non)?[-_ ]?landslide", re.IGNORECASE)
_IMAGES = ("image", "images", "img", "imgs")
_MASKS = ("mask", "masks", "label", "labels", "gt")
_WORDS = re.compile(r"image|img|mask|label|gt", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """An image with its labels."""

    name: str
    """Where it is, below the folder that is imported."""
    domain: str
    """The data set, or the site within it."""
    part: int | None
    """Number in `PARTS` where the folders say one."""
    size: Callable[[], tuple[int, int]]
    """Height and width of the image, read without its values."""
    image: Callable[[], npt.NDArray[Any]]
    """Reads (layer, y, x), as stored; NaN unknown."""
    label: Callable[[], LabelArray]
    """Reads (y, x) as stored."""
    label_file: Path
    """For messages."""
    place: tuple[str, Transform] | None = None
    """Coordinate system and transform, where the file has them."""


@dataclass(frozen=True)
class Collection:
    """A data set as it was found."""

    kind: str
    """A name of `KINDS`."""
    layers: tuple[str, ...]
    """Names along the first axis of an image."""
    items: tuple[Item, ...]
    """In the order of their names."""
    dtype: str
    """`float16` where that holds every value exactly, else `float32`."""
    note: str = ""
    """What was left out."""


def find(folder: Path, kind: str = "auto") -> Collection:
    """The data set in a folder, of the kind named or of the first that fits.

    Raises `DataError` when there is none, or when images and masks differ in number or names.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    if kind != "auto" and kind not in KINDS:
        raise DataError(f"unknown kind {kind!r}: choose one of auto, {', '.join(KINDS)}")
    for name in KINDS if kind == "auto" else (kind,):
        if (found := KINDS[name](folder)) is not None:
            return found
    raise DataError(
        f"{folder} holds no data set that is known: Landslide4Sense (img/*.h5, mask/*.h5), HR-GLDD (trainX.npy, "
        "trainY.npy), image and mask folders, A, B and label folders, or sites with im1, im2 and ref"
    )


def find_landslide4sense(folder: Path) -> Collection | None:
    """Folders `img` and `mask` of HDF5 files (Ghorbanzadeh et al. 2022)."""
    items: list[Item] = []
    skipped: list[str] = []
    for images in sorted(path for path in [folder, *folder.rglob("*")] if path.name == "img" and path.is_dir()):
        files, masks = sorted(images.glob("*.h5")), images.parent / "mask"
        if not files:
            continue
        if not masks.is_dir():
            skipped.append(f"{images.parent.relative_to(folder)} has no masks")
            continue
        for file, mask in _pairs(files, sorted(masks.glob("*.h5"))):
            size, image, label = partial(hdf5_size, file), partial(hdf5_image, file), partial(hdf5, mask, "mask", 2)
            items.append(Item(_name(file, folder), "landslide4sense", _part(file, folder), size, image, label, mask))
    if not items:
        return None
    return Collection("landslide4sense", LANDSLIDE4SENSE_BANDS, tuple(items), "float32", "; ".join(skipped))


def find_hr_gldd(folder: Path) -> Collection | None:
    """Arrays `trainX.npy` (n, y, x, 4) and `trainY.npy` (n, y, x, 1), likewise `val` and `test`."""
    items: list[Item] = []
    for images in sorted(folder.rglob("*X.npy")):
        labels = images.with_name(images.name[:-5] + "Y.npy")
        if not labels.is_file():
            raise DataError(f"{images} has no labels beside it: {labels.name} is missing")
        x, y = npy(images, 4), npy(labels, 4)
        if len(x) != len(y) or x.shape[1:3] != y.shape[1:3] or y.shape[3] != 1 or x.shape[3] != len(HR_GLDD_BANDS):
            raise DataError(
                f"{images} has shape {x.shape} and {labels.name} {y.shape}: (n, y, x, {len(HR_GLDD_BANDS)}) and "
                "(n, y, x, 1) of the same patches are needed"
            )
        part = _part(images, folder)
        for index in range(len(x)):
            size, image, label = partial(npy_size, x), partial(npy_image, x, index), partial(npy_label, y, index)
            items.append(Item(f"{images.name[:-5]}/{index}", "hr-gldd", part, size, image, label, labels))
    return Collection("hr-gldd", HR_GLDD_BANDS, tuple(items), "float32") if items else None


def find_folders(folder: Path) -> Collection | None:
    """Pictures beside masks: `image` and `mask` folders (CAS, Bijie), `A`, `B` and `label` (GVLM), or `im1`, `im2`, `ref`.

    In a folder called `non-…` with images and no masks nothing is a landslide (Bijie).
    """
    places = sorted({folder, *(path for path in folder.rglob("*") if path.is_dir())})
    found = [(place, images, mask) for place in places for images, mask in _here(place)]
    if not found:
        return None
    if len({len(images) for _, images, _ in found}) > 1:
        raise DataError(f"{folder} mixes images of one date and of two: import them one by one")
    first = found[0][1]
    layers = picture_layers(first[0], dates=len(first))
    items = tuple(
        Item(
            _name(images[-1], folder), _site(place, folder), _part(images[-1], folder),
            partial(picture_size, images[-1]), partial(_stacked, images, layers),
            partial(_mask, mask, images[-1]), mask or images[-1], picture_place(images[-1]),
        )
        for place, images, mask in found
    )  # fmt: skip
    eight_bit = all(picture_dtype(image) == "uint8" for _, images, _ in found for image in images)
    return Collection("folders", layers, items, "float16" if eight_bit else "float32")


KINDS: Mapping[str, Callable[[Path], Collection | None]] = {
    "landslide4sense": find_landslide4sense,
    "hr-gldd": find_hr_gldd,
    "folders": find_folders,
}
"""What can be imported, in the order in which it is looked for."""


def _here(place: Path) -> Iterator[tuple[tuple[Path, ...], Path | None]]:
    """(images, one a date; mask) of the pictures directly in a folder's image and mask folders."""
    folders = {path.name.lower(): path for path in sorted(place.iterdir()) if path.is_dir()}
    masks = next((folders[name] for name in _MASKS if name in folders), None)
    images = next((folders[name] for name in _IMAGES if name in folders), None)
    if images is not None and masks is not None:
        yield from (((image,), mask) for image, mask in _pairs(_pictures(images), _pictures(masks)))
    elif images is not None and place.name.lower().startswith("non"):
        yield from (((image,), None) for image in _pictures(images))
    elif "a" in folders and "b" in folders and masks is not None:
        before, after = (dict(_pairs(_pictures(folders[name]), _pictures(masks))) for name in ("a", "b"))
        yield from (((first, second), mask) for (first, mask), second in zip(before.items(), after, strict=True))
    files = {path.stem.lower(): path for path in _pictures(place)}
    if {"im1", "im2", "ref"} <= set(files):
        yield (files["im1"], files["im2"]), files["ref"]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file())


def _pairs(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Images and masks that belong together by name; raises `DataError` when one has no partner."""

    def keys(paths: Sequence[Path]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in paths:
            key = re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", _WORDS.sub("", path.stem.lower()))
            if key in found:
                raise DataError(f"{path} and {found[key].name} cannot be told apart by their names")
            found[key] = path
        return found

    first, second = keys(images), keys(masks)
    if first.keys() != second.keys():
        alone = sorted(str(path) for key, path in {**first, **second}.items() if (key in first) != (key in second))
        where = masks[0].parent if masks else "no mask folder"
        raise DataError(
            f"{images[0].parent if images else 'no image folder'} has {len(images)} images and {where} {len(masks)} masks: "
            f"{len(alone)} have no partner, such as {alone[0]}"
        )
    return [(first[key], second[key]) for key in sorted(first, key=lambda key: first[key].name)]


def _part(path: Path, folder: Path) -> int | None:
    """The part that a folder on the way to a file, or the file's own name, says."""
    names = [*path.relative_to(folder).parts[:-1], re.sub(r"X$", "", path.stem)]
    for name in names:
        match = _PART.fullmatch(name)
        if match is not None:
            return [part[:3] for part in PARTS].index(match[1].lower()[:3])
    return None


def _site(place: Path, folder: Path) -> str:
    """The last folder on the way to `place` that is neither a part nor Bijie's landslide and non-landslide."""
    names = [
        name for name in place.relative_to(folder).parts if not _PART.fullmatch(name) and not _BIJIE.fullmatch(name)
    ]
    return names[-1] if names else folder.resolve().name


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _stacked(images: Sequence[Path], layers: Sequence[str]) -> npt.NDArray[Any]:
    stack = [read_picture(image) for image in images]
    if len({part.shape for part in stack}) > 1:
        raise DataError(f"{images[0]} has shape {stack[0].shape} and {images[1]} {stack[1].shape}: dates must match")
    joined: npt.NDArray[Any] = np.concatenate(stack)
    if len(joined) != len(layers):
        raise DataError(f"{images[-1]} has {len(joined)} bands in all, the first image has {len(layers)}")
    return joined


def _mask(mask: Path | None, image: Path) -> LabelArray:
    """The labels of a mask; zeros like the image where there is none."""
    if mask is None:
        return np.zeros(read_picture(image).shape[1:], np.uint8)
    bands = read_picture(mask, keep_alpha=False)
    if (bands != bands[:1]).any():
        raise DataError(f"{mask} is a picture in colours, not a mask: its bands differ")
    label: LabelArray = bands[0]
    return label

"""Patch data sets, opened and checked: the door to training, evaluation and benchmark data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from modeling.bands import BandSet
from modeling.data.batches import IGNORE
from modeling.data.normalise import Normalisation, fit_stream
from modeling.data.patch_set import IntArray, PatchSet, StoredSampler
from modeling.data.patch_store import ARRAYS, KIND, NAME_BYTES, PARTS, VERSION, About, names_of
from modeling.data.zarr_plain import PlainArray, open_array, read_meta
from modeling.errors import DataError

__all__ = ["PARTS", "PatchSet", "StoredSampler", "fit_normalisation", "open_patches"]


def fit_normalisation(
    patch_set: PatchSet, band_set: BandSet, method: str, *, domains: Sequence[str] | None = None
) -> Normalisation:
    """A normalisation fitted to the training part alone, in one pass and bounded memory."""
    return fit_stream(method, patch_set.values(band_set, "training", domains=domains))


def open_patches(path: Path) -> PatchSet:
    """Open a data set and check all of it but the values of its layers.

    Raises `DataError` with the file and the fact when it is no data set of patches, is incomplete or damaged, when its
    arrays do not fit together, or when a label is neither 0, 1 nor 255.
    """
    if not path.is_dir():
        raise DataError(f"{path}: there is no such data set; `quakeslide dataset` makes one")
    attributes = read_meta(path).get("attributes")
    if not isinstance(attributes, dict) or attributes.get("kind") != KIND:
        raise DataError(f"{path} is a Zarr folder, but not a data set of patches: `quakeslide dataset` makes one")
    if attributes.get("version") != VERSION:
        raise DataError(
            f"{path} is of version {attributes.get('version')!r}; this program reads {VERSION}: make it again"
        )
    try:
        layers, domains, systems = (tuple(str(one) for one in attributes[key]) for key in ("layers", "domains", "crs"))
        about = _about(attributes)
        patch_px, sha256 = int(attributes["patch_px"]), str(attributes["sha256"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: its attributes cannot be read: {error!r}") from error
    if len(set(layers)) < len(layers):
        raise DataError(f"{path} names a layer twice: {', '.join(layers)}")
    truth = open_array(path / "truth")
    count, square = truth.shape[0], (patch_px, patch_px)
    shapes: dict[str, tuple[tuple[int, ...], tuple[str, ...]]]
    shapes = {"truth": ((count, *square), ("uint8",)), "name": ((count, NAME_BYTES), ("uint8",))}
    shapes |= {name: ((count,), (kind,)) for name, kind in ARRAYS.items()}
    if layers:
        shapes["layers"] = ((count, len(layers), *square), ("float16", "float32"))
    arrays = {name: open_array(path / name) for name in shapes}
    for name, (shape, kinds) in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.name not in kinds:
            raise DataError(
                f"{path / name} is {arrays[name].dtype.name} of shape {arrays[name].shape}, but {' or '.join(kinds)} of "
                f"shape {shape} fits the rest: the data set is damaged, make it again"
            )
    numbers = {name: arrays[name].whole() for name in ARRAYS}
    for name, most in (("part", len(PARTS)), ("domain", len(domains)), ("crs", len(systems))):
        if numbers[name].min() < (-1 if name == "crs" else 0) or numbers[name].max() >= most:
            raise DataError(f"{path / name} counts beyond the {most} that there are: the data set is damaged")
    names = tuple(names_of(arrays["name"]))
    return PatchSet(
        path, layers, patch_px, domains, about, sha256, systems, names, numbers, _landslide_px(truth, names),
        arrays.get("layers"), truth,
    )  # fmt: skip


def _about(attributes: Mapping[str, Any]) -> About:
    distance = attributes["distance_px"]
    words = {one.name: str(attributes[one.name]) for one in fields(About) if one.name != "distance_px"}
    return About(**words, distance_px=None if distance is None else float(distance))


def _landslide_px(truth: PlainArray, names: Sequence[str]) -> IntArray:
    """Landslide pixels of each patch; raises `DataError` for labels that do not exist."""
    found = []
    for first, rows in truth.chunks():
        wrong = (rows > 1) & (rows != IGNORE)
        if wrong.any():
            index = int(wrong.argmax()) // wrong[0].size
            raise DataError(
                f"{truth.folder}: patch {first + index} ({names[first + index]}) has the label {int(rows[wrong][0])}; "
                f"labels are 0, 1 and {IGNORE} (does not count)"
            )
        found.append((rows == 1).sum(axis=(1, 2), dtype=np.int64))
    return np.concatenate(found)

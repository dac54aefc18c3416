"""Arrays of other people's data sets: HDF5 and npy, weighed before they are read; links are not followed, nothing unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.data.batches import FloatArray
from modeling.errors import DataError

LabelArray = npt.NDArray[Any]

_MAX_ARRAY_BYTES = 2**28


def hdf5(path: Path, key: str, axes: int) -> npt.NDArray[Any]:
    """An array of an HDF5 file."""
    with _opened_hdf5(path, key, axes) as stored:
        return np.asarray(stored[...])


def hdf5_size(path: Path) -> tuple[int, int]:
    """Height and width of an image of Landslide4Sense, without its values."""
    with _opened_hdf5(path, "img", 3) as stored:
        return int(stored.shape[0]), int(stored.shape[1])


@contextmanager
def _opened_hdf5(path: Path, key: str, axes: int) -> Iterator[Any]:
    """A data set of an HDF5 file, held to what it may be."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink) or not isinstance(file[key], h5py.Dataset):
                raise DataError(f"{path} has no data set {key!r}: it has {', '.join(list(file)[:5]) or 'nothing'}")
            stored = file[key]
            if stored.external or stored.is_virtual:
                raise DataError(f"{path}: {key!r} points to other files, which are not followed")
            _check(path, tuple(stored.shape), stored.dtype, axes)
            yield stored
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} is not HDF5 that can be read: {str(error)[:150]}") from error


def hdf5_image(path: Path) -> FloatArray:
    """An image of Landslide4Sense as (layer, y, x)."""
    return np.asarray(hdf5(path, "img", 3).transpose(2, 0, 1), np.float32)


def npy_size(x: npt.NDArray[Any]) -> tuple[int, int]:
    """Height and width of the images of an array."""
    return int(x.shape[1]), int(x.shape[2])


def npy_image(x: npt.NDArray[Any], index: int) -> FloatArray:
    """One image of an array (n, y, x, layer) as (layer, y, x)."""
    return np.array(x[index].transpose(2, 0, 1), np.float32)


def npy_label(y: npt.NDArray[Any], index: int) -> LabelArray:
    """The labels (y, x) of one image of an array (n, y, x, 1)."""
    label: LabelArray = np.array(y[index, :, :, 0])
    return label


def npy(path: Path, axes: int) -> npt.NDArray[Any]:
    """An array of a file, memory-mapped, of so many axes."""
    try:
        stored: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not an array that can be read: {str(error)[:150]}") from error
    _check(path, stored.shape[1:], stored.dtype, axes - 1)
    return stored


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], axes: int) -> None:
    if len(shape) != axes or dtype.kind not in "fiub" or min(shape, default=0) < 1:
        raise DataError(f"{path} holds {dtype} of shape {shape}: numbers along {axes} axes are needed")
    if math.prod(shape) * dtype.itemsize > _MAX_ARRAY_BYTES:
        raise DataError(f"{path} declares {shape} of {dtype}, more than a patch can be")

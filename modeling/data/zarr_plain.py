"""Uncompressed arrays of Zarr v3, written and read as what they are on disk: a JSON file and chunks of plain numbers.

Any Zarr reader opens them. Here one row of an array (a patch) is read from the middle of its chunk with one system call
and no decoding, so that drawing patches at random keeps up with training. Arrays are cut into chunks along the first
axis only; the last chunk is padded, as the format asks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError

META = "zarr.json"
_MAX_META_BYTES = 64 * 2**20
_CHUNK_BYTES = 16 * 2**20
_DTYPES = ("float16", "float32", "float64", "int16", "int32", "uint8")
_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}]
_MAX_BYTES = 2**44


class ArrayWriter:
    """Writes an array row by row; complete when the `with` block ends, without `zarr.json` when it fails."""

    def __init__(self, folder: Path, dtype: str, row_shape: tuple[int, ...], dimensions: tuple[str, ...]) -> None:
        self.folder, self.dimensions = folder, dimensions
        self.dtype, self.row_shape = np.dtype(dtype).newbyteorder("<"), row_shape
        self.row_bytes = math.prod(row_shape) * self.dtype.itemsize
        self.chunk_rows = max(1, _CHUNK_BYTES // max(self.row_bytes, 1))
        self.rows = 0
        self._file: Any = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        return self

    def append(self, row: npt.NDArray[np.generic]) -> None:
        """Add one row; its shape must be that of all."""
        if row.shape != self.row_shape:
            raise DataError(f"{self.folder}: a row has shape {row.shape}, not {self.row_shape}")
        if self.rows % self.chunk_rows == 0:
            self._next_chunk()
        self._file.write(np.ascontiguousarray(row, self.dtype).tobytes())
        self.rows += 1

    def _next_chunk(self) -> None:
        if self._file is not None:
            self._file.close()
        path = _chunk_path(self.folder, self.rows // self.chunk_rows, len(self.row_shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        chunk_rows = min(self.chunk_rows, self.rows)  # a short array is one chunk without padding
        self._file.write(bytes(-self.rows % chunk_rows * self.row_bytes))
        self._file.close()
        if error is None:
            about = {
                "zarr_format": 3,
                "node_type": "array",
                "shape": [self.rows, *self.row_shape],
                "data_type": self.dtype.name,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [chunk_rows, *self.row_shape]},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": _CODECS,
                "dimension_names": list(self.dimensions),
                "attributes": {},
            }
            (self.folder / META).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class PlainArray:
    """An array on disk; made by `open_array`."""

    folder: Path
    """Where its `zarr.json` lies."""
    shape: tuple[int, ...]
    """Rows first."""
    dtype: np.dtype[Any]
    """Little-endian."""
    chunk_rows: int
    """Rows in a chunk."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.shape[1:]

    def row(self, index: int) -> npt.NDArray[Any]:
        """One row, read now."""
        chunk, inside = divmod(index, self.chunk_rows)
        values: npt.NDArray[Any] = self._read(chunk, inside, 1)[0]
        return values

    def chunks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(number of its first row, rows) of one chunk after the other."""
        for first in range(0, self.shape[0], self.chunk_rows):
            yield first, self._read(first // self.chunk_rows, 0, min(self.chunk_rows, self.shape[0] - first))

    def whole(self) -> npt.NDArray[Any]:
        """All of it, in memory."""
        return np.concatenate([rows for _, rows in self.chunks()])

    def paths(self) -> list[Path]:
        """The files of the chunks, in order."""
        count = -(-self.shape[0] // self.chunk_rows)
        return [_chunk_path(self.folder, number, len(self.row_shape)) for number in range(count)]

    def _read(self, chunk: int, first: int, rows: int) -> npt.NDArray[Any]:
        path = _chunk_path(self.folder, chunk, len(self.row_shape))
        size = math.prod(self.row_shape)
        try:
            values = np.fromfile(path, self.dtype, count=rows * size, offset=first * size * self.dtype.itemsize)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}): the data set is incomplete, make it again") from error
        if values.size != rows * size:
            raise DataError(f"{path} ends early: the data set is damaged, make it again")
        return values.reshape(rows, *self.row_shape)


def open_array(folder: Path) -> PlainArray:
    """Open an array and hold it to what it declares.

    Raises `DataError` when it is not there, not plain (compressed, sharded, chunked along other axes), of a type that
    is not known, or when a chunk is missing or has another size than declared.
    """
    about = read_meta(folder)
    try:
        shape = tuple(int(size) for size in about["shape"])
        chunk = tuple(int(size) for size in about["chunk_grid"]["configuration"]["chunk_shape"])
        name, encoding, codecs = str(about["data_type"]), about["chunk_key_encoding"], about["codecs"]
        plain = (
            about["zarr_format"] == 3
            and about["node_type"] == "array"
            and about["chunk_grid"]["name"] == "regular"
            and encoding["name"] == "default"
            and encoding.get("configuration", {}).get("separator", "/") == "/"
            and [codec["name"] for codec in codecs] == ["bytes"]
            and codecs[0].get("configuration", {}).get("endian", "little") == "little"
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{folder / META} does not describe an array: {error!r}") from error
    if not plain or name not in _DTYPES:
        raise DataError(
            f"{folder} is not an uncompressed array of plain numbers ({name[:40]}): make the data set again"
        )
    if not shape or min(shape) < 1 or len(chunk) != len(shape) or chunk[1:] != shape[1:] or chunk[0] < 1:
        raise DataError(f"{folder} declares shape {shape} in chunks of {chunk}: chunks must be whole rows")
    dtype = np.dtype(name).newbyteorder("<")
    if math.prod(shape) * dtype.itemsize > _MAX_BYTES:
        raise DataError(f"{folder} declares shape {shape}, more than can be there")
    array = PlainArray(folder, shape, dtype, chunk[0])
    expected = math.prod(chunk) * dtype.itemsize
    for path in array.paths():
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            raise DataError(
                f"{path} {'is missing' if size is None else f'has {size} bytes instead of {expected}'}: "
                "the data set is damaged, make it again"
            )
    return array


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write the `zarr.json` of a group."""
    about = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    (folder / META).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read_meta(folder: Path) -> dict[str, Any]:
    """The `zarr.json` of an array or group; raises `DataError` when there is none that can be read."""
    path = folder / META
    try:
        if path.stat().st_size > _MAX_META_BYTES:
            raise DataError(f"{path} has more than {_MAX_META_BYTES} bytes")
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder} is not a Zarr v3 folder that can be read: {error}") from error
    if not isinstance(about, dict):
        raise DataError(f"{path} is not a JSON object")
    return about


@lru_cache(maxsize=4096)  # a patch is read in less time than a path is made
def _chunk_path(folder: Path, number: int, other_axes: int) -> Path:
    """The file of a chunk: `c/3/0/0`."""
    return folder.joinpath("c", str(number), *["0"] * other_axes)

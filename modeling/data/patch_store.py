"""A patch data set on disk: a Zarr v3 group of square patches with truth, geolocation and the part each belongs to.

    NAME.zarr/
      zarr.json          attributes: layers, domains, coordinate systems, where it comes from, its split, its hash
      layers             (patch, layer, row, column) float16 or float32, physical units, NaN unknown; absent: truth only
      truth              (patch, row, column) uint8: 0, 1, 255 = does not count
      x, y, pixel        (patch): upper left corner and pixel size in units of the coordinate system, NaN unknown
      crs, domain        (patch): numbers into the lists of the attributes, -1 unknown
      part               (patch): 0 training, 1 validation, 2 test
      place              (patch): patches of different places share no ground, whatever their coordinates
      name               (patch, 64): UTF-8, padded with zeros

It is written beside its place and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modeling.data.batches import ByteArray, FloatArray
from modeling.data.zarr_plain import META, ArrayWriter, PlainArray, write_group
from modeling.errors import DataError

KIND = "patches of quakeslide"
VERSION = 1
PARTS = ("training", "validation", "test")
"""By number, as `part` has them."""
NAME_BYTES = 64
ARRAYS: Mapping[str, str] = {
    "x": "float64", "y": "float64", "pixel": "float64", "crs": "int16", "domain": "int16", "part": "uint8",
    "place": "int32",
}  # fmt: skip
"""The arrays of one number a patch, and their types."""


@dataclass(frozen=True)
class About:
    """What a data set says of itself, for tables and model cards."""

    source: str
    """What the patches were cut from."""
    licence: str
    """Licence of that, `unknown` where nobody has said."""
    command: str
    """How it was made, for people."""
    split: str
    """The rule by which patches were given to parts, in words."""
    distance_px: float | None = None
    """Fewest pixels between a patch of one part and a patch of another in the same place; None: not known."""


@dataclass(frozen=True, eq=False)
class Patch:
    """One patch to be written."""

    layers: FloatArray | None
    """(layer, y, x), physical units, NaN unknown; None in a data set of truth only."""
    truth: ByteArray
    """(y, x): 0, 1, 255."""
    name: str
    """Unique in the data set."""
    domain: str
    """Simulated domain, event or imported data set."""
    part: int
    """Number in `PARTS`."""
    place: int = 0
    """Patches of different places share no ground."""
    crs: str = ""
    """`EPSG:…` or WKT; empty where it is not known."""
    x: float = math.nan
    """Left edge in units of `crs`."""
    y: float = math.nan
    """Upper edge in units of `crs`."""
    pixel: float = math.nan
    """Side of a pixel in units of `crs`, metres where `crs` is empty."""


class PatchWriter:
    """Takes patches one by one; made by `writing`."""

    def __init__(self, folder: Path, layers: tuple[str, ...], patch_px: int, dtype: str, stack: ExitStack) -> None:
        shape = (patch_px, patch_px)
        self.layers, self.patch_px = layers, patch_px
        self.domains: dict[str, int] = {}
        self.systems: dict[str, int] = {}
        self.count = 0

        def array(name: str, kind: str, row: tuple[int, ...], *dimensions: str) -> ArrayWriter:
            return stack.enter_context(ArrayWriter(folder / name, kind, row, ("patch", *dimensions)))

        if layers:
            self._layers = array("layers", dtype, (len(layers), *shape), "layer", "row", "column")
        self._truth = array("truth", "uint8", shape, "row", "column")
        self._name = array("name", "uint8", (NAME_BYTES,), "byte")
        self._numbers = {name: array(name, kind, ()) for name, kind in ARRAYS.items()}

    def append(self, patch: Patch) -> None:
        """Add a patch. Raises `DataError` when its shape is not that of the data set."""
        if self.layers:
            if patch.layers is None:
                raise DataError(f"{patch.name} has no layers, but the data set has {', '.join(self.layers)}")
            with np.errstate(over="ignore"):
                self._layers.append(patch.layers.astype(self._layers.dtype))
        self._truth.append(patch.truth)
        name = patch.name.encode()[:NAME_BYTES]
        self._name.append(np.frombuffer(name.ljust(NAME_BYTES, b"\0"), np.uint8))
        numbers: dict[str, float] = {
            "x": patch.x, "y": patch.y, "pixel": patch.pixel, "part": patch.part, "place": patch.place,
            "crs": self.systems.setdefault(patch.crs, len(self.systems)) if patch.crs else -1,
            "domain": self.domains.setdefault(patch.domain, len(self.domains)),
        }  # fmt: skip
        for key, value in numbers.items():
            self._numbers[key].append(np.asarray(value))
        self.count += 1


@contextmanager
def writing(
    path: Path, layers: tuple[str, ...], patch_px: int, about: About, *, dtype: str = "float16"
) -> Iterator[PatchWriter]:
    """Write a new data set: `with writing(path, ...) as writer: writer.append(patch)`.

    Raises `DataError` when `path` is there already, or when no patch came. Nothing is left where it fails.
    """
    require_free(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
    partial.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            writer = PatchWriter(partial, layers, patch_px, dtype, stack)
            yield writer
            if writer.count == 0:
                raise DataError(f"{path}: there is no patch to write")
        attributes = {
            "kind": KIND,
            "version": VERSION,
            "layers": list(layers),
            "patch_px": patch_px,
            "parts": list(PARTS),
            "domains": list(writer.domains),
            "crs": list(writer.systems),
            **asdict(about),
        }
        write_group(partial, {**attributes, "sha256": content_hash(partial, attributes)})
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_free(path: Path) -> None:
    """Raise `DataError` when a data set cannot be written to `path`, before any work is done."""
    if path.exists():
        raise DataError(f"{path} is there already: name another data set, or remove it first")


def content_hash(folder: Path, attributes: Mapping[str, Any]) -> str:
    """SHA-256 of what a data set holds: layers, domains, coordinate systems and the chunks of its arrays."""
    digest = hashlib.sha256(json.dumps([attributes[key] for key in ("layers", "domains", "crs")]).encode())
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file() and path.name != META:
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
    return digest.hexdigest()


def names_of(array: PlainArray) -> list[str]:
    """The names of all patches."""
    return [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in array.whole()]

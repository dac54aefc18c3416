"""One tile as the bytes of its Zarr chunks, and back. Pure.

The chunks are written and read here, without zarr-python in between, in the codecs that the store's metadata declares:
little-endian, Blosc (zstd, bit-shuffled), crc32c. Any Zarr reader can read them; a flipped bit never passes for data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from blake3 import blake3
from numcodecs import blosc  # type: ignore[import-untyped]

from gee.errors import CubeError
from gee.types import PHASES, Observed, Tile

STACK_FILL = -32_768
"""`stack` where nothing is known."""
DATE_FILL = -1
"""`date` where nothing clear was seen."""
COMPRESSION_LEVEL = 3
"""Of zstd."""
BLOCK_BYTES = 2**19
"""Of Blosc. A tile decodes 1.5 times as fast as with the 128 KiB that Blosc would choose, and is 3 % smaller."""

CHECKSUM_BYTES = 4
"""Of crc32c, at the end of each chunk."""
_HEADER_BYTES = 16  # of Blosc

_COMPRESSOR = blosc.Blosc("zstd", clevel=COMPRESSION_LEVEL, shuffle=blosc.BITSHUFFLE, blocksize=BLOCK_BYTES)
# With its own threads Blosc orders blocks as they finish: the same tile would have another hash on each run.
blosc.use_threads = False


@dataclass(frozen=True)
class ArrayLayout:
    """One array of the cube: (first axis, y, x), one chunk a tile."""

    name: str
    """Name in the store."""
    dtype: str
    """NumPy type."""
    fill: int
    """Value of pixels never written."""
    dimensions: tuple[str, str, str]
    """Names of the axes."""

    @property
    def stored(self) -> np.dtype[Any]:
        """The type as it is stored: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    def key(self, tile: Tile) -> str:
        """Where a tile's chunk lies in the store."""
        return f"{self.name}/c/0/{tile.row}/{tile.col}"


STACK = ArrayLayout("stack", "int16", STACK_FILL, ("band", "y", "x"))
OBSERVED = ArrayLayout("observed", "uint8", int(Observed.OUTSIDE), ("phase", "y", "x"))
DATE = ArrayLayout("date", "int32", DATE_FILL, ("phase", "y", "x"))
ARRAYS = (STACK, OBSERVED, DATE)
"""The arrays of a cube, in the order in which a tile's hash runs over them."""

TileArrays = dict[str, npt.NDArray[Any]]
"""Array name -> (first axis, y, x) of one tile or window."""


def assemble(
    pixels: Mapping[str, npt.NDArray[Any]], layer_names: Sequence[str], inside: npt.NDArray[np.bool_]
) -> TileArrays:
    """The arrays of a tile from the bands of its request, each (y, x), and the mask of the area.

    One outside the area is `OUTSIDE`, and keeps its values: they are the surroundings that a network looks at.
    """
    arrays = uncut(pixels, layer_names)
    return {**arrays, OBSERVED.name: cut(arrays[OBSERVED.name], inside)}


def uncut(pixels: Mapping[str, npt.NDArray[Any]], layer_names: Sequence[str]) -> TileArrays:
    """The arrays of a tile from the bands of its request, each (y, x), wherever the area ends.

    A pixel that was seen clearly but has no slope is `NO_TERRAIN`.
    """
    observed = np.stack([pixels[f"observed_{phase}"] for phase in PHASES])
    if "slope" in layer_names:
        observed[(observed == Observed.CLEAR) & (pixels["slope"] == STACK_FILL)] = Observed.NO_TERRAIN
    return {
        STACK.name: np.stack([pixels[name] for name in layer_names]),
        OBSERVED.name: observed,
        DATE.name: np.stack([pixels[f"date_{phase}"] for phase in PHASES]),
    }


def cut(observed: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The codes (phase, y, x) with `OUTSIDE` where the mask of the area (y, x) is not set."""
    return np.where(inside, observed, np.uint8(Observed.OUTSIDE))


def tile_hash(bodies: Iterable[Iterable[bytes]]) -> str:
    """BLAKE3 of the chunks of a tile as they are stored, in the order of `ARRAYS`; a chunk may come in parts.

    The same values give the same bytes with the same codec. To hash them compressed takes half the time, and a store is
    held to its hash without decoding anything.
    """
    digest = blake3()
    for parts in bodies:
        for part in parts:
            digest.update(part)
    return digest.hexdigest()


def encode(values: npt.NDArray[Any], layout: ArrayLayout, tile_px: int) -> tuple[bytes, bytes]:
    """A chunk's bytes in two parts, what was compressed and its checksum.

    A tile at the edge of the grid is padded: all chunks of an array are of one size.
    """
    shape = values.shape[0], tile_px, tile_px
    if values.shape == shape:
        chunk = np.ascontiguousarray(values, layout.stored)
    else:
        chunk = np.full(shape, layout.fill, layout.stored)
        chunk[:, : values.shape[1], : values.shape[2]] = values
    body = bytes(_COMPRESSOR.encode(chunk))
    return body, int(google_crc32c.value(body)).to_bytes(CHECKSUM_BYTES, "little")


def checksum(body: bytes) -> str:
    """The checksum that a chunk's bytes end with, hexadecimal: what its record says of it."""
    return body[-CHECKSUM_BYTES:].hex()


def decode(body: bytes, layout: ArrayLayout, length: int, tile_px: int) -> npt.NDArray[Any]:
    """The inverse of `encode`: (length, tile_px, tile_px). Raises `CubeError` when the bytes are damaged."""
    size = len(body) - CHECKSUM_BYTES
    if size < _HEADER_BYTES:
        raise CubeError(f"its {len(body)} bytes are too few for a chunk")
    kept = np.frombuffer(body, np.uint8, count=size)
    if int(google_crc32c.value(kept)).to_bytes(CHECKSUM_BYTES, "little") != body[size:]:
        raise CubeError(f"the checksum of its {len(body)} bytes is wrong")
    values: npt.NDArray[Any] = np.empty((length, tile_px, tile_px), layout.stored)
    declared = int.from_bytes(body[4:8], "little")  # of Blosc's header: it writes as much as that
    if declared != values.nbytes:
        raise CubeError(f"it holds {declared} bytes instead of {values.shape} of {layout.dtype}")
    try:
        _COMPRESSOR.decode(kept, values)
    except (RuntimeError, ValueError) as error:
        raise CubeError(f"its {len(body)} bytes cannot be decompressed: {error}") from None
    values.flags.writeable = False
    return values

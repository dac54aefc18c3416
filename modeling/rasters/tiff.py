"""The bytes of a cloud-optimised GeoTIFF around tiles that are compressed already: header, directories, tile offsets.

All directories come first and all tiles after them, those of the smallest overview first, so that one request tells a
reader where everything is. Between header and directories stands the note in which GDAL says this of its own files, and
each tile is framed as that note promises: its size before it, its last four bytes repeated after it. What describes the
pixels (coordinate system, transform, nodata, colours, metadata) is copied, entry by entry, from a small file that GDAL
wrote: nothing of it is encoded here.

Sources: TIFF 6.0 (Adobe, 1992); BigTIFF (libtiff); GDAL, "COG -- Cloud Optimized GeoTIFF generator", section
"Header ghost area".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modeling.errors import RasterError

Sizes = npt.NDArray[np.uint64]

LEADER_BYTES = TRAILER_BYTES = 4
"""What stands before and after each tile."""

_CLASSIC_END = 2**32
_SHORT, _LONG, _LONG8 = 3, 4, 16
_TYPE_BYTES = {1: 1, 2: 1, _SHORT: 2, _LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, _LONG8: 8}
_SUBFILE, _WIDTH, _HEIGHT, _OFFSETS, _COUNTS = 254, 256, 257, 324, 325
_OF_PIXELS = frozenset({258, 259, 262, 277, 284, 317, 320, 322, 323, 338, 339, 42113})
"""Entries that an overview repeats: how its samples are coded, its colours, its nodata."""

_NOTE = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_NOTE) + _NOTE


@dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    kind: int
    """TIFF's number of the type of its values."""
    count: int
    """How many values."""
    payload: bytes
    """The values, little-endian."""


@dataclass(frozen=True)
class Picture:
    """One resolution of the file: the full one or an overview."""

    shape_yx: tuple[int, int]
    """Height and width in pixels."""
    tile_bytes: Sizes
    """Size of each compressed tile, row by row."""


@dataclass(frozen=True)
class Layout:
    """Where everything lies."""

    head: bytes
    """The file up to its first tile."""
    total_bytes: int
    """Size of the finished file."""


def read_entries(file: bytes) -> dict[int, Entry]:
    """The entries of the first directory of a little-endian classic TIFF, by tag; `RasterError` when it is none."""
    try:
        magic, start = struct.unpack_from("<4sI", file)
        if magic != b"II*\0":
            raise RasterError(f"a little-endian TIFF begins with II*, this with {magic!r}")
        (number,) = struct.unpack_from("<H", file, start)
        return dict(_read_entry(file, start + 2 + 12 * index) for index in range(number))
    except (struct.error, KeyError) as error:
        raise RasterError(f"the directory of a TIFF cannot be read: {error}") from error


def _read_entry(file: bytes, at: int) -> tuple[int, Entry]:
    tag, kind, count = struct.unpack_from("<HHI", file, at)
    size = count * _TYPE_BYTES[kind]
    where = at + 8 if size <= 4 else struct.unpack_from("<I", file, at + 8)[0]
    if where + size > len(file):
        raise RasterError(f"entry {tag} of a TIFF points beyond its end")
    return tag, Entry(kind, count, file[where : where + size])


def lay_out(entries: Mapping[int, Entry], pictures: Sequence[Picture]) -> Layout:
    """Lay out a file of `pictures`, full resolution first, each overview smaller than the one before it.

    The tiles follow `Layout.head` from the last picture to the first, row by row, each framed by `LEADER_BYTES` and
    `TRAILER_BYTES`. Files that need it become BigTIFF.
    """
    framed = sum(int(each.tile_bytes.sum()) + len(each.tile_bytes) * 8 for each in pictures)
    form = _Form(big=False)
    if _head_bytes(form, entries, pictures) + framed >= _CLASSIC_END:
        form = _Form(big=True)
    start = _head_bytes(form, entries, pictures)
    return Layout(_head(form, entries, pictures, start), start + framed)


@dataclass(frozen=True)
class _Form:
    """Classic TIFF or BigTIFF: the same with wider numbers."""

    big: bool

    @property
    def header_bytes(self) -> int:
        return 16 if self.big else 8

    @property
    def inline_bytes(self) -> int:
        return 8 if self.big else 4

    def number(self, value: int) -> bytes:
        return struct.pack("<Q" if self.big else "<I", value)

    def entry_count(self, value: int) -> bytes:
        return struct.pack("<Q" if self.big else "<H", value)

    def header(self, first: int) -> bytes:
        return (struct.pack("<2sHHH", b"II", 43, 8, 0) if self.big else b"II*\0") + self.number(first)

    def directory_bytes(self, entries: Iterable[Entry]) -> int:
        every = list(entries)
        outside = sum(_even(len(each.payload)) for each in every if len(each.payload) > self.inline_bytes)
        return len(self.entry_count(0)) + len(every) * (4 + 2 * self.inline_bytes) + self.inline_bytes + outside


def _head_bytes(form: _Form, entries: Mapping[int, Entry], pictures: Sequence[Picture]) -> int:
    places = [np.zeros(len(each.tile_bytes), np.uint64) for each in pictures]
    directories = (
        _directory(form, entries, each, place, index)
        for index, (each, place) in enumerate(zip(pictures, places, strict=True))
    )
    return _even(form.header_bytes + len(_GHOST)) + sum(form.directory_bytes(each.values()) for each in directories)


def _head(form: _Form, entries: Mapping[int, Entry], pictures: Sequence[Picture], start: int) -> bytes:
    places: list[Sizes] = []
    for each in reversed(pictures):
        framed = each.tile_bytes + np.uint64(LEADER_BYTES + TRAILER_BYTES)
        ends = np.cumsum(framed, dtype=np.uint64) + np.uint64(start)
        places.insert(0, ends - framed + np.uint64(LEADER_BYTES))
        start = int(ends[-1])
    first = _even(form.header_bytes + len(_GHOST))
    head = bytearray((form.header(first) + _GHOST).ljust(first, b"\0"))
    for index, (picture, place) in enumerate(zip(pictures, places, strict=True)):
        last = index == len(pictures) - 1
        head += _packed(form, _directory(form, entries, picture, place, index), at=len(head), last=last)
    return bytes(head)


def _directory(
    form: _Form, entries: Mapping[int, Entry], picture: Picture, places: Sizes, index: int
) -> dict[int, Entry]:
    kept = entries if index == 0 else {tag: entry for tag, entry in entries.items() if tag in _OF_PIXELS}
    height, width = picture.shape_yx
    own = {
        _SUBFILE: _numbers(_LONG, [int(index > 0)]),
        _WIDTH: _numbers(_LONG, [width]),
        _HEIGHT: _numbers(_LONG, [height]),
        _OFFSETS: _numbers(_LONG8 if form.big else _LONG, places),
        _COUNTS: _numbers(_LONG, picture.tile_bytes),
    }
    return dict(sorted({**kept, **own}.items()))


def _numbers(kind: int, values: Sequence[int] | Sizes) -> Entry:
    typed = np.asarray(values, dtype="<u8" if kind == _LONG8 else "<u4")
    return Entry(kind, typed.size, typed.tobytes())


def _packed(form: _Form, directory: Mapping[int, Entry], *, at: int, last: bool) -> bytes:
    """The directory that begins at byte `at`: its entries, and behind them what does not fit into them."""
    whole = form.directory_bytes(directory.values())
    table = bytearray(form.entry_count(len(directory)))
    outside = bytearray()
    behind = at + len(table) + len(directory) * (4 + 2 * form.inline_bytes) + form.inline_bytes
    for tag, entry in directory.items():
        value = entry.payload
        if len(value) > form.inline_bytes:
            value = form.number(behind + len(outside))
            outside += entry.payload.ljust(_even(len(entry.payload)), b"\0")
        table += struct.pack("<HH", tag, entry.kind) + form.number(entry.count) + value.ljust(form.inline_bytes, b"\0")
    table += form.number(0 if last else at + whole)
    return bytes(table + outside)


def _even(size: int) -> int:
    """TIFF wants what it points to at even offsets."""
    return size + size % 2

"""GeoTIFF and COG files as nodes: only the needed window is read, from the pyramid level that fits.

A reader keeps a few files open in each thread (GDAL handles belong to one thread). Files are opened with the GTiff
driver only, whatever their name. `gs://` addresses go to the storage stand-in whose address the reader was given.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Interleaving, MaskFlags, Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from infra.local.earthengine import stacks
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, Projection, offset
from infra.local.earthengine.raster import Node, Raster, Run, full

DRIVER = "GTiff"
POLICIES = ("MEAN", "SAMPLE", "MODE", "MIN", "MAX", "MEDIAN")
"""How the coarse levels of a pyramid are made: SAMPLE takes the upper left pixel, for bits and classes and dates."""
MAX_COARSENED = 64_000_000
"""Pixels that are read at full size to make coarse ones of them; above, GDAL's nearest ones are taken."""
MAX_BLOCK_BYTES = 256 * 2**20
"""A file's blocks are read whole: a small file may declare one that would fill the memory."""
PIXEL = Interleaving.pixel
CACHE_BYTES = 512 * 2**20
"""Of decoded blocks, in all threads together."""
OPEN_FILES = 64
"""Files kept open in each thread."""


@dataclass(frozen=True)
class RasterInfo:
    """What a file says about itself."""

    projection: Projection
    """CRS and transform."""
    shape_yx: tuple[int, int]
    """Height and width."""
    dtypes: tuple[str, ...]
    """One for each band."""
    size_bytes: int
    """Size of the file, 0 for remote ones."""


@dataclass(frozen=True)
class FileMask:
    """How a band of a file says which pixels are valid."""

    kind: str
    """`none`: all are; `nodata`: by a value; `file`: by a mask or an alpha band."""
    nodata: float = math.nan
    """The value that means no data."""


def file_masks(dataset: Any) -> tuple[FileMask, ...]:
    """How each band of an open file is masked. (Asking rasterio costs more than reading a small window.)"""
    found = []
    for flags, nodata in zip(dataset.mask_flag_enums, dataset.nodatavals, strict=True):
        if nodata is not None and MaskFlags.nodata in flags:
            found.append(FileMask("nodata", float(nodata)))
        else:
            found.append(FileMask("none" if MaskFlags.all_valid in flags else "file"))
    return tuple(found)


def check_blocks(uri: str, dataset: Any) -> None:
    """ArgumentError for a file of which a single pixel cannot be read without a large part of it."""
    for (height, width), kind in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        size = height * width * np.dtype(kind).itemsize * (dataset.count if dataset.interleaving == PIXEL else 1)
        if size > MAX_BLOCK_BYTES:
            dataset.close()
            raise ArgumentError(
                f"'{uri}' is stored in blocks of {width}x{height} pixels, {size} bytes each (at most {MAX_BLOCK_BYTES}): "
                "write it as a tiled GeoTIFF or a COG."
            )


class Reader:
    """Opens and reads raster files. Safe to use from several threads."""

    def __init__(self, storage_endpoint: str = "") -> None:
        self._endpoint = storage_endpoint.rstrip("/")
        self._local = threading.local()
        self._infos: dict[tuple[str, int], RasterInfo] = {}
        self._generations: dict[str, int] = {}

    @contextmanager
    def environment(self) -> Iterator[None]:
        """GDAL's settings while rasters are described or read."""
        options: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": CACHE_BYTES}
        if self._endpoint:
            options |= {
                "CPL_GS_ENDPOINT": f"{self._endpoint}/",
                "GS_NO_SIGN_REQUEST": "YES",
                "CPL_VSIL_CURL_NON_CACHED": "/vsigs/",  # an object that is written again must be seen
                "GDAL_HTTP_TIMEOUT": "30",
            }
        with rasterio.Env(**options):
            try:
                yield
            finally:
                # GDAL keeps what it read of a remote file as long as the file is open.
                self._forget(lambda uri: uri.startswith("gs://"))

    def renew(self, uri: str) -> None:
        """Forget what was known of a remote file: it may have been written again."""
        self._generations[uri] = self._generations.get(uri, 0) + 1

    def describe(self, uri: str) -> RasterInfo:
        """Grid and types of a file; ArgumentError when it cannot be read as a GeoTIFF with a CRS."""
        key = (uri, self._stamp(uri))
        if key not in self._infos:
            with self.environment():
                dataset, _ = self._dataset(uri)
                if dataset.crs is None:
                    raise ArgumentError(f"'{uri}' has no coordinate reference system.")
                epsg = dataset.crs.to_epsg()
                t = dataset.transform
                self._infos[key] = RasterInfo(
                    Projection(f"EPSG:{epsg}" if epsg else dataset.crs.to_wkt(), (t.a, t.b, t.c, t.d, t.e, t.f)),
                    (dataset.height, dataset.width),
                    tuple(dataset.dtypes),
                    0 if uri.startswith("gs://") else Path(uri).stat().st_size,
                )
        return self._infos[key]

    def read(self, uri: str, band: int, window: Window, factor: int = 1, policy: str = "MEAN") -> Raster:
        """Pixels of a window, each of `factor` x `factor` of the file's by a policy; its mask is the mean of theirs."""
        dataset, masks = self._dataset(uri)
        full = (int(window.height), int(window.width))
        out_shape = (-(-full[0] // factor), -(-full[1] // factor))
        try:
            if factor == 1:
                values = dataset.read(band, window=window)
                return Raster(values, self._mask(dataset, masks, band, values, window))
            if policy == "MEAN" or full[0] * full[1] > MAX_COARSENED:
                method = Resampling.average if policy == "MEAN" else Resampling.nearest
                values = dataset.read(band, window=window, out_shape=out_shape, resampling=method)
                mask = self._mask(dataset, masks, band, values, window)
                if masks[band - 1].kind == "none" or policy != "MEAN":
                    return Raster(values, mask)
                part = dataset.read_masks(band, window=window, out_shape=out_shape, resampling=Resampling.average)
                return Raster(values, mask, np.maximum(part, 1).astype("float32") / 255 if (part < 255).any() else None)
            values = dataset.read(band, window=window)
            return coarsened(Raster(values, self._mask(dataset, masks, band, values, window)), factor, policy)
        except RasterioIOError as error:
            self._forget(lambda name: name == uri)
            raise ArgumentError(f"Cannot read '{uri}': {error}") from error

    def _mask(self, dataset: Any, masks: tuple[FileMask, ...], band: int, values: Array, window: Window) -> Array:
        own = masks[band - 1]
        if own.kind == "file":
            mask = dataset.read_masks(band, window=window, out_shape=values.shape) != 0
        elif own.kind == "nodata" and not math.isnan(own.nodata):
            mask = values != own.nodata
        elif values.dtype.kind == "f":
            return np.isfinite(values)
        else:
            return np.broadcast_to(np.asarray(True), values.shape)
        return np.asarray(mask & np.isfinite(values) if values.dtype.kind == "f" else mask)

    def _stamp(self, uri: str) -> int:
        if uri.startswith("gs://"):
            return self._generations.get(uri, 0)
        try:
            return Path(uri).stat().st_mtime_ns
        except OSError as error:
            raise ArgumentError(f"Raster file '{uri}' cannot be opened: {error.strerror}.") from error

    def _dataset(self, uri: str) -> tuple[Any, tuple[FileMask, ...]]:
        """An open file of this thread, and how each of its bands is masked."""
        opened: OrderedDict[tuple[str, int], Any] | None = getattr(self._local, "opened", None)
        if opened is None:
            opened = self._local.opened = OrderedDict()
        key = (uri, self._stamp(uri))
        if key in opened:
            opened.move_to_end(key)
            found: tuple[Any, tuple[FileMask, ...]] = opened[key]
            return found
        try:
            dataset = rasterio.open(self._path(uri), driver=DRIVER)
        except RasterioIOError as error:
            raise ArgumentError(f"'{uri}' cannot be opened as a GeoTIFF: {error}") from error
        check_blocks(uri, dataset)
        opened[key] = dataset, file_masks(dataset)
        while len(opened) > OPEN_FILES:
            opened.popitem(last=False)[1][0].close()
        return dataset, opened[key][1]

    def _forget(self, chosen: Callable[[str], bool]) -> None:
        opened: OrderedDict[tuple[str, int], Any] = getattr(self._local, "opened", None) or OrderedDict()
        for key in [k for k in opened if chosen(k[0])]:
            opened.pop(key)[0].close()

    def _path(self, uri: str) -> str:
        if not uri.startswith("gs://"):
            return uri
        if not self._endpoint:
            raise ArgumentError(
                f"'{uri}' is in Cloud Storage, and this stand-in was started without a storage address."
            )
        return "/vsigs/" + uri.removeprefix("gs://")


@dataclass(frozen=True, eq=False)
class FileBand(Node):
    """A band of a raster file, sampled by nearest neighbour.

    Where the grid is coarser than twice the file's pixels, the next finer level of a pyramid is sampled, as Earth Engine
    does with the pyramid of an asset.
    """

    uri: str
    """Path or `gs://` address."""
    band: int
    """Number of the band in the file, from 1."""
    info: RasterInfo
    """What the file said."""
    policy: str = "MEAN"
    """How coarse pixels are made of fine ones: one of POLICIES."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        first = offset(grid, self.info.projection)
        if first is not None:
            return self._cut(grid, first, run)
        place = run.positions(grid, self.info.projection)
        factor = 1 << pyramid_level(grid, self.info.projection)
        height, width = self.info.shape_yx
        rows, rows_in = _indices(place.rows, height, factor)
        cols, cols_in = _indices(place.cols, width, factor)
        inside = rows_in & cols_in
        dtype = self.info.dtypes[self.band - 1]
        if not inside.any():
            return Raster(full(grid, 0, dtype), full(grid, False, bool))
        if place.separable:
            r0, r1 = _extent(rows, rows_in)
            c0, c1 = _extent(cols, cols_in)
        else:
            r0, r1 = _extent(rows, inside)
            c0, c1 = _extent(cols, inside)
        window = Window(
            c0 * factor,
            r0 * factor,
            min((c1 - c0) * factor, width - c0 * factor),
            min((r1 - r0) * factor, height - r0 * factor),
        )
        found = run.reader.read(self.uri, self.band, window, factor, self.policy)
        values, valid = found.values, found.mask
        at = (np.clip(rows - r0, 0, r1 - r0 - 1), np.clip(cols - c0, 0, c1 - c0 - 1))
        fraction = None if found.fraction is None else found.fraction[at]
        if valid.all():
            return Raster(values[at], np.broadcast_to(inside, grid.shape_yx), fraction)
        return Raster(values[at], valid[at] & inside, fraction)

    def _cut(self, grid: PixelGrid, first: tuple[int, int], run: Run) -> Raster:
        """The file's own pixels from a row and a column on."""
        (row, col), (height, width) = first, grid.shape_yx
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + height, self.info.shape_yx[0]), min(col + width, self.info.shape_yx[1])
        dtype = self.info.dtypes[self.band - 1]
        if bottom <= top or right <= left:
            return Raster(full(grid, 0, dtype), full(grid, False, bool))
        found: Raster = run.reader.read(self.uri, self.band, Window(left, top, right - left, bottom - top))
        if found.values.shape == grid.shape_yx:
            return found
        values, mask = np.zeros(grid.shape_yx, dtype), np.zeros(grid.shape_yx, bool)
        at = (slice(top - row, bottom - row), slice(left - col, right - col))
        values[at], mask[at] = found.values, found.mask
        return Raster(values, mask)


def coarsened(fine: Raster, factor: int, policy: str) -> Raster:
    """Pixels of `factor` x `factor` others by a policy; those at the end are made of what is there."""
    height, width = fine.values.shape
    rows, cols = -(-height // factor), -(-width // factor)
    if policy == "SAMPLE":
        return Raster(fine.values[::factor, ::factor], fine.mask[::factor, ::factor])
    padding = ((0, rows * factor - height), (0, cols * factor - width))

    def stacked(values: Array) -> Array:
        cut = np.pad(values, padding).reshape(rows, factor, cols, factor)
        return np.moveaxis(cut, (1, 3), (0, 1)).reshape(factor * factor, rows, cols)

    values, mask = stacked(fine.values), stacked(fine.mask)
    found, known = _COARSE[policy]([values], mask)[0]
    there = stacked(np.ones(fine.values.shape, bool)).sum(axis=0)
    part = mask.sum(axis=0) / np.maximum(there, 1)
    return Raster(
        np.asarray(found).astype(fine.values.dtype), known, part.astype("float32") if part.min() < 1 else None
    )


_COARSE = {"MODE": stacks.mode, "MIN": stacks.extreme(False), "MAX": stacks.extreme(True), "MEDIAN": stacks.median}
"""What a policy computes of the fine pixels."""


def pyramid_level(grid: PixelGrid, source: Projection) -> int:
    """The pyramid level to sample: the coarsest that is still as fine as the grid."""
    ratio = grid.projection.nominal_scale / source.nominal_scale
    return max(0, math.floor(math.log2(ratio) + 1e-6)) if ratio > 1 else 0


def _indices(position: Array, size: int, factor: int) -> tuple[Array, Array]:
    inside = (position >= 0) & (position < size)
    return (np.where(inside, position, 0) // factor).astype(np.int64), inside


def _extent(index: Array, inside: Array) -> tuple[int, int]:
    chosen = index[inside]
    return int(chosen.min()), int(chosen.max()) + 1

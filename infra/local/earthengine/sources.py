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
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, Projection
from infra.local.earthengine.raster import Node, Raster, Run, full

DRIVER = "GTiff"
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
        options: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": 256}
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
                dataset = self._dataset(uri)
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

    def read(self, uri: str, band: int, window: Window, out_shape: tuple[int, int]) -> Raster:
        """Pixels of a window, averaged to `out_shape` (y, x) where that is smaller."""
        dataset = self._dataset(uri)
        averaged = out_shape != (window.height, window.width)
        kwargs: dict[str, Any] = {"indexes": band, "window": window}
        if averaged:
            kwargs |= {"out_shape": out_shape, "resampling": Resampling.average}
        try:
            values = dataset.read(**kwargs)
            mask = self._mask(dataset, band, values, window, out_shape)
        except RasterioIOError as error:
            self._forget(lambda name: name == uri)
            raise ArgumentError(f"Cannot read '{uri}': {error}") from error
        return Raster(values, mask)

    def _mask(self, dataset: Any, band: int, values: Array, window: Window, out_shape: tuple[int, int]) -> Array:
        flags = dataset.mask_flag_enums[band - 1]
        nodata = dataset.nodatavals[band - 1]
        if nodata is not None and MaskFlags.nodata in flags:
            mask = ~np.isnan(values) if math.isnan(nodata) else values != nodata
        elif MaskFlags.all_valid in flags:
            mask = np.ones(values.shape, bool)
        else:
            mask = dataset.read_masks(band, window=window, out_shape=out_shape) != 0
        return np.asarray(mask & np.isfinite(values) if values.dtype.kind == "f" else mask)

    def _stamp(self, uri: str) -> int:
        if uri.startswith("gs://"):
            return self._generations.get(uri, 0)
        try:
            return Path(uri).stat().st_mtime_ns
        except OSError as error:
            raise ArgumentError(f"Raster file '{uri}' cannot be opened: {error.strerror}.") from error

    def _dataset(self, uri: str) -> Any:
        opened: OrderedDict[tuple[str, int], Any] | None = getattr(self._local, "opened", None)
        if opened is None:
            opened = self._local.opened = OrderedDict()
        key = (uri, self._stamp(uri))
        if key in opened:
            opened.move_to_end(key)
            return opened[key]
        try:
            opened[key] = dataset = rasterio.open(self._path(uri), driver=DRIVER)
        except RasterioIOError as error:
            raise ArgumentError(f"'{uri}' cannot be opened as a GeoTIFF: {error}") from error
        while len(opened) > OPEN_FILES:
            opened.popitem(last=False)[1].close()
        return dataset

    def _forget(self, chosen: Callable[[str], bool]) -> None:
        opened: OrderedDict[tuple[str, int], Any] = getattr(self._local, "opened", None) or OrderedDict()
        for key in [k for k in opened if chosen(k[0])]:
            opened.pop(key).close()

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

    Where the grid is coarser than twice the file's pixels, the next finer level of a mean pyramid is sampled, as
    Earth Engine does with the pyramid of an asset.
    """

    uri: str
    """Path or `gs://` address."""
    band: int
    """Number of the band in the file, from 1."""
    info: RasterInfo
    """What the file said."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
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
        values, valid = run.reader.read(self.uri, self.band, window, (r1 - r0, c1 - c0))
        at = (np.clip(rows - r0, 0, r1 - r0 - 1), np.clip(cols - c0, 0, c1 - c0 - 1))
        if valid.all():
            return Raster(values[at], np.broadcast_to(inside, grid.shape_yx))
        return Raster(values[at], valid[at] & inside)


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

"""Cloud-optimised GeoTIFFs, written block by block in bounded memory, and visible only when complete.

The blocks go to a plain tiled GeoTIFF in a temporary folder beside the target, GDAL's COG driver makes the target's
layout and overviews of it, the result is read back and compared with what was written, and one rename publishes it.
Reading back is not over-cautious: GDAL can close a file that hit a full disk without a word.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError  # not a RasterioError, and rasterio.shutil.copy raises it
from rasterio.errors import RasterioError
from rasterio.windows import Window

from modeling.errors import RasterError

Array = npt.NDArray[Any]
SlicesYX = tuple[slice, slice]
Rgba = tuple[int, int, int, int]

_WRITE_ERRORS = (OSError, RasterioError, CPLE_BaseError)
_BLOCK_PX = 512
_CACHE_BYTES = 64 * 2**20
_WORST_CASE = 8 / 3
"""Bytes on disk while a file is made, to its uncompressed size: tiled file, overviews, and the file with both."""


@dataclass(frozen=True)
class Category:
    """One value of a raster of classes."""

    label: str
    """What a reader sees, for example `cloud`."""
    colour: Rgba
    """Red, green, blue, alpha, 0 to 255."""


@dataclass(frozen=True)
class CogProfile:
    """All that a file states about its pixels."""

    crs: str
    """For example `EPSG:32654`."""
    transform: Affine | tuple[float, float, float, float, float, float]
    """Pixel corner to CRS: a, b, c, d, e, f."""
    shape_yx: tuple[int, int]
    """Height and width in pixels."""
    dtype: str
    """`uint8`, `float32`, ..."""
    nodata: float | None
    """The value that means unknown; NaN for floating point."""
    descriptions: tuple[str, ...]
    """One name a band; their number is the number of bands."""
    overview_resampling: str = "nearest"
    """How overviews are made: `average` for quantities, `nearest` or `mode` for classes."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the file."""
    categories: Mapping[int, Category] = field(default_factory=dict)
    """What the values of a raster of classes mean: band metadata, and for one band of `uint8` a colour table."""


def probability_profile(
    crs: str, transform: Any, shape_yx: tuple[int, int], tags: Mapping[str, str] | None = None
) -> CogProfile:
    """Landslide probability: float32 in [0, 1], NaN where not observed."""
    return CogProfile(
        crs, transform, shape_yx, "float32", float("nan"), ("landslide probability",), "average", tags or {}
    )


def class_profile(
    crs: str,
    transform: Any,
    shape_yx: tuple[int, int],
    descriptions: tuple[str, ...],
    categories: Mapping[int, Category],
    *,
    tags: Mapping[str, str] | None = None,
) -> CogProfile:
    """Classes: uint8, 255 where there is none."""
    return CogProfile(crs, transform, shape_yx, "uint8", 255, descriptions, "nearest", tags or {}, categories)


def mask_profile(
    crs: str, transform: Any, shape_yx: tuple[int, int], tags: Mapping[str, str] | None = None
) -> CogProfile:
    """Landslide mask: uint8, 1 landslide, 0 none, 255 not observed."""
    categories = {0: Category("no landslide", (255, 255, 255, 0)), 1: Category("landslide", (215, 48, 39, 255))}
    return class_profile(crs, transform, shape_yx, descriptions=("landslide",), categories=categories, tags=tags)


class CogWriter:
    """Writes one COG block by block: `with CogWriter(path, profile) as cog: cog.write(slices, values)`.

    An error inside the `with` leaves nothing behind and an older file at `path` as it was. Raises `RasterError`
    naming the file and the free bytes when the disk is, or would get, too full, and when what reads back is not what
    was written.
    """

    def __init__(self, path: Path | str, profile: CogProfile) -> None:
        self.path = Path(path)
        self.profile = profile
        self._stack = ExitStack()
        self._written = _Fingerprint(profile.nodata)

    def __enter__(self) -> CogWriter:
        with self._stack, _disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _check_space(self.path, self.profile)
            self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
            folder = tempfile.TemporaryDirectory(
                dir=self.path.parent, prefix=f".{self.path.stem}-", ignore_cleanup_errors=True
            )
            self._folder = Path(self._stack.enter_context(folder))
            self._tiled = self._stack.enter_context(_create_tiled(self._folder / "tiled.tif", self.profile))
            self._stack = self._stack.pop_all()
        return self

    def write(self, where: SlicesYX, values: Array) -> None:
        """Write a window, once: `values` is (y, x) for one band, else (band, y, x). Whole 512 px blocks are fastest."""
        rows, columns = where
        bands = values[np.newaxis] if values.ndim == 2 else values
        wanted = (len(self.profile.descriptions), rows.stop - rows.start, columns.stop - columns.start)
        if bands.shape != wanted:
            raise RasterError(f"{self.path}: a window of (band, y, x) {wanted} was given values of shape {bands.shape}")
        typed = bands.astype(self.profile.dtype, casting="same_kind", copy=False)
        with _disk_errors(self.path):
            self._tiled.write(typed, window=Window(columns.start, rows.start, wanted[2], wanted[1]))
        self._written.add(typed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                with suppress(*_WRITE_ERRORS):  # the error on its way out says more
                    self._tiled.close()
                return
            with _disk_errors(self.path):
                self._tiled.close()
                self._publish()

    def _publish(self) -> None:
        finished = self._folder / "finished.tif"
        rasterio.shutil.copy(
            self._folder / "tiled.tif",
            finished,
            driver="COG",
            blocksize=_BLOCK_PX,
            compress="DEFLATE",
            predictor="YES",
            overview_resampling=self.profile.overview_resampling,
            num_threads="ALL_CPUS",
            bigtiff="IF_SAFER",
        )
        if _read_back(finished, self.profile) != self._written:
            raise RasterError(
                f"{self.path} does not read back as it was written (a full disk, or a pixel written twice); "
                f"{_free_bytes(self.path)} bytes are free on its disk. Nothing was kept"
            )
        finished.replace(self.path)


def write_cog(path: Path | str, source: Array | Iterable[tuple[SlicesYX, Array]], profile: CogProfile) -> None:
    """Write a whole array, (y, x) or (band, y, x), or a stream of windows; see `CogWriter` for what it promises."""
    with CogWriter(path, profile) as cog:
        blocks = _row_blocks(source) if isinstance(source, np.ndarray) else source
        for where, values in blocks:
            cog.write(where, values)


def _row_blocks(values: Array) -> Iterator[tuple[SlicesYX, Array]]:
    height, width = values.shape[-2:]
    for top in range(0, height, _BLOCK_PX):
        rows = slice(top, min(top + _BLOCK_PX, height))
        yield (rows, slice(0, width)), values[..., rows, :]


def _create_tiled(path: Path, profile: CogProfile) -> Any:
    """The temporary tiled GeoTIFF, open for writing; zstd level 1 costs less than writing the bytes it saves."""
    height, width = profile.shape_yx
    file = rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=len(profile.descriptions),
        dtype=profile.dtype,
        crs=profile.crs,
        transform=Affine(*tuple(profile.transform)[:6]),
        nodata=profile.nodata,
        tiled=True,
        blockxsize=_BLOCK_PX,
        blockysize=_BLOCK_PX,
        compress="zstd",
        zstd_level=1,
        bigtiff="IF_SAFER",
    )
    file.update_tags(**profile.tags)
    for band, description in enumerate(profile.descriptions, start=1):
        file.set_band_description(band, description)
        if profile.categories:
            file.update_tags(band, **{f"category_{value}": kind.label for value, kind in profile.categories.items()})
    # TIFF has one colour table a file, so rasters of several bands go without.
    if profile.categories and len(profile.descriptions) == 1 and profile.dtype == "uint8":
        file.write_colormap(1, {value: kind.colour for value, kind in profile.categories.items()})
    return file


@dataclass
class _Fingerprint:
    """Sums over the known pixels that do not depend on the order in which they come."""

    nodata: float | None
    known: int = 0
    bits: int = 0

    def add(self, values: Array) -> None:
        raw = np.ascontiguousarray(values)
        unknown = np.zeros(raw.shape, bool) if self.nodata is None else raw == self.nodata
        if raw.dtype.kind == "f":
            unknown |= np.isnan(raw)
        whole_numbers = raw.view(f"u{raw.dtype.itemsize}")
        self.known += int(raw.size - np.count_nonzero(unknown))
        self.bits = (self.bits + int(np.sum(whole_numbers, where=~unknown, dtype=np.uint64))) % 2**64


def _read_back(path: Path, profile: CogProfile) -> _Fingerprint:
    """Decode every pixel of the file, overviews too, and sum up those of full resolution."""
    found = _Fingerprint(profile.nodata)
    with rasterio.open(path, driver="GTiff") as file:
        for window in _row_windows(file):
            found.add(file.read(window=window))
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(path, driver="GTiff", overview_level=level) as overview:
            for window in _row_windows(overview):
                overview.read(window=window)
    return found


def _row_windows(file: Any) -> Iterator[Window]:
    for top in range(0, file.height, _BLOCK_PX):
        yield Window(0, top, file.width, min(_BLOCK_PX, file.height - top))


def _check_space(path: Path, profile: CogProfile) -> None:
    pixels = profile.shape_yx[0] * profile.shape_yx[1] * len(profile.descriptions)
    needed = int(pixels * np.dtype(profile.dtype).itemsize * _WORST_CASE)
    if (free := _free_bytes(path)) < needed:
        raise RasterError(
            f"{path} may need {needed} bytes while it is made, and only {free} are free on its disk: free some, or "
            "choose another folder"
        )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL and the system say about a failed write into one clear line."""
    try:
        yield
    except _WRITE_ERRORS as error:
        cause = error.__cause__ or error
        free = f"{_free_bytes(path)} bytes are free on its disk" if path.parent.is_dir() else "its folder is not there"
        raise RasterError(f"{path} cannot be written: {str(cause).strip()}; {free}") from error

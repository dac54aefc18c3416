"""Cloud-optimised GeoTIFFs, written window by window in bounded memory, and visible only when complete.

Tiles are compressed, and averaged into overviews, as they come (`modeling.rasters.cog_pyramid`), and kept in a temporary folder
beside the target. Sizes known, the target's directories are written and the tiles copied behind them
(`modeling.rasters.tiff`); GDAL, which had no part in it, reads every pixel of every resolution back, they are compared with what
was coded, and one rename publishes the file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from modeling.errors import RasterError
from modeling.rasters.cog_pyramid import Pyramid, Resolution
from modeling.rasters.cog_tiles import HALVINGS, TILE_PX, checksum, predictor_of
from modeling.rasters.tiff import LEADER_BYTES, TRAILER_BYTES, Picture, lay_out, read_entries

Array = npt.NDArray[Any]
SlicesYX = tuple[slice, slice]
Rgba = tuple[int, int, int, int]

_WRITE_ERRORS = (OSError, RasterioError)
_CACHE_BYTES = 64 * 2**20
_WORST_CASE = 8 / 3
"""Bytes on disk while a file is made, to its uncompressed size: all resolutions as they came, and the file itself."""


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
    """How overviews are made: `average` for quantities, `nearest` for classes."""
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
    """Writes one COG window by window: `with CogWriter(path, profile) as cog: cog.write(slices, values)`.

    An error inside the `with` leaves nothing behind and an older file at `path` as it was. Raises `RasterError`
    naming the file and the free bytes when the disk is, or would get, too full, when a pixel is written twice, and when
    what reads back is not what was written. Windows of whole 512 px tiles, row by row, are fastest and hold least: a
    row of tiles of each resolution.
    """

    def __init__(self, path: Path | str, profile: CogProfile) -> None:
        self.path = Path(path)
        self.profile = profile
        self._stack = ExitStack()

    def __enter__(self) -> CogWriter:
        profile = self.profile
        if profile.overview_resampling not in HALVINGS:
            raise RasterError(
                f"{self.path}: overviews are made by {' or '.join(HALVINGS)}, not {profile.overview_resampling}"
            )
        with self._stack, _disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _check_space(self.path, profile)
            folder = tempfile.TemporaryDirectory(
                dir=self.path.parent, prefix=f".{self.path.stem}-", ignore_cleanup_errors=True
            )
            self._folder = Path(self._stack.enter_context(folder))
            self._spool = (self._folder / "tiles").open("w+b")
            self._stack.callback(_let_go, self._spool)
            self._pyramid = Pyramid(
                profile.shape_yx, len(profile.descriptions), profile.dtype, profile.nodata,
                HALVINGS[profile.overview_resampling], self._spool,
            )  # fmt: skip
            self._stack.callback(self._pyramid.close)
            self._stack = self._stack.pop_all()
        return self

    def write(self, where: SlicesYX, values: Array) -> None:
        """Write a window, once: `values` is (y, x) for one band, else (band, y, x); they are copied."""
        rows, columns = where
        bands = values[np.newaxis] if values.ndim == 2 else values
        wanted = (len(self.profile.descriptions), rows.stop - rows.start, columns.stop - columns.start)
        if bands.shape != wanted:
            raise RasterError(f"{self.path}: a window of (band, y, x) {wanted} was given values of shape {bands.shape}")
        height, width = self.profile.shape_yx
        if not (0 <= rows.start <= rows.stop <= height and 0 <= columns.start <= columns.stop <= width):
            raise RasterError(f"{self.path}: window {where} is not inside its {height} x {width} pixels")
        with _disk_errors(self.path):
            self._pyramid.add(where, bands.astype(self.profile.dtype, casting="same_kind", copy=False))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                with _disk_errors(self.path):
                    self._pyramid.finish()
                    self._publish(self._pyramid.resolutions)

    def _publish(self, resolutions: list[Resolution]) -> None:
        finished = self._folder / "finished.tif"
        layout = lay_out(
            read_entries(_template(self.profile)),
            [Picture(each.shape_yx, each.tile_bytes.reshape(-1)) for each in resolutions],
        )
        with finished.open("wb") as file:
            file.write(layout.head)
            for each in reversed(resolutions):
                _copy_tiles(self._spool, each, file)
        if finished.stat().st_size != layout.total_bytes or not self._reads_back(finished, resolutions):
            raise RasterError(
                f"{self.path} does not read back as it was written (a full disk?); {_free_bytes(self.path)} bytes are "
                "free on its disk. Nothing was kept"
            )
        finished.replace(self.path)

    def _reads_back(self, path: Path, resolutions: list[Resolution]) -> bool:
        """Whether GDAL finds the overviews that should be there, and decodes every tile to what was coded."""
        # Bytes are decoded faster than threads are handed their work.
        threads = 1 if np.dtype(self.profile.dtype).itemsize == 1 else "ALL_CPUS"
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
            with rasterio.open(path, driver="GTiff") as file:
                if len(file.overviews(1)) != len(resolutions) - 1:
                    return False
            for level, resolution in enumerate(resolutions):
                options = {"overview_level": level - 1} if level else {}
                with rasterio.open(path, driver="GTiff", num_threads=threads, **options) as file:
                    if not _holds(file, resolution):
                        return False
        return True


def write_cog(path: Path | str, source: Array | Iterable[tuple[SlicesYX, Array]], profile: CogProfile) -> None:
    """Write a whole array, (y, x) or (band, y, x), or a stream of windows; see `CogWriter` for what it promises."""
    with CogWriter(path, profile) as cog:
        blocks = _row_blocks(source) if isinstance(source, np.ndarray) else source
        for where, values in blocks:
            cog.write(where, values)


def _row_blocks(values: Array) -> Iterator[tuple[SlicesYX, Array]]:
    height, width = values.shape[-2:]
    for top in range(0, height, TILE_PX):
        rows = slice(top, min(top + TILE_PX, height))
        yield (rows, slice(0, width)), values[..., rows, :]


def _template(profile: CogProfile) -> bytes:
    """A GeoTIFF of one tile, written by GDAL, that states all that a file of `profile` states beside its pixels."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=TILE_PX, width=TILE_PX, count=len(profile.descriptions), dtype=profile.dtype,
            crs=profile.crs, transform=Affine(*tuple(profile.transform)[:6]), nodata=profile.nodata, tiled=True,
            blockxsize=TILE_PX, blockysize=TILE_PX, compress="DEFLATE", predictor=predictor_of(profile.dtype),
            interleave="pixel", endianness="LITTLE", bigtiff="NO", sparse_ok=True,
        ) as file:  # fmt: skip
            file.update_tags(**profile.tags)
            for band, description in enumerate(profile.descriptions, start=1):
                file.set_band_description(band, description)
                labels = {f"category_{value}": kind.label for value, kind in profile.categories.items()}
                file.update_tags(band, **labels)
            # TIFF has one colour table a file, so rasters of several bands go without.
            if profile.categories and len(profile.descriptions) == 1 and profile.dtype == "uint8":
                file.write_colormap(1, {value: kind.colour for value, kind in profile.categories.items()})
        return bytes(memory.getbuffer())


def _copy_tiles(spool: BufferedRandom, resolution: Resolution, file: BinaryIO) -> None:
    # One buffer for all: memory that is new to the process costs more than copying into it.
    buffer = memoryview(bytearray(int(resolution.tile_bytes.max())))
    for at, size in zip(resolution.at.flat, resolution.tile_bytes.flat, strict=True):
        spool.seek(int(at))
        data = buffer[: spool.readinto(buffer[: int(size)])]
        file.write(len(data).to_bytes(LEADER_BYTES, "little"))
        file.write(data)
        file.write(data[-TRAILER_BYTES:])


def _holds(file: Any, expected: Resolution) -> bool:
    """Whether the open `file` holds the tiles that are `expected`."""
    if file.shape != expected.shape_yx:
        return False
    for row, checks in enumerate(expected.check):
        strip = file.read(window=Window(0, row * TILE_PX, file.width, expected.inside((row, 0))[0]))
        found = [checksum(strip[..., left : left + TILE_PX]) for left in range(0, file.width, TILE_PX)]
        if found != checks.tolist():
            return False
    return True


def _let_go(spool: BufferedRandom) -> None:
    """Close a file whose content does not matter any more: on a full disk the last bytes cannot even be written."""
    with suppress(OSError):
        spool.close()


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

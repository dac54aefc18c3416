"""Opening rasters that somebody else made: checked before a pixel is read, and refused with the reason in one line.

Only GDAL's GeoTIFF driver (which reads COGs as well) is let near a file: others follow links inside it to other files
and to the network. What a file declares is weighed before memory is spent on it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points

from modeling.errors import RasterError

SlicesYX = tuple[slice, slice]
Transform = tuple[float, float, float, float, float, float]

MAX_PIXELS = 1_000_000_000
"""Pixels that a raster may declare unless the caller allows more: 100,000 km² at 10 m."""
_MAX_BLOCK_BYTES = 256 * 2**20
_MAX_EXPANSION = 5_000  # deflate cannot exceed 1,032; a file beyond this holds next to nothing
_HARMLESS_BYTES = 100 * 2**20

COLOURS = ("blue", "green", "red", "nir", "swir1", "swir2")
"""The reflectance bands that networks know."""
_SENTINEL2 = {"2": "blue", "3": "green", "4": "red", "8": "nir", "11": "swir1", "12": "swir2"}
_BAND_NAME = re.compile(r"(?:^|[^a-z0-9])(?:b|band[ _-]?)0?(\d{1,2})(a?)$")


@dataclass(frozen=True)
class RasterGrid:
    """A north-up grid of pixels."""

    crs: str
    """`EPSG:…` where there is a code, else WKT."""
    transform: Transform
    """Pixel corner to CRS: a, b, c, d, e, f."""
    shape_yx: tuple[int, int]
    """Height and width in pixels."""

    @classmethod
    def of(cls, file: Any) -> RasterGrid:
        """The grid of an open dataset."""
        a, b, c, d, e, f = tuple(file.transform)[:6]
        return cls(file.crs.to_string(), (a, b, c, d, e, f), (file.height, file.width))

    @property
    def affine(self) -> Affine:
        """The transform as `affine.Affine`."""
        return Affine(*self.transform)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, bottom, right, top in CRS units."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape_yx[0], c + a * self.shape_yx[1], f

    @property
    def centre_lonlat(self) -> tuple[float, float]:
        """Centre in WGS84 degrees."""
        left, bottom, right, top = self.bounds
        (lon,), (lat,) = transform_points(self.crs, "EPSG:4326", [(left + right) / 2], [(bottom + top) / 2])
        return lon, lat

    def window(self, where: SlicesYX) -> RasterGrid:
        """The grid of a part."""
        rows, columns = where
        a, b, c, d, e, f = self.transform
        moved = (a, b, c + a * columns.start, d, e, f + e * rows.start)
        return RasterGrid(self.crs, moved, (rows.stop - rows.start, columns.stop - columns.start))

    def same_as(self, other: RasterGrid) -> bool:
        """Whether pixels coincide to a thousandth of a pixel over the whole extent."""
        slack = 1e-3 * abs(self.transform[0])
        return (
            self.shape_yx == other.shape_yx
            and pyproj.CRS(self.crs) == pyproj.CRS(other.crs)
            and all(abs(here - there) <= slack for here, there in zip(self.bounds, other.bounds, strict=True))
        )

    def __str__(self) -> str:
        height, width = self.shape_yx
        a, _, c, _, e, f = self.transform
        return f"{width} x {height} pixels of {a:g} x {-e:g} from ({c:.10g}, {f:.10g}) in {self.crs[:60]}"


def open_raster(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> DatasetReader:
    """Open a GeoTIFF or COG for reading; the caller closes it.

    Raises `RasterError` for a file that is missing, no GeoTIFF, without CRS or georeferencing, rotated or south-up,
    of complex numbers, of more than `max_pixels` pixels, or that declares far more than it can hold.
    """
    local = Path(path)
    if not local.is_file():
        raise RasterError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotGeoreferencedWarning)
            file = rasterio.open(local, driver="GTiff")
    except NotGeoreferencedWarning:
        raise RasterError(f"{path} is not georeferenced: write it with a CRS and a geotransform") from None
    except RasterioIOError as error:
        raise RasterError(f"{path} is not a GeoTIFF that can be read ({error}): give a GeoTIFF or COG") from error
    try:
        _check_georeference(path, file)
        _check_size(path, file, local.stat().st_size, max_pixels)
    except RasterError:
        file.close()
        raise
    return file


def _check_georeference(path: Path | str, file: Any) -> None:
    if file.crs is None:
        raise RasterError(
            f"{path} has no coordinate reference system: add it, as in `rio edit-info --crs EPSG:32654 FILE`"
        )
    if not (file.crs.is_projected or file.crs.is_geographic):
        raise RasterError(f"{path}: its coordinate reference system is not on the Earth ({file.crs.to_string()[:80]})")
    at = file.transform
    if at.b or at.d or at.a <= 0 or at.e >= 0:
        raise RasterError(
            f"{path} is rotated, mirrored or south-up ({tuple(at)[:6]}): write it north-up, as with `gdalwarp`"
        )


def _check_size(path: Path | str, file: Any, stored_bytes: int, max_pixels: int) -> None:
    if any(dtype.startswith("complex") for dtype in file.dtypes):
        raise RasterError(f"{path} holds complex numbers, not reflectance or elevation")
    if (pixels := file.width * file.height) > max_pixels:
        raise RasterError(
            f"{path} declares {file.width} x {file.height} pixels; at most {max_pixels} are allowed: cut it"
        )
    item = max(_item_bytes(dtype) for dtype in file.dtypes)
    declared = pixels * file.count * item
    if declared > max(_HARMLESS_BYTES, _MAX_EXPANSION * stored_bytes):
        raise RasterError(
            f"{path} declares {declared} bytes of pixels in a file of {stored_bytes}: it is empty or damaged"
        )
    block_y, block_x = file.block_shapes[0]
    # In a pixel-interleaved file a block holds all bands.
    block = block_y * block_x * item * (file.count if file.interleaving and file.interleaving.name == "pixel" else 1)
    if block > _MAX_BLOCK_BYTES:
        raise RasterError(
            f"{path} stores its pixels in blocks of {block} bytes, which must be read whole: rewrite it tiled, as with "
            "`rio convert --co TILED=YES`"
        )


def _item_bytes(dtype: str) -> int:
    digits = re.search(r"(\d+)$", dtype)
    return int(digits.group(1)) // 8 if digits else 8


def is_metric(grid: RasterGrid) -> bool:
    """Whether lengths and areas can be measured on the grid: projected, in metres, areas true to 2 % at its centre.

    Geographic grids are not, nor is Web Mercator away from the equator.
    """
    crs = pyproj.CRS(grid.crs)
    if not crs.is_projected or any(abs(axis.unit_conversion_factor - 1) > 1e-9 for axis in crs.axis_info[:2]):
        return False
    factors = pyproj.Proj(crs).get_factors(*grid.centre_lonlat)
    return bool(abs(factors.areal_scale - 1) < 0.02)


def band_colours(path: Path | str, file: Any, bands: Sequence[str] | None = None) -> dict[str, int]:
    """Which colour (of `COLOURS`) is which band of the file, counted from 1.

    From `bands`, the colours in the file's order (any other word skips a band), else from the band descriptions
    (`B2`, `B04`, `red`, `nir`, …), else, for a file of one band, from the end of its name (`pre_B2.tif`). Raises
    `RasterError` when there are fewer bands than `bands`, a colour is there twice, or none can be told.
    """
    if bands is not None:
        if len(bands) > file.count:
            raise RasterError(f"{path} has {file.count} bands, but {len(bands)} are named: {', '.join(bands)}")
        names = list(bands)
    else:
        names = [description or "" for description in file.descriptions]
        if file.count == 1 and not names[0]:
            names = [Path(path).stem]
    found: dict[str, int] = {}
    for index, name in enumerate(names, start=1):
        if (colour := _colour(name)) is None:
            continue
        if colour in found:
            raise RasterError(f"{path}: bands {found[colour]} and {index} both say that they are {colour}")
        found[colour] = index
    if not found:
        raise RasterError(
            f"{path}: its bands do not say which colours they are ({', '.join(filter(None, names)) or 'no names'}): "
            f"name them in the file's order, as in `--bands blue,green,red,nir`; known are {', '.join(COLOURS)}"
        )
    return found


def _colour(name: str) -> str | None:
    """`B2`, `b02`, `Band 4`, `..._B8` and `red` to a colour; None for anything else, `B8A` included."""
    lower = name.strip().lower()
    if lower in COLOURS:
        return lower
    match = _BAND_NAME.search(lower)
    if match is None:
        last = re.split(r"[^a-z0-9]", lower)[-1]
        return last if last in COLOURS else None
    number, narrow = match.groups()
    return None if narrow else _SENTINEL2.get(number)

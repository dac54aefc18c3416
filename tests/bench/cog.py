"""Writing a Cloud-optimised GeoTIFF: full resolution, overviews, layout, read back and compared.

Raw megabytes of full resolution a second, deflate throughout, all processors. The limit is GDAL writing the same tiles
with the same predictor at its default level into a GeoTIFF without overviews, and leaving it at that; the facts are the
same at its fastest level, and without predictor. Ours writes, averages, lays out, reads back and compares. The others
write a tiled file first, as their ways demand, and do not read back. Each file is checked against the pixels after the
clock has stopped. The last group is the peak of a process that writes a map of so many rows of 8192 pixels window by
window, a quarter of the rows being the limit: 1 is flat.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_translate, cog_validate
from rio_cogeo.profiles import cog_profiles

from modeling.rasters.cog import CogProfile, CogWriter, mask_profile, probability_profile, write_cog

from . import maps
from .cases import BenchError, Case, Group, Role, Setting, elapsed
from .peak import peak_bytes, peak_mb

TILE_PX = 512
THREADS = "ALL_CPUS"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Map:
    """What is written."""

    name: str
    values: Array
    profile: CogProfile
    predictor: int


def groups(setting: Setting) -> Iterator[Group]:
    """One group a kind of map, the sizes of the files, and memory."""
    side = 1024 if setting.quick else 8192
    for each in _maps(side):
        ways = _ways(each, setting.scratch)
        cases = tuple(Case(who, role, _timed(each, path, write)) for who, (role, path, write) in ways.items())
        yield Group(f"{each.name}, {side} px", "MB/s", cases, warm=True)
        sizes = tuple(Case(who, "fact", _size(path)) for who, (_, path, _) in ways.items())
        yield Group(f"size of {each.name}, {side} px", "MB", sizes, less_is_better=True, repetitions=1)
        for _, path, _ in ways.values():
            path.unlink()
    width, rows = (1024, 4096) if setting.quick else (8192, 16384)

    def peak(height: int) -> Callable[[], float]:
        return lambda: peak_mb(__name__, (setting.scratch / "map.tif", height, width))

    cases = (Case(f"{rows // 4} rows", "limit", peak(rows // 4)), Case(f"{rows} rows", "ours", peak(rows)))
    yield Group(f"peak of {width} columns, window by window", "MB", cases, less_is_better=True, repetitions=1)


def _maps(side: int) -> Iterator[Map]:
    probability, shape = maps.probability(side), (side, side)
    yield Map("probability, float32", probability, probability_profile(maps.CRS, maps.GRID, shape), 3)
    short = (probability.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    yield Map("probability of a bfloat16 network", short, probability_profile(maps.CRS, maps.GRID, shape), 3)
    mask = maps.bodies(side).astype(np.uint8)
    yield Map("mask, uint8", mask, mask_profile(maps.CRS, maps.GRID, shape), 1)


_Write = Callable[[], None]


def _ways(each: Map, scratch: Path) -> Mapping[str, tuple[Role, Path, _Write]]:
    """Who -> what it is, its file, and how it writes it."""

    def path(name: str) -> Path:
        return scratch / f"{name}.tif"

    best, own = {"predictor": each.predictor}, path("ours")
    cog = {"driver": "COG", "blocksize": TILE_PX, "compress": "DEFLATE", "num_threads": THREADS, "predictor": "YES"}
    cog["overview_resampling"] = each.profile.overview_resampling

    def by_rasterio() -> None:
        with rasterio.open(path("rasterio"), "w", **_shape(each), **cog) as file:
            _fill(file, each.values)

    def by_gdal_copy() -> None:
        _tiled(each, path("plain"), compress="zstd", zstd_level=1)
        rasterio.shutil.copy(path("plain"), path("gdal"), **cog)
        path("plain").unlink()

    def by_rio_cogeo() -> None:
        _tiled(each, path("plain"), compress="zstd", zstd_level=1)
        cog_translate(
            path("plain"), path("rio-cogeo"), {**cog_profiles["deflate"], **best}, nodata=each.profile.nodata,
            overview_resampling=each.profile.overview_resampling, quiet=True, config={"GDAL_NUM_THREADS": THREADS},
        )  # fmt: skip
        path("plain").unlink()

    return {
        "tiled GeoTIFF": ("limit", path("tiled"), lambda: _tiled(each, path("tiled"), compress="deflate", **best)),
        "tiled GeoTIFF, fastest level": (
            "fact", path("fastest"), lambda: _tiled(each, path("fastest"), compress="deflate", zlevel=1, **best)
        ),
        "tiled GeoTIFF, no predictor": ("fact", path("bare"), lambda: _tiled(each, path("bare"), compress="deflate")),
        "quakeslide": ("ours", own, lambda: write_cog(own, each.values, each.profile)),
        "rasterio, driver COG": ("peer", path("rasterio"), by_rasterio),
        "GDAL, copy to COG": ("peer", path("gdal"), by_gdal_copy),
        "rio-cogeo": ("peer", path("rio-cogeo"), by_rio_cogeo),
    }  # fmt: skip


def _shape(each: Map) -> dict[str, Any]:
    height, width = each.values.shape
    return {
        "height": height, "width": width, "count": 1, "dtype": each.values.dtype, "crs": maps.CRS,
        "transform": maps.GRID, "nodata": each.profile.nodata,
    }  # fmt: skip


def _tiled(each: Map, path: Path, **options: Any) -> None:
    tiles = {"driver": "GTiff", "tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX, "num_threads": THREADS}
    with rasterio.open(path, "w", **_shape(each), **tiles, **options) as file:
        _fill(file, each.values)


def _fill(file: Any, values: Array) -> None:
    for top in range(0, len(values), TILE_PX):
        rows = values[top : top + TILE_PX]
        file.write(rows, 1, window=Window(0, top, values.shape[1], len(rows)))


def _timed(each: Map, path: Path, write: _Write) -> Callable[[], float]:
    cloud_optimised = each.values.shape[0] > TILE_PX and path.stem not in {"tiled", "fastest", "bare"}

    def run() -> float:
        path.unlink(missing_ok=True)
        seconds = elapsed(write)
        with rasterio.open(path, driver="GTiff") as file:
            if not np.array_equal(file.read(1), each.values, equal_nan=each.values.dtype.kind == "f"):
                raise BenchError(f"{path.name} does not hold the pixels of {each.name}")
            if cloud_optimised and not file.overviews(1):
                raise BenchError(f"{path.name} has no overviews")
        if cloud_optimised and not cog_validate(path, quiet=True)[0]:
            raise BenchError(f"{path.name} is no COG")
        return each.values.nbytes / 1e6 / seconds

    return run


def _size(path: Path) -> Callable[[], float]:
    return lambda: path.stat().st_size / 1e6


def main() -> None:
    """Write a map window by window and tell the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    asked = parser.parse_args()
    values = maps.probability(2 * TILE_PX)[:TILE_PX, :TILE_PX]
    with CogWriter(asked.path, probability_profile(maps.CRS, maps.GRID, (asked.height, asked.width))) as writer:
        for top in range(0, asked.height, TILE_PX):
            for left in range(0, asked.width, TILE_PX):
                writer.write((slice(top, top + TILE_PX), slice(left, left + TILE_PX)), values)
    sys.stdout.write(str(peak_bytes()))


if __name__ == "__main__":
    main()

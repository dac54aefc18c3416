"""A user's own rasters as a scene: an image before, an image after and an elevation model, read window by window.

The images must share one grid. When that grid is in metres (projected, true to scale) with pixels near the 10 m that
the networks know, it is the map's grid. Otherwise (degrees, Web Mercator, 3 m pixels) the images are warped on the
fly to UTM pixels of 10 m, which `note` says. The elevation model may be on any grid.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioIOError
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from modeling.errors import BandSetError, RasterError
from modeling.rasters.raster import MAX_PIXELS, RasterGrid, SlicesYX, band_colours, is_metric, open_raster
from modeling.rasters.raster_terrain import TERRAIN_LAYERS, TerrainReader
from modeling.rasters.resample import Resampler

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

NO_PASS, CLEAR, NO_TERRAIN = 0, 1, 5
"""Codes of `observed`, the same as those of a cube."""

_NETWORK_PIXEL_M = 10.0
_USABLE_PIXEL_M = (5.0, 20.0)
_DN_SCALE = 1e-4
_REFLECTANCE = (-0.2, 2.0)
"""What reflectance can be: below 0 after a correction for the air, above 1 of bright clouds and of glint."""
_TRACE = 1e-3
_WHEN = {"pre": "before the event", "post": "after the event"}
_SAMPLES, _SAMPLE_PX = 12, 32  # along an axis: few tiles of a large file are read


@dataclass(frozen=True)
class Scaling:
    """reflectance = stored * scale + offset."""

    scale: float | None = None
    """None: what the file declares, else 1e-4 for whole numbers and 1 for floating point."""
    offset: float | None = None
    """None: what the file declares, else 0. Level-1C products since baseline 04.00 need -0.1."""

    def __post_init__(self) -> None:
        """Raise `RasterError` for numbers that nothing can be scaled by."""
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise RasterError(f"--scale {self.scale:g} cannot be: give a finite number above 0, such as 0.0001")
        if self.offset is not None and not math.isfinite(self.offset):
            raise RasterError(f"an offset of {self.offset:g} cannot be: give a finite number")


@dataclass(frozen=True)
class _Source:
    """One file of one phase."""

    path: str
    """For messages."""
    file: Any
    """The open dataset."""
    bands: Mapping[str, int]
    """Colour to band."""
    factors: Mapping[str, tuple[float, float]]
    """Colour to scale and offset."""

    def read(self, where: SlicesYX, colours: Sequence[str]) -> FloatArray:
        """Reflectance (colour, y, x) of `colours`, which this file has; NaN where it has no data or what is no reflectance.

        Raises `RasterError` when the file is damaged.
        """
        numbers, gaps = self.numbers(where, colours)
        return np.where(gaps | _impossible(numbers), np.float32(np.nan), numbers)

    def numbers(self, where: SlicesYX, colours: Sequence[str]) -> tuple[FloatArray, BoolArray]:
        """What the file says is reflectance (colour, y, x), NaN in gaps that it declares, and where others seem to be."""
        stored, masks = self._stored(where, colours)
        declared = (masks == 0) | ~np.isfinite(stored)
        factors = np.array([self.factors[colour] for colour in colours], np.float32)[:, :, np.newaxis, np.newaxis]
        with np.errstate(over="ignore"):
            reflectance = (stored * factors[:, 0] + factors[:, 1]).astype(np.float32)
        return np.where(declared, np.float32(np.nan), reflectance), self._filled(stored, where) & ~declared

    def _filled(self, stored: npt.NDArray[Any], where: SlicesYX) -> BoolArray:
        """Where a file that declares no value for gaps holds one that tools fill them with: zero, or the largest number."""
        filled = np.asarray(stored == 0)
        if self.file.nodata is not None:
            return np.zeros_like(filled)
        if stored.dtype.kind not in "iu":
            # Corrections for the air leave single bands at 0 over dark water, so that only all of them are a gap.
            if filled.any() and len(stored) < len(self.bands):
                stored, _ = self._stored(where, list(self.bands))
            return np.asarray(filled & (stored == 0).all(axis=0))
        if stored.dtype.itemsize > 1:  # 255 is white in 8 bits
            filled |= stored == np.iinfo(stored.dtype).max
        return filled

    def _stored(self, where: SlicesYX, colours: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        window, indexes = Window.from_slices(*where), [self.bands[colour] for colour in colours]
        try:
            return self.file.read(indexes, window=window), self.file.read_masks(indexes, window=window)
        except RasterioIOError as error:
            raise RasterError(
                f"{self.path} is damaged or cut short ({error.__cause__ or error}): copy or download it again"
            ) from error


@dataclass(frozen=True)
class RasterPair:
    """Two images and perhaps an elevation model on one grid; made by `open_pair`."""

    grid: RasterGrid
    """The grid of the map, in metres."""
    layer_names: tuple[str, ...]
    """The layers that can be read, such as `red_pre` and `slope`."""
    note: str
    """What was done to the images to bring them onto the grid; empty when nothing was."""
    phases: Mapping[str, tuple[_Source, ...]]
    """`pre` and `post`."""
    terrain: TerrainReader | None
    """The elevation model, if one was given."""
    resampler: Resampler | None
    """From the images' grid to `grid`; None when they are the same."""
    _lock: threading.Lock = field(default_factory=threading.Lock)  # GDAL datasets serve one thread at a time

    def read(self, where: SlicesYX, wanted: Sequence[str]) -> tuple[dict[str, FloatArray], BoolArray]:
        """The wanted layers of a window, each (y, x) in physical units with NaN where unknown, and where all are known.

        Raises `BandSetError` naming the layers that the rasters do not have.
        """
        if missing := [name for name in wanted if name not in self.layer_names]:
            raise BandSetError(
                f"{', '.join(missing)} cannot be had from these rasters, which give {', '.join(self.layer_names)}"
            )
        layers: dict[str, FloatArray] = {}
        with self._lock:
            for phase, sources in self.phases.items():
                colours = [name.removesuffix(f"_{phase}") for name in wanted if name.endswith(f"_{phase}")]
                for source in sources:
                    if own := [colour for colour in source.bands if colour in colours]:
                        bands = self._image(source, where, own)
                        layers |= {f"{colour}_{phase}": band for colour, band in zip(own, bands, strict=True)}
            if self.terrain is not None and any(name in TERRAIN_LAYERS for name in wanted):
                layers |= self.terrain.read(self.grid.window(where))
        valid = np.logical_and.reduce([np.isfinite(layers[name]) for name in wanted])
        return {name: layers[name] for name in wanted}, valid

    def _image(self, source: _Source, where: SlicesYX, colours: Sequence[str]) -> FloatArray:
        if self.resampler is None:
            return source.read(where, colours)
        grid = self.grid.window(where)
        native, at = self.resampler.native(grid, lambda part: source.read(part, colours), layers=len(colours))
        return self.resampler.sample(native, at, grid)

    def observed(self, where: SlicesYX) -> npt.NDArray[np.uint8]:
        """What was seen, (phase, y, x): `NO_PASS` without data, else `NO_TERRAIN` without slope, else `CLEAR`."""
        phases = []
        for phase in ("pre", "post"):
            _, seen = self.read(where, [name for name in self.layer_names if name.endswith(f"_{phase}")])
            phases.append(np.where(seen, CLEAR, NO_PASS).astype(np.uint8))
        observed = np.stack(phases)
        if self.terrain is not None:
            _, sloped = self.read(where, ["slope"])
            observed[(observed == CLEAR) & ~sloped] = NO_TERRAIN
        return observed


@contextmanager
def open_pair(
    pre: Sequence[Path | str],
    post: Sequence[Path | str],
    dem: Path | str | None = None,
    *,
    bands: Sequence[str] | None = None,
    scaling: Scaling | None = None,
    pixel_m: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[RasterPair]:
    """Open and check the rasters of `map-raster`: `with open_pair([pre], [post], dem) as pair`.

    Each phase is one file of several bands or several files that share them out; `bands` as in
    `modeling.rasters.raster.band_colours`, for one file a phase only. `pixel_m` asks for a UTM grid of that pixel size.
    Raises `RasterError` when a file is unusable (see `open_raster`), the images are on different grids, a band is in two
    files, their values cannot be reflectance, or the model does not cover them.
    """
    with ExitStack() as stack:
        own, phases = _open_images({"pre": pre, "post": post}, bands, scaling or Scaling(), max_pixels, stack)
        grid = _map_grid(own, pixel_m)
        note = ""
        if grid is not own:
            if (pixels := grid.shape_yx[0] * grid.shape_yx[1]) > max_pixels:
                raise RasterError(
                    f"the images cover {pixels} pixels of {grid}; at most {max_pixels} are allowed: cut them"
                )
            note = f"the images ({own}) were warped bilinearly to {grid}"
        note = "; ".join(filter(None, (note, *_check_reflectance(phases))))
        terrain = None
        if dem is not None:
            model = stack.enter_context(open_raster(dem, max_pixels=max_pixels))
            terrain = TerrainReader.of(str(dem), model, grid)
        layer_names = (*(TERRAIN_LAYERS if terrain else ()), *_layer_names(phases))
        resampler = None if grid is own else Resampler.between(own, grid)
        yield RasterPair(grid, layer_names, note, phases, terrain, resampler)


def _open_images(
    paths: Mapping[str, Sequence[Path | str]],
    bands: Sequence[str] | None,
    scaling: Scaling,
    max_pixels: int,
    stack: ExitStack,
) -> tuple[RasterGrid, dict[str, tuple[_Source, ...]]]:
    """Open the files of both phases and hold them to one grid."""
    first: tuple[Path | str, RasterGrid] | None = None
    phases: dict[str, tuple[_Source, ...]] = {}
    for phase, files in paths.items():
        if bands is not None and len(files) > 1:
            raise RasterError(
                f"--bands {','.join(bands)} is the order within one file, but {', '.join(map(str, files))} are of one "
                "date: leave it out and let each file say what it holds, in its band descriptions or, with one band, at "
                "the end of its name (pre_B2.tif)"
            )
        images = []
        for path in files:
            file = stack.enter_context(open_raster(path, max_pixels=max_pixels))
            grid = RasterGrid.of(file)
            first = first or (path, grid)
            if not first[1].same_as(grid):
                raise RasterError(
                    f"the images must share one grid, but {first[0]} is {first[1]} and {path} is {grid}: "
                    "warp one to the other"
                )
            images.append(_source(path, file, bands, scaling))
        phases[phase] = tuple(images)
    if first is None or not all(phases.values()):
        raise RasterError("one image before and one after the event are needed")
    return first[1], phases


def _layer_names(phases: Mapping[str, Sequence[_Source]]) -> list[str]:
    names = [f"{colour}_{phase}" for phase, images in phases.items() for image in images for colour in image.bands]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise RasterError(f"more than one file gives {', '.join(repeated)}: give each band once")
    return names


def _source(path: Path | str, file: Any, bands: Sequence[str] | None, scaling: Scaling) -> _Source:
    colours = band_colours(path, file, bands)
    indexes = [band - 1 for band in colours.values()]
    declared = any((file.scales[index], file.offsets[index]) != (1.0, 0.0) for index in indexes)
    if scaling.scale is None and not declared and file.dtypes[0] == "uint8":
        raise RasterError(
            f"{path} holds 8-bit numbers, like a picture stretched for the eye: "
            "give reflectance, or the factor with --scale"
        )
    whole = all(file.dtypes[index].startswith(("int", "uint")) for index in indexes)
    factors = {}
    for colour, band in colours.items():
        scale, offset = (
            (file.scales[band - 1], file.offsets[band - 1]) if declared else (_DN_SCALE if whole else 1.0, 0.0)
        )
        factors[colour] = (
            scale if scaling.scale is None else scaling.scale,
            offset if scaling.offset is None else scaling.offset,
        )
    return _Source(str(path), file, colours, factors)


def _map_grid(own: RasterGrid, pixel_m: float | None) -> RasterGrid:
    """The grid of the map: the images' own where that will do, else UTM."""
    low, high = _USABLE_PIXEL_M
    square = abs(own.transform[0] + own.transform[4]) < 1e-6 * own.transform[0]
    if (
        is_metric(own)
        and square
        and (own.transform[0] == pixel_m or (pixel_m is None and low <= own.transform[0] <= high))
    ):
        return own
    step = pixel_m or _NETWORK_PIXEL_M
    return _snapped(own, own.crs if is_metric(own) else _utm(*own.centre_lonlat), step)


def _utm(lon: float, lat: float) -> str:
    zone = int((lon + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def _snapped(own: RasterGrid, crs: str, step: float) -> RasterGrid:
    """The grid of pixels of `step` metres, at multiples of it, that covers `own`."""
    left, bottom, right, top = transform_bounds(own.crs, crs, *own.bounds, densify_pts=21)
    # A thousandth of a pixel of slack, so that an extent that is a multiple already stays what it is.
    x0, y0 = np.floor(left / step + 1e-3) * step, np.ceil(top / step - 1e-3) * step
    shape = int(np.ceil((y0 - bottom) / step - 1e-3)), int(np.ceil((right - x0) / step - 1e-3))
    return RasterGrid(crs, (step, 0.0, float(x0), 0.0, -step, float(y0)), shape)


def _check_reflectance(phases: Mapping[str, Sequence[_Source]]) -> list[str]:
    """Look at windows all over the images: values that cannot be reflectance mean a wrong scale, or undeclared gaps.

    Returns what there is to say of gaps; raises `RasterError` where half of the values or more are none.
    """
    notes = []
    for phase, sources in phases.items():
        sampled = [_sampled(source) for source in sources]
        values = np.concatenate([numbers[~gaps & np.isfinite(numbers)] for numbers, gaps in sampled])
        files = ", ".join(source.path for source in sources)
        if values.size and not 0.005 < float(np.median(values)) < 1.5:
            raise RasterError(
                f"{files}: half of the values lie beyond {np.median(values):.4g} as reflectance, which should be 0 to 1: "
                "say the factor from stored numbers to reflectance with --scale, or declare the value that fills gaps"
            )
        undeclared = np.logical_or.reduce([(gaps | _impossible(numbers)).any(axis=0) for numbers, gaps in sampled])
        if (share := float(undeclared.mean())) > _TRACE:
            notes.append(
                f"about {100 * share:.1f} % of the pixels of the image {_WHEN[phase]} count as not seen though its files "
                "declare no gap there: they hold what fills gaps (0, the largest number) or what is no reflectance "
                f"({_REFLECTANCE[0]:g} to {_REFLECTANCE[1]:g})"
            )
    return notes


def _impossible(numbers: FloatArray) -> BoolArray:
    """Where numbers are no reflectance; not where they are NaN."""
    outside: BoolArray = (numbers < _REFLECTANCE[0]) | (numbers > _REFLECTANCE[1])
    return outside


def _sampled(source: _Source) -> tuple[FloatArray, BoolArray]:
    """`numbers` (colour, pixel) of small windows spread over the file; of the same pixels in files on one grid."""
    parts = []
    for y, x in product(_starts(source.file.height), _starts(source.file.width)):
        where = slice(y, min(y + _SAMPLE_PX, source.file.height)), slice(x, min(x + _SAMPLE_PX, source.file.width))
        parts.append(source.numbers(where, list(source.bands)))
    numbers, gaps = (
        np.concatenate([each.reshape(len(each), -1) for each in kind], axis=1) for kind in zip(*parts, strict=True)
    )
    return numbers, gaps


def _starts(size: int) -> list[int]:
    """Starts of the windows along an axis: all of a small one."""
    if size <= _SAMPLES * _SAMPLE_PX:
        return list(range(0, size, _SAMPLE_PX))
    return [round((size - _SAMPLE_PX) * share) for share in np.linspace(0, 1, _SAMPLES).tolist()]

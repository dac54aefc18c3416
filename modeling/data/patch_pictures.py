"""Pictures of data sets: PNG, JPEG, BMP and TIFF, read whole, with whatever geolocation they have."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

from modeling.errors import DataError
from modeling.rasters.raster import Transform

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "GTiff", ".tiff": "GTiff"}
"""Endings that are read, and the only driver that may read each."""
_MAX_BYTES = 2**30
_RGB = ("red_dn", "green_dn", "blue_dn")


def read_picture(path: Path, *, keep_alpha: bool = True) -> npt.NDArray[Any]:
    """The bands of a picture, (band, y, x) as stored; float32 with NaN where an alpha band or a nodata value says so.

    With `keep_alpha` off nothing becomes unknown. Raises `DataError` when it cannot be read or is too large.
    """
    with _opened(path) as file:
        values: npt.NDArray[Any] = file.read(_bands(file))
        unknown = file.dataset_mask() == 0
        if keep_alpha and unknown.any():
            values = values.astype(np.float32)
            values[:, unknown] = np.nan
        return values


def picture_layers(path: Path, *, dates: int) -> tuple[str, ...]:
    """Names of the layers of pictures like this one: colours of a picture's numbers, not of reflectance."""
    with _opened(path) as file:
        count = len(_bands(file))
    names = _RGB if count == len(_RGB) else tuple(f"b{number}_dn" for number in range(1, count + 1))
    phases = ("post",) if dates == 1 else ("pre", "post")
    return tuple(f"{name}_{phase}" for phase in phases for name in names)


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width."""
    with _opened(path) as file:
        return int(file.height), int(file.width)


def picture_dtype(path: Path) -> str:
    """The type of the numbers that a picture stores."""
    with _opened(path) as file:
        return str(file.dtypes[0])


def picture_place(path: Path) -> tuple[str, Transform] | None:
    """Coordinate system and transform of a north-up picture that has both; None otherwise."""
    with _opened(path) as file:
        at = file.transform
        if file.crs is None or at.b or at.d or at.a <= 0 or at.e >= 0:
            return None
        return file.crs.to_string(), (at.a, at.b, at.c, at.d, at.e, at.f)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path.resolve(), driver=PICTURES[path.suffix.lower()]) as file:
                if file.width * file.height * sum(np.dtype(kind).itemsize for kind in file.dtypes) > _MAX_BYTES:
                    raise DataError(
                        f"{path} declares {file.width} x {file.height} pixels of {file.count} bands: cut it"
                    )
                yield file
        except (RasterioIOError, RasterioError) as error:
            raise DataError(f"{path} is not a picture that can be read: {str(error)[:150]}") from error


def _bands(file: Any) -> list[int]:
    """The bands that are not alpha, counted from 1."""
    return [number for number, kind in enumerate(file.colorinterp, start=1) if kind != ColorInterp.alpha]

"""Pixels over the wire: one window of an expression as arrays, in as few requests as Earth Engine's limits allow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gee.errors import PermanentError, RequestTooLargeError
from gee.grid import MAX_BANDS, MAX_REQUEST_BYTES, MAX_SIDE_PX, request_bytes
from gee.retry import classify
from gee.session import Session
from gee.types import Grid, Tile

__all__ = ["FLOOR_PX", "classify", "decode_npy", "fetch_pixels"]

FLOOR_PX = 32
"""A window of this side that is still too large for Earth Engine will not become possible by cutting it further."""
_HEADER_BYTES = 2**16
"""More than any NPY header of `MAX_BANDS` bands with short names."""

Arrays = dict[str, npt.NDArray[Any]]


def fetch_pixels(
    session: Session,
    expression: dict[str, Any],
    grid: Grid,
    bands: Mapping[str, npt.DTypeLike],
    *,
    floor_px: int = FLOOR_PX,
) -> Arrays:
    """The bands of a serialised image expression on `grid`: band name -> array (y, x), of the types given in `bands`.

    A window above Earth Engine's limits is cut in four before it is asked for; one that Earth Engine calls too large
    is cut after, again and again down to `floor_px`. What was learnt from one refusal holds for the rest of the window,
    and no refused request is repeated. Masked pixels arrive as 0: an expression that needs to know them unmasks with
    a value of its own.

    Raises `RequestTooLargeError` when even `floor_px` is too large, `TransientError` when the attempts are used up,
    `PermanentError` with Earth Engine's own words otherwise, also when the bands arrive in other types.
    """
    if not 1 <= len(bands) <= MAX_BANDS:
        raise PermanentError(f"{len(bands)} bands asked for: Earth Engine gives 1 to {MAX_BANDS} in a request")
    whole: Arrays = {}
    side = MAX_SIDE_PX
    pending = [Tile(0, 0, 0, 0, grid.shape_yx)]
    while pending:
        tile = pending.pop()
        if max(tile.shape_yx) > side or request_bytes(tile.shape_yx, bands.values()) > MAX_REQUEST_BYTES:
            pending.extend(_quarters(tile))
            continue
        try:
            part = _compute_pixels(session, expression, grid.window(tile), bands)
        except RequestTooLargeError as error:
            side = (max(tile.shape_yx) + 1) // 2
            if side < floor_px:
                raise RequestTooLargeError(f"a window of {tile.shape_yx} pixels is still too large: {error}") from error
            pending.extend(_quarters(tile))
            continue
        for name, values in part.items():
            whole.setdefault(name, np.empty(grid.shape_yx, values.dtype))[tile.slices_yx] = values
    return whole


def decode_npy(body: bytes, shape_yx: tuple[int, int], bands: Mapping[str, npt.DTypeLike]) -> Arrays:
    """The bands of a structured NPY body, checked against what was asked for. Nothing is ever unpickled.

    Raises `PermanentError` when the body is not what was asked for.
    """
    dtype, offset = _header(body, shape_yx)
    came = {name: dtype[name] for name in dtype.names or ()}
    if came != {name: np.dtype(asked) for name, asked in bands.items()}:
        raise PermanentError(f"asked for the bands {dict(bands)}, got {dtype}")
    expected = offset + shape_yx[0] * shape_yx[1] * dtype.itemsize
    if len(body) != expected:
        raise PermanentError(f"the pixels should be {expected} bytes by their header but are {len(body)}")
    pixels = np.frombuffer(body, dtype, offset=offset).reshape(shape_yx)
    return {name: np.ascontiguousarray(pixels[name]) for name in bands}


def _header(body: bytes, shape_yx: tuple[int, int]) -> tuple[np.dtype[Any], int]:
    head = io.BytesIO(body[:_HEADER_BYTES])
    try:
        version = np.lib.format.read_magic(head)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(head, max_header_size=_HEADER_BYTES)
    except (ValueError, KeyError, EOFError) as error:
        raise PermanentError(f"the pixels are not a NumPy array: {body[:40]!r} ({error})") from None
    if shape != tuple(shape_yx) or fortran or dtype.hasobject:
        raise PermanentError(f"asked for {tuple(shape_yx)} pixels, got an array {shape} of {dtype}")
    return dtype, head.tell()


def _compute_pixels(
    session: Session, expression: dict[str, Any], grid: Grid, bands: Mapping[str, npt.DTypeLike]
) -> Arrays:
    a, b, c, d, e, f = grid.transform
    height, width = grid.shape_yx
    request = {
        "expression": expression,
        "fileFormat": "NPY",
        "bandIds": list(bands),
        "grid": {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {
                "scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f,
            },
            "crsCode": grid.crs,
        },
    }  # fmt: skip
    smallest = height * width * sum(np.dtype(dtype).itemsize for dtype in bands.values())
    body = session.fetch(
        "POST",
        f"{session.project_path}/image:computePixels",
        request,
        min_bytes=smallest,  # a shorter body was cut on the way: worth another attempt
        max_bytes=MAX_REQUEST_BYTES + _HEADER_BYTES,
    )
    return decode_npy(body, grid.shape_yx, bands)


def _quarters(tile: Tile) -> Iterator[Tile]:
    height, width = tile.shape_yx
    middle_y, middle_x = (height + 1) // 2, (width + 1) // 2
    for row, (y, h) in enumerate(((0, middle_y), (middle_y, height - middle_y))):
        for col, (x, w) in enumerate(((0, middle_x), (middle_x, width - middle_x))):
            if h and w:
                yield Tile(2 * tile.row + row, 2 * tile.col + col, tile.y0 + y, tile.x0 + x, (h, w))

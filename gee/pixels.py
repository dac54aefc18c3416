"""Pixels over the wire: one window of an expression as arrays, in as few requests as Earth Engine's limits allow."""

from __future__ import annotations

import io
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gee.errors import GeeError, PermanentError, RequestTooLargeError, TransientError
from gee.grid import MAX_BANDS, MAX_REQUEST_BYTES, MAX_SIDE_PX, request_bytes
from gee.limiter import working
from gee.session import Session
from gee.types import Grid, Tile

FLOOR_PX = 32
"""A window of this side that is still too large for Earth Engine will not become possible by cutting it further."""
_HEADER_BYTES = 2**16
"""More than any NPY header of `MAX_BANDS` bands with short names."""

_NAMED = 5
"""Assets that a message names."""
_ASSET = re.compile(r'"((?:projects/[^"/]+/assets|[A-Z][A-Za-z0-9_-]*)(?:/[A-Za-z0-9_.-]+)+)"')
"""An asset id as it stands in an expression: `COPERNICUS/S2_SR_HARMONIZED`, `projects/p/assets/x`."""

Arrays = dict[str, npt.NDArray[Any]]
Failure = TypeVar("Failure", bound=GeeError)
Result = TypeVar("Result")


def fetch_pixels(
    session: Session,
    expression: dict[str, Any] | str,
    grid: Grid,
    bands: Mapping[str, npt.DTypeLike],
    *,
    floor_px: int = FLOOR_PX,
    on_profile: Callable[[str], None] | None = None,
) -> Arrays:
    """The bands of an image expression on `grid`: band name -> array (y, x), of the types given in `bands`.

    See `work_on_pixels`, which this is without any work.
    """
    return work_on_pixels(
        session, expression, grid, bands, lambda whole: whole, floor_px=floor_px, on_profile=on_profile
    )


def work_on_pixels(
    session: Session,
    expression: dict[str, Any] | str,
    grid: Grid,
    bands: Mapping[str, npt.DTypeLike],
    work: Callable[[Arrays], Result],
    *,
    floor_px: int = FLOOR_PX,
    on_profile: Callable[[str], None] | None = None,
) -> Result:
    """What `work` makes of the bands of a serialised image expression on `grid`: band name -> array (y, x).

    The work is done where the last pixels are decoded, under `gee.limiter.working`: of a window that waits for its
    answer, or for a core, nothing is held but the body.

    An expression of which many windows are wanted is best given as JSON text, which saves writing it out again.
    The requests are planned before the first is sent, so that each is within Earth Engine's limits; a window that Earth
    Engine calls too large all the same is cut in four, again and again down to `floor_px`. What a refusal has taught
    holds for the rest of this window and for all later ones of the same expression and session, and no refused request
    is repeated. Masked pixels arrive as 0: an expression that needs to know them unmasks with a value of its own.
    With `on_profile` every request is profiled and the id of its profile handed over.

    Raises `RequestTooLargeError` when even `floor_px` is too large, `TransientError` when the attempts are used up,
    `PermanentError` with Earth Engine's own words otherwise, also when the bands arrive in other types.
    """
    if not 1 <= len(bands) <= MAX_BANDS:
        raise PermanentError(f"{len(bands)} bands asked for: Earth Engine gives 1 to {MAX_BANDS} in a request")
    types = {name: np.dtype(asked) for name, asked in bands.items()}
    pixel_bytes = request_bytes((1, 1), types.values())
    asking = expression if isinstance(expression, str) else json.dumps(expression, separators=(",", ":"))
    sides = _sides_of(session)
    subject = (hash(asking), grid.crs, grid.transform[0], grid.transform[4], *types.items())
    whole: Arrays = {}
    pending = [Tile(0, 0, 0, 0, grid.shape_yx)]
    while pending:
        tile = pending.pop()
        cut = parts(tile, sides.get(subject), pixel_bytes)
        if len(cut) > 1:
            pending.extend(reversed(cut))
            continue
        window = grid.window(tile)
        try:
            body = _compute_pixels(session, asking, window, types, on_profile)
        except RequestTooLargeError as error:
            half = (max(tile.shape_yx) + 1) // 2
            if half < floor_px:
                raise _told(error, f"a window of {tile.shape_yx} pixels is still too large: {error}", window) from error
            sides.learn(subject, half)
            pending.append(tile)  # comes back as its parts
            continue
        except PermanentError as error:
            raise _told(error, str(error), window, _assets(asking)) from error
        except TransientError as error:
            raise _told(error, str(error), window) from error
        with working():
            whole = whole or {name: np.empty(grid.shape_yx, dtype) for name, dtype in types.items()}
            decode_npy(body, window.shape_yx, types, {name: values[tile.slices_yx] for name, values in whole.items()})
            del body
            if not pending:
                return work(whole)
    raise AssertionError("a window has at least one part")


def parts(
    tile: Tile, side_px: int = MAX_SIDE_PX, pixel_bytes: int = 1, limit_bytes: int = MAX_REQUEST_BYTES
) -> tuple[Tile, ...]:
    """A tile cut evenly into the fewest rows and columns of which none is longer than `side_px` or weighs more than
    `limit_bytes` at `pixel_bytes` a pixel; row by row. The tile itself when it needs no cut.
    """
    height, width = tile.shape_yx
    rows, cols = math.ceil(height / side_px), math.ceil(width / side_px)
    while (high := math.ceil(height / rows)) * (wide := math.ceil(width / cols)) * pixel_bytes > limit_bytes:
        if high == wide == 1:
            raise PermanentError(f"a single pixel weighs {pixel_bytes} bytes: Earth Engine gives {limit_bytes}")
        rows, cols = (rows + 1, cols) if high >= wide else (rows, cols + 1)
    if rows == cols == 1:
        return (tile,)
    tops = [height * row // rows for row in range(rows + 1)]
    lefts = [width * col // cols for col in range(cols + 1)]
    return tuple(
        Tile(row, col, tile.y0 + tops[row], tile.x0 + lefts[col],
             (tops[row + 1] - tops[row], lefts[col + 1] - lefts[col]))
        for row in range(rows)
        for col in range(cols)
    )  # fmt: skip


def decode_npy(
    body: bytes | memoryview, shape_yx: tuple[int, int], bands: Mapping[str, npt.DTypeLike], into: Arrays | None = None
) -> Arrays:
    """The bands of a structured NPY body, checked against what was asked for. Nothing is ever unpickled.

    With `into` the values are written to these arrays. Raises `PermanentError` when the body is not what was asked for.
    """
    dtype, offset = _header(body, shape_yx)
    came = {name: dtype[name] for name in dtype.names or ()}
    if came != {name: np.dtype(asked) for name, asked in bands.items()}:
        raise PermanentError(f"asked for the bands {dict(bands)}, got {dtype}")
    expected = offset + shape_yx[0] * shape_yx[1] * dtype.itemsize
    if len(body) != expected:
        raise PermanentError(f"the pixels should be {expected} bytes by their header but are {len(body)}")
    pixels = np.frombuffer(body, dtype, offset=offset).reshape(shape_yx)
    arrays = {name: np.empty(shape_yx, kind) for name, kind in came.items()} if into is None else into
    for name in bands:
        arrays[name][...] = pixels[name]
    return arrays


def _header(body: bytes | memoryview, shape_yx: tuple[int, int]) -> tuple[np.dtype[Any], int]:
    head = io.BytesIO(body[:_HEADER_BYTES])
    try:
        version = np.lib.format.read_magic(head)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(head, max_header_size=_HEADER_BYTES)
    except (ValueError, KeyError, EOFError) as error:
        raise PermanentError(f"the pixels are not a NumPy array: {bytes(body[:40])!r} ({error})") from None
    if shape != tuple(shape_yx) or fortran or dtype.hasobject:
        raise PermanentError(f"asked for {tuple(shape_yx)} pixels, got an array {shape} of {dtype}")
    return dtype, head.tell()


def _compute_pixels(
    session: Session,
    asking: str,
    grid: Grid,
    bands: Mapping[str, np.dtype[Any]],
    on_profile: Callable[[str], None] | None,
) -> bytes:
    a, b, c, d, e, f = grid.transform
    height, width = grid.shape_yx
    rest = json.dumps(
        {
            "fileFormat": "NPY",
            "bandIds": list(bands),
            "grid": {
                "dimensions": {"width": width, "height": height},
                "affineTransform": {
                    "scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f,
                },
                "crsCode": grid.crs,
            },
        } | session.tagged
    )  # fmt: skip
    return session.fetch(
        "POST",
        f"{session.project_path}/image:computePixels",
        f'{{"expression":{asking},{rest[1:]}'.encode(),
        min_bytes=height * width * sum(dtype.itemsize for dtype in bands.values()),  # a shorter body was cut on the way
        max_bytes=MAX_REQUEST_BYTES + _HEADER_BYTES,
        on_profile=on_profile,
    )


def _told(error: Failure, words: str, window: Grid, assets: tuple[str, ...] = ()) -> Failure:
    """The same failure with the place that was asked for, and with the assets when Earth Engine names none of them."""
    height, width = window.shape_yx
    place = f"{width} x {height} pixels at {window.transform[2]:.10g}, {window.transform[5]:.10g} in {window.crs}"
    if assets and not any(asset in words for asset in assets):
        more = ", ..." if len(assets) > _NAMED else ""
        place += f", computed from {', '.join(assets[:_NAMED])}{more}"
    failure = type(error)(f"{words} ({place})")
    failure.status = error.status
    return failure


def _assets(asking: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_ASSET.findall(asking)))


class _Sides:
    """The longest side that Earth Engine has not refused, by expression and bands: the last few of a session."""

    _KEPT = 64

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sides: OrderedDict[object, int] = OrderedDict()

    def get(self, subject: object) -> int:
        with self._lock:
            return self._sides.get(subject, MAX_SIDE_PX)

    def learn(self, subject: object, side_px: int) -> None:
        with self._lock:
            self._sides[subject] = min(side_px, self._sides.pop(subject, MAX_SIDE_PX))
            while len(self._sides) > self._KEPT:
                self._sides.popitem(last=False)


_SIDES: WeakKeyDictionary[Session, _Sides] = WeakKeyDictionary()
_SIDES_LOCK = threading.Lock()


def _sides_of(session: Session) -> _Sides:
    with _SIDES_LOCK:
        return _SIDES.setdefault(session, _Sides())

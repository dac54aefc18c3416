"""Answers `image:computePixels` with pixels known in advance, and fails on demand: for tests of the transport."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gee.types import Grid

Pixels = Callable[[Grid], Mapping[str, npt.NDArray[Any]]]


@dataclass
class Fault:
    """How one request fails."""

    status: int = 503
    message: str = "planted"
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[bytes], bytes] | None = None
    """Changes the body of an answer that otherwise succeeds."""
    delay_s: float = 0.0
    """Waits, then answers as if nothing had been."""


class PixelServer:
    """An ASGI app. `asked` holds the grid of every request in order, `faults` what the next requests meet."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.reset()
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    def reset(self) -> None:
        """Forget what was asked and planted."""
        self.asked: list[Grid] = []
        self.faults: list[Fault | None] = []
        self.memory_px = 10**9
        """Windows with more pixels meet `User memory limit exceeded`."""
        self.in_flight = self.most_in_flight = 0
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def _answer(self, request: Request) -> Response:
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            return await self._pixels(request)
        finally:
            self.in_flight -= 1

    async def _pixels(self, request: Request) -> Response:
        body = json.loads(await request.body())
        grid = _grid(body["grid"])
        self.asked.append(grid)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.body is None and not fault.delay_s:
                return _error(fault.status, fault.message, fault.headers)
        if grid.shape_yx[0] * grid.shape_yx[1] > self.memory_px:
            return _error(400, "User memory limit exceeded.", {})
        npy = to_npy({name: self.pixels(grid)[name] for name in body["bandIds"]})
        if fault is not None and fault.body is not None:
            npy = fault.body(npy)
        return Response(npy, media_type="application/octet-stream")


def to_npy(bands: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Bands as Earth Engine sends them: one structured array, a field a band."""
    first = next(iter(bands.values()))
    pixels = np.zeros(first.shape, [(name, values.dtype) for name, values in bands.items()])
    for name, values in bands.items():
        pixels[name] = values
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def _grid(wire: dict[str, Any]) -> Grid:
    t = wire["affineTransform"]
    return Grid(
        wire["crsCode"],
        (t["scaleX"], t["shearX"], t["translateX"], t["shearY"], t["scaleY"], t["translateY"]),
        (wire["dimensions"]["height"], wire["dimensions"]["width"]),
    )


def _error(status: int, message: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": {"code": status, "message": message, "status": "PLANTED"}}, status, headers)

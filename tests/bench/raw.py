"""A client without a library: a socket a thread, one request written whole, one body read into one buffer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from gee.types import Grid

PATH = "/v1/projects/local/image:computePixels"
_HEAD_BYTES = 4096
_LENGTH = b"content-length:"


class RawClient:
    """Asks for windows with so many threads; repeats at once what meets 429."""

    def __init__(
        self, url: str, threads: int, buffer_bytes: int, decode: Callable[[memoryview], object] | None = None
    ) -> None:
        """Answers of at most `buffer_bytes` with their head; `decode` is done to each body."""
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        self._threads, self._buffer_bytes = threads, buffer_bytes
        self._decode = decode
        self._here = threading.local()

    def fetch(self, expression: Mapping[str, object], grids: Sequence[Grid]) -> int:
        """Bytes of all bodies together."""
        connections: list[socket.socket] = []

        def connect() -> None:
            self._here.socket = socket.create_connection(self._address)
            self._here.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._here.buffer = bytearray(self._buffer_bytes)
            connections.append(self._here.socket)

        try:
            with ThreadPoolExecutor(self._threads, initializer=connect) as pool:
                return sum(pool.map(lambda grid: self._one(_request(expression, grid)), grids))
        finally:
            for connection in connections:
                connection.close()

    def _one(self, request: bytes) -> int:
        while True:
            self._here.socket.sendall(request)
            status, length = self._read()
            if status == 200:
                return length
            if status != 429:
                raise RuntimeError(f"HTTP {status}")

    def _read(self) -> tuple[int, int]:
        view, came = memoryview(self._here.buffer), 0
        while (end := self._here.buffer.find(b"\r\n\r\n", 0, came)) < 0:
            came += self._more(view[came:_HEAD_BYTES])
        head = bytes(view[:end]).lower()
        length = int(head.partition(_LENGTH)[2].partition(b"\r\n")[0])
        whole = end + 4 + length
        while came < whole:
            came += self._more(view[came:whole])
        status = int(head[9:12])
        if self._decode is not None and status == 200:
            self._decode(view[end + 4 : whole])
        return status, length

    def _more(self, view: memoryview) -> int:
        count: int = self._here.socket.recv_into(view)
        if not count:
            raise ConnectionError("the server closed the connection")
        return count


def request_body(expression: Mapping[str, object], grid: Grid) -> bytes:
    """What `image:computePixels` is asked."""
    a, b, c, d, e, f = grid.transform
    height, width = grid.shape_yx
    asked = {
        "expression": expression,
        "fileFormat": "NPY",
        "grid": {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {
                "scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f,
            },
            "crsCode": grid.crs,
        },
    }  # fmt: skip
    return json.dumps(asked).encode()


def _request(expression: Mapping[str, object], grid: Grid) -> bytes:
    body = request_body(expression, grid)
    return b"POST %s HTTP/1.1\r\nHost: local\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(body)) + body

"""A server that costs next to nothing: ready-made pixels with a latency, a cap and 429s, for measuring clients.

It answers `image:computePixels` like Earth Engine (NPY), with bodies made once a shape, sent by one thread a connection
straight from memory: what a client reaches against it is what the client can do. `python -m bench.servers --port 0` in a
process of its own prints `{"url": ...}`; GET `/counts` tells what it saw.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

BANDS = {f"band_{number}": "int16" for number in range(13)} | {"date": "int32", "later": "int32", "seen": "uint8"}
"""As many bytes a pixel as a cube of two phases with its terrain."""
REFUSAL = "Too Many Requests: the limit of concurrent requests was exceeded."


@dataclass(frozen=True)
class Behaviour:
    """How the server answers."""

    latency_s: float = 0.2
    """Each answer comes so long after its request."""
    cap: int = 10_000
    """More requests than this at a time meet 429."""
    storm: bool = False
    """Whether every second request meets 429, whatever the load."""
    refusal_s: float = 0.0
    """Each 429 comes so long after its request."""


@dataclass
class Counts:
    """What the server saw since it began or was last asked to forget."""

    asked: int = 0
    """Requests for pixels."""
    served: int = 0
    """Of these, answered with pixels."""
    refused: int = 0
    """Of these, answered with 429."""
    most: int = 0
    """Most requests served at a time."""
    connections: int = 0
    """Connections made."""


@dataclass
class Server:
    """Serves until the process ends."""

    behaviour: Behaviour
    counts: Counts = field(default_factory=Counts)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: int = 0
    _bodies: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def run(self, listener: socket.socket) -> None:
        """Accept connections for ever."""
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.counts.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb", 1 << 16) as stream:
            try:
                while (start := stream.readline()).strip():
                    length = 0
                    while (line := stream.readline()).strip():
                        name, _, value = line.partition(b":")
                        if name.lower() == b"content-length":
                            length = int(value)
                    method, path, _ = start.split(b" ")
                    self._answer(connection, method, path, stream.read(length))
            except (ConnectionError, ValueError):
                return

    def _answer(self, connection: socket.socket, method: bytes, path: bytes, body: bytes) -> None:
        if path == b"/counts":
            with self._lock:
                told = json.dumps(asdict(self.counts)).encode()
                if method == b"DELETE":
                    self.counts = Counts()
            _send(connection, b"200 OK", told)
        elif self._admitted():
            try:
                time.sleep(self.behaviour.latency_s)
                _send(connection, b"200 OK", self._pixels(json.loads(body)["grid"]["dimensions"]))
            finally:
                with self._lock:
                    self._busy -= 1
        else:
            time.sleep(self.behaviour.refusal_s)
            error = {"code": 429, "message": REFUSAL, "status": "RESOURCE_EXHAUSTED"}
            _send(connection, b"429 Too Many Requests", json.dumps({"error": error}).encode())

    def _admitted(self) -> bool:
        with self._lock:
            self.counts.asked += 1
            if self._busy >= self.behaviour.cap or (self.behaviour.storm and self.counts.asked % 2):
                self.counts.refused += 1
                return False
            self._busy += 1
            self.counts.served += 1
            self.counts.most = max(self.counts.most, self._busy)
            return True

    def _pixels(self, dimensions: dict[str, int]) -> bytes:
        shape = dimensions["height"], dimensions["width"]
        body = self._bodies.get(shape)
        if body is None:
            body = self._bodies[shape] = pixels(shape)
        return body


def pixels(shape_yx: tuple[int, int]) -> bytes:
    """The NPY body of every window of this shape."""
    made = np.zeros(shape_yx, [(name, dtype) for name, dtype in BANDS.items()])
    place = np.arange(made.size).reshape(shape_yx)
    for number, name in enumerate(BANDS):
        made[name] = (place * (number + 1) % 251).astype(BANDS[name])
    buffer = io.BytesIO()
    np.save(buffer, made)
    return buffer.getvalue()


def _send(connection: socket.socket, status: bytes, body: bytes) -> None:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    connection.sendall(head)
    connection.sendall(body)


def main(arguments: list[str] | None = None) -> None:
    """Announce the address and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=Behaviour.latency_s)
    parser.add_argument("--cap", type=int, default=Behaviour.cap)
    parser.add_argument("--refusal-s", type=float, default=Behaviour.refusal_s)
    parser.add_argument("--storm", action="store_true")
    chosen: dict[str, Any] = vars(parser.parse_args(arguments))
    with socket.create_server(("127.0.0.1", chosen.pop("port")), backlog=256) as listener:
        sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}) + "\n")
        sys.stdout.flush()
        Server(Behaviour(**chosen)).run(listener)


if __name__ == "__main__":
    main()

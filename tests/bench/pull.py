"""The pull over a line with latency: bytes and pixels of many tiles from a server that does nothing but answer.

The server (`servers`) is a process of its own on the loopback, with ready-made bodies and 200 ms a request; the machine's
cores are shared by both sides. The limit is a client of bare sockets with as many threads as the server serves at a time,
which only reads; ours plans, decodes and checks too. When the server refuses, the limit repeats every 429 at once: the
best that can be had from that server, though nobody should treat a real one so. MB are 10^6 bytes of body.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fakes.servers import HTTP, serve_process

from gee.grid import tiles
from gee.pixels import fetch_pixels
from gee.session import SessionConfig, connect
from gee.types import Grid

from .cases import BenchError, Case, Group, Setting, elapsed
from .raw import RawClient
from .servers import BANDS, pixels

LATENCY_S = 0.2
CAP = 40
THREADS = 60
"""Of ours: while some decode, the others keep the 40 places filled."""
EXPRESSION = {"result": "0", "values": {"0": {"constantValue": "x" * 20_000}}}
"""As long as the expression of a cube."""


def groups(setting: Setting) -> Iterator[Group]:
    """40 at a time; 20 where 40 are tried; and half of all refused whatever is tried."""
    rounds = 4 if setting.quick else 20
    for side_px in (256, 512):
        windows = _windows(side_px, CAP * (rounds if side_px == 256 else max(2, rounds // 4)))
        with _server() as url:
            yield _group(f"{LATENCY_S * 1e3:.0f} ms, cap {CAP}, tiles of {side_px} px", url, windows, CAP)
    windows = _windows(256, CAP * rounds)
    with _server("--cap", "20") as url:
        yield _group("429 above 20 at a time, 40 tried", url, windows, 20)
    for refusal_s in (0.0, LATENCY_S):
        told = "at once" if not refusal_s else f"after {refusal_s * 1e3:.0f} ms"
        with _server("--storm", "--refusal-s", str(refusal_s)) as url:
            yield _group(f"every second request 429, told {told}", url, windows, CAP)


def _group(name: str, url: str, windows: Sequence[Grid], allowed: int) -> Group:
    body = len(pixels(windows[0].shape_yx))

    def raw() -> float:
        client = RawClient(url, allowed, body + 4096)
        return _rate(url, body, windows, lambda: client.fetch(EXPRESSION, windows))

    def ours() -> float:
        with connect(_config(url)) as session, ThreadPoolExecutor(THREADS) as pool:

            def pull(window: Grid) -> int:
                arrays = fetch_pixels(session, EXPRESSION, window, BANDS)
                if arrays["band_1"][0, 1] != 2 or arrays["seen"][-1, -1] != _last(window):
                    raise BenchError("wrong pixels")
                return body

            return _rate(url, body, windows, lambda: sum(pool.map(pull, windows)))

    return Group(name, "MB/s", (Case("bare sockets", "limit", raw), Case("quakeslide", "ours", ours)))


def _config(url: str) -> SessionConfig:
    return SessionConfig(url, "local", timeout_s=60.0, max_concurrent=CAP, max_per_s=10_000.0)


def _last(window: Grid) -> int:
    return (window.shape_yx[0] * window.shape_yx[1] - 1) * len(BANDS) % 251


def _windows(side_px: int, count: int) -> list[Grid]:
    whole = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (side_px, side_px * count))
    return [whole.window(tile) for tile in tiles(whole, side_px)] if side_px * count <= 10**9 else []


def _rate(url: str, body: int, windows: Sequence[Grid], work: object) -> float:
    HTTP.delete(f"{url}/counts")
    came: list[int] = []
    seconds = elapsed(lambda: came.append(work()))  # type: ignore[operator]
    counts = json.loads(HTTP.get(f"{url}/counts").content)
    if came != [body * len(windows)] or counts["served"] != len(windows):
        raise BenchError(f"{came} bytes for {len(windows)} tiles, the server counted {counts}")
    return came[0] / seconds / 1e6


@contextmanager
def _server(*arguments: str) -> Iterator[str]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    try:
        with serve_process("bench.servers", "--latency-s", str(LATENCY_S), *arguments) as url:
            yield url
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before

"""The pull over a line with latency: bytes and pixels of many tiles from a server that does nothing but answer.

The server (`servers`) is a process of its own on the loopback, with ready-made bodies and 200 ms a request; the machine's
cores are shared by both sides. The limit is a client of bare sockets with as many threads as the server serves at a time,
which only reads; ours plans, decodes and checks too. With tiles of 512 px that is more than the cores can carry: there the
limit decodes as well. When the server refuses, the limit repeats every 429 at once: the
best that can be had from that server, though nobody should treat a real one so. MB are 10^6 bytes of body.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fakes.servers import HTTP, serve_process

from gee.pixels import decode_npy, fetch_pixels
from gee.session import SessionConfig, connect
from gee.types import Grid, Tile

from .carriers import engine_group
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
    """What carries the bytes; 40 at a time; 20 where 40 are tried; and half of all refused whatever is tried."""
    rounds = 3 if setting.quick else 20
    with _server(latency_s=0.0) as url:
        yield engine_group(url, _windows(512, 40 if setting.quick else 200))
    for side_px, count in ((256, CAP * rounds), (512, CAP * rounds // 2)):
        with _server() as url:
            yield _group(
                f"{LATENCY_S * 1e3:.0f} ms, cap {CAP}, tiles of {side_px} px", url, _windows(side_px, count), CAP
            )
    with _server("--cap", "20") as url:
        yield _group("429 above 20 at a time, 40 tried", url, _windows(256, CAP * rounds // 2), 20)
    windows = _windows(256, CAP * rounds * 3 // 2)
    with _server("--storm") as url:
        yield _group("every second request 429, told at once", url, windows, CAP)
    with _server("--storm", "--refusal-s", str(LATENCY_S)) as url:
        yield _group(f"every second request 429, told after {LATENCY_S * 1e3:.0f} ms", url, windows, CAP, repetitions=1)


def _group(name: str, url: str, windows: Sequence[Grid], allowed: int, repetitions: int = 3) -> Group:
    body = len(pixels(windows[0].shape_yx))
    RawClient(url, 1, body + 4096).fetch(EXPRESSION, windows[:1])  # the server makes the body of this shape

    def raw() -> float:
        client = RawClient(url, allowed, body + 4096)
        return _rate(url, body, windows, lambda: client.fetch(EXPRESSION, windows))

    def decoding() -> float:
        client = RawClient(url, allowed, body + 4096, decode=lambda npy: decode_npy(npy, windows[0].shape_yx, BANDS))
        return _rate(url, body, windows, lambda: client.fetch(EXPRESSION, windows))

    def ours() -> float:
        with connect(_config(url)) as session, ThreadPoolExecutor(THREADS) as pool:

            def pull(window: Grid) -> int:
                arrays = fetch_pixels(session, EXPRESSION, window, BANDS)
                if arrays["band_1"][0, 1] != 2 or arrays["seen"][-1, -1] != _last(window):
                    raise BenchError("wrong pixels")
                return body

            return _rate(url, body, windows, lambda: sum(pool.map(pull, windows)))

    heavy = windows[0].shape_yx[0] > 256
    cases = [Case("bare sockets", "fact" if heavy else "limit", raw), Case("quakeslide", "ours", ours)]
    if heavy:
        cases.append(Case("bare sockets, decoding", "limit", decoding))
    return Group(name, "MB/s", tuple(cases), repetitions=repetitions)


def _config(url: str) -> SessionConfig:
    return SessionConfig(url, "local", timeout_s=60.0, max_concurrent=CAP, max_per_s=10_000.0)


def _last(window: Grid) -> int:
    return (window.shape_yx[0] * window.shape_yx[1] - 1) * len(BANDS) % 251


def _windows(side_px: int, count: int) -> list[Grid]:
    whole = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (side_px, side_px * count))
    return [whole.window(Tile(0, number, 0, number * side_px, (side_px, side_px))) for number in range(count)]


def _rate(url: str, body: int, windows: Sequence[Grid], work: Callable[[], int]) -> float:
    HTTP.delete(f"{url}/counts")
    came: list[int] = []
    seconds = elapsed(lambda: came.append(work()))
    counts = json.loads(HTTP.get(f"{url}/counts").content)
    if came != [body * len(windows)] or counts["served"] != len(windows):
        raise BenchError(f"{came} bytes for {len(windows)} tiles, the server counted {counts}")
    return came[0] / seconds / 1e6


@contextmanager
def _server(*arguments: str, latency_s: float = LATENCY_S) -> Iterator[str]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    try:
        with serve_process("bench.servers", "--latency-s", str(latency_s), *arguments) as url:
            yield url
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before

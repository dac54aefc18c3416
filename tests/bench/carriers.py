"""HTTP libraries that carry the same bodies from the same server, without latency: which one `gee.transport` is built on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import requests

from gee.transport import Transport
from gee.types import Grid

from .cases import BenchError, Case, Group, elapsed
from .raw import PATH, RawClient, request_body
from .servers import pixels

THREADS = 8
EXPRESSION = {"result": "0", "values": {"0": {"constantValue": "x" * 20_000}}}

Ask = Callable[[bytes], int]
"""Sends a body and gives the length of what came back."""


def engine_group(url: str, windows: Sequence[Grid]) -> Group:
    """The bytes only, by as many threads each."""
    length = len(pixels(windows[0].shape_yx))
    RawClient(url, 1, length + 4096).fetch(EXPRESSION, windows[:1])  # the server makes the body of this shape
    bodies = [request_body(EXPRESSION, window) for window in windows]

    def timed(work: Callable[[], int]) -> float:
        came: list[int] = []
        seconds = elapsed(lambda: came.append(work()))
        if came != [length * len(windows)]:
            raise BenchError(f"{came[0]} bytes instead of {length * len(windows)}")
        return came[0] / seconds / 1e6

    def by_threads(ask: Ask) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(ask, bodies))

    def raw() -> int:
        return RawClient(url, THREADS, length + 4096).fetch(EXPRESSION, windows)

    def ours() -> int:
        transport = Transport(url, THREADS)
        try:
            return by_threads(
                lambda body: len(transport.send("POST", PATH, body, {}, timeout_s=60, max_bytes=2**26).body)
            )
        finally:
            transport.close()

    def by_httpx() -> int:
        with httpx.Client(trust_env=False, timeout=60) as client:
            return by_threads(lambda body: len(client.post(url + PATH, content=body).content))

    def by_requests() -> int:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
            return by_threads(lambda body: len(session.post(url + PATH, data=body, timeout=60).content))

    return Group(
        f"bytes only, no latency, {THREADS} threads",
        "MB/s",
        (
            Case("bare sockets", "limit", lambda: timed(raw)),
            Case("gee.transport (urllib3)", "ours", lambda: timed(ours)),
            Case("aiohttp, one loop", "peer", lambda: timed(lambda: _by_aiohttp(url, bodies))),
            Case("requests", "peer", lambda: timed(by_requests)),
            Case("httpx", "peer", lambda: timed(by_httpx)),
        ),
        repetitions=3,
    )


def _by_aiohttp(url: str, bodies: Sequence[bytes]) -> int:
    """A loop in a thread of its own, asked by threads that wait, as a pull would have to."""
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()

    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=THREADS), read_bufsize=2**20)

    session = asyncio.run_coroutine_threadsafe(make(), loop).result()

    async def one(body: bytes) -> int:
        async with session.post(url + PATH, data=body) as answer:
            return len(await answer.read())

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(lambda body: asyncio.run_coroutine_threadsafe(one(body), loop).result(), bodies))
    finally:
        asyncio.run_coroutine_threadsafe(session.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()

"""The Earth Engine stand-in as an ASGI application.

    app = create_app(Path("catalogue"), Path("state"), storage_endpoint="http://127.0.0.1:4443")

Requests are answered at the same time by a few threads. What is behind each path is in `routes`; faults on demand and
the log of requests (`/_standin/…`) in `infra.local.standin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.earthengine import exports, ingestion, routes, routes_assets
from infra.local.earthengine.allowance import MAX_ASSETS, MAX_BYTES, Allowance
from infra.local.earthengine.catalogue import Catalogue
from infra.local.earthengine.discovery import document
from infra.local.earthengine.errors import ArgumentError, ServiceError
from infra.local.earthengine.library import ALLOWANCE, AssetLibrary
from infra.local.earthengine.operations import QUEUE, Operations
from infra.local.earthengine.profiles import ANSWER_HEADER, REQUEST_HEADER, Cost
from infra.local.earthengine.routing import Answer, dispatch
from infra.local.earthengine.service import Service
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.store import JsonStore
from infra.local.faults import Fault
from infra.local.standin import Standin, read_capped

PATHS = (routes, routes_assets)
"""The modules whose functions answer the paths; importing them fills the table of `routing`."""
THREADS = 4
"""Requests that are computed at the same time."""
MAX_CONCURRENT = 40
"""Requests that may be under way at the same time: the service's default; further ones get 429."""
MAX_BODY_BYTES = 10_485_760
"""The service's limit of a request's body."""
RECURSION = 20_000
"""Expressions are nested deeply, and an image's nodes likewise; Python's default allows about 100 of their levels."""


def create_service(
    catalogue: Path | Sequence[Path],
    state: Path,
    *,
    storage_endpoint: str = "",
    operation_s: float = 0.3,
    allowance: Allowance = ALLOWANCE,
    max_queued: int = QUEUE,
) -> Service:
    """The state behind an application: assets, operations and maps in the folder `state`."""
    reader = Reader(storage_endpoint)
    library = AssetLibrary(Catalogue(catalogue, reader), state, reader, allowance, storage_endpoint)
    operations = Operations(JsonStore(state / "operations"), operation_s, max_queued)
    service = Service(library, reader, operations, JsonStore(state / "saved"), storage_endpoint)
    operations.work = {
        "INGEST_IMAGE": lambda body: ingestion.import_image(library, reader, storage_endpoint, body),
        "INGEST_TABLE": lambda body: ingestion.import_table(library, storage_endpoint, body),
        "EXPORT_IMAGE": lambda body: exports.export_image(service, body),
        "EXPORT_FEATURES": lambda body: exports.export_table(service, body),
    }
    return service


def create_app(
    catalogue: Path | Sequence[Path],
    state: Path,
    *,
    storage_endpoint: str = "",
    latency_s: float = 0,
    operation_s: float = 0.3,
    max_concurrent: int = MAX_CONCURRENT,
    memory_pixels: int = 0,
    max_assets: int = MAX_ASSETS,
    max_bytes: int = MAX_BYTES,
    max_queued: int = QUEUE,
    faults: Sequence[Fault] = (),
) -> Standin:
    """An application over catalogue folders.

    Args:
        catalogue: one or several folders of scenes (see `catalogue`).
        state: folder in which written assets, operations and maps are kept over a restart; made when missing.
        storage_endpoint: address of the Cloud Storage stand-in, for `gs://` sources and exports.
        latency_s: seconds by which every answer is held back, as a distant service would.
        operation_s: seconds that an ingestion or export takes at least.
        max_concurrent: how many requests may be under way at the same time.
        memory_pixels: requests for more pixels than this meet "User memory limit exceeded."; 0: none do.
        max_assets: how many assets a project may keep.
        max_bytes: how many bytes of ingested rasters and tables a project may keep.
        max_queued: how many ingestions and exports may wait or run; further ones get 429.
        faults: failures that clients meet from the start, see `infra.local.faults`.

    Raises:
        ArgumentError: a catalogue folder does not exist.
    """
    service = create_service(
        catalogue,
        state,
        storage_endpoint=storage_endpoint,
        operation_s=operation_s,
        allowance=Allowance(max_assets, max_bytes),
        max_queued=max_queued,
    )
    front = _Front(service, latency_s, max_concurrent, memory_pixels)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))
        service.operations.resume()
        yield
        front.pool.shutdown(wait=True, cancel_futures=True)
        service.operations.close()

    routes = [
        Route("/$discovery/rest", front.discovery),
        Route("/v1/{path:path}", front.serve, methods=["GET", "POST", "DELETE", "PATCH"]),
    ]
    return Standin(Starlette(routes=routes, lifespan=lifespan, exception_handlers={Exception: _unexpected}), faults)


class _Front:
    """What stands between the network and the routes: latency, limits, the thread pool."""

    def __init__(self, service: Service, latency_s: float, max_concurrent: int, memory_pixels: int) -> None:
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="earthengine")
        self._service = service
        self._latency_s = latency_s
        self._max_concurrent = max_concurrent
        self._memory_pixels = memory_pixels
        self._under_way = 0

    async def discovery(self, request: Request) -> Response:
        return JSONResponse(document(str(request.base_url).rstrip("/")))

    async def serve(self, request: Request) -> Response:
        self._under_way += 1
        try:
            await asyncio.sleep(self._latency_s)
            if self._under_way > self._max_concurrent:
                raise ServiceError(429, "Too many concurrent aggregations.")
            return await self._computed(request)
        except ServiceError as error:
            return JSONResponse(error.to_json(), error.code)
        finally:
            self._under_way -= 1

    async def _computed(self, request: Request) -> Response:
        try:
            raw = await read_capped(request, MAX_BODY_BYTES)
        except ValueError as error:
            raise ArgumentError(f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes.") from error
        if request.url.path.endswith("Pixels"):
            detail = request.scope["standin.detail"] = _detail(raw)
            if self._memory_pixels and _pixels(detail.get("grid")) > self._memory_pixels:
                raise ArgumentError("User memory limit exceeded.")
        work = (self._service, request.method, request.path_params["path"], dict(request.query_params), raw)
        call = _profiled if REQUEST_HEADER in request.headers else dispatch
        answer = await asyncio.get_running_loop().run_in_executor(self.pool, call, *work)
        return Response(answer.content, media_type=answer.media_type, headers=dict(answer.headers))


def _profiled(service: Service, *call: Any) -> Answer:
    """Answer a call, and say in a header under which id its cost can be asked for."""
    began = time.thread_time()
    answer = dispatch(service, *call)
    profile = service.profiles.add(Cost(time.thread_time() - began, len(answer.content)))
    return replace(answer, headers=(*answer.headers, (ANSWER_HEADER, profile)))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of the stand-in itself: the client learns that it is not its own (the server logs the rest)."""
    failure = ServiceError(500, f"An internal error has occurred in the local stand-in ({type(error).__name__}).")
    return JSONResponse(failure.to_json(), failure.code)


def _detail(raw: bytes) -> dict[str, Any]:
    """What the log says of a request for pixels."""
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return {k: body[k] for k in ("grid", "fileFormat", "bandIds") if k in body} if isinstance(body, dict) else {}


def _pixels(grid: Any) -> int:
    size = grid.get("dimensions") if isinstance(grid, dict) else None
    return int(size.get("width", 0)) * int(size.get("height", 0)) if isinstance(size, dict) else 0

"""The Cloud Storage stand-in as an ASGI app: sends each request to the API that it is meant for."""

from __future__ import annotations

import errno
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message

from infra.local.standin import Standin, raw_path, read_capped
from infra.local.storage import xml_api
from infra.local.storage.json_api import JsonApi
from infra.local.storage.model import StorageError
from infra.local.storage.multipart import BatchPart, split_batch
from infra.local.storage.resumable import Uploads
from infra.local.storage.store import ObjectStore

MAX_BATCH_PARTS = 100
MAX_BATCH_BYTES = 10 << 20
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_app(root: Path) -> Standin:
    """A stand-in for Cloud Storage that keeps its objects below `root`.

    Speaks the JSON and the XML API, without credentials. Raises `StorageError` when another process serves `root`.
    """
    store = ObjectStore(root)
    dispatcher = _Dispatcher(store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        store.close()

    return Standin(Starlette(routes=[Route("/{path:path}", dispatcher.answer, methods=_METHODS)], lifespan=lifespan))


class _Dispatcher:
    def __init__(self, store: ObjectStore) -> None:
        uploads = Uploads(store)
        self._root = store.root
        self._json = JsonApi(store, uploads)
        self._xml = xml_api.XmlApi(store, uploads)

    async def answer(self, request: Request) -> Response:
        # An object's name may hold slashes; only those that were sent unencoded separate segments.
        segments = [unquote(segment) for segment in raw_path(request).removeprefix("/").split("/")]
        as_json = segments[0] in {"storage", "upload", "download", "batch"}
        try:
            return await self._route(request, segments)
        except StorageError as error:
            return _refusal(error, as_json=as_json)
        except ClientDisconnect:
            return Response(status_code=499)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            full = StorageError(507, "insufficientStorage", f"No space is left in {self._root}")
            return _refusal(full, as_json=as_json)

    async def _route(self, request: Request, segments: list[str]) -> Response:
        match segments:
            case ["storage", "v1", *rest]:
                return await self._json.answer(request, rest)
            case ["download", "storage", "v1", *rest]:
                return await self._json.answer(request, rest)
            case ["upload", "storage", "v1", "b", bucket, "o"]:
                return await self._json.upload(request, bucket)
            case ["batch", "storage", "v1"]:
                return await self._batch(request)
            case [""]:
                return JSONResponse({"kind": "storage#standin"})
            case [bucket, *name]:
                return await self._xml.answer(request, bucket, "/".join(name))
        raise StorageError(404, "notFound", f"The stand-in knows no {request.url.path}")

    async def _batch(self, request: Request) -> Response:
        try:
            body = await read_capped(request, MAX_BATCH_BYTES)
        except ValueError as error:
            raise StorageError(413, "uploadTooLarge", str(error)) from None
        parts = split_batch(body, request.headers.get("content-type", ""))
        if not 0 < len(parts) <= MAX_BATCH_PARTS:
            raise StorageError(400, "badRequest", f"A batch holds 1 to {MAX_BATCH_PARTS} requests, not {len(parts)}")
        mark = f"batch_{secrets.token_hex(16)}"
        pieces = [_batch_answer(mark, part, await self._inner(request, part)) for part in parts]
        return Response(b"".join(pieces) + f"--{mark}--\r\n".encode(), media_type=f"multipart/mixed; boundary={mark}")

    async def _inner(self, outer: Request, part: BatchPart) -> Response:
        path, _, query = part.target.partition("?")
        scope: dict[str, Any] = {
            **outer.scope,
            "method": part.method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", outer.headers["host"].encode()), *part.headers],
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": part.body, "more_body": False}

        return await self.answer(Request(scope, receive))


def _batch_answer(mark: str, part: BatchPart, response: Response) -> bytes:
    head = (
        f"--{mark}\r\nContent-Type: application/http\r\nContent-ID: <response-{part.content_id}>\r\n\r\n"
        f"HTTP/1.1 {response.status_code} -\r\n"
    )
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"{head}{headers}\r\n".encode() + bytes(response.body) + b"\r\n"


def _refusal(error: StorageError, *, as_json: bool) -> Response:
    if error.status == 304:
        return Response(status_code=304)
    if not as_json:
        return xml_api.error_response(error)
    detail = {"message": error.message, "domain": "global", "reason": error.reason}
    return JSONResponse({"error": {"code": error.status, "message": error.message, "errors": [detail]}}, error.status)

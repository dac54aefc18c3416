"""What every stand-in shares: loopback only, a log of its requests, faults on demand, and one line when it is ready.

Control routes, for tests and for people who want to see what a client does:

- `GET /_standin/log` -> `{"requests": [...]}`, the last `LOG_LENGTH` requests, oldest first; `DELETE` empties it.
- `POST /_standin/faults` with one `Fault` (see `infra.local.faults`), for example
  `{"match": "zarr", "status": 503, "count": 2, "delay_s": 0.1}`; `GET` lists the faults that are still armed and how
  often each has hit; `DELETE` disarms all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.local.faults import STATUS_NAMES, Armed, Asked, Fault

LOG_LENGTH = 20_000
MAX_CONTROL_BYTES = 64 * 1024
MAX_LOOK_BYTES = 16 << 20
"""A request's body is looked into by faults up to this size."""
TRICKLE_S = 0.05
"""How often a slow answer sends something."""
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class LogEntry:
    """One request as the stand-in saw it."""

    time: float
    """When it arrived, seconds since 1970."""
    method: str
    """HTTP method."""
    path: str
    """Percent-encoded path."""
    query: str
    """Query string without the question mark."""
    range: str
    """The `Range` header, empty when there is none."""
    status: int
    """Status of the answer, 0 when the connection broke before there was one."""
    bytes_out: int
    """Bytes of the answer's body that were sent."""
    ms: float
    """Milliseconds until the answer was complete."""
    fault: bool
    """Whether a planted fault had a hand in it."""
    detail: dict[str, Any] | None = None
    """What the stand-in itself noted of the request, in the scope's `standin.detail`: the grid of a request for pixels."""


class _CutError(Exception):
    """Raised inside `send` to abandon an answer half way."""


class Standin:
    """ASGI middleware around a stand-in's app; holds the log and the armed faults.

    Requests whose `Host` is not the loopback interface are refused: a web page that a developer has open could
    otherwise reach the stand-in through a name that resolves to 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, faults: Sequence[Fault] = ()) -> None:
        """`faults` are armed from the start."""
        self.app = app
        self.log: deque[LogEntry] = deque(maxlen=LOG_LENGTH)
        self.faults: list[Armed] = []
        for fault in faults:
            self.plant(fault)
        self._under_way = 0

    def plant(self, fault: Fault) -> None:
        """Arm a fault."""
        self.faults.append(Armed(fault, time.monotonic()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if not _is_loopback(request.headers.get("host", "")):
            refusal = JSONResponse({"error": "this stand-in answers on the loopback interface only"}, 403)
            await refusal(scope, receive, send)
        elif scope["path"] in {"/_standin/log", "/_standin/faults"}:
            await (await self._control(request))(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._observed(request, receive, send)
            finally:
                self._under_way -= 1

    async def _observed(self, request: Request, receive: Receive, send: Send) -> None:
        started, clock = time.time(), time.perf_counter()
        path = raw_path(request)
        connection = receive
        fault, receive = await self._met(request, path, receive)
        status, sent = 0, 0

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                body = message.get("body", b"")
                limit = None if fault is None else fault.cut_after
                if limit is not None and sent + len(body) > limit:
                    kept, sent = body[: max(0, limit - sent)], sent + len(body)
                    await _paced({**message, "body": kept, "more_body": True}, fault, send)
                    raise _CutError
                sent += len(body)
                if fault is not None and fault.bytes_per_s is not None:
                    await _paced(message, fault, send)
                    return
            await send(message)

        app = self.app
        try:
            if fault is not None:
                await asyncio.sleep(fault.delay_s)
                if fault.reset == "before":
                    raise _CutError
                if fault.replaces_answer:
                    app = _faulty(fault)
            await app(request.scope, receive, counting_send)
            if fault is not None and fault.reset == "after":
                raise _CutError
        except _CutError:
            if fault is not None and fault.reset is not None:
                _reset(connection)
            return  # the server closes a connection whose answer never ends
        finally:
            self.log.append(
                LogEntry(
                    time=started,
                    method=request.method,
                    path=path,
                    query=request.url.query,
                    range=request.headers.get("range", ""),
                    status=status,
                    bytes_out=sent,
                    ms=(time.perf_counter() - clock) * 1e3,
                    fault=fault is not None,
                    detail=request.scope.get("standin.detail"),
                )
            )

    async def _met(self, request: Request, path: str, receive: Receive) -> tuple[Fault | None, Receive]:
        """The fault that a request meets, and what is to be read in place of `receive`."""
        if not self.faults:
            return None, receive
        body = b""
        if any(armed.fault.needs_body for armed in self.faults):
            body, receive = await _looked_into(receive)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        asked = Asked(
            method=request.method,
            path=path,
            token=token if scheme.lower() == "bearer" else "",
            body=body.decode(errors="replace"),
            pixels=_pixels(body),
            under_way=self._under_way - 1,
            now_s=time.monotonic(),
        )
        self.faults = [armed for armed in self.faults if not armed.spent(asked.now_s)]
        return next((armed.fault for armed in self.faults if armed.hit(asked)), None), receive

    async def _control(self, request: Request) -> Response:
        which = request.url.path.rsplit("/", 1)[1]
        if request.method == "GET":
            if which == "log":
                return JSONResponse({"requests": [asdict(entry) for entry in self.log]})
            now = time.monotonic()
            return JSONResponse({"faults": [armed.to_json() for armed in self.faults if not armed.spent(now)]})
        if request.method == "DELETE":
            (self.log if which == "log" else self.faults).clear()
            return Response(status_code=204)
        if request.method == "POST" and which == "faults":
            try:
                self.plant(Fault.from_json(json.loads(await read_capped(request, MAX_CONTROL_BYTES))))
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
            return Response(status_code=204)
        return JSONResponse({"error": f"{request.method} is not possible here"}, 405)


def raw_path(request: Request) -> str:
    """The path as it was sent: percent-encoding tells a slash inside a name from one that separates."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    return str(raw.decode("latin-1"))


async def read_capped(request: Request, limit: int) -> bytes:
    """The request's body; raises `ValueError` as soon as it is longer than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ValueError(f"the request's body is larger than {limit} bytes")
    return bytes(body)


def _is_loopback(host: str) -> bool:
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    return name.lower() in LOOPBACK_HOSTS


def _faulty(fault: Fault) -> ASGIApp:
    status = fault.status or 200
    if fault.answer is not None:
        return Response(fault.answer, status, fault.headers, media_type=fault.answer_type)
    words = fault.words()
    errors = [{"message": words, "reason": "backendError"}]
    body = {"code": status, "message": words, "status": STATUS_NAMES.get(status, "UNKNOWN"), "errors": errors}
    return JSONResponse({"error": body}, status, fault.headers)


async def _looked_into(receive: Receive) -> tuple[bytes, Receive]:
    """The request's body (nothing of one that is too large), and what gives the same messages again."""
    kept: list[Message] = []
    body = bytearray()
    more = True
    while more and len(body) <= MAX_LOOK_BYTES:
        message = await receive()
        kept.append(message)
        body += message.get("body", b"")
        more = bool(message.get("more_body"))

    async def again() -> Message:
        return kept.pop(0) if kept else await receive()

    return bytes(body) if len(body) <= MAX_LOOK_BYTES else b"", again


def _pixels(body: bytes) -> int:
    """Pixels of the grid that a request's body asks for, 0 when it does not say."""
    try:
        size = json.loads(body or b"{}")["grid"]["dimensions"]
        return int(size["width"]) * int(size["height"])
    except (ValueError, KeyError, TypeError):
        return 0


async def _paced(message: Message, fault: Fault | None, send: Send) -> None:
    """Send a part of a body no faster than the fault allows."""
    if fault is None or fault.bytes_per_s is None:
        await send(message)
        return
    body, step = message.get("body", b""), max(1, round(fault.bytes_per_s * TRICKLE_S))
    for start in range(0, len(body), step):
        await asyncio.sleep(len(body[start : start + step]) / fault.bytes_per_s)
        await send({"type": "http.response.body", "body": body[start : start + step], "more_body": True})
    await send({**message, "body": b""})


def _reset(receive: Receive) -> None:
    """Break a connection with a TCP reset; `receive` is the server's own and knows it."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        return
    held = transport.get_extra_info("socket")
    if held is not None:
        # With a linger of no time, closing sends RST in place of FIN.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _AnnouncingServer(uvicorn.Server):
    """Writes one JSON line with the address to stdout once it accepts requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.started and sockets:
            url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            sys.stdout.write(json.dumps({"url": url}) + "\n")
            sys.stdout.flush()


def run(app: ASGIApp, port: int) -> int:
    """Serve `app` on the loopback interface until SIGINT or SIGTERM; `port` 0 takes a free one.

    Prints `{"url": ...}` in one line when ready. Returns the exit code: 2 with a line on stderr when the port is taken.
    """
    # With the protocol named, asyncio turns Nagle's algorithm off: it would cost 40 ms a request on a kept connection.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        sys.stderr.write(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}; choose another or 0\n")
        return 2
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=2)
    with contextlib.suppress(KeyboardInterrupt):
        _AnnouncingServer(config).run(sockets=[listener])
    return 0

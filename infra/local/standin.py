"""What every stand-in shares: loopback only, a log of its requests, faults on demand, and one line when it is ready.

Control routes, for tests and for people who want to see what a client does:

- `GET /_standin/log` -> `{"requests": [...]}`, the last `LOG_LENGTH` requests, oldest first; `DELETE` empties it.
- `POST /_standin/faults` with one `Fault`, for example `{"match": "zarr", "status": 503, "count": 2, "delay_s": 0.1}`;
  `GET` lists the faults that are still armed; `DELETE` disarms all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG_LENGTH = 20_000
MAX_CONTROL_BYTES = 64 * 1024
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass
class Fault:
    """A failure that the next matching requests meet."""

    match: re.Pattern[str]
    """Searched for in the request's path (percent-encoded, without the query)."""
    method: str | None = None
    """HTTP method, None for any."""
    status: int | None = None
    """Status to answer with instead of the real answer; None lets the request through (after the delay)."""
    count: int = 1
    """How many matching requests are hit before the fault is spent."""
    skip: int = 0
    """How many matching requests pass unharmed first."""
    delay_s: float = 0.0
    """Seconds to wait before answering."""
    cut_after: int | None = None
    """Break the connection after so many bytes of the real answer's body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Extra headers of the faulty answer, for example `Retry-After`."""
    message: str = "planted by /_standin/faults"
    """What the faulty answer says, for example `User memory limit exceeded.`"""

    @classmethod
    def from_json(cls, value: Any) -> Fault:
        """Read a fault from parsed JSON; raises `ValueError` that says which field is wrong."""
        if not isinstance(value, dict) or not isinstance(value.get("match"), str):
            raise ValueError('a fault is an object with at least "match", a regular expression on the path')
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(value) - known):
            raise ValueError(f"unknown fields {', '.join(unknown)}: use {', '.join(sorted(known))}")
        try:
            return cls(
                match=re.compile(value["match"]),
                method=str(value["method"]).upper() if value.get("method") else None,
                status=int(value["status"]) if value.get("status") is not None else None,
                count=int(value.get("count", 1)),
                skip=int(value.get("skip", 0)),
                delay_s=float(value.get("delay_s", 0.0)),
                cut_after=int(value["cut_after"]) if value.get("cut_after") is not None else None,
                headers={str(k): str(v) for k, v in value.get("headers", {}).items()},
                message=str(value.get("message", cls.message)),
            )
        except (re.error, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a fault: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "match": self.match.pattern}


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

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.log: deque[LogEntry] = deque(maxlen=LOG_LENGTH)
        self.faults: list[Fault] = []

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
            await self._observed(request, receive, send)

    async def _observed(self, request: Request, receive: Receive, send: Send) -> None:
        started, clock = time.time(), time.perf_counter()
        path = raw_path(request)
        fault = self._take_fault(request.method, path)
        status, sent = 0, 0

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
                if fault is not None and fault.cut_after is not None and sent > fault.cut_after:
                    kept = message.get("body", b"")[: max(0, len(message["body"]) - (sent - fault.cut_after))]
                    await send({"type": "http.response.body", "body": kept, "more_body": True})
                    raise _CutError
            await send(message)

        app = self.app
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.status is not None:
                app = _faulty(fault)
        try:
            await app(request.scope, receive, counting_send)
        except _CutError:
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

    def _take_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method not in (None, method) or not fault.match.search(path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.count -= 1
            if fault.count <= 0:
                self.faults.remove(fault)
            return fault
        return None

    async def _control(self, request: Request) -> Response:
        which = request.url.path.rsplit("/", 1)[1]
        if request.method == "GET":
            if which == "log":
                return JSONResponse({"requests": [asdict(entry) for entry in self.log]})
            return JSONResponse({"faults": [fault.to_json() for fault in self.faults]})
        if request.method == "DELETE":
            (self.log if which == "log" else self.faults).clear()
            return Response(status_code=204)
        if request.method == "POST" and which == "faults":
            try:
                self.faults.append(Fault.from_json(json.loads(await read_capped(request, MAX_CONTROL_BYTES))))
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
    errors = [{"message": fault.message, "reason": "backendError"}]
    body = {"error": {"code": fault.status, "message": fault.message, "errors": errors}}
    return JSONResponse(body, fault.status or 500, fault.headers)


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
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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

"""The USGS stand-in as an ASGI app: summary feeds, the FDSN event service, product contents, and a quake on demand.

Control routes beside those of `infra.local.standin`:

- `GET /_standin/events` -> `{"events": [{"id", "ids", "time", "updated", "title", "deleted"}]}`;
- `POST /_standin/events` with `{"detail": Feature, "contents": {"/product/...": {"text": ...} | {"base64": ...}}}`
  adds an event or a newer record of one;
- `DELETE /_standin/events/ID` withdraws one;
- `POST /_standin/clock` with `{"now": "2018-09-05T18:20:00Z"}` sets the time that the feeds go by, null the real one.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import mimetypes
import re
import time
from collections.abc import Sequence
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.local.standin import Standin, read_capped
from infra.local.usgs.book import BookError, EventBook, UnknownEventError
from infra.local.usgs.events import Event, RecordError, detail, summary
from infra.local.usgs.feeds import API_VERSION, Feed, FeedPress, collection
from infra.local.usgs.query import MAX_EVENTS, Query, QueryError

MAX_EVENT_BYTES = 64 << 20
MAX_QUERY_CHARACTERS = 8192
_OWN_ADDRESSES = re.compile(r"https?://earthquake\.usgs\.gov(?=/(?:product|fdsnws/event|earthquakes/feed)/)")
_REASONS = {400: "Bad Request", 404: "Not Found", 409: "Conflict"}


def create_app(folders: Sequence[Path], state: Path) -> Standin:
    """A stand-in for the USGS services that serves what `folders` hold; what is added meanwhile goes to `state`.

    Raises `infra.local.usgs.book.BookError` when a folder cannot be read.
    """
    service = _Service(EventBook(folders, state))
    routes = [
        Route("/earthquakes/feed/v1.0/summary/{name}", service.feed),
        Route("/earthquakes/feed/v1.0/detail/{event_id}.geojson", service.feed_detail),
        Route("/fdsnws/event/1/query", service.query),
        Route("/fdsnws/event/1/count", service.count),
        Route("/fdsnws/event/1/version", lambda _: PlainTextResponse(API_VERSION)),
        Route("/product/{path:path}", service.content),
        Route("/_standin/events", service.events, methods=["GET"]),
        Route("/_standin/events", service.publish, methods=["POST"]),
        Route("/_standin/events/{event_id}", service.withdraw, methods=["DELETE"]),
        Route("/_standin/clock", service.set_clock, methods=["POST"]),
    ]
    return Standin(Starlette(routes=routes))


class _Service:
    def __init__(self, book: EventBook) -> None:
        self._book = book
        self._press = FeedPress()
        self._ahead_s = 0.0

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(time.time() + self._ahead_s, dt.UTC)

    # ---- what the real service has

    async def feed(self, request: Request) -> Response:
        feed = Feed.named(request.path_params["name"])
        if feed is None:
            return PlainTextResponse("Not Found", 404)
        now_ms = int(self._now().timestamp() * 1000)
        body, etag, generated = self._press.issue(feed, self._book.all(), now_ms, _base(request))
        return _geojson(request, body, generated, etag)

    async def feed_detail(self, request: Request) -> Response:
        event = self._book.find(request.path_params["event_id"])
        if event is None or event.deleted:
            return PlainTextResponse("Not Found", 404)
        return _geojson(request, detail(event), event.updated_ms)

    async def query(self, request: Request) -> Response:
        try:
            query = self._parse(request)
            if query.format != "geojson":
                raise QueryError("The stand-in answers with format=geojson only.")
            if query.eventid is not None:
                return self._one(request, query, query.eventid)
            shown = query.page(query.select(self._book.all(deleted=True), self._now()))
        except QueryError as error:
            return _refusal(request, 400, str(error))
        metadata: dict[str, Any] = {
            "generated": int(self._now().timestamp()) * 1000,
            "url": str(request.url),
            "title": "USGS Earthquakes",
            "status": 200,
            "api": API_VERSION,
            **{key: getattr(query, key) for key in ("limit", "offset") if getattr(query, key) is not None},
            "count": len(shown),
        }
        link = f"{_base(request)}/fdsnws/event/1/query?eventid={{}}&format=geojson"
        body = collection(metadata, [summary(event, link.format(event.id)) for event in shown])
        return _geojson(request, body, max((event.updated_ms for event in shown), default=metadata["generated"]))

    def _one(self, request: Request, query: Query, event_id: str) -> Response:
        event = self._book.find(event_id)
        if event is None:
            return _refusal(request, 404, "Not Found")
        if event.deleted and not query.includedeleted:
            return _refusal(request, 409, f"Event {event.id} has been deleted; use includedeleted to see it.")
        body = detail(event, superseded=query.includesuperseded, deleted=query.includedeleted)
        return _geojson(request, body, event.updated_ms)

    async def count(self, request: Request) -> Response:
        try:
            query = self._parse(request)
            if query.format not in (None, "text", "geojson"):
                raise QueryError("The stand-in counts with format=text or geojson only.")
            found = len(query.select(self._book.all(deleted=True), self._now()))
        except QueryError as error:
            return _refusal(request, 400, str(error))
        if query.format == "geojson":
            return JSONResponse({"count": found, "maxAllowed": MAX_EVENTS})
        return PlainTextResponse(str(found))

    @staticmethod
    def _parse(request: Request) -> Query:
        if len(request.url.query) > MAX_QUERY_CHARACTERS:
            raise QueryError(f"The query is longer than {MAX_QUERY_CHARACTERS} characters.")
        return Query.parse(dict(request.query_params))

    async def content(self, request: Request) -> Response:
        file = self._book.content(f"/product/{request.path_params['path']}")
        if file is None or not file.is_file():
            return PlainTextResponse("Not Found", 404)
        kind = mimetypes.guess_type(request.path_params["path"])[0] or "application/octet-stream"
        return FileResponse(file, media_type=kind)

    # ---- what only the stand-in has

    async def events(self, _: Request) -> Response:
        known = sorted(self._book.all(deleted=True), key=lambda event: event.id)
        return JSONResponse({"events": [_digest(event) for event in known]})

    async def publish(self, request: Request) -> Response:
        try:
            body = json.loads(await read_capped(request, MAX_EVENT_BYTES))
            if not isinstance(body, dict) or not isinstance(body.get("contents", {}), dict):
                raise RecordError('the body is {"detail": Feature, "contents": {path: {"text" or "base64": ...}}}')
            contents = {str(path): _content(path, value) for path, value in body.get("contents", {}).items()}
            event = self._book.publish(body.get("detail"), contents)
        except BookError as error:
            return JSONResponse({"error": str(error)}, 409)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(_digest(event), 201)

    async def withdraw(self, request: Request) -> Response:
        try:
            event = self._book.delete(request.path_params["event_id"], int(self._now().timestamp() * 1000))
        except UnknownEventError as error:
            return JSONResponse({"error": str(error)}, 404)
        return JSONResponse(_digest(event))

    async def set_clock(self, request: Request) -> Response:
        try:
            wanted = json.loads(await read_capped(request, MAX_QUERY_CHARACTERS))["now"]
            moment = None if wanted is None else dt.datetime.fromisoformat(wanted)
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": 'the body is {"now": ISO-8601 time or null}'}, 400)
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        self._ahead_s = 0.0 if moment is None else moment.timestamp() - time.time()
        return JSONResponse({"now": self._now().isoformat()})


def _base(request: Request) -> str:
    return f"http://{request.headers['host']}"


def _geojson(request: Request, body: Any, modified_ms: int, etag: str | None = None) -> Response:
    """A GeoJSON answer whose own addresses lead back here; 304 when the client has it already."""
    text = _OWN_ADDRESSES.sub(_base(request), json.dumps(body)).encode()
    tag = f'"{etag or hashlib.sha256(text).hexdigest()[:32]}"'
    headers = {
        "ETag": tag,
        "Last-Modified": formatdate(modified_ms // 1000, usegmt=True),
        "Cache-Control": "public, max-age=60",
    }
    if _fresh(request, tag, modified_ms):
        return Response(status_code=304, headers=headers)
    return Response(text, headers=headers, media_type="application/json")


def _fresh(request: Request, tag: str, modified_ms: int) -> bool:
    known = request.headers.get("if-none-match")
    if known is not None:
        return known == "*" or tag in {one.strip().removeprefix("W/") for one in known.split(",")}
    try:
        since = parsedate_to_datetime(request.headers["if-modified-since"])
    except (KeyError, ValueError):
        return False
    return modified_ms // 1000 <= since.timestamp()


def _refusal(request: Request, status: int, reason: str) -> Response:
    title = f"Error {status}: {_REASONS[status]}"
    path = request.url.path + (f"?{request.url.query[:500]}" if request.url.query else "")
    return PlainTextResponse(f"{title}\n\n{reason}\n\nRequest:\n{path}\n\nService version:\n{API_VERSION}\n", status)


def _content(path: Any, value: Any) -> bytes:
    try:
        if "text" in value:
            return str(value["text"]).encode()
        return base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise RecordError(f'the content of {str(path)[:80]!r} is {{"text": ...}} or {{"base64": ...}}') from None


def _digest(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "ids": sorted(event.aliases),
        "time": event.time_ms,
        "updated": event.updated_ms,
        "title": event.property("title"),
        "deleted": event.deleted,
    }

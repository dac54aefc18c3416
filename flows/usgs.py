"""The door to the USGS: feeds, FDSN event queries, event details and product files over HTTP."""

from __future__ import annotations

import datetime as dt
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import httpx

from flows.errors import ContentMissingError, EventDeletedError, EventError, ServiceError
from flows.event import EarthquakeEvent, EventSummary
from flows.usgs_geojson import EVENT_ID, parse_detail, parse_feed, parse_json

logger = logging.getLogger(__name__)

FEED_PATH = "/earthquakes/feed/v1.0/summary/{name}.geojson"
QUERY_PATH = "/fdsnws/event/1/query"
USGS_HOST = "earthquake.usgs.gov"
PAGE_SIZE = 20_000
"""The most events that one FDSN answer holds."""
MAX_PAGES = 500
MAX_BODY_BYTES = 64 * 2**20
DRIP_FACTOR = 10
"""A body that keeps dripping is cut off after this many times the timeout."""
MAX_DELAY_S = 30.0
_FEED_NAME = re.compile(r"(all|significant|1\.0|2\.5|4\.5)_(hour|day|week|month)")
_RETRIED = frozenset({429, 500, 502, 503, 504})
_ANSWERS = frozenset({200, 204, 304, 400, 404, 409})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _TooLargeError(ServiceError):
    """An answer is larger than the caller takes."""


@dataclass(frozen=True)
class FeedState:
    """What must be kept between two polls of a feed to be sent only news."""

    etag: str = ""
    """The `ETag` of the last answer."""
    last_modified: str = ""
    """The `Last-Modified` of the last answer."""

    def headers(self) -> dict[str, str]:
        """The headers of a conditional request."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class FeedPoll:
    """One poll of a feed."""

    events: tuple[EventSummary, ...] | None
    """The events of the feed, None when nothing has changed since the state that was passed in."""
    state: FeedState
    """What to pass in at the next poll."""
    rejected: tuple[str, ...] = ()
    """One line for each entry that could not be read."""


@dataclass(frozen=True)
class _Answer:
    """A response read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def first_line(self) -> str:
        """The first line of the body, for a message."""
        lines = self.body[:2000].decode("utf-8", "replace").strip().splitlines()
        return lines[0][:200] if lines else f"HTTP {self.status}"


@dataclass
class UsgsClient:
    """Talks to the USGS or to a stand-in for it. Close it, or use it in a `with` block.

    Transport faults, 429 and 5xx are tried again; what does not pass raises `ServiceError` with the service's name and
    address. Redirects are not followed.
    """

    base_url: str
    """For example `https://earthquake.usgs.gov`."""
    timeout_s: float = 30.0
    """Longest wait for a connection, an answer, or the next piece of one, in seconds."""
    max_attempts: int = 4
    """Attempts at a request that fails in a way that may pass."""
    backoff_s: float = 0.5
    """Wait before the second attempt, in seconds; it doubles for each one after."""
    _feeds: dict[str, FeedPoll] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the address and make ready to connect."""
        self.base_url = self.base_url.rstrip("/")
        parts = _split(self.base_url)
        if parts is None:
            raise ServiceError(f"`usgs.url` is {self.base_url!r}, not an http:// or https:// address: mend the setting")
        # A proxy of the environment must not be asked for an address on this machine.
        self._http = httpx.Client(
            timeout=self.timeout_s,
            trust_env=parts[1] not in _LOOPBACK,
            headers={"User-Agent": "quakeslide"},
        )

    def __enter__(self) -> UsgsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def poll(self, name: str = "4.5_day", state: FeedState | None = None) -> FeedPoll:
        """Ask for a summary feed, sending the validators of an earlier answer, so that only news travel.

        `state` may come from storage: the poll keeps nothing in memory. Raises `EventError` for a feed that the USGS
        does not have.
        """
        if not _FEED_NAME.fullmatch(name):
            raise EventError(f"there is no feed {name!r}: use for example `4.5_day` or `significant_month`")
        state = state or FeedState()
        answer = self._get(FEED_PATH.format(name=name), headers=state.headers())
        if answer.status == 304:
            return FeedPoll(None, state)
        if answer.status != 200:
            self._refuse(f"the feed {name}", answer)
        what = f"the feed {name} of {self.base_url}"
        events, rejected = self._events(answer, what)
        fresh = FeedState(answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))
        return FeedPoll(tuple(events), fresh, tuple(rejected))

    def feed(self, name: str = "4.5_day") -> list[EventSummary]:
        """The events of a summary feed; an unchanged feed is not sent again during the life of this client."""
        last = self._feeds.get(name)
        poll = self.poll(name, last.state if last else None)
        if poll.events is None and last is not None:
            poll = last
        self._feeds[name] = poll
        return list(poll.events or ())

    def query(
        self,
        start: dt.datetime,
        end: dt.datetime,
        minimum_magnitude: float | None = None,
        *,
        updated_after: dt.datetime | None = None,
        include_deleted: bool = False,
        page_size: int = PAGE_SIZE,
    ) -> list[EventSummary]:
        """The events with origin times in [start, end], oldest first, however many pages they take.

        With `include_deleted` withdrawn events are listed too, with status `deleted`.
        """
        params = {"format": "geojson", "orderby": "time-asc", "limit": str(page_size)}
        params |= {"starttime": _stamp(start), "endtime": _stamp(end)}
        if minimum_magnitude is not None:
            params["minmagnitude"] = f"{minimum_magnitude:g}"
        if updated_after is not None:
            params["updatedafter"] = _stamp(updated_after)
        if include_deleted:
            params["includedeleted"] = "true"
        found: dict[str, EventSummary] = {}
        for page in range(MAX_PAGES):
            answer = self._get(QUERY_PATH, {**params, "offset": str(1 + page * page_size)})
            if answer.status == 204:
                break
            if answer.status != 200:
                self._refuse("an event query", answer)
            what = f"the event query of {self.base_url}"
            events, rejected = self._events(answer, what)
            # An event that arrives between two pages moves its neighbours, so one may be listed twice.
            found |= {event.id: event for event in events}
            if len(events) + len(rejected) < page_size:
                break
        else:
            raise ServiceError(f"the USGS at {self.base_url} answers a query with more than {MAX_PAGES} pages")
        return list(found.values())

    def event(self, event_id: str, *, include_superseded: bool = False) -> EarthquakeEvent:
        """The event with its products, under whatever of its ids it is asked for.

        With `include_superseded` every version of every product is listed. Raises `EventError` for an unknown id or an
        unusable record, `EventDeletedError` for a withdrawn event.
        """
        if not EVENT_ID.fullmatch(event_id):
            raise EventError(f"{event_id[:80]!r} cannot be a USGS event id: ids look like us2000h8ty")
        params = {"eventid": event_id, "format": "geojson"}
        if include_superseded:
            params["includesuperseded"] = "true"
        answer = self._get(QUERY_PATH, params)
        if answer.status == 409:
            raise EventDeletedError(f"the USGS has deleted event {event_id}: there is nothing to map")
        if answer.status in (204, 404):
            raise EventError(f"no USGS event {event_id}: check the id (asked {self.base_url})")
        if answer.status != 200:
            raise EventError(f"the USGS at {self.base_url} refuses event {event_id}: {answer.first_line}")
        return parse_detail(self._json(answer, f"the record of event {event_id}"))

    def content(self, url: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
        """A product's file.

        Records name the USGS's own address; from a stand-in or a mirror the same path is fetched there instead. Raises
        `ContentMissingError` when the file is not there, is larger than `max_bytes`, or lies on any other host.
        """
        target = self._own_address(url)
        # Named by its path alone: the message goes into published notes, which must not change with an address.
        name = urlsplit(target).path
        try:
            answer = self._get(target, max_bytes=max_bytes)
        except (_TooLargeError, httpx.InvalidURL) as error:
            raise ContentMissingError(f"the product file {name} cannot be had: {error}") from error
        if answer.status != 200:
            raise ContentMissingError(f"the product file {name} is not there (HTTP {answer.status})")
        return answer.body

    def _own_address(self, url: str) -> str:
        """`url` on the configured service. A record must not send the client anywhere else."""
        netloc, base = (_split(url) or ("", ""))[0], urlsplit(self.base_url)
        if netloc not in (USGS_HOST, base.netloc):
            raise ContentMissingError(f"the product file {url[:200]!r} does not lie at {self.base_url}: not fetched")
        asked = urlsplit(url)
        prefix = "" if netloc == base.netloc else base.path
        return urlunsplit((base.scheme, base.netloc, prefix + asked.path, asked.query, ""))

    def _json(self, answer: _Answer, what: str) -> object:
        """The body as JSON. A service that answers 200 with something else is at fault, not the event."""
        try:
            return parse_json(answer.body, what)
        except EventError as error:
            raise ServiceError(f"the USGS service at {self.base_url} answers nonsense: {error}") from error

    def _events(self, answer: _Answer, what: str) -> tuple[list[EventSummary], list[str]]:
        """The events of a feed or a query, and a line for each entry that cannot be read."""
        value = self._json(answer, what)
        try:
            events, rejected = parse_feed(value, what)
        except EventError as error:
            raise ServiceError(f"the USGS service at {self.base_url} answers nonsense: {error}") from error
        for line in rejected:
            logger.warning("skipped: %s", line)
        return events, rejected

    def _refuse(self, what: str, answer: _Answer) -> NoReturn:
        raise ServiceError(
            f"the USGS service at {self.base_url} answers HTTP {answer.status} to {what}: {answer.first_line}"
        )

    def _get(
        self,
        target: str,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> _Answer:
        """GET with retries. Returns the statuses in `_ANSWERS`; every other end is a `ServiceError`."""
        url = target if target.startswith("http") else self.base_url + target
        cause = ""
        for attempt in range(self.max_attempts):
            retry_after = 0.0
            try:
                answer = self._get_once(url, params, headers, max_bytes)
            except httpx.TransportError as error:
                cause = f"{type(error).__name__}: {error}".rstrip(": ")
            except httpx.DecodingError as error:
                cause = f"a body that cannot be decoded: {error}"
            else:
                if answer.status in _ANSWERS:
                    return answer
                if answer.status not in _RETRIED:
                    where = answer.headers.get("location")
                    moved = f", redirecting to {where[:200]}: set `usgs.url`" if where else f": {answer.first_line}"
                    raise ServiceError(f"the USGS service at {self.base_url} answers HTTP {answer.status}{moved}")
                cause, retry_after = f"HTTP {answer.status}", _seconds(answer.headers.get("retry-after", ""))
            if attempt + 1 < self.max_attempts:
                time.sleep(min(MAX_DELAY_S, max(retry_after, self.backoff_s * 2**attempt)))
        raise ServiceError(
            f"the USGS service at {self.base_url} cannot be reached ({cause}; {self.max_attempts} attempts): "
            "check the network and the setting `usgs.url`"
        )

    def _get_once(
        self, url: str, params: dict[str, str] | None, headers: dict[str, str] | None, max_bytes: int
    ) -> _Answer:
        """One GET, its body read only as far as `max_bytes`."""
        deadline = time.monotonic() + DRIP_FACTOR * self.timeout_s
        with self._http.stream("GET", url, params=params, headers=headers) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > max_bytes:
                    raise _TooLargeError(
                        f"more than {max_bytes} bytes were sent for {response.url.path[:200]}: not read"
                    )
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the body keeps dripping")
            return _Answer(response.status_code, response.headers, bytes(body))


def _split(url: str) -> tuple[str, str] | None:
    """`host:port` and host of a plain http(s) address without credentials, None for anything else."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    plain = parts.scheme in ("http", "https") and host and parts.username is None and not re.search(r"[\s\\]", url)
    return (parts.netloc, host) if plain and host else None


def _stamp(moment: dt.datetime) -> str:
    """A time as the FDSN query takes it: UTC without a zone. A naive time is taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _seconds(text: str) -> float:
    """The seconds of a `Retry-After` header, 0 for a date or nothing."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0

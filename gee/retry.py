"""Which failures may pass, which want a smaller request, which are final; and how long to wait. Pure.

The words are Earth Engine's own, as its users report them: https://developers.google.com/earth-engine/guides/debugging
and https://developers.google.com/earth-engine/guides/usage.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from email.utils import parsedate_to_datetime

from gee.errors import BusyError, GeeError, PermanentError, QuotaError, RequestTooLargeError, TransientError

TRANSIENT_STATUS = frozenset({408, 500, 502, 503, 504})
"""HTTP statuses that say nothing about the request itself."""
BUSY_STATUS = 429
"""Too many requests at a time, or in too short a time: nothing was computed."""
MAX_PAUSE_S = 60.0
"""The backoff stops growing here; a longer `Retry-After` is still honoured."""

_SPENT = re.compile(
    r"\beecu\b.*(quota|limit|exceed)|quota\b.*\beecu\b|compute (time )?quota|\bquota\b.*\b(per day|daily)\b"
    r"|daily limit exceeded",
    re.IGNORECASE | re.DOTALL,
)
_BUSY = re.compile(
    r"too many (concurrent|requests)|rate limit exceeded|earth engine (memory )?capacity exceeded"
    r"|quota exceeded for quota metric",
    re.IGNORECASE,
)
_FULL = re.compile(r"too many tasks already|asset (count|storage) quota|storage quota exceeded", re.IGNORECASE)
"""The project's task queue, or what it may keep, is full: `gee.asset_quota` knows what to do, asking again does not."""
_NOT_THE_TILE = re.compile(r"request payload size", re.IGNORECASE)
_TOO_LARGE = re.compile(
    r"memory limit exceeded|out of memory|computation timed out|total request size"
    r"|output (of image computation is )?too large|output of image computation is too large|value is too large"
    r"|(size|dimensions|grid|bytes|pixels)\b.*must be less than",
    re.IGNORECASE | re.DOTALL,
)


def classify(status: int, message: str) -> type[GeeError]:
    """The class of an error answer of Earth Engine.

    `BusyError` and `TransientError` may pass, `RequestTooLargeError` wants a smaller tile, `QuotaError` and
    `PermanentError` are final. The words go before the status: Earth Engine reports a computation that took too long as
    400, and a deterministic limit stays one under whatever status it travels.
    """
    if _FULL.search(message):
        return PermanentError
    if _SPENT.search(message):
        return QuotaError
    if status == BUSY_STATUS or _BUSY.search(message):
        return BusyError
    if _NOT_THE_TILE.search(message):  # the expression itself is too long: no tile is small enough
        return PermanentError
    if status == 413 or _TOO_LARGE.search(message):
        return RequestTooLargeError
    return TransientError if status in TRANSIENT_STATUS else PermanentError


def retry_after_s(header: str | None, now: dt.datetime) -> float:
    """The seconds that a `Retry-After` header asks for (a number or an HTTP date); 0 without a readable one."""
    if not header:
        return 0.0
    try:
        asked = float(header)
    except ValueError:
        pass
    else:
        return asked if 0.0 <= asked < float("inf") else 0.0
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a zone
        return 0.0


def pause_s(attempt: int, first_s: float, asked_s: float, rng: random.Random) -> float:
    """How long to wait after failed attempt number `attempt` (from 0): doubling, jittered, never less than `asked_s`.

    The jitter spreads clients that failed together; it only ever adds to what the server asked for.
    """
    ceiling = min(MAX_PAUSE_S, first_s * 2.0 ** min(attempt, 60))
    return asked_s + ceiling * rng.uniform(0.5, 1.0)

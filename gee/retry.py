"""Which failures may pass, which want a smaller request, which are final; and how long to wait. Pure."""

from __future__ import annotations

import datetime as dt
import random
import re
from email.utils import parsedate_to_datetime

from gee.errors import GeeError, PermanentError, RequestTooLargeError, TransientError

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that say nothing about the request itself."""
MAX_PAUSE_S = 60.0
"""The backoff stops growing here; a longer `Retry-After` is still honoured."""

_BUSY = re.compile(
    r"too many concurrent aggregations|rate limit exceeded|earth engine (memory )?capacity exceeded", re.IGNORECASE
)
_TOO_LARGE = re.compile(
    r"user memory limit exceeded|computation timed out|total request size"
    r"|output (of image computation is )?too large"
    r"|(size|dimensions|grid|bytes|pixels)\b.*must be less than",
    re.IGNORECASE | re.DOTALL,
)


def classify(status: int, message: str) -> type[GeeError]:
    """The class of an error answer of Earth Engine: `TransientError`, `RequestTooLargeError` or `PermanentError`.

    The words go before the status: Earth Engine reports a computation that took too long as 400, and a deterministic
    limit stays one under whatever status it travels.
    """
    if _BUSY.search(message):
        return TransientError
    if status == 413 or _TOO_LARGE.search(message):
        return RequestTooLargeError
    return TransientError if status in TRANSIENT_STATUS else PermanentError


def retry_after_s(header: str | None, now: dt.datetime) -> float:
    """The seconds that a `Retry-After` header asks for (a number or an HTTP date); 0 without a readable one."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a zone
        return 0.0


def pause_s(attempt: int, first_s: float, asked_s: float, rng: random.Random) -> float:
    """How long to wait after failed attempt number `attempt` (from 0): doubling, jittered, never less than `asked_s`.

    The jitter spreads clients that failed together; it only ever adds to what the server asked for.
    """
    ceiling = min(MAX_PAUSE_S, first_s * 2.0**attempt)
    return asked_s + ceiling * rng.uniform(0.5, 1.0)

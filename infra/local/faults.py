"""Failures on demand: which requests of a stand-in meet one, and when.

A fault is planted by `POST /_standin/faults` (or `--fault` on the command line) as JSON with the fields of `Fault`. What
the real services do to their clients, in its words:

- every fifth request is one too many: `{"match": "Pixels", "every": 5, "status": 429}`
- a storm, for 3 s half of all requests: `{"match": "Pixels", "share": 0.5, "seed": 1, "for_s": 3, "status": 429}`
- a quota of 20 at a time, or 50 a second: `{"match": "Pixels", "above_concurrent": 20, "status": 429}`, `"above_per_s": 50`
- out of service, saying how long: `{"match": ".", "count": 3, "status": 503, "headers": {"Retry-After": "2"}}`
- the computation takes too long: `{"match": "Pixels", "status": 400, "message": "Computation timed out."}`
- large tiles need too much memory:
  `{"match": "Pixels", "above_pixels": 65536, "status": 400, "message": "User memory limit exceeded."}`
- the token has expired, until the client brings another: `{"match": ".", "token": "stale", "status": 401}`
- one asset is not yours: `{"match": ".", "request_body": "COPERNICUS/S2", "status": 403}`
- half an answer: `{"match": "Pixels", "cut_after": 1000}`
- the connection is reset before, or after, the headers: `{"match": "Pixels", "reset": "before"}`,
  `{"match": "Pixels", "reset": "after", "cut_after": 1000}`
- a slow line, or a slow answer: `{"match": "Pixels", "bytes_per_s": 20000}`, `{"match": "Pixels", "delay_s": 30}`
- a proxy's page in place of the answer:
  `{"match": "Pixels", "answer": "<html>sign in</html>", "answer_type": "text/html"}`

The log of the stand-in says of each request whether a fault had a hand in it.
"""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

RESETS = ("before", "after")
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The google.rpc status that goes with each HTTP code."""
MESSAGES = {
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential.",
    403: "Permission denied: caller does not have access (planted by /_standin/faults).",
    429: "Too Many Requests: Request was rejected because the request rate or concurrency limit was exceeded.",
    503: "The service is currently unavailable.",
}
"""What a faulty answer says when nothing else is asked for."""
PLANTED = "planted by /_standin/faults"


@dataclass(frozen=True)
class Fault:
    """A failure that matching requests meet. The conditions must all hold; what is not given is no condition."""

    match: re.Pattern[str]
    """Searched for in the request's path (percent-encoded, without the query)."""
    method: str | None = None
    """HTTP method, None for any."""
    token: str | None = None
    """Only requests with this bearer token."""
    request_body: re.Pattern[str] | None = None
    """Searched for in the request's body: an asset id, for example."""
    above_pixels: int | None = None
    """Only requests whose grid (`grid.dimensions` in the body) has more pixels than this."""
    above_concurrent: int | None = None
    """Only requests that arrive while so many others are under way."""
    above_per_s: float | None = None
    """Only requests that come faster than this (a bucket that holds one second's worth)."""

    skip: int = 0
    """How many matching requests pass unharmed first."""
    every: int = 1
    """Every n-th matching request is hit."""
    share: float = 1.0
    """The part of the matching requests that is hit, drawn by `seed`."""
    seed: int = 0
    """Of the draw: the same requests in the same order meet the same fate."""
    for_s: float | None = None
    """The fault is spent so many seconds after it was planted."""
    count: int | None = 1
    """How many requests are hit before the fault is spent, None for no end. The default is 1, or None when the fault has
    a condition that lasts: `every`, `share`, `for_s`, `token`, `request_body` or one of `above_…`."""

    status: int | None = None
    """Status to answer with instead of the real answer; None lets the request through."""
    message: str = ""
    """What the faulty answer says, for example `User memory limit exceeded.`; by default what fits the status."""
    headers: dict[str, str] = field(default_factory=dict)
    """Extra headers of the faulty answer, for example `Retry-After`."""
    answer: str | None = None
    """Body in place of the JSON error; with status 200 when none is given."""
    answer_type: str = "application/json"
    """Content type of `answer`."""
    delay_s: float = 0.0
    """Seconds to wait before answering."""
    bytes_per_s: float | None = None
    """The answer's body comes no faster than this."""
    cut_after: int | None = None
    """End the connection after so many bytes of the real answer's body."""
    reset: str | None = None
    """`before`: reset the connection in place of an answer; `after`: when the headers and `cut_after` bytes (0) were sent."""

    @classmethod
    def from_json(cls, value: Any) -> Fault:
        """Read a fault from parsed JSON; raises `ValueError` that says which field is wrong."""
        if not isinstance(value, dict) or not isinstance(value.get("match"), str):
            raise ValueError('a fault is an object with at least "match", a regular expression on the path')
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"unknown fields {', '.join(unknown)}: use {', '.join(sorted(known))}")
        lasting = LASTING & {k for k, v in value.items() if v is not None}
        given = {"count": None if lasting else 1} | {k: _READ[k](v) for k, v in value.items() if v is not None}
        if value.get("count", 0) is None:
            given["count"] = None
        if given.get("reset") == "after":
            given.setdefault("cut_after", 0)
        fault = cls(**given)
        fault.check()
        return fault

    def check(self) -> None:
        """`ValueError` when the fields do not fit together."""
        if self.every < 1 or not 0 <= self.share <= 1:
            raise ValueError(f"not a fault: every {self.every} must be at least 1, share {self.share} within 0 and 1")
        if self.reset not in (None, *RESETS):
            raise ValueError(f"not a fault: reset must be one of {', '.join(RESETS)}, got '{self.reset}'")
        if self.bytes_per_s is not None and self.bytes_per_s <= 0:
            raise ValueError(f"not a fault: bytes_per_s must be positive, got {self.bytes_per_s}")

    @property
    def needs_body(self) -> bool:
        """Whether the request's body tells if it is met."""
        return self.request_body is not None or self.above_pixels is not None

    @property
    def replaces_answer(self) -> bool:
        """Whether the real answer is not computed at all."""
        return self.status is not None or self.answer is not None

    def words(self) -> str:
        """What the faulty answer says."""
        return self.message or MESSAGES.get(self.status or 0, PLANTED)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        body = self.request_body
        return {**asdict(self), "match": self.match.pattern, "request_body": None if body is None else body.pattern}


LASTING = frozenset(
    ("every", "share", "for_s", "token", "request_body", "above_pixels", "above_concurrent", "above_per_s")
)
"""Conditions under which a fault has no end unless a count is given."""


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"not a fault: {value!r} is not a regular expression: {error}") from None


def _number(kind: type[int] | type[float]) -> Any:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and value != int(value)):
            raise ValueError(f"not a fault: {value!r} is not a number of the kind that is needed ({kind.__name__})")
        return kind(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a fault: {value!r} is not text")
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"not a fault: headers must be an object, got {value!r}")
    return {str(k): str(v) for k, v in value.items()}


_READ: dict[str, Any] = {
    "match": _pattern, "request_body": _pattern, "method": lambda v: _text(v).upper(), "token": _text,
    "above_pixels": _number(int), "above_concurrent": _number(int), "above_per_s": _number(float),
    "skip": _number(int), "every": _number(int), "share": _number(float), "seed": _number(int),
    "for_s": _number(float), "count": _number(int), "status": _number(int), "message": _text, "headers": _headers,
    "answer": _text, "answer_type": _text, "delay_s": _number(float), "bytes_per_s": _number(float),
    "cut_after": _number(int), "reset": _text,
}  # fmt: skip
"""How each field is read."""


@dataclass(frozen=True)
class Asked:
    """What a fault can see of a request."""

    method: str
    """HTTP method."""
    path: str
    """Percent-encoded path."""
    token: str = ""
    """The bearer token, empty when there is none."""
    body: str = ""
    """The body, read only when a fault needs it."""
    pixels: int = 0
    """Pixels of the grid that is asked for."""
    under_way: int = 0
    """Other requests that the stand-in is answering."""
    now_s: float = 0.0
    """A clock that only goes forward."""


class Armed:
    """A planted fault and what it has done."""

    def __init__(self, fault: Fault, now_s: float) -> None:
        self.fault = fault
        self.seen = self.hits = 0
        self._planted_s = self._filled_s = now_s
        self._bucket = fault.above_per_s or 0.0
        self._draw = random.Random(fault.seed)  # noqa: S311 - a repeatable draw, no secret

    def spent(self, now_s: float) -> bool:
        """Whether it will hit nothing any more."""
        over = self.fault.for_s is not None and now_s - self._planted_s >= self.fault.for_s
        return over or (self.fault.count is not None and self.hits >= self.fault.count)

    def hit(self, asked: Asked) -> bool:
        """Whether a request meets it; counts."""
        if self.spent(asked.now_s) or not self._matches(asked):
            return False
        self.seen += 1
        turn = self.seen - self.fault.skip
        if turn <= 0 or turn % self.fault.every or not self._above(asked):
            return False
        if self.fault.share < 1 and self._draw.random() >= self.fault.share:
            return False
        self.hits += 1
        return True

    def _matches(self, asked: Asked) -> bool:
        f = self.fault
        return bool(
            f.method in (None, asked.method)
            and f.token in (None, asked.token)
            and f.match.search(asked.path)
            and (f.request_body is None or f.request_body.search(asked.body))
            and (f.above_pixels is None or asked.pixels > f.above_pixels)
        )

    def _above(self, asked: Asked) -> bool:
        f = self.fault
        if f.above_concurrent is not None and asked.under_way < f.above_concurrent:
            return False
        if f.above_per_s is None:
            return True
        self._bucket = min(f.above_per_s, self._bucket + (asked.now_s - self._filled_s) * f.above_per_s)
        self._filled_s = asked.now_s
        if self._bucket >= 1:
            self._bucket -= 1
            return False
        return True

    def to_json(self) -> dict[str, Any]:
        """The fault, with how many requests matched and were hit."""
        return {**self.fault.to_json(), "seen": self.seen, "hits": self.hits}

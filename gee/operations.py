"""Earth Engine's long-running operations: begun once however often they are asked for, waited for with a deadline."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gee.errors import AssetError, PermanentError
from gee.session import Session

POLL_S = 0.5
"""First pause between looks at an operation; grows to `MAX_POLL_S`."""
MAX_POLL_S = 15.0
"""Longest pause between looks at an operation."""
GROWTH = 1.5
"""Factor from one pause to the next."""
MAX_ATTEMPTS = 50
"""How often one operation is begun anew after it has failed, over all runs."""
FORGOTTEN = "FORGOTTEN"
"""State of an operation that Earth Engine no longer knows; it keeps ended ones for some days."""


@dataclass(frozen=True)
class Operation:
    """An operation as Earth Engine showed it last."""

    name: str
    """`projects/PROJECT/operations/ID`."""
    state: str
    """PENDING, RUNNING, CANCELLING, SUCCEEDED, CANCELLED, FAILED."""
    done: bool
    """Whether it has ended."""
    problem: str = ""
    """Earth Engine's words when it has ended without success."""
    since: str = ""
    """When it came into this state, as Earth Engine writes it."""

    @property
    def words(self) -> str:
        """State and name for people."""
        return f"{self.state}{f' since {self.since}' if self.since else ''} ({self.name})"


def operation_of(answer: Mapping[str, Any]) -> Operation:
    """The operation in an answer of Earth Engine."""
    metadata = answer.get("metadata", {})
    error = answer.get("error")
    return Operation(
        name=str(answer["name"]),
        state=str(metadata.get("state", "UNKNOWN")),
        done=bool(answer.get("done")),
        problem=str(error.get("message") or error) if error else "",
        since=str(metadata.get("updateTime", "")),
    )


def start_operation(session: Session, path: str, request: Mapping[str, Any], key: str) -> Operation:
    """Begin the operation that `key` stands for, or find the one that was begun for it and has not ended.

    Every process gives the same key the same request id, by which Earth Engine knows a request that it has met. An
    operation that has ended stays bound to its id, so what failed, was cancelled, or whose result is gone, is begun
    anew under the next id. Ask first whether the result is there.
    """
    for attempt in range(MAX_ATTEMPTS):
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key}#{attempt}"))  # at most 60 of a-z, A-Z, 0-9 and '-'
        operation = operation_of(session.call("POST", path, {**request, "requestId": request_id}))
        if not operation.done:
            return operation
    raise AssetError(f"{key} was begun {MAX_ATTEMPTS} times in vain, the last time it was {operation.words}")


def pauses_s() -> Iterator[float]:
    """Pauses between looks, in seconds: growing from `POLL_S` to `MAX_POLL_S`, without end."""
    pause = POLL_S
    while True:
        yield pause
        pause = min(MAX_POLL_S, pause * GROWTH)


def wait_for(session: Session, waiting: Mapping[str, Operation], end: float) -> dict[str, Operation]:
    """Look at operations until all have ended or `time.monotonic()` reaches `end`; each as it was seen last.

    What has not ended is not cancelled: a later run finds it with `start_operation`.
    """
    seen = dict(waiting)
    for pause in pauses_s():
        for key, operation in seen.items():
            if not operation.done:
                seen[key] = _look(session, operation)
        left = end - time.monotonic()
        if left <= 0 or all(operation.done for operation in seen.values()):
            break
        time.sleep(min(pause, left))
    return seen


def _look(session: Session, operation: Operation) -> Operation:
    try:
        return operation_of(session.call("GET", f"/v1/{operation.name}"))
    except PermanentError as error:
        if error.status != 404:
            raise
        return Operation(operation.name, FORGOTTEN, done=True)

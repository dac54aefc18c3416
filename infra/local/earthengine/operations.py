"""Long-running operations: they wait, run and end by the clock, and are remembered over a restart.

An operation is PENDING until one of `PARALLEL` places is free and for a while then, RUNNING for a while, and SUCCEEDED
or FAILED when its work is done, which it is at the end of that time. One that is cancelled has made nothing: it is
CANCELLED at once while it waits, and after being CANCELLING for a moment when it runs. What had not ended when the
stand-in stopped is begun again when it starts.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.local.earthengine.errors import ArgumentError, NotFoundError, ServiceError
from infra.local.earthengine.store import JsonStore

logger = logging.getLogger(__name__)

Work = Callable[[dict[str, Any]], list[str]]
"""Takes the request's body, does what it asks, gives the addresses of what it made."""

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
PARALLEL = 2
"""Operations that run at the same time; the others wait, as in the service."""
QUEUE = 3_000
"""Operations that may wait or run: the service's limit."""
LONGEST_WAIT_S = 2.0
"""How long a call that waits for an operation is held at most; the service, too, answers earlier than it is asked to."""
POLL_S = 0.02
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,60}")


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Operations:
    """All operations of a stand-in."""

    def __init__(self, store: JsonStore, duration_s: float, queue: int = QUEUE) -> None:
        self.work: dict[str, Work] = {}
        self._store = store
        self._duration_s = duration_s
        self._queue = queue
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="operation")
        self._stopping = threading.Event()

    def resume(self) -> None:
        """Begin again what had not ended when the stand-in stopped."""
        for name, value in self._store.items():
            if value["metadata"]["state"] not in ENDED:
                self._pool.submit(self._run, name)

    def find(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The operation that was begun by a request with the same id, if there was one, ended or not."""
        request_id = body.get("requestId")
        if not request_id:
            return None
        if not REQUEST_ID.fullmatch(str(request_id)):
            raise ArgumentError(f"Invalid request id '{request_id}': at most 60 of a..z, A..Z, 0-9 and '-'.")
        met = (value for _, value in self._store.items() if value.get("requestId") == request_id)
        return next((self._shown(value) for value in met), None)

    def start(self, project: str, kind: str, description: str, body: dict[str, Any]) -> dict[str, Any]:
        """Begin an operation of a kind, and show it. The same requestId does not begin a second one.

        ServiceError 429 when the queue is full.
        """
        with self._lock:
            if known := self.find(body):
                return known
            waiting = sum(value["metadata"]["state"] not in ENDED for _, value in self._store.items())
            if waiting >= self._queue:
                raise ServiceError(
                    429,
                    f"Too many tasks already in the queue ({self._queue}). Please wait for some of them to complete.",
                )
            name = f"projects/{project}/operations/{uuid.uuid4().hex[:24].upper()}"
            now = _now()
            metadata = {
                "@type": "type.googleapis.com/google.earthengine.v1.OperationMetadata",
                "state": "PENDING",
                "description": description,
                "priority": 100,
                "createTime": now,
                "updateTime": now,
                "type": kind,
                "attempt": 1,
            }
            value = {"name": name, "metadata": metadata, "request": body, "requestId": body.get("requestId")}
            self._store.put(name, value)
        self._pool.submit(self._run, name)
        return self._shown(value)

    def get(self, name: str) -> dict[str, Any]:
        """One operation. NotFoundError when there is none of that name."""
        value = self._store.get(name)
        if value is None:
            raise NotFoundError(f"Operation '{name}' not found.")
        return self._shown(value)

    def wait(self, name: str, timeout_s: float) -> dict[str, Any]:
        """One operation when it has ended, or after a while, whichever comes first."""
        end = time.monotonic() + min(timeout_s, LONGEST_WAIT_S)
        while not (found := self.get(name)).get("done") and time.monotonic() < end:
            time.sleep(POLL_S)
        return found

    def all(self, project: str) -> list[dict[str, Any]]:
        """The operations of a project, newest first."""
        mine = [v for k, v in self._store.items() if k.startswith(f"projects/{project}/operations/")]
        return [self._shown(v) for v in sorted(mine, key=lambda v: str(v["metadata"]["createTime"]), reverse=True)]

    def cancel(self, name: str) -> None:
        """Cancel an operation that has not ended."""
        self.get(name)
        stopped = {"code": 1, "message": "Cancelled."}
        if self._change(name, "CANCELLED", only=("PENDING",), error=stopped):
            return
        if self._change(name, "CANCELLING", only=("RUNNING", "CANCELLING")):
            return
        state = self.get(name)["metadata"]["state"]
        if state in ENDED:
            raise ArgumentError(f"Operation '{name}' has ended ({state}) and cannot be cancelled.")

    def delete(self, name: str) -> None:
        """Forget an operation."""
        self.get(name)
        self._store.delete(name)

    def close(self) -> None:
        """Stop: what runs is left as it is, and begun again next time."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _shown(self, value: dict[str, Any]) -> dict[str, Any]:
        return {k: value[k] for k in ("name", "metadata", "done", "error", "response") if k in value}

    def _change(self, name: str, state: str, only: tuple[str, ...] = (), **more: Any) -> bool:
        """Move an operation to a state; False when it has ended, is gone, or is in none of the states `only`."""
        with self._lock:
            value = self._store.get(name)
            if value is None or value["metadata"]["state"] in ENDED:
                return False
            if only and value["metadata"]["state"] not in only:
                return False
            now = _now()
            metadata = {**value["metadata"], "state": state, "updateTime": now}
            if state == "RUNNING":
                metadata["startTime"] = now
            if state in ENDED:
                metadata["endTime"] = now
                more["done"] = True
            if uris := more.pop("uris", None):
                metadata["destinationUris"] = uris
            self._store.put(name, {**value, **more, "metadata": metadata})
            return True

    def _run(self, name: str) -> None:
        value = self._store.get(name)
        if value is None or not self._elapsed(name):
            return
        if not self._change(name, "RUNNING", only=("PENDING", "RUNNING")) or not self._elapsed(name):
            return
        try:
            uris = self.work[value["metadata"]["type"]](value["request"])
        except ServiceError as error:
            self._change(name, "FAILED", error={"code": 3, "message": error.message})
            return
        except Exception as error:
            self._change(name, "FAILED", error={"code": 13, "message": "Internal error."})
            logger.exception("The operation %s failed: %s", name, error)
            raise
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        self._change(name, "SUCCEEDED", uris=uris, response=empty)

    def _elapsed(self, name: str) -> bool:
        """Let half the time pass; False when the operation has been cancelled meanwhile, or the stand-in stops."""
        end = time.monotonic() + self._duration_s / 2
        while not self._stopping.is_set():
            value = self._store.get(name)
            if value is None or value["metadata"]["state"] in ENDED:
                return False
            if value["metadata"]["state"] == "CANCELLING":
                self._change(name, "CANCELLED", error={"code": 1, "message": "Cancelled."})
                return False
            left = end - time.monotonic()
            if left <= 0:
                return True
            self._stopping.wait(min(POLL_S, left))
        return False

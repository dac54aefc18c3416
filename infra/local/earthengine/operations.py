"""Long-running operations: they wait, run and end by the clock, and are remembered over a restart.

An operation is PENDING for a while, RUNNING while its work is done (and for at least a while), then SUCCEEDED or
FAILED. What was not finished when the stand-in stopped is begun again when it starts.
"""

from __future__ import annotations

import datetime as dt
import logging
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


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Operations:
    """All operations of a stand-in."""

    def __init__(self, store: JsonStore, duration_s: float) -> None:
        self.work: dict[str, Work] = {}
        self._store = store
        self._duration_s = duration_s
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="operation")
        self._stopping = threading.Event()

    def resume(self) -> None:
        """Begin again what had not ended when the stand-in stopped."""
        for name, value in self._store.items():
            if value["metadata"]["state"] not in ENDED:
                self._pool.submit(self._run, name)

    def start(self, project: str, kind: str, description: str, body: dict[str, Any]) -> dict[str, Any]:
        """Begin an operation of a kind, and show it. The same requestId does not begin a second one."""
        request_id = body.get("requestId")
        with self._lock:
            for _, value in self._store.items():
                if request_id and value.get("requestId") == request_id:
                    return self._shown(value)
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
            value = {"name": name, "metadata": metadata, "request": body, "requestId": request_id}
            self._store.put(name, value)
        self._pool.submit(self._run, name)
        return self._shown(value)

    def get(self, name: str) -> dict[str, Any]:
        """One operation. NotFoundError when there is none of that name."""
        value = self._store.get(name)
        if value is None:
            raise NotFoundError(f"Operation '{name}' not found.")
        return self._shown(value)

    def all(self, project: str) -> list[dict[str, Any]]:
        """The operations of a project, newest first."""
        mine = [v for k, v in self._store.items() if k.startswith(f"projects/{project}/operations/")]
        return [self._shown(v) for v in sorted(mine, key=lambda v: str(v["metadata"]["createTime"]), reverse=True)]

    def cancel(self, name: str) -> None:
        """Cancel an operation that has not ended."""
        self.get(name)
        with self._lock:
            value = self._store.get(name)
            if value is not None and value["metadata"]["state"] in ENDED:
                raise ArgumentError(f"Operation '{name}' has ended and cannot be cancelled.")
        self._change(name, "CANCELLED", error={"code": 1, "message": "Cancelled."})

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

    def _change(self, name: str, state: str, **more: Any) -> bool:
        """Move an operation to a state; False when it has ended or is gone."""
        with self._lock:
            value = self._store.get(name)
            if value is None or value["metadata"]["state"] in ENDED:
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
        if value is None or self._stopping.wait(self._duration_s / 2) or not self._change(name, "RUNNING"):
            return
        began = time.monotonic()
        try:
            uris = self.work[value["metadata"]["type"]](value["request"])
        except ServiceError as error:
            self._change(name, "FAILED", error={"code": 3, "message": error.message})
            return
        except Exception as error:
            self._change(name, "FAILED", error={"code": 13, "message": "Internal error."})
            logger.exception("The operation %s failed: %s", name, error)
            raise
        left = self._duration_s / 2 - (time.monotonic() - began)
        if left > 0 and self._stopping.wait(left):
            return
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        self._change(name, "SUCCEEDED", uris=uris, response=empty)

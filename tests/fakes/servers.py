"""Runs a server on a real loopback socket for the length of a `with` block."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

START_DEADLINE_S = 30.0


class _Server(uvicorn.Server):
    """Closes also the connections whose requests outlast the grace: left to the garbage collector they would warn later."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if transport := getattr(connection, "transport", None):
                transport.abort()
        await asyncio.sleep(0.01)  # the loop closes them in its next round


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve `app` by uvicorn in a thread on a free loopback port; yields `http://127.0.0.1:PORT`.

    Raises `RuntimeError` when the server does not come up. Requests in flight are cut off at the end of the block.
    """
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", ws="none", timeout_graceful_shutdown=1, lifespan="auto"
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, name="test-server", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the server for {app!r} did not start")
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def serve_process(module: str, *arguments: str) -> Iterator[str]:
    """Run `python -m MODULE ARGUMENTS --port 0` as a process of its own; yields the address that it announces.

    Needed where the client holds the GIL while it waits, as GDAL does when rasterio opens or writes a dataset: a
    server in a thread of the same process could then never answer.
    """
    command = [sys.executable, "-m", module, *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{module} did not start")
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait(10)


HTTP = httpx.Client(trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
"""For requests of tests: making a client of its own for each, as `httpx.get` does, costs more than the request."""

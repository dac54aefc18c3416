"""The Earth Engine stand-in, which computes each answer once and afterwards gives it from memory, after a latency.

A client that is measured against the stand-in itself is measured with the stand-in's arithmetic, which other clients
would ask for in other pieces. `python -m tests.bench.kept` takes the arguments of `python -m infra.local.earthengine`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.local.earthengine.app import create_app
from infra.local.standin import run

Key = tuple[str, str, bytes, bytes]


class Kept:
    """ASGI middleware: equal requests get equal answers."""

    def __init__(self, app: ASGIApp, latency_s: float) -> None:
        self._app, self._latency_s = app, latency_s
        self._answers: dict[Key, list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        key = scope["method"], scope["path"], scope["query_string"], body
        answer = self._answers.get(key)
        await asyncio.sleep(self._latency_s)
        if answer is None:
            answer = await self._asked(scope, body)
            if answer[0]["status"] == 200:
                self._answers[key] = answer
        for message in answer:
            await send(message)

    async def _asked(self, scope: Scope, body: bytes) -> list[Message]:
        messages: list[Message] = []

        async def given() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, given, keep)
        return messages


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message: Any = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--catalogue", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    app = create_app(chosen.catalogue, chosen.state, max_concurrent=10_000)
    return run(Kept(app, chosen.latency_s), chosen.port)


if __name__ == "__main__":
    sys.exit(main())

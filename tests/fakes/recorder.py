"""Notes what a client asked a server and what it was answered, whatever answers: faults on the way are seen too."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Asked:
    """One request."""

    began_s: float
    """When its body had arrived, by the monotonic clock."""
    body: bytes
    """As it came."""
    token: str
    """Of the authorisation, empty when there is none."""
    status: int = 0
    """Of the answer, 0 when there was none."""
    whole: bool = False
    """Whether the answer was sent to its end."""

    @property
    def window(self) -> str:
        """The part of the body that says which pixels."""
        return json.dumps(json.loads(self.body)["grid"])


class Recorder:
    """ASGI middleware with the list of all requests, oldest first."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.asked: list[Asked] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        given = [{"type": "http.request", "body": body, "more_body": False}]
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        asked = Asked(time.monotonic(), body, token)
        self.asked.append(asked)

        async def heard() -> Message:
            return given.pop() if given else await receive()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = message["status"]
            await send(message)
            asked.whole = message["type"] == "http.response.body" and not message.get("more_body")

        await self.app(scope, heard, noting)

    def by_window(self) -> dict[str, list[Asked]]:
        """The requests for each window, in order."""
        windows: dict[str, list[Asked]] = defaultdict(list)
        for asked in self.asked:
            windows[asked.window].append(asked)
        return windows

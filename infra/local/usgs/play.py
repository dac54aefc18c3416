"""Plays an event that lies in a folder into a running stand-in, as if it had just happened."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx

from infra.local.usgs.book import UnknownEventError, read_folder


def play_event(usgs_url: str, folder: Path, event_id: str) -> str:
    """Post the event and its recorded contents to the stand-in at `usgs_url`; returns the preferred id.

    Raises `UnknownEventError` when `folder` has no such event, `httpx.HTTPError` when the stand-in refuses it or is
    not there.
    """
    events, files = read_folder(folder)
    event = next((event for event in events if event_id in event.aliases), None)
    if event is None:
        raise UnknownEventError(f"{folder} holds no event {event_id!r}")
    contents = {}
    for versions in event.feature["properties"].get("products", {}).values():
        for product in versions:
            for content in product.get("contents", {}).values():
                path = httpx.URL(content.get("url", "")).path
                if (file := files.get(path)) is not None:
                    contents[path] = {"base64": base64.b64encode(file.read_bytes()).decode()}
    body = json.dumps({"detail": event.feature, "contents": contents})
    answer = httpx.post(f"{usgs_url}/_standin/events", content=body, timeout=60).raise_for_status()
    return str(answer.json()["id"])

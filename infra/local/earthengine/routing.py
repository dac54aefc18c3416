"""Calls and answers of the REST interface, and the table of its paths."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.earthengine.assets import asset_id
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.service import Service


@dataclass(frozen=True)
class Request:
    """One call."""

    service: Service
    """What it works on."""
    project: str
    """The project in the path."""
    name: str
    """The rest of the path: an asset id, an operation's id, or nothing."""
    query: Mapping[str, str]
    """Parameters of the query."""
    body: dict[str, Any]
    """The JSON body, empty when there is none."""

    @property
    def asset(self) -> str:
        """The id of the asset in the path."""
        return asset_id(f"projects/{self.project}/assets/{self.name}")


@dataclass(frozen=True)
class Answer:
    """Bytes with their type."""

    content: bytes
    """The body."""
    media_type: str = "application/json"
    """Its type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers."""


Handler = Callable[[Request], Answer | dict[str, Any]]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(verb: str, pattern: str) -> Callable[[Handler], Handler]:
    """Decorator: answer a path under `/v1/projects/P`; the group of the pattern is the request's name."""

    def add(handler: Handler) -> Handler:
        _ROUTES.append((verb, re.compile(pattern), handler))
        return handler

    return add


def dispatch(service: Service, verb: str, path: str, query: Mapping[str, str], raw: bytes) -> Answer:
    """The answer to a call. NotFoundError for an unknown path; `path` begins after `/v1/`."""
    found = re.fullmatch(r"projects/([^/:]+)(.*)", path)
    if found is None:
        raise NotFoundError(f"Unknown path '/v1/{path}'.")
    project, rest = found.groups()
    for wanted, pattern, handler in _ROUTES:
        match = pattern.fullmatch(rest)
        if match and wanted == verb:
            name = match.group(1) if match.re.groups else ""
            answer = handler(Request(service, project, name, query, _parsed(raw)))
            return answer if isinstance(answer, Answer) else Answer(json.dumps(answer).encode())
    raise NotFoundError(f"The method {verb} '/v1/{path}' is not known to the local Earth Engine stand-in.")


def _parsed(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ArgumentError(f"Invalid JSON payload received: {error}.") from error
    if not isinstance(body, dict):
        raise ArgumentError("Invalid JSON payload received: an object is needed.")
    return body


def paged(request: Request, items: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Some of the items under a key, with the token of the next page when there is one."""
    size, start = int(request.query.get("pageSize") or 1000), int(request.query.get("pageToken") or 0)
    body: dict[str, Any] = {key: items[start : start + size]}
    return {**body, "nextPageToken": str(start + size)} if start + size < len(items) else body

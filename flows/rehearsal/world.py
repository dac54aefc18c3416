"""The simulated world as the director moves it: the USGS's clock and records, the catalogue of scenes, faults, kills."""

from __future__ import annotations

import base64
import datetime as dt
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows.errors import ServiceError
from flows.rehearsal.sites import SceneDrop, Site, list_scene
from flows.rehearsal.story import Happening, Off, Trouble
from infra.local.stack import Endpoints, LocalStack
from infra.local.usgs.storyline import Beat

PATIENCE_S = 120.0
"""How long a stand-in that was killed may take to answer again."""
_OVER = {httpx.codes.CONFLICT, httpx.codes.NOT_FOUND}
"""What the USGS stand-in answers to a record or a deletion that it has had already."""


class World:
    """What happens outside of the pipeline."""

    def __init__(self, stack: LocalStack, catalogue: Path, sites: Sequence[Site]) -> None:
        self._stack, self._catalogue, self._sites = stack, catalogue, sites
        self._http = httpx.Client(timeout=30.0, trust_env=False)

    @property
    def endpoints(self) -> Endpoints:
        """Where the stand-ins are."""
        return self._stack.endpoints

    def let(self, happening: Happening) -> None:
        """Let something happen; what has happened before changes nothing."""
        if isinstance(happening, SceneDrop):
            list_scene(self._catalogue, happening, self._sites)
        elif isinstance(happening, Trouble):
            self._ask("POST", f"{self._url(happening.service)}/_standin/faults", json=dict(happening.fault))
        elif isinstance(happening, Beat):
            self._tell(happening)
        elif not isinstance(happening, Off):
            raise TypeError(happening)

    def _tell(self, beat: Beat) -> None:
        usgs = self.endpoints.usgs_url
        if beat.record is not None:
            files = {path: {"base64": base64.b64encode(data).decode()} for path, data in beat.contents.items()}
            self._ask("POST", f"{usgs}/_standin/events", json={"detail": beat.record, "contents": files})
        if beat.deleted:
            self.set_clock(beat.at)  # a deletion is dated by it
            self._ask("DELETE", f"{usgs}/_standin/events/{beat.deleted}")

    def set_clock(self, now: dt.datetime) -> None:
        """Set the time that the USGS's feeds go by."""
        self._ask("POST", f"{self.endpoints.usgs_url}/_standin/clock", json={"now": now.isoformat()})

    def calm(self, service: str) -> None:
        """Take every fault of a service away."""
        self._ask("DELETE", f"{self._url(service)}/_standin/faults")

    def kill(self, service: str) -> bool:
        """End a service's process as `kill -9` does; returns whether there was one."""
        found = [one for one in psutil.Process().children(recursive=True) if _serves(one, service)]
        for one in found:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return bool(found)

    def revive(self) -> tuple[str, ...]:
        """Start the services again that have ended; returns their names."""
        return self._stack.revive()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _url(self, service: str) -> str:
        return str(getattr(self.endpoints, f"{service}_url"))

    def _ask(self, method: str, url: str, **more: Any) -> None:
        """Tell a stand-in something; one that was killed is started again and told then."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._http.request(method, url, **more)
            except httpx.TransportError as error:
                if time.monotonic() > until:
                    raise ServiceError(f"the stand-in at {url} does not answer any more: {error}") from error
                self._stack.revive()
                time.sleep(0.1)
                continue
            if answer.is_error and answer.status_code not in _OVER:
                raise ServiceError(f"the stand-in at {url} refuses ({answer.status_code}): {answer.text[:300]}")
            return


def _serves(process: psutil.Process, service: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    if any("infra.local.tether" in part for part in command) or "flows.rehearsal.worker" in command:
        return False
    prefect = any(part == "prefect" or part.startswith("prefect.server") for part in command)
    return f"infra.local.{service}" in command or (service == "prefect" and prefect)

"""One service of the local stack: a process with a log, an address, and a page that says that it is well."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx

POLL_S = 0.05
STOP_DEADLINE_S = 15.0
LOG_LINES_SHOWN = 15
LOG_TAIL_BYTES = 64 * 1024


class ServiceStartError(RuntimeError):
    """A service did not come up; the message names it and shows the end of its log."""


class Service:
    """A child process that cannot outlive this one (see `infra.local.tether`)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        health_path: str,
        url: str = "",
    ) -> None:
        """`url` is where the service will be; when empty, the service prints it: `{"url": ...}` in a line.

        In `command`, `{port}` stands for the port: 0, any free one, the first time, and the same ever after.
        """
        self.name = name
        self.url = url
        self._command = list(command)
        self._log = log
        self._environment = dict(environment)
        self._health_path = health_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, with a fresh log; returns at once."""
        self._begin("wb")

    def revive(self) -> bool:
        """Start the process again at the same address when it has ended by itself; returns whether it had."""
        if self._process is None or self._process.poll() is None:
            return False
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._begin("ab")
        return True

    def _begin(self, log_mode: Literal["ab", "wb"]) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        tether = [sys.executable, "-m", "infra.local.tether", str(os.getpid())]
        port = str(urlsplit(self.url).port or 0)
        command = [part.replace("{port}", port) for part in self._command]
        with self._log.open(log_mode) as log:
            self._process = subprocess.Popen(  # noqa: S603 - commands are ours
                [*tether, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
            )

    def is_ready(self, client: httpx.Client) -> bool:
        """Whether the service answers; raises `ServiceStartError` when its process has ended."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise ServiceStartError(f"the {self.name} service ended with code {code}\n{self.log_tail()}")
        if not self.url:
            self.url = self._announced()
        if not self.url:
            return False
        try:
            return client.get(self.url + self._health_path).is_success
        except httpx.HTTPError:
            return False

    def _announced(self) -> str:
        for line in self.log_tail(lines=None).splitlines():
            if line.startswith('{"url"'):
                with contextlib.suppress(ValueError):
                    return str(json.loads(line)["url"])
        return ""

    def log_tail(self, lines: int | None = LOG_LINES_SHOWN) -> str:
        """The last lines of the service's log, with the log's path above."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
                text = log.read().decode(errors="replace").rstrip()
        except OSError:
            text = ""
        if lines is None:
            return text
        return "\n".join([f"the end of {self._log}:", *text.splitlines()[-lines:]])

    def ask_to_stop(self) -> None:
        """Tell the process to end; returns at once."""
        if self._process is not None:
            if self._process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
            self._process.terminate()

    def stop(self) -> None:
        """End the process and everything that it has started; harmless when it has ended or never begun."""
        self.ask_to_stop()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop_together(services: Sequence[Service]) -> None:
    """End all of them at the same time."""
    for service in services:
        service.ask_to_stop()
    for service in services:
        service.stop()


def start_together(services: Sequence[Service], deadline_s: float, progress: Callable[[str], None]) -> None:
    """Wait until all of the started `services` are well; raises `ServiceStartError` naming the first that is not."""
    began = time.monotonic()
    waiting = list(services)
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        while waiting:
            for service in [one for one in waiting if one.is_ready(client)]:
                waiting.remove(service)
                progress(f"{service.name} is up at {service.url} after {time.monotonic() - began:.1f} s")
            if waiting and time.monotonic() - began > deadline_s:
                name = waiting[0].name
                raise ServiceStartError(
                    f"the {name} service did not answer within {deadline_s:.0f} s\n{waiting[0].log_tail()}"
                )
            if waiting:
                time.sleep(POLL_S)

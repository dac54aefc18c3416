"""The workers as the director sees them: processes that are asked, answer, and are killed."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


class Worker:
    """One worker process. It ends when this process does: its standard input is closed then."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.wanted: Mapping[str, Any] | None = None
        """What it is doing now, None when it has nothing to do."""
        self.begun_s = 0.0
        """When it began with that, on the clock that only goes forward."""
        self.ready = False
        """Whether it has come up."""
        self._environment, self._log = dict(environment), log
        self._start()

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.wanted, self.ready = None, False
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.rehearsal.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, env=self._environment, start_new_session=True,
            )  # fmt: skip
        self._reader = threading.Thread(target=_read, args=(self.process, self._answers), daemon=True)
        self._reader.start()

    @property
    def idle(self) -> bool:
        """Whether it can be asked something."""
        return self.ready and self.wanted is None

    @property
    def busy_s(self) -> float:
        """How long it has been at what it does."""
        return time.monotonic() - self.begun_s if self.wanted is not None else 0.0

    def ask(self, **wanted: Any) -> None:
        """Have it do something; it must be idle."""
        self.wanted, self.begun_s = wanted, time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `answer` says so
            self.process.stdin.write(json.dumps(wanted) + "\n")
            self.process.stdin.flush()

    def answer(self) -> Answer | None:
        """What it has answered, None when it has not yet; a process that ended by itself is started again."""
        try:
            answer = self._answers.get_nowait()
        except queue.Empty:
            if self.process.poll() is None:
                return None
            code, doing = self.process.returncode, self.wanted
            self._hang_up()
            self._start()
            return {"do": (doing or {}).get("do", "start"), "error": f"its process ended with {code}", "type": "Ended"}
        if answer.get("ready"):
            self.ready = True
            return None
        self.wanted = None
        return answer

    def kill(self) -> None:
        """End it as `kill -9` does, and start it again."""
        self.process.kill()
        self.process.wait()
        self._hang_up()
        self._start()

    def close(self) -> None:
        """Let it end; after some seconds make it."""
        self._hang_up()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(2.0)

    def _hang_up(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # what was not sent any more is lost
            self.process.stdin.close()


def _read(process: subprocess.Popen[str], answers: queue.SimpleQueue[Answer]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # half a line of a process that was killed
                answers.put(json.loads(line))

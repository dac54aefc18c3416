"""A real browser, driven by its own protocol: what a person would see on a page, type into it and click."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from fakes.running import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""Where the browser is, None when there is none."""

_LARGEST_ANSWER = 64 * 2**20


class Page:
    """One tab of a browser. What Chromium refuses or a script throws is an `AssertionError`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def open(self, url: str) -> None:
        """Go to an address; does not wait for what its scripts fetch."""
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def shows(self, *words: str, seconds: float = 60.0) -> bool:
        """Whether all of these words can be read before the time is over."""
        return bool(eventually(lambda: all(word in self.text() for word in words), seconds))

    def write(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        """Press the key."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def picture(self, path: Path) -> Path:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser, and wait for its answer; what it tells of itself meanwhile is not heard."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
        raise AssertionError(f"{method} was not answered")


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A tab of a fresh browser without a window, whose profile lies in `folder`."""
    profile = folder / "profile"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={profile}", "--window-size=1400,1600",
        "--no-first-run", "--no-proxy-server", "--remote-debugging-address=127.0.0.1", "--remote-debugging-port=0",
        "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        where = profile / "DevToolsActivePort"
        assert eventually(lambda: where.is_file() and where.read_text().count("\n") >= 1, 60), "Chromium did not start"
        address = f"http://127.0.0.1:{where.read_text().split()[0]}/json/list"
        tabs = eventually(lambda: [one for one in httpx.get(address, trust_env=False).json() if one["type"] == "page"])
        with connect(
            tabs[0]["webSocketDebuggerUrl"], max_size=_LARGEST_ANSWER, proxy=None, open_timeout=30
        ) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(30)

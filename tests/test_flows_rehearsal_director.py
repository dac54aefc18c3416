"""flows/rehearsal/director.py: a rehearsal ends with its story, however much its campaigns go on waiting."""

from __future__ import annotations

import datetime as dt
import queue
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from flows.rehearsal import director
from flows.rehearsal.director import Director
from flows.rehearsal.state import Progressed
from flows.rehearsal.story import START, Story
from flows.rehearsal.world import World
from flows.storage import Store

EVERY = dt.timedelta(minutes=20)


class Thread:
    """A worker that answers from a thread as the real one does from its process: one campaign, due every hour."""

    asked: ClassVar[Counter[str]] = Counter()
    looked: dt.datetime | None = None

    def __init__(self, name: str, environment: object, log: Path) -> None:
        self.name, self.wanted, self.ready, self.busy_s, self.begun_s = name, None, True, 0.0, 0.0
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    @property
    def idle(self) -> bool:
        return self.wanted is None

    def ask(self, **wanted: Any) -> None:
        self.wanted = cast("Any", wanted)
        threading.Thread(target=lambda: self._answers.put(self._did(wanted))).start()

    def _did(self, wanted: dict[str, Any]) -> dict[str, Any]:
        kind, now = wanted["do"], dt.datetime.fromisoformat(wanted["now"])
        Thread.asked[kind] += 1
        if kind == "poll":
            return {"do": kind, "changes": [["opened", "a"]] if Thread.asked["poll"] == 1 else []}
        if kind == "step":
            Thread.looked = now
            return {"do": kind, "said": "wait: not yet", "took_s": 0.0}
        coming = (Thread.looked or now - dt.timedelta(hours=1)) + dt.timedelta(hours=1)
        return {
            "do": kind,
            "due": ["a"] if coming <= now else [],
            "next": max(coming, now + EVERY).isoformat(),
            "open": 1,
        }

    def answer(self) -> dict[str, Any] | None:
        try:
            found = self._answers.get_nowait()
        except queue.Empty:
            return None
        self.wanted = None
        return found

    def close(self) -> None:
        pass


@pytest.mark.parametrize("hours", [2.0, 2.2])
def test_campaigns_that_wait_on_do_not_keep_a_rehearsal_from_ending(
    hours: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Thread.asked, Thread.looked = Counter(), None
    monkeypatch.setattr(director, "Worker", Thread)
    monkeypatch.setattr(World, "__init__", lambda self: None)
    monkeypatch.setattr(World, "set_clock", lambda self, now: None)
    end = START + dt.timedelta(hours=hours)
    state = Progressed({"seed": 1}, START)
    one = Director(
        tmp_path, Story(START, end, (), (), frozenset(), {}), (), state, World(), cast("Store", None), {},  # type: ignore[call-arg]
        steppers=1, every=EVERY, tell=lambda line: None,
    )  # fmt: skip
    ended = threading.Thread(target=one.run, daemon=True)
    ended.start()
    ended.join(60.0)
    assert not ended.is_alive(), f"at {state.now}, {state.now - end} after the end"
    assert state.now - end <= EVERY
    assert Thread.asked["poll"] >= hours * 3
    assert Thread.asked["step"] >= hours - 1

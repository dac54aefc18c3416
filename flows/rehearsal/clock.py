"""The story's time, and how far a rehearsal is in it."""

from __future__ import annotations

import datetime as dt
import time

from flows.rehearsal.state import Progressed
from flows.rehearsal.story import Story

SURE = dt.timedelta(minutes=30)
"""Of less of the story no guess is made how long the rest takes."""


class Clock:
    """The story's time: it runs with the real one from where it was set."""

    def __init__(self, now: dt.datetime) -> None:
        self.leap(now)

    def leap(self, to: dt.datetime) -> None:
        """Set it, to the next whole second."""
        whole = to if to.microsecond == 0 else to.replace(microsecond=0) + dt.timedelta(seconds=1)
        self._set, self._at_s = whole, time.monotonic()

    def now(self) -> dt.datetime:
        """The story's present, in whole seconds: a step reckons in them."""
        return self._set + dt.timedelta(seconds=int(time.monotonic() - self._at_s))


def where(state: Progressed, story: Story, begun: dt.datetime, since_s: float, kills: int, due: int) -> str:
    """How far a rehearsal is, for people; it was at `begun` in the story `since_s` seconds ago."""
    whole, gone, fresh = story.end - story.start, state.now - story.start, state.now - begun
    left = (
        f"{max(0.0, since_s * ((whole - gone) / fresh)) / 60:.0f} min left"
        if fresh > SURE
        else "how long is not known yet"
    )
    counts = state.counts
    day = dt.timedelta(days=1)
    return (
        f"day {gone / day:.2f} of {whole / day:g}, {state.killed} of {kills} kills, {counts['campaigns opened']} campaigns, "
        f"{counts['steps: version']} versions, {due} due, {since_s / 60:.1f} min so far, {left}"
    )

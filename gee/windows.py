"""Which time before an event to compare with: the months before it, or the same season of an earlier year. Pure.

A composite of the months before is the best comparison when it sees the ground in leaf. Where those months are cloudy or
leafless, what the event took away cannot be told from what the season gives back: then the season of the images after
the event, one or more years earlier, shows the same slopes in the same state.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gee.types import Window

YEAR = dt.timedelta(days=365.25)
"""One turn of the seasons."""
LONGEST_DAYS = 400
"""How far back a window right before the event is drawn out when nothing else has a scene."""

Kind = Literal["before", "same season", "longer"]


@dataclass(frozen=True)
class Candidate:
    """A window before the event that could be used."""

    window: Window
    """The interval of time."""
    kind: Kind
    """Right before the event, the season of the images after it in an earlier year, or drawn out."""
    years_back: int = 0
    """Years before the event for the same season, else 0."""

    @property
    def words(self) -> str:
        """As a report says it."""
        if self.kind == "same season":
            years = "the year before" if self.years_back == 1 else f"{self.years_back} years before"
            return f"the same season {years} ({self._dates})"
        return f"the {(self.window.end - self.window.start).days} days before the event ({self._dates})"

    @property
    def _dates(self) -> str:
        return f"{self.window.start:%Y-%m-%d} to {self.window.end:%Y-%m-%d}"


@dataclass(frozen=True)
class Look:
    """What a coarse look at a candidate's composite showed."""

    candidate: Candidate
    """The window."""
    clear_share: float
    """Share of the area seen clearly, 0 to 1; 0 without a scene."""
    ndvi: float | None
    """Median NDVI of the clear land, None without near infrared or without a clear pixel."""


@dataclass(frozen=True)
class Choice:
    """The window taken and why."""

    candidate: Candidate
    """The window."""
    why: str
    """Why not the months right before the event; empty when it is them."""


def candidates(event: dt.datetime, *, days_before: int, days_after: int, years: int) -> tuple[Candidate, ...]:
    """The windows to look at, in order of preference.

    First `days_before` days right before the event (UTC); then, 1 to `years` years earlier, the season in which the
    images after the event are taken, as long a window; last, windows before the event of twice the length and more, up
    to `LONGEST_DAYS`.
    """
    first = Candidate(Window(event - dt.timedelta(days=days_before), event), "before")
    lead = dt.timedelta(days=max(0, days_before - days_after))
    seasons = tuple(
        Candidate(
            Window(event - back * YEAR - lead, event - back * YEAR + dt.timedelta(days=days_after)), "same season", back
        )
        for back in range(1, years + 1)
    )
    lengths = []
    days = 2 * days_before
    while days < LONGEST_DAYS:
        lengths.append(days)
        days *= 2
    if days_before < LONGEST_DAYS:
        lengths.append(LONGEST_DAYS)
    longer = tuple(Candidate(Window(event - dt.timedelta(days=days), event), "longer") for days in lengths)
    return (first, *seasons, *longer)


def is_enough(look: Look, season: Look | None, *, minimum_clear: float, ndvi_drop: float) -> str:
    """What is wrong with a look at the months before the event, empty when nothing is.

    They are cloudy below `minimum_clear`, and leafless when their NDVI is `ndvi_drop` or more below that of the same
    season a year earlier (`season`), which is how green the slopes are when the images after the event are taken.
    """
    if look.clear_share < minimum_clear:
        return f"only {look.clear_share:.0%} of the area is clear in {look.candidate.words}"
    if season is None or look.ndvi is None or season.ndvi is None or season.clear_share < minimum_clear:
        return ""
    if look.ndvi <= season.ndvi - ndvi_drop:
        return (
            f"NDVI in {look.candidate.words} is {look.ndvi:.2f}, leafless against {season.ndvi:.2f} in "
            f"{season.candidate.words}"
        )
    return ""


def choose(looks: Sequence[Look], *, minimum_clear: float, ndvi_drop: float) -> Choice | None:
    """The window to use of those looked at, given in order of preference; None when none has a clear pixel.

    The months before the event are kept when nothing is wrong with them (`is_enough`). Else the first other window that
    is clear enough is taken, else the one with the largest clear share.
    """
    seen = [look for look in looks if look.clear_share > 0]
    if not seen:
        return None
    recent = looks[0]
    season = next((look for look in looks if look.candidate.kind == "same season"), None)
    wrong = is_enough(recent, season, minimum_clear=minimum_clear, ndvi_drop=ndvi_drop)
    if not wrong:
        return Choice(recent.candidate, "")
    others = [look for look in seen if look is not recent]
    good = next((look for look in others if look.clear_share >= minimum_clear), None)
    best = good or max(seen, key=lambda look: look.clear_share)  # the first of equals: the preferred one
    if best is recent:
        return Choice(recent.candidate, f"{wrong}; no other window is better")
    return Choice(best.candidate, f"{wrong}; {best.candidate.words} was taken instead ({best.clear_share:.0%} clear)")

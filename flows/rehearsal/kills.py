"""Which process is killed when. Pure: drawn before the rehearsal begins, carried out when the process is at work."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

TARGETS = {"step": 55, "watch": 20, "storage": 6, "earthengine": 6, "usgs": 5, "prefect": 6, "everything": 2}
"""What is killed, and how often in a hundred: a step's process, the watch's, a service's, or all of them at once."""
SERVICES = ("storage", "earthengine", "usgs", "prefect")
STEP_S, POLL_S = 6.0, 0.05
"""Mean time that a step, or a look at the USGS, has been at work when it is killed, in seconds."""
PATIENCE, AT_ONCE_S = dt.timedelta(hours=6), 0.5
"""A kill that so much of the story was too quick for comes about so soon in the next step."""
LAST_WORK = dt.timedelta(days=1)
"""No kill is drawn for the end of the story, when there may be nothing at work any more: so much, or a seventh of it."""


@dataclass(frozen=True)
class Kill:
    """One kill that is to come."""

    at: dt.datetime
    """Not before, on the story's clock."""
    target: str
    """A key of `TARGETS`."""


def draw_kills(count: int, start: dt.datetime, end: dt.datetime, seed: int) -> list[Kill]:
    """`count` kills, spread over the story, by time."""
    draw = random.Random(f"kills {seed}")  # noqa: S311 - a repeatable draw, no secret
    span = end - start - min(LAST_WORK, (end - start) / 7)
    targets = draw.choices(list(TARGETS), list(TARGETS.values()), k=count)
    if count >= 2:
        targets[:2] = ["step", "watch"]  # however few there are
    return [Kill(start + span * ((number + draw.random()) / count), target) for number, target in enumerate(targets)]


def delay_s(kill: Kill, now: dt.datetime, draw: random.Random) -> float:
    """How long the process is to have been at work, in seconds, when it is killed; the sooner, the longer it is due."""
    late = now - kill.at > PATIENCE
    mean = POLL_S if kill.target == "watch" else AT_ONCE_S if late else STEP_S
    return draw.expovariate(1 / mean)

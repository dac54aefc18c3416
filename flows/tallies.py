"""What all runs together have asked of Earth Engine and mapped, in one small document of the bucket: for monitoring only.

Runs are short-lived processes, which nobody can ask for their counts; each adds its own when it is done with a piece of
work. The numbers only grow. One that is lost (a killed run) is missing from the rates, and from nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.errors import FlowError
from flows.reaching import bucket
from flows.settings import Settings
from flows.storage import PreconditionFailedError, Store
from flows.swapping import MAX_SWAPS, pause
from gee.session import Session

log = logging.getLogger(__name__)


class Tally(BaseModel):
    """Sums over all runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    asked: int = 0
    """Requests sent to Earth Engine for pixels, repetitions counted in."""
    succeeded: int = 0
    """Of these, answered as wanted."""
    refused: int = 0
    """Refused for load."""
    transient: int = 0
    """Failed in another way that may pass."""
    too_large: int = 0
    """Wanted to be smaller."""
    permanent: int = 0
    """Failed for good."""
    waited_s: float = 0.0
    """Seconds that requests waited for a place in the project's quota."""
    pulled_px: int = 0
    """Pixels pulled into cubes, both phases and all layers counted as one."""
    pull_s: float = 0.0
    """Seconds in which pixels were pulled, by the clock on the wall, summed over runs."""
    mapped_px: int = 0
    """Pixels that a network has mapped."""
    map_s: float = 0.0
    """Seconds in which networks mapped, likewise."""

    def __add__(self, other: Tally) -> Tally:
        """The sum, field by field."""
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in Tally.model_fields})


CLASSES = ("succeeded", "refused", "transient", "too_large", "permanent")
"""The classes of requests, by how they ended."""


def tally_uri(bucket_url: str) -> str:
    """Where the document lies."""
    return f"{bucket_url.rstrip('/')}/metrics/tally.json"


def read_tally(store: Store) -> Tally:
    """The sums so far; zeros when there are none, or when they cannot be read as such."""
    return _read(store)[0]


def add(store: Store, more: Tally) -> None:
    """Add to the sums. Never fails: what cannot be written is a warning."""
    if more == Tally():
        return
    try:
        for attempt in range(MAX_SWAPS):
            present, generation = _read(store)
            data = (present + more).model_dump_json(indent=1).encode()
            try:
                store.write_bytes(tally_uri(store.bucket_url), data, "application/json", if_generation_match=generation)
            except PreconditionFailedError:
                pause(attempt)
                continue
            return
    except FlowError as error:
        log.warning("the counts of this run are lost to monitoring: %s", error)


@contextmanager
def counted(settings: Settings, session: Session) -> Iterator[Callable[[int], None]]:
    """Count a session's requests and the pixels that the yielded function is told of, and add them at the end."""
    began, before, pixels = time.monotonic(), session.gate.counters, 0

    def pulled(count: int) -> None:
        nonlocal pixels
        pixels += count

    try:
        yield pulled
    finally:
        now = session.gate.counters
        grown = {name: getattr(now, name) - getattr(before, name) for name in ("asked", "waited_s", *CLASSES)}
        spent = time.monotonic() - began if grown["asked"] else 0.0
        with bucket(settings) as store:
            add(store, Tally(**grown, pulled_px=pixels, pull_s=spent))


def count_mapped(settings: Settings, pixels: int, seconds: float) -> None:
    """Add pixels that a network has mapped."""
    with bucket(settings) as store:
        add(store, Tally(mapped_px=pixels, map_s=seconds))


def _read(store: Store) -> tuple[Tally, int]:
    data, generation = store.read_with_generation(tally_uri(store.bucket_url))
    try:
        return Tally.model_validate_json(data) if generation else Tally(), generation
    except ValidationError:
        return Tally(), generation

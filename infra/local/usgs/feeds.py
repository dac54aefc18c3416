"""The real-time summary feeds: which events each one shows, and when it last changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from infra.local.usgs.events import Event, Json, summary

API_VERSION = "1.12.3"
WINDOW_HOURS = {"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}
LEVELS = {
    "all": "All Earthquakes",
    "significant": "Significant Earthquakes",
    "4.5": "Magnitude 4.5+ Earthquakes",
    "2.5": "Magnitude 2.5+ Earthquakes",
    "1.0": "Magnitude 1.0+ Earthquakes",
}
SIGNIFICANT = 600
_NAME = re.compile(r"(all|significant|4\.5|2\.5|1\.0)_(hour|day|week|month)\.geojson")


@dataclass(frozen=True)
class Feed:
    """One of the twenty summary feeds."""

    level: str
    """A key of `LEVELS`."""
    window: str
    """A key of `WINDOW_HOURS`."""

    @classmethod
    def named(cls, file_name: str) -> Feed | None:
        """The feed in the file of this name, None when there is none."""
        found = _NAME.fullmatch(file_name)
        return None if found is None else cls(found[1], found[2])

    @property
    def title(self) -> str:
        """As the service writes it."""
        return f"USGS {LEVELS[self.level]}, Past {self.window.capitalize()}"

    def shows(self, event: Event, now_ms: int) -> bool:
        """Whether `event` belongs into the feed at `now_ms`."""
        age_ms = now_ms - event.time_ms
        if not 0 <= age_ms <= WINDOW_HOURS[self.window] * 3_600_000:
            return False
        if self.level == "all":
            return True
        if self.level == "significant":
            return float(event.property("sig") or 0) >= SIGNIFICANT
        return event.magnitude is not None and event.magnitude >= float(self.level)


class FeedPress:
    """Prints the feeds; a feed whose events did not change keeps its time stamp and its ETag."""

    def __init__(self) -> None:
        self._issues: dict[Feed, tuple[str, int]] = {}

    def issue(self, feed: Feed, events: Iterable[Event], now_ms: int, base_url: str) -> tuple[Json, str, int]:
        """(the collection, its ETag, when it last changed in milliseconds since 1970), newest event first."""
        shown = sorted((e for e in events if feed.shows(e, now_ms)), key=lambda e: e.time_ms, reverse=True)
        features = [summary(e, f"{base_url}/earthquakes/feed/v1.0/detail/{e.id}.geojson") for e in shown]
        digest = hashlib.sha256(json.dumps(features).encode()).hexdigest()[:32]
        if self._issues.get(feed, ("", 0))[0] != digest:
            self._issues[feed] = digest, now_ms
        generated = self._issues[feed][1]
        metadata = {
            "generated": generated,
            "url": f"{base_url}/earthquakes/feed/v1.0/summary/{feed.level}_{feed.window}.geojson",
            "title": feed.title,
            "status": 200,
            "api": API_VERSION,
            "count": len(features),
        }
        return collection(metadata, features), digest, generated


def collection(metadata: Json, features: list[Json]) -> Json:
    """A FeatureCollection as the service writes it, with a bounding box when it is not empty."""
    whole: dict[str, Any] = {"type": "FeatureCollection", "metadata": metadata, "features": features}
    points = [feature["geometry"]["coordinates"] for feature in features]
    if points:
        axes = [[float(value or 0.0) for value in axis] for axis in zip(*points, strict=True)]
        whole["bbox"] = [min(axis) for axis in axes] + [max(axis) for axis in axes]
    return whole

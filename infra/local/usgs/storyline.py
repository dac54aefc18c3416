"""What happened to events, moment by moment: played into a running stand-in, on its clock.

A storyline is a list of beats, each at its time: a newer record, a deletion, a fault of the service or its end. It comes
from a recorded event with all its product versions (`history`), or is invented (`infra.local.usgs.invented`).

`python -m infra.local.usgs.storyline --url URL --folder DIR --event us2000h8ty --speed 600` plays a recorded event, ten
minutes a second; without `--event` an invented hour and a half.
"""

from __future__ import annotations

import argparse
import base64
import copy
import datetime as dt
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from infra.local.usgs.book import BookError, read_folder
from infra.local.usgs.events import Json

TOLD = ("origin", "shakemap", "ground-failure", "losspager")
"""Product types whose versions change what an event's record says; the others are left out."""


@dataclass(frozen=True)
class Beat:
    """One thing that happens at the service."""

    at: dt.datetime
    """When, on the service's clock."""
    record: Json | None = None
    """A newer record of an event, with the products that it has by then."""
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the record's products, by the path of their address."""
    deleted: str = ""
    """The id of an event that is withdrawn."""
    fault: Json | None = None
    """A fault of the service (`infra.local.faults`)."""
    calm: bool = False
    """The end of all faults."""


def record_beat(record: Json, contents: Mapping[str, bytes] | None = None) -> Beat:
    """The beat of a record at the time that it gives for its own change."""
    return Beat(from_ms(record["properties"]["updated"]), record=record, contents=contents or {})


def history(feature: Json) -> list[Beat]:
    """An event's record as it stood after each version of its products, from a detail that lists all versions.

    The ids, the preferred one among them, the magnitude, place and time are those of the origins sent by then; the
    preferred origin is the one with the largest weight, of equal ones the latest.
    """
    products = feature["properties"]["products"]
    times = sorted({version["updateTime"] for kind in TOLD for version in products.get(kind, [])})
    first = min(version["updateTime"] for version in products["origin"])
    return [record_beat(_as_of(feature, moment)) for moment in times if moment >= first]


def _as_of(feature: Json, moment_ms: int) -> Json:
    products = {
        kind: [
            version for version in feature["properties"]["products"].get(kind, []) if version["updateTime"] <= moment_ms
        ]
        for kind in TOLD
    }
    products = {kind: versions for kind, versions in products.items() if versions}
    origin = max(products["origin"], key=lambda one: (one["preferredWeight"], one["updateTime"]))
    names = [_name(one) for one in sorted(products["origin"], key=lambda one: one["updateTime"])]
    preferred, known = _name(origin), origin["properties"]
    pager = max(products.get("losspager", []), key=lambda one: one["updateTime"], default=None)
    place = feature["properties"]["place"]
    properties = copy.deepcopy({k: v for k, v in feature["properties"].items() if k != "products"})
    properties |= {
        "mag": float(known["magnitude"]), "time": to_ms(dt.datetime.fromisoformat(known["eventtime"])),
        "updated": moment_ms, "status": "reviewed" if known.get("review-status") == "reviewed" else "automatic",
        "alert": None if pager is None else pager["properties"].get("alertlevel"),
        "title": f"M {float(known['magnitude']):.1f} - {place}",
        "ids": f",{','.join(dict.fromkeys([preferred, *names]))},", "types": f",{','.join(sorted(products))},",
        "sources": f",{','.join(dict.fromkeys(one['source'] for one in products['origin']))},",
        "net": origin["source"], "code": preferred.removeprefix(origin["source"]), "products": copy.deepcopy(products),
    }  # fmt: skip
    point = [float(known["longitude"]), float(known["latitude"]), float(known["depth"])]
    return {
        "type": "Feature", "id": preferred, "properties": properties,
        "geometry": {"type": "Point", "coordinates": point},
    }  # fmt: skip


def _name(origin: Json) -> str:
    return f"{origin['properties']['eventsource']}{origin['properties']['eventsourcecode']}"


class Player:
    """Plays beats into the stand-in at an address. Raises `httpx.HTTPError` when it refuses one or is not there."""

    def __init__(self, url: str, beats: Iterable[Beat]) -> None:
        """Ready to play; nothing has happened yet."""
        self._beats = sorted(beats, key=lambda beat: beat.at)
        self._next = 0
        self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    @property
    def over(self) -> bool:
        """Whether every beat has been played."""
        return self._next == len(self._beats)

    @property
    def moments(self) -> list[dt.datetime]:
        """When something happens, oldest first."""
        return sorted({beat.at for beat in self._beats})

    def advance(self, to: dt.datetime) -> int:
        """Play what happens until `to`, each at its time, and leave the clock there; returns how much happened."""
        first = self._next
        while not self.over and self._beats[self._next].at <= to:
            beat = self._beats[self._next]
            self._set_clock(beat.at)
            self._play(beat)
            self._next += 1
        self._set_clock(to)
        return self._next - first

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _play(self, beat: Beat) -> None:
        if beat.record is not None:
            files = {path: {"base64": base64.b64encode(data).decode()} for path, data in beat.contents.items()}
            self._done(self._http.post("/_standin/events", json={"detail": beat.record, "contents": files}))
        if beat.deleted:
            self._done(self._http.delete(f"/_standin/events/{beat.deleted}"))
        if beat.fault is not None:
            self._done(self._http.post("/_standin/faults", json=beat.fault))
        if beat.calm:
            self._done(self._http.delete("/_standin/faults"))

    def _set_clock(self, moment: dt.datetime) -> None:
        self._done(self._http.post("/_standin/clock", json={"now": moment.isoformat()}))

    @staticmethod
    def _done(answer: httpx.Response) -> None:
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text[:300], request=answer.request, response=answer)


def to_ms(moment: dt.datetime) -> int:
    """Milliseconds since 1970, as the USGS writes times; one without a zone is taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return round(aware.timestamp() * 1000)


def from_ms(milliseconds: int) -> dt.datetime:
    """The inverse of `to_ms`."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def recorded(folder: Path, event_id: str) -> Json:
    """The record of an event that lies in a folder. Raises `BookError` when there is none with its products."""
    found: list[Any] = [event for event in read_folder(folder)[0] if event_id in event.aliases and event.has_products]
    if not found:
        raise BookError(f"{folder} holds no event {event_id!r} with its products")
    return max(found, key=lambda event: event.updated_ms).feature  # type: ignore[no-any-return]


def main() -> int:
    """Play; returns the exit code."""
    from infra.local.usgs.invented import ninety_minutes

    parser = argparse.ArgumentParser(prog="infra.local.usgs.storyline", description="Play a storyline into a stand-in.")
    parser.add_argument("--url", required=True, help="address of the USGS stand-in")
    parser.add_argument("--folder", type=Path, help="folder of recorded events")
    parser.add_argument("--event", help="recorded event to play; without it an invented hour and a half")
    parser.add_argument("--speed", type=float, default=60.0, help="seconds of the story in a second")
    arguments = parser.parse_args()
    try:
        if arguments.event is None:
            beats = ninety_minutes(dt.datetime.now(dt.UTC))
        elif arguments.folder is None:
            parser.error("--event needs the --folder that it lies in")
        else:
            beats = history(recorded(arguments.folder, arguments.event))
        _play_timed(Player(arguments.url, beats), arguments.speed)
    except (BookError, OSError, httpx.HTTPError) as error:
        sys.stderr.write(f"the storyline cannot be played: {error}\n")
        return 2
    return 0


def _play_timed(player: Player, speed: float) -> None:
    moments = player.moments
    for before, moment in zip([moments[0], *moments], moments, strict=False):
        time.sleep((moment - before).total_seconds() / speed)
        happened = player.advance(moment)
        sys.stdout.write(json.dumps({"at": moment.isoformat(), "happened": happened}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

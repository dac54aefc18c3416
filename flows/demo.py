"""The demo: a simulated earthquake, played into the feed, mapped by the production flow and compared with the truth."""

from __future__ import annotations

import datetime as dt
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from flows.errors import FlowError, ServiceError
from flows.event import EventSummary
from flows.out_folder import require_folder
from flows.planning import code_version
from flows.request import MapRequest
from flows.run import map_to_folder, say
from flows.scratch import existing, require_room
from flows.services import applied, started
from flows.settings import load_settings
from flows.usgs import UsgsClient
from infra.local.simulated import SimulatedQuakeFiles, write_simulated
from infra.local.usgs.play import play_event
from modeling.simulate import domain, simulate_region

BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
"""Bands of the simulated scenes: those that the pipeline reads."""
DOMAIN = "luding"
"""The simulated region of the demo: training never saw one of its kind."""
ROOM_BYTES, ROOM_BYTES_PER_PX = 100_000_000, 250
"""Disk that the demo takes: for Prefect and its logs, and for each pixel of the region."""
FEED_DEADLINE_S = 30.0
"""How long the quake may take to show up in the feed."""


def run_demo(out: Path, *, seed: int, size_px: int) -> Path:
    """Run the demo and leave the products in `out/<event>/v0001`; returns that folder.

    State of the stand-ins lies in `out/.standins`: a second run finds what the first one finished.
    """
    begun = time.monotonic()
    require_folder(out)
    home = out.resolve() / ".standins"
    require_room(existing(home), ROOM_BYTES + size_px * size_px * ROOM_BYTES_PER_PX, "--out")
    _claim(home, {"seed": seed, "size_px": size_px, "version": code_version()})
    event_id = f"sim{seed}"
    say(f"demo: a SIMULATED earthquake in a region like {DOMAIN}, {size_px / 100:g} x {size_px / 100:g} km")
    thread = ThreadPoolExecutor(1)
    # The stand-ins take seconds to come up, most of it waiting: simulate meanwhile.
    simulated = thread.submit(_simulate, home / "catalogue", home / "quakes", event_id, seed, size_px)
    thread.shutdown(wait=False)  # takes no more work, and does not hold up who is interrupted
    with started(load_settings(), None, home, prefect=True) as stack:
        quake = simulated.result()
        with applied(stack.environment()) as settings:
            request = MapRequest(event_id=_play(settings.usgs.url, quake), truth=str(quake.truth))
            folder = map_to_folder(request, settings, out)
        say(f"Prefect kept the run at {stack.endpoints.prefect_url} while it was up")
    say(f"done in {time.monotonic() - begun:.0f} s; everything that was started is stopped")
    return folder


def _claim(home: Path, region: dict[str, object]) -> None:
    """Let `home` be for one region: the catalogue has one elevation model, and scenes of two would lie over each other.

    Raises `FlowError` when it is for another one already.
    """
    record = home / "demo.json"
    if record.is_file() and json.loads(record.read_text()) != region:
        raise FlowError(
            f"{home.parent} holds a demo of another seed, size or version ({record.read_text()}): name another --out"
        )
    home.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(region))


def _simulate(catalogue: Path, usgs_folder: Path, event_id: str, seed: int, size_px: int) -> SimulatedQuakeFiles:
    """Simulate the region and write its scenes and its USGS record: the same seed writes the same files again."""
    region = simulate_region(domain(DOMAIN), seed=seed, shape_yx=(size_px, size_px), bands=BANDS)
    say(
        f"simulated M {region.event.magnitude:g} of {region.event.time:%Y-%m-%d}, {len(region.passes)} passes of Sentinel-2"
    )
    return write_simulated(region, catalogue, usgs_folder, event_id=event_id)


def _play(usgs_url: str, quake: SimulatedQuakeFiles) -> str:
    """Set the feed's clock to half an hour after the quake, publish it once, and wait until the feed lists it."""
    detail = json.loads(quake.detail.read_text())
    moment = dt.datetime.fromtimestamp(detail["properties"]["time"] / 1e3, dt.UTC) + dt.timedelta(minutes=30)
    httpx.post(f"{usgs_url}/_standin/clock", json={"now": moment.isoformat()}, timeout=10).raise_for_status()
    deadline = time.monotonic() + FEED_DEADLINE_S
    with UsgsClient(usgs_url) as client:
        listed = _listed(client, quake)
        if listed is None:  # by an earlier run in the same folder it is
            play_event(usgs_url, quake.usgs_folder, quake.event_id)
        while listed is None and time.monotonic() < deadline:
            time.sleep(0.5)
            listed = _listed(client, quake)
    if listed is None:
        raise ServiceError(f"the USGS stand-in at {usgs_url} did not list event {quake.event_id}: see its log")
    say(f"the feed lists {listed.title}")
    return listed.id


def _listed(client: UsgsClient, quake: SimulatedQuakeFiles) -> EventSummary | None:
    return next((event for event in client.feed("4.5_day") if quake.event_id in event.ids), None)

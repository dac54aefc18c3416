"""The demo: a simulated earthquake, played into the feed, mapped by the production flow, and compared with the truth."""

from __future__ import annotations

import datetime as dt
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from flows.errors import ServiceError
from flows.request import MapRequest
from flows.run import map_to_folder, say
from flows.services import apply
from flows.settings import load_settings
from infra.local.simulated import SimulatedQuakeFiles, write_simulated
from infra.local.stack import LocalStack
from modeling.simulate import domain, simulate_region

DOMAIN = "luding"
"""The simulated region of the demo: training never saw one of its kind."""
FEED_DEADLINE_S = 30.0
"""How long the quake may take to show up in the feed."""


def run_demo(out: Path, *, seed: int, size_px: int) -> Path:
    """Run the demo and leave the products in `out/<event>/v0001`; returns that folder.

    State of the stand-ins lies in `out/.standins`: a second run finds what the first one finished.
    """
    started = time.monotonic()
    home = out.resolve() / ".standins"
    catalogue, usgs_folder = home / "catalogue", home / "usgs"
    for folder in (catalogue, usgs_folder):
        folder.mkdir(parents=True, exist_ok=True)
    event_id = f"sim{seed}"
    say(f"demo: a SIMULATED earthquake in a region like {DOMAIN}, {size_px / 100:g} x {size_px / 100:g} km")
    with ThreadPoolExecutor(1) as thread:
        # The stand-ins take seconds to come up, most of it waiting: simulate meanwhile.
        simulated = thread.submit(_simulate, catalogue, home / "quakes", event_id, seed, size_px)
        with LocalStack(
            home, catalogues=[catalogue], usgs_folders=[usgs_folder], prefect=True, progress=say
        ) as stack:
            quake = simulated.result()
            settings = apply(stack.environment())
            _play(settings.usgs.url, quake)
            request = MapRequest(event_id=_wait_in_feed(settings.usgs.url, event_id), truth=str(quake.truth))
            folder = map_to_folder(request, load_settings(), out)
            say(f"Prefect kept the run at {stack.endpoints.prefect_url} while it was up")
    say(f"done in {time.monotonic() - started:.0f} s; everything that was started is stopped")
    return folder

"""How long it takes from the feed to a plan as deployed: schedule, watch, automation, worker and step, on the real clock.

The earthquakes come one after the other at the same large simulated place, at moments drawn at random.
"""

from __future__ import annotations

import datetime as dt
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign
from flows.errors import FlowError
from flows.reaching import bucket
from flows.rehearsal.planted import plant
from flows.rehearsal.rehearse import services_up
from flows.rehearsal.report import code, machine
from flows.rehearsal.sites import SceneDrop, Site, list_scene, write_world
from flows.rehearsal.timing import SETTINGS, large_site, told_by_prefect
from flows.rehearsal.world import World
from flows.storage import Store

PATIENCE_S = 300.0
STAGES = (
    "the record waits for the next look, which opens a campaign", "Prefect starts a process for the step",
    "the step finds area, steep land, scenes and passes",
)  # fmt: skip
TOLD_BEFORE = dt.timedelta(hours=1)
"""The earthquake was so long ago when the feed tells of it: with a ShakeMap and an estimate of landslides."""


def measure_feed(
    home: Path, side_px: int, seed: int, quakes: int, command: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """The figure `feed_to_plan_s`, the longest of `quakes` at an area of `side_px` pixels a side, and all of them.

    What lies in `home` of an earlier measurement is removed. Raises `FlowError` when a plan does not come.
    """
    place = large_site(seed, side_px)
    for name in ("stack", "catalogue"):
        shutil.rmtree(home / name, ignore_errors=True)
    say(f"writing a simulated area of {side_px:,} x {side_px:,} pixels")
    write_world(home / "catalogue", [place])
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=10)
    list_scene(home / "catalogue", SceneDrop(before, 0, "pre", 0, before, "Sentinel-2A"), [place])
    # Of earthquakes at one place the later would join the campaign of the first.
    own = {**SETTINGS, "QUAKESLIDE_WATCH__SEQUENCE_DAYS": "0"}
    with services_up(home, home / "catalogue", say, own) as (stack, settings, _), bucket(settings) as store:
        from flows.running import add_worker  # Prefect reads its settings when it is imported

        worker, world = add_worker(stack, settings, say), World(stack, home / "catalogue", [place])
        draw, found, area_km2 = np.random.default_rng(seed), [], 0.0
        try:
            for number in range(quakes):
                time.sleep(draw.uniform(0, 60))
                stages, campaign = _planned(world, Site(number, place.region), store)
                found.append(stages)
                area_km2 = campaign.area.area_km2 if campaign.area else 0.0
                say(f"{number + 1} of {quakes}: {sum(stages):.1f} s ({', '.join(f'{one:.1f}' for one in stages)})")
        finally:
            worker.stop()
            world.close()
    whole = [sum(stages) for stages in found]
    feed = {
        "area_km2": area_km2, "quakes": quakes, "seed": seed, "machine": machine(), "code": code(), "command": command,
        "every_s": settings.watch.every_s, "all_s": [round(one, 1) for one in whole],
        "median_s": round(statistics.median(whole), 1),
        "stages_s": {
            stage: [round(pick(column), 1) for pick in (min, statistics.median, max)]
            for stage, column in zip(STAGES, zip(*found, strict=True), strict=True)
        },
    }  # fmt: skip
    return {"feed_to_plan_s": round(max(whole), 1), "feed": feed}


def _planned(world: World, site: Site, store: Store) -> tuple[tuple[float, float, float], Campaign]:
    """Let the feed tell of an earthquake; (seconds of each of `STAGES`, its campaign with a plan)."""
    now = dt.datetime.now(dt.UTC)
    planted = plant("plain", site, now - TOLD_BEFORE, now, dt.timedelta(hours=24))
    *told, _ = planted.beats  # not the review, which comes hours later
    for beat in told:
        world.let(beat)
    world.set_clock(dt.datetime.now(dt.UTC))
    listed = time.monotonic()
    opened, begun = 0.0, 0.0
    while time.monotonic() < listed + PATIENCE_S:
        campaign = next((one for one in campaigns.all_campaigns(store) if one.ids & set(planted.ids)), None)
        since = time.monotonic() - listed
        if campaign is not None:
            opened = opened or since
            begun = begun or (since if campaign.lease is not None or campaign.area is not None else 0.0)
            if campaign.area is not None and campaign.sight is not None:
                return (opened, begun - opened, since - begun), campaign
        time.sleep(0.1)
    runs = told_by_prefect(world.endpoints, "flow_runs", limit=10, sort="START_TIME_DESC")
    said = ", ".join(f"{run['name']} {run['state_name']}" for run in runs)
    raise FlowError(f"no plan after {PATIENCE_S:.0f} s: see the log of the worker ({said})")

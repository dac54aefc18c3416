"""How long it takes from the first clear scene to a version of a large area, and how much of that each stage.

One small simulated region is mirrored until it fills the area; the services are the stand-ins, the clock is the real one.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign
from flows.errors import FlowError, ServiceError
from flows.reaching import bucket
from flows.rehearsal.crew import Answer, Worker
from flows.rehearsal.planted import plant
from flows.rehearsal.rehearse import WEIGHTS, services_up
from flows.rehearsal.report import code, machine
from flows.rehearsal.sites import BANDS, DEM, SEA, SceneDrop, Site, list_scene, set_down, write_world
from flows.rehearsal.story import START
from flows.rehearsal.world import World
from flows.storage import Store
from infra.local.stack import Endpoints
from modeling.simulate import Region, domain, simulate_region

REGION_PX = 625
MARGIN_PX = 40
"""So far from the edge of the area the shaking ends."""
DEADLINE_S = 3600.0
MOST_STEPS = 6
SUBFLOW = "map-event"
"""As which the whole of a version is kept by Prefect, beside its stages."""
SETTINGS: Mapping[str, str] = {
    "QUAKESLIDE_IMAGERY__DEMS": json.dumps([DEM, SEA]), "QUAKESLIDE_MODEL__WEIGHTS": WEIGHTS,
}  # fmt: skip
"""What differs from the defaults: where the elevation is, and which network maps."""
AFTER = dt.timedelta(days=3)
"""The scene is taken so long after the earthquake."""


def measure(home: Path, side_px: int, seed: int, command: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The figure `scene_to_version_s` of an area of `side_px` pixels a side, with the stages.

    What lies in `home` of an earlier measurement is removed, but for the scenes.
    """
    site = large_site(seed, side_px)
    catalogue = home / "catalogue" / f"{side_px}-{seed}"
    shutil.rmtree(home / "stack", ignore_errors=True)
    for listed in catalogue.glob("COPERNICUS/*/*_S00.json"):
        listed.unlink()
    say(f"writing a simulated area of {side_px:,} x {side_px:,} pixels")
    write_world(catalogue, [site])
    before, after = START - dt.timedelta(days=10), START + AFTER
    list_scene(catalogue, SceneDrop(before, 0, "pre", 0, before, "Sentinel-2A"), [site])
    with services_up(home, catalogue, say, SETTINGS) as (stack, settings, environment), bucket(settings) as store:
        world = World(stack, catalogue, [site])
        watch = Worker("watch", environment, home / "logs" / "watch.log")
        found: list[Worker] = []
        try:
            _ready(watch)
            step = partial(Worker, "step", environment, home / "logs" / "step.log")
            campaign_id, feed = _fed(world, site, watch, store, found, step)
            say(f"planned after {sum(feed.values()):.1f} s")
            begun = time.monotonic()
            list_scene(catalogue, SceneDrop(after, 0, "post", 0, after, "Sentinel-2A"), [site])
            told = _mapped(store, campaign_id, found[0], after + dt.timedelta(hours=6), begun, say)
            stages = stage_seconds(
                told_by_prefect(stack.endpoints, "task_runs", limit=200, sort="EXPECTED_START_TIME_ASC")
            )
            stages["looks, leases and notes round the stages"] = round(told[-1][1] - sum(stages.values()), 1)
        finally:
            for worker in (watch, *found):
                worker.close()
            world.close()
        campaign = campaigns.load(store, campaign_id)
    whole = [seconds for kind, seconds in told if kind == "whole"]
    area = campaign.area.area_km2 if campaign.area else 0.0
    speed = {
        "area_km2": area, "side_px": side_px, "region_px": min(side_px, REGION_PX), "weights": WEIGHTS,
        "machine": machine(),
        "code": code(), "command": command, "seed": seed, "versions_after_s": [[kind, round(s, 1)] for kind, s in told],
        "stages_s": {**feed, **stages}, "notes": _notes(told, campaign),
    }  # fmt: skip
    return {"scene_to_version_s": round(max(whole), 1), "speed": speed}


def large_site(seed: int, side_px: int) -> Site:
    """A simulated place of `side_px` pixels a side, the smaller ones mirrored to it."""
    return Site(0, enlarged(_small(seed, min(side_px, REGION_PX)), side_px))


def _small(seed: int, side_px: int) -> Region:
    clear = replace(domain("luding"), cloudiness=0.02)
    return simulate_region(clear, seed=seed, shape_yx=(side_px, side_px), dates_pre=1, dates_post=1, bands=BANDS)


def enlarged(region: Region, side_px: int) -> Region:
    """A region mirrored to `side_px` a side and set down as a site, shaken strongly but for its edge."""
    inside = np.minimum(np.arange(side_px), np.arange(side_px)[::-1])
    edge = np.minimum(inside[:, None], inside[None, :])
    mmi = np.clip(5.0 + 2.0 * edge / MARGIN_PX, 5.0, 7.5).astype(np.float32)
    mmi[side_px // 2, side_px // 2] = 8.0
    passes = tuple(replace(one, dn=mirrored(one.dn, side_px), cs=mirrored(one.cs, side_px)) for one in region.passes)
    large = replace(
        region, passes=passes, mmi=mmi, elevation_m=mirrored(region.elevation_m, side_px),
        truth=mirrored(region.truth, side_px),
    )  # fmt: skip
    return set_down([large], 1)[0].region


def mirrored(values: npt.NDArray[Any], side_px: int) -> npt.NDArray[Any]:
    """An array (…, y, x) continued by its mirror images to `side_px` rows and columns."""
    rows, cols = values.shape[-2:]
    widths = [(0, 0)] * (values.ndim - 2) + [(0, side_px - rows), (0, side_px - cols)]
    return np.pad(values, widths, mode="symmetric")


def _fed(
    world: World, site: Site, watch: Worker, store: Store, found: list[Worker], begin: Callable[[], Worker]
) -> tuple[str, dict[str, float]]:
    """Let the feed tell of the earthquake; (its campaign, seconds by stage until that has an area)."""
    planted = plant("plain", site, START, START + AFTER, dt.timedelta(hours=24))
    for beat in planted.beats:
        world.let(beat)
    now = planted.beats[-1].at + dt.timedelta(minutes=1)
    world.set_clock(now)
    polled = _asked(watch, do="poll", now=now.isoformat())
    due = _asked(watch, do="due", now=now.isoformat())
    if not due["due"]:
        raise FlowError("the watch opened no campaign: see its log")
    begun = time.monotonic()
    found.append(begin())
    _ready(found[0])
    started_s = time.monotonic() - begun
    stepped = _asked(found[0], do="step", now=now.isoformat(), campaign=due["due"][0])
    campaign = campaigns.load(store, due["due"][0])
    if campaign.area is None:
        raise FlowError(f"the first step made no area: {stepped.get('said')}")
    return campaign.id, {
        "feed: the watch looks and opens a campaign": polled["took_s"], "feed: what is due is read": due["took_s"],
        "feed: a process is started for the step": round(started_s, 2),
        "feed: the step finds area, steep land, scenes and passes": stepped["took_s"],
    }  # fmt: skip


def _mapped(
    store: Store, campaign_id: str, worker: Worker, now: dt.datetime, begun: float, say: Callable[[str], None]
) -> list[tuple[str, float]]:
    """Make steps until the whole area has a version; (kind, seconds since the scene was there) of each version."""
    told: list[tuple[str, float]] = []
    for _ in range(MOST_STEPS):
        answer = _asked(worker, do="step", now=now.isoformat(), campaign=campaign_id)
        now += dt.timedelta(seconds=answer["took_s"] + 1)
        notes = campaigns.load(store, campaign_id).versions
        told += [(note.kind, time.monotonic() - begun) for note in notes[len(told) :]]
        say(f"{time.monotonic() - begun:.0f} s: {answer['said']}")
        if any(kind == "whole" for kind, _ in told):
            return told
    raise FlowError(f"no version of the whole area in {MOST_STEPS} steps: see the log of the step")


def _ready(worker: Worker) -> None:
    until = time.monotonic() + DEADLINE_S
    while not worker.ready:
        if (answer := worker.answer()) is not None:
            raise ServiceError(f"the {worker.name} did not come up: {answer.get('error')}")
        if time.monotonic() > until:
            raise ServiceError(f"the {worker.name} did not come up")
        time.sleep(0.01)


def _asked(worker: Worker, **wanted: Any) -> Answer:
    """Have a worker do something, and wait for its answer. Raises `ServiceError` when that is an error."""
    worker.ask(**wanted)
    until = time.monotonic() + DEADLINE_S
    while (answer := worker.answer()) is None:
        if time.monotonic() > until:
            raise ServiceError(f"the {worker.name} did not answer in {DEADLINE_S:.0f} s")
        time.sleep(0.01)
    if "error" in answer:
        raise ServiceError(f"the {worker.name} failed: {answer['error']}")
    return answer


def told_by_prefect(endpoints: Endpoints, what: str, **body: Any) -> list[dict[str, Any]]:
    """What Prefect's server knows of `what`, `task_runs` for example. Raises `httpx.HTTPError` when it refuses."""
    user, _, password = endpoints.prefect_auth.partition(":")
    url = f"{endpoints.prefect_url}/api/{what}/filter"
    answer = httpx.post(url, json=body, auth=(user, password), timeout=30.0, trust_env=False)
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


def stage_seconds(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each stage, those of the first version apart from those of the next, in the order of their beginning."""
    found: dict[str, float] = {}
    order: dict[str, int] = {}
    for run in sorted(runs, key=lambda one: str(one["start_time"])):
        if not run.get("start_time") or not run.get("end_time") or str(run["name"]).startswith(SUBFLOW):
            continue
        number = order.setdefault(str(run["flow_run_id"]), len(order) + 1)
        begun, ended = (dt.datetime.fromisoformat(run[name]) for name in ("start_time", "end_time"))
        name = f"version {number}: {str(run['name']).rpartition('-')[0]}"
        found[name] = round(found.get(name, 0.0) + (ended - begun).total_seconds(), 1)
    return found


def _notes(told: list[tuple[str, float]], campaign: Campaign) -> list[str]:
    notes = [f"the {kind} version was visible after {seconds:.1f} s" for kind, seconds in told]
    for note in campaign.versions:
        observed = note.shares.get("observed", 0.0)
        notes.append(f"version {note.version}: {note.area_km2:,.0f} km², {observed:.0%} of the campaign's area observed, "
                     f"{note.landslides:,} simulated landslides found")  # fmt: skip
    return notes

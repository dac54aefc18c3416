"""What a plan will take: requests, bytes, time and memory, from counts and from a measured tile. Pure but for that tile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.campaign.budget import cost_of_plan
from flows.planning import MapPlan
from flows.settings import Settings
from flows.speed import ASSUMED, Speed
from gee.terrain import LAYERS
from modeling.prediction.inference import Execution

REQUEST_S = 4.0
"""Assumed seconds of one Earth Engine request of a 512-pixel tile, a composite of some ten scenes."""
BASE_MEMORY_MB = 1000
"""Memory of the process beside tiles, measured: Python, torch, GDAL, Prefect and Dask imported, what the heap holds free,
rows of a COG; a scene of 20,000 x 20,000 px takes 0.4 GB more."""


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take."""

    requests: int
    """Requests for pixels."""
    request_bytes: int
    """Bytes that they return, uncompressed."""
    seconds: float
    """Wall time."""
    memory_mb: float
    """Peak memory of the process."""


def estimate(
    plan: MapPlan, settings: Settings, network_px_per_s: float, execution: Execution, working_bytes_per_px: float
) -> Estimate:
    """Expected cost of a plan.

    `network_px_per_s` is the measured speed of the network on this machine, `execution` how it maps, and
    `working_bytes_per_px` what that takes (`modeling.prediction.inference.working_bytes_per_pixel`).
    """
    requests = len(plan.to_pull)
    pixels = sum(tile.shape_yx[0] * tile.shape_yx[1] for tile in plan.cube.tiles)
    parallel = min(settings.earthengine.max_concurrent_requests, max(requests, 1))
    seconds = requests * REQUEST_S / parallel + overlap_of(execution) * pixels / network_px_per_s
    in_flight = parallel * max((plan.cube.request_bytes(tile) for tile in plan.cube.tiles), default=0)
    window_px = execution.batch * (execution.tile_px + 2 * execution.halo_px) ** 2
    memory = BASE_MEMORY_MB + (2 * in_flight + window_px * working_bytes_per_px) / 1e6
    return Estimate(requests, sum(map(plan.cube.request_bytes, plan.to_pull)), seconds, memory)


def overlap_of(execution: Execution) -> float:
    """How many times over a pixel is computed, as the network's tiles overlap."""
    return (1 + 2 * execution.halo_px / execution.tile_px) ** 2


def measured_speed(run_tile: Callable[[], int]) -> float:
    """Pixels a second of a network: `run_tile` maps one tile and returns its pixels; the second of two runs counts."""
    run_tile()
    start = time.perf_counter()
    pixels = run_tile()
    return pixels / max(time.perf_counter() - start, 1e-6)


def plan_rows(plan: MapPlan, speed: Speed = ASSUMED) -> list[tuple[str, str]]:
    """A plan for people: what and value; `speed` is that of the network."""
    cube, cost = plan.cube, cost_of_plan(plan, speed)
    before, after = cube.pre, cube.post
    rows = [
        ("event", plan.event.title),
        ("area", plan.area.description),
        ("before", f"{before.start:%Y-%m-%d} to {before.end:%Y-%m-%d}: {len(cube.pre_scenes.scenes)} scenes"),
        ("after", f"{after.start:%Y-%m-%d} to {after.end:%Y-%m-%d}: {len(cube.post_scenes.scenes)} scenes"),
        ("imagery", f"{cube.pre_scenes.collection}, {cube.mask_rule}"),
        ("made of", ", ".join(f"{phase.phase}: {phase.made_by.replace('_', ' ')}" for phase in cube.scenes)),
        ("elevation", f"{cube.dem.id}; {', '.join(layer.name for layer in cube.layers if layer.name in LAYERS)}"),
        ("network", plan.model),
        ("grid", f"{cube.grid.crs}, {cube.grid.shape_yx[1]} x {cube.grid.shape_yx[0]} px of {cube.grid.pixel_m:g} m"),
        ("tiles", f"{len(cube.tiles)} of {cube.tile_px} px"),
        ("taken over", plan.takeover.describe(cube) or "none"),
        ("requests", f"{cost.requests}, {cost.bytes / 1e6:,.0f} MB"),
        ("mapping", f"{cost.network_minutes:,.1f} minutes of the device that maps, GPU or CPU (at {speed})"),
        ("storage", f"{cost.stored_bytes / 1e6:,.0f} MB kept in the bucket"),
        ("cube", cube.uri),
    ]
    return rows + [("note", note) for note in (*plan.area.notes, *plan.notes)]

"""How much faster more Dask workers are. A worker is a process of `THREADS` threads under the scheduler; tiles are handed out
by `flows.cluster.map_unordered`, as a flow does it, and the clock runs when all workers are up.

`work`: each tile is decoded pixels and a filter over them, which keeps a core busy; measured from 1 to as many workers as
the machine has cores. `simulated`: each tile only waits for 200 ms, as for an answer of Earth Engine; so more workers than
there are cores tell what scheduler and hand-out cost, and nothing of the work. The limit is so many times one worker.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy import ndimage

from flows import cluster
from flows.cluster import dask_client, map_unordered
from flows.settings import DaskSettings

from .cases import BenchError, Case, Group, Setting, elapsed

THREADS = 4
WAIT_S = 0.2
SIDE_PX = 512
MOST = 16
"""Workers, in the simulated part."""


def groups(setting: Setting) -> Iterator[Group]:
    """Real work with 1 to N workers of this machine; simulated work with more."""
    cores = os.cpu_count() or 1
    yield from _row("work", work, 1, _doubling(cores), 24 if setting.quick else 160, setting)
    most = 2 if setting.quick else MOST
    yield from _row("simulated", wait, THREADS, _doubling(most), 40 if setting.quick else 320, setting)


def work(number: int) -> int:
    """A tile that keeps a core busy."""
    made = (np.arange(SIDE_PX * SIDE_PX, dtype="float32") * (number + 1) % 251).reshape(SIDE_PX, SIDE_PX)
    for _ in range(4):
        made = ndimage.gaussian_filter(made, 2.0)
    if not np.isfinite(made).all():
        raise BenchError("wrong pixels")
    return number


def wait(number: int) -> int:
    """A tile that waits for somebody else."""
    time.sleep(WAIT_S)
    return number


def _doubling(most: int) -> list[int]:
    counts = [1]
    while counts[-1] * 2 <= most:
        counts.append(counts[-1] * 2)
    return counts if counts[-1] == most else [*counts, most]


def _row(
    name: str, tile: Callable[[int], int], threads: int, counts: list[int], each: int, setting: Setting
) -> Iterator[Group]:
    """A group for each number of workers; each worker has the same number of tiles, so that all take alike long."""
    alone: list[float] = []
    for count in counts:
        with _workers(count, threads) as client:

            def ours(client: Any = client, count: int = count) -> float:
                rate = _rate(client, tile, each * count, 2 * threads * count)
                if count == 1:
                    alone.append(rate)
                return rate

            ours()  # what a worker imports it imports once
            if count == 1:
                alone.clear()
            limit = count * statistics.median(alone) if alone else None
            words = f"{name}, {count} worker{'' if count == 1 else 's'}"
            yield Group(words, "tiles/s", (Case("quakeslide", "ours", ours),), limit=limit, repetitions=3)


def _rate(client: Any, tile: Callable[[int], int], tiles: int, in_flight: int) -> float:
    done: list[int] = []
    seconds = elapsed(lambda: done.extend(map_unordered(client, tile, range(tiles), in_flight=in_flight)))
    if sorted(done) != list(range(tiles)):
        raise BenchError(f"{len(done)} of {tiles} tiles came back")
    return tiles / seconds


@contextmanager
def _workers(count: int, threads: int) -> Iterator[Any]:
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    made = cluster._cluster(
        n_workers=count,
        threads_per_worker=threads,
        processes=True,
        memory_limit=0,
        protocol="tcp",
        host="127.0.0.1",
        **options,
    )
    with made as there, dask_client(DaskSettings(address=there.scheduler_address), threads=1) as client:
        client.wait_for_workers(count, timeout=120)
        yield client

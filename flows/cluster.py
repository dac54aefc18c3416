"""The Dask cluster on which tiles are worked: a scheduler's address, or threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster, as_completed

from flows.errors import ServiceError
from flows.settings import DaskSettings

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def dask_client(settings: DaskSettings, *, threads: int) -> Iterator[Any]:
    """A `distributed.Client`: of the scheduler at `settings.address`, else of a cluster of `threads` in this process.

    Raises `ServiceError` naming the address when no scheduler answers there.
    """
    if settings.address:
        try:
            client = Client(settings.address, timeout="10s", set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ServiceError(
                f"no Dask scheduler answers at {settings.address} ({error}): start it, or leave dask.address empty"
            ) from error
        with client:
            yield client
        return
    # Threads, not processes: a tile is network and numpy, both of which release the lock, and a process costs 130 MB.
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def map_unordered(
    client: Any, work: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Result]:
    """Apply `work` to every item on the cluster, at most `in_flight` at once, and yield results as they come.

    The first error stops the hand-out, cancels what waits and is raised.
    """
    waiting = iter(items)
    first = [client.submit(work, item, pure=False) for _, item in zip(range(in_flight), waiting, strict=False)]
    completed = as_completed(first, loop=client.loop)
    try:
        for future in completed:
            yield future.result()
            for item in waiting:
                completed.add(client.submit(work, item, pure=False))
                break
    finally:
        client.cancel(list(completed.futures))

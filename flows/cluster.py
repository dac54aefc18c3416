"""The Dask cluster on which tiles are worked: other processes (see `DaskSettings`), or threads of this one.

A pull waits for the network nearly all its time, so a worker needs about as many threads as the project may have requests
in flight, whatever its cores (`dask worker --nthreads 40`); decoding and encoding keep to the cores by themselves. How
many requests are really in flight is not decided here: every worker process takes its part of the project's quota from
the ledger that `SessionConfig.quota_uri` names (`gee.quota`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
import distributed
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError

from flows.asked_clusters import gateway_cluster, operator_cluster
from flows.errors import ServiceError
from flows.settings import DaskSettings

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = "10s"
"""How long a scheduler may take to answer."""

WORKER_TIMEOUT_S = 900.0
"""How long the first worker of a cluster that was asked for may take: a machine may have to be started for it."""

_LOOPBACK = "127.0.0.1:0"


class _Client(distributed.Client):
    """A client that is closed at once when nobody answers it.

    Left to the garbage collector, it would close itself wherever that happens to run, and wait forever for distributed's
    own lock where the same thread holds it: while the next client or cluster starts.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        try:
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        except BaseException:
            if getattr(self, "status", "newly-created") != "newly-created":
                self.close()  # type: ignore[no-untyped-call]
            raise


# mypy finds no types in distributed; named once, so that strictness is given up in one place only.
_connect: Callable[..., Any] = _Client
_cluster: Callable[..., Any] = distributed.LocalCluster
_as_completed: Callable[..., Any] = distributed.as_completed


def threads_for(requests: int) -> int:
    """Threads that keep so many requests in flight: while these wait for Earth Engine, others decode and write."""
    return requests + -(-requests // 2)


@contextmanager
def dask_client(settings: DaskSettings, *, threads: int) -> Iterator[Any]:
    """A `distributed.Client` of the cluster of the settings, else of one of `threads` in this process.

    A cluster of other processes may have fewer threads, and the log says that it will be slower. Raises `ServiceError`
    naming the address when no scheduler, gateway or operator answers there, `FlowError` when a package is missing.
    """
    # It tells of every connection that opens and closes, as if that were news.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if settings.elsewhere:
        with _client_elsewhere(settings) as client:
            if (there := sum(client.nthreads().values())) < threads:
                log.warning(
                    "the workers of %s have %d threads for %d requests at a time: start them with more (--nthreads)",
                    settings.address or settings.gateway or settings.namespace, there, threads,
                )  # fmt: skip
            yield client
        return
    # Threads, not processes: a tile is network and numpy, both of which release the lock, and a process costs 130 MB.
    # Scheduler and worker serve pages of their own whatever they are asked; on loopback nobody else can open them.
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        _cluster(
            n_workers=1, threads_per_worker=threads, processes=False, memory_limit=0, dashboard_address=_LOOPBACK,
            worker_dashboard_address=_LOOPBACK, scheduler_kwargs={"dashboard": False},
        ) as cluster,
        _connect(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@contextmanager
def _client_elsewhere(settings: DaskSettings) -> Iterator[Any]:
    if settings.address:
        try:
            client = _connect(settings.address, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ServiceError(
                f"no Dask scheduler answers at {settings.address} ({error}): start it, or leave dask.address empty"
            ) from error
        with client:
            yield client
        return
    made = gateway_cluster(settings) if settings.gateway else operator_cluster(settings)
    with made as cluster, _connect(cluster, set_as_default=False) as client:
        _wait_for_one(client)
        yield client


def _wait_for_one(client: Any) -> None:
    """Wait until the first worker is there: machines for them may have to be started; others join when they can."""
    try:
        client.wait_for_workers(1, timeout=WORKER_TIMEOUT_S)
    except TimeoutError as error:
        raise ServiceError(
            f"the Dask cluster has no worker after {WORKER_TIMEOUT_S:.0f} s: look at its pods"
        ) from error


def map_unordered(
    client: Any, work: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Result]:
    """Apply `work` to every item on the cluster, at most `in_flight` at once, and yield results as they come.

    What a worker was at when it was lost is done again by others. The first error stops the hand-out, cancels what waits
    and is raised: `ServiceError` when it is the cluster that was lost, or an item that no worker survives.
    """
    waiting = iter(items)
    first = [client.submit(work, item, pure=False) for _, item in zip(range(in_flight), waiting, strict=False)]
    completed = _as_completed(first, loop=client.loop)
    try:
        for future in completed:
            with losses():
                result = future.result()
            yield result
            for item in waiting:
                completed.add(client.submit(work, item, pure=False))
                break
    finally:
        client.cancel(list(completed.futures))


@contextmanager
def losses() -> Iterator[None]:
    """Turns what Dask raises when it has lost workers or its scheduler into a `ServiceError`, after which one may go on."""
    try:
        yield
    except distributed.KilledWorker as error:
        raise ServiceError(
            f"a tile has cost several Dask workers their lives, give them more memory: {error}"
        ) from error
    except (FutureCancelledError, CommClosedError) as error:
        raise ServiceError(f"the Dask scheduler was lost: {error}. What is done is kept; run again to go on") from error

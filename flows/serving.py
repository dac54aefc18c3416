"""Mapping on a Dask cluster: any worker reads tiles ahead, workers that offer a GPU run the network, this process stitches.

It is the function that maps on one machine (`modeling.prediction.predict`), cut between reading, network and stitching. Start the
workers that shall run networks with `dask worker --resources GPU=1 --nthreads 2` (a machine without one may offer
it as well, but then all that offer it should be without: one of them says how the map is computed); all others read. Each
worker makes the model ready once. A worker that is lost costs what it was at; when none that runs the network is left and
none comes back, the run ends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import compress, groupby
from typing import Any, TypeVar

import dask
import distributed
import numpy as np

from flows.cluster import losses
from flows.errors import ServiceError
from modeling.bands import FloatArray
from modeling.errors import ModelingError
from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, FastModel, prepare
from modeling.prediction.predict import (
    BoolArray,
    Mapped,
    ReadTile,
    SlicesYX,
    Tile,
    TileReader,
    TileWriter,
    as_mapped,
    read_tile,
    stitch,
    tile_probability,
    tiles_of,
)

Result = TypeVar("Result")

RESOURCE = "GPU"
"""What workers offer that run networks."""
AHEAD = 2
"""Groups of tiles that wait, read or mapped, for each worker that runs the network."""
WAIT_S = 900.0
"""How long a map waits for a worker that runs the network when there is none."""

_LOOK_S = 1.0
"""How often is looked whether there are such workers while a result is waited for."""
_MODEL_BYTES = "8 GiB"
"""A model may be so large before Dask warns of what is sent to the scheduler."""


def network_workers(client: Any) -> int:
    """How many workers of a cluster offer to run networks."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(1 for worker in workers if worker.get("resources", {}).get(RESOURCE, 0) >= 1)


def on_network_worker(client: Any, ask: Callable[..., Result], *arguments: Any, wait_s: float = WAIT_S) -> Result:
    """What a function gives on a worker that runs networks, whose device and memory may be others than the caller's.

    Raises what it raises, and `ServiceError` when there has been no such worker for `wait_s`.
    """
    with _large_graphs():
        future = client.submit(ask, *arguments, pure=False, resources={RESOURCE: 1})
    try:
        answer: Result = _result(client, future, wait_s)
    finally:
        client.cancel([future])
    return answer


def map_on_cluster(
    client: Any,
    model: LandslideModel,
    execution: Execution,
    read: TileReader,
    shape_yx: tuple[int, int],
    write: TileWriter,
    *,
    progress: Callable[[int, int], None] | None = None,
    tiles: list[Tile] | None = None,
    wanted: Callable[[SlicesYX], bool] | None = None,
    wait_s: float = WAIT_S,
) -> None:
    """As `modeling.prediction.predict.predict_tiles`, on a cluster that has `network_workers`; `read` travels to the workers.

    The tiles, their order and what is done with them are the same, so the map is too; what a worker was at when it was
    lost is done again by others. `execution` must be one that the workers can compute (`on_network_worker` asks one).
    Raises `ServiceError` when the scheduler is lost, when a tile has cost several workers their lives, and when no worker
    that runs the network has been there for `wait_s`.
    """
    tiles = tiles or tiles_of(shape_yx, execution.tile_px, execution.halo_px)
    in_flight = AHEAD * max(1, network_workers(client)) + 1
    asked = [wanted is None or wanted((row.core, column.core)) for row, column in tiles]
    groups = together(list(compress(tiles, asked)), execution.batch)
    made = _mapped(client, model, execution, read, groups, in_flight, wait_s)
    # A tile that is not wanted keeps its place in the row: what it adds is nothing.
    mapped = (next(made) if one else (tile, None, None) for tile, one in zip(tiles, asked, strict=True))
    stitch(mapped, shape_yx, write, len(tiles), progress)


def together(tiles: list[Tile], batch: int) -> list[list[Tile]]:
    """Tiles in their order, in groups that go through the network together: at most `batch`, with windows of one shape."""
    groups: list[list[Tile]] = []
    for _, alike in groupby(tiles, _window_shape):
        rest = list(alike)
        groups += [rest[first : first + batch] for first in range(0, len(rest), batch)]
    return groups


def _window_shape(tile: Tile) -> tuple[int, int]:
    rows, columns = (span.window for span in tile)
    return rows.stop - rows.start, columns.stop - columns.start


def _mapped(
    client: Any, model: LandslideModel, execution: Execution, read: TileReader, groups: list[list[Tile]],
    in_flight: int, wait_s: float,
) -> Iterator[Mapped]:  # fmt: skip
    """The tiles in their order, so many groups of them being worked on at a time."""
    # A task, and not scattered data, which would be gone with the workers that hold it: a task is done again.
    with _large_graphs():
        kept = client.submit(_Kept, f"{model.weights_hash}-{id(model)}", model, pure=False)
    waiting: deque[tuple[list[Tile], Any]] = deque()
    try:
        for number, group in enumerate(groups):
            contents = [
                client.submit(read_tile, model.bands, read, tile, pure=False, priority=-number) for tile in group
            ]
            result = client.submit(
                _predict, kept, execution, group, contents, pure=False, priority=-number, resources={RESOURCE: 1}
            )
            waiting.append((group, result))
            if len(waiting) == in_flight:
                yield from _taken(client, *waiting.popleft(), wait_s)
        while waiting:
            yield from _taken(client, *waiting.popleft(), wait_s)
    finally:
        client.cancel([kept, *(result for _, result in waiting)])


def _taken(client: Any, group: list[Tile], future: Any, wait_s: float) -> Iterator[Mapped]:
    for tile, (probability, valid) in zip(group, _result(client, future, wait_s), strict=True):
        yield as_mapped(tile, probability, valid)


def _result(client: Any, future: Any, wait_s: float) -> Any:
    """The result of a task for a network worker; a look at the cluster while it takes long."""
    last_seen = time.monotonic()
    while True:
        with losses():
            try:
                return future.result(timeout=_LOOK_S)
            except TimeoutError:
                if future.done():  # the task's own, or it was done at this moment
                    return future.result()
            if network_workers(client):
                last_seen = time.monotonic()
        if time.monotonic() - last_seen > wait_s:
            raise ServiceError(
                f"no worker of the Dask cluster has offered {RESOURCE}=1 for {wait_s:g} s, so nothing runs the network: look "
                "at why these workers end (memory, a machine that was taken back), or set model.network_wait_s"
            )


def _large_graphs() -> Any:
    """While it is entered Dask does not warn of a model among a task's arguments: it is sent once."""
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": _MODEL_BYTES})


class _Kept:
    """A model with a name that is cheap to compare, so that a worker knows whether it has it ready."""

    def __init__(self, key: str, model: LandslideModel) -> None:
        self.key, self.model = key, model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=1)
def _ready(kept: _Kept, execution: Execution) -> FastModel:
    try:
        return prepare(kept.model, execution)
    except ModelingError as error:
        where = distributed.get_worker().address
        raise ModelingError(
            f"worker {where} offers {RESOURCE} and cannot map in {execution} as another that does: {error}. Let workers "
            "offer it that are alike, or set model.device"
        ) from error


def _predict(
    kept: _Kept, execution: Execution, tiles: list[Tile], contents: list[ReadTile]
) -> list[tuple[FloatArray | None, BoolArray]]:
    """Runs on a worker: the probability over each tile's `blend`, and the valid pixels of its core."""
    seen = [(tile, one.channels) for tile, one in zip(tiles, contents, strict=True) if one.channels is not None]
    arrays = [channels for _, channels in seen if isinstance(channels, np.ndarray)]
    made = iter(tile_probability(_ready(kept, execution), [tile for tile, _ in seen], arrays) if arrays else [])
    return [(None if one.channels is None else next(made).cpu().numpy(), one.valid) for one in contents]

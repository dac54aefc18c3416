"""Mapping on a Dask cluster: any worker reads tiles ahead, workers that offer a GPU run the network, this process stitches.

It is the function that maps on one machine (`modeling.prediction.predict`), cut between reading, network and stitching. Start the
workers that shall run networks with `dask worker --resources GPU=1 --nthreads 2` (a machine without one may offer
it as well); all others read. Each worker makes the model ready once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, FastModel, prepare
from modeling.prediction.predict import (
    BoolArray,
    Mapped,
    ReadTile,
    Tile,
    TileReader,
    TileWriter,
    as_mapped,
    read_tile,
    stitch,
    tile_probability,
    tiles_of,
)

RESOURCE = "GPU"
"""What workers offer that run networks."""
AHEAD = 2
"""Tiles that wait, read or mapped, for each worker that runs the network."""


def network_workers(client: Any) -> int:
    """How many workers of a cluster offer to run networks."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(1 for worker in workers if worker.get("resources", {}).get(RESOURCE, 0) >= 1)


def map_on_cluster(
    client: Any,
    model: LandslideModel,
    execution: Execution,
    read: TileReader,
    shape_yx: tuple[int, int],
    write: TileWriter,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """As `modeling.prediction.predict.predict_tiles`, on a cluster that has `network_workers`; `read` travels to the workers.

    The tiles, their order and what is done with them are the same, so the map is too.
    """
    tiles = tiles_of(shape_yx, execution.tile_px, execution.halo_px)
    in_flight = AHEAD * max(1, network_workers(client)) + 1
    stitch(_mapped(client, model, execution, read, tiles, in_flight), shape_yx, write, len(tiles), progress)


def _mapped(
    client: Any, model: LandslideModel, execution: Execution, read: TileReader, tiles: list[Tile], in_flight: int
) -> Iterator[Mapped]:
    """The tiles in their order, so many of them being worked on at a time."""
    key = f"{model.weights_hash}-{id(model)}"
    kept = client.scatter(_Kept(key, model), broadcast=True, hash=False)
    waiting: deque[tuple[Tile, Any]] = deque()
    try:
        for number, tile in enumerate(tiles):
            content = client.submit(read_tile, model.bands, read, tile, pure=False, priority=-number)
            result = client.submit(
                _predict, kept, execution, tile, content, pure=False, priority=-number, resources={RESOURCE: 1}
            )
            waiting.append((tile, result))
            if len(waiting) == in_flight:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())
    finally:
        client.cancel([result for _, result in waiting])


def _taken(tile: Tile, future: Any) -> Mapped:
    return as_mapped(tile, *future.result())


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
    return prepare(kept.model, execution)


def _predict(kept: _Kept, execution: Execution, tile: Tile, content: ReadTile) -> tuple[Any, BoolArray]:
    """Runs on a worker: the probability over the tile's `blend`, and the valid pixels of its core."""
    if content.channels is None:
        return None, content.valid
    (probability,) = tile_probability(_ready(kept, execution), [tile], [content.channels])
    return probability.cpu().numpy(), content.valid

"""Scene-sized prediction: overlapping tiles stream through a network and are blended into one seamless map.

One thread reads ahead, one or more run the network (`lanes`), the caller's blends, and another takes what is finished to
the writer. How tiles overlap and fade into each other is `modeling.prediction.blend`. Memory is bounded by a few tiles and
a seam as wide as the scene, whatever its height.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from modeling.bands import BandSet, FloatArray, assemble
from modeling.errors import ModelingError
from modeling.prediction.blend import Seams, Span, regular_spans, spans, within

BoolArray = npt.NDArray[np.bool_]
SlicesYX = tuple[slice, slice]
Layers = Mapping[str, FloatArray]
TileReader = Callable[[SlicesYX], tuple[Layers, BoolArray]]
"""Gives the layers of a window, each (y, x) in physical units, and its valid pixels (y, x)."""
TileWriter = Callable[[SlicesYX, FloatArray], None]
"""Takes a finished window of the map, (y, x)."""
Tile = tuple[Span, Span]
"""A tile by its rows and its columns."""
STRIP_ROWS = 256
"""Rows that are read at a time."""
_TILES_PER_LANE = 4
"""With fewer a lane that has nothing left to do costs more than lanes bring."""


class ProbabilityModel(Protocol):
    """What prediction asks of a model."""

    @property
    def bands(self) -> BandSet:
        """The channels that `probability` takes."""
        ...

    def probability(self, channels: torch.Tensor, /) -> torch.Tensor:
        """Probability (batch, y, x) in [0, 1] of (batch, channel, y, x) physical values, NaN where unknown."""
        ...


@runtime_checkable
class StagedModel(ProbabilityModel, Protocol):
    """A model that takes its input as it is to be while it is read: strips in a cache instead of tiles in memory."""

    @property
    def input_type(self) -> torch.dtype | None:
        """The type of what it takes, None when it takes physical values only."""
        ...

    def make_ready(self, layers: Layers, out: torch.Tensor, /) -> None:
        """Put layers, each (y, x) in physical units, into `out` (channel, y, x) as the network takes them."""
        ...

    def probability_of_ready(self, x: torch.Tensor, /) -> torch.Tensor:
        """As `probability`, of (batch, channel, y, x), channels-last, that `make_ready` gave."""
        ...


@dataclass(frozen=True)
class ReadTile:
    """What was read of a tile; nothing is kept of one without a valid pixel."""

    channels: FloatArray | torch.Tensor | None
    """(channel, y, x) of its window: an array of physical values, a tensor as `StagedModel.make_ready` gives it, or None
    when the network need not see it."""
    valid: BoolArray
    """(y, x) of its core."""


def predict_tiles(
    model: ProbabilityModel,
    read: TileReader,
    shape_yx: tuple[int, int],
    write: TileWriter,
    *,
    tile_px: int = 512,
    halo_px: int = 8,
    batch: int = 1,
    lanes: int = 1,
    wanted: Callable[[SlicesYX], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    tiles: list[Tile] | None = None,
) -> None:
    """Map a scene of `shape_yx` pixels: float32 probability in [0, 1], NaN where a pixel is not valid.

    `read` is called from one other thread, one window at a time (at most `STRIP_ROWS` high), so that the next tiles are
    read while the network works on these: on `batch` together in each of `lanes` threads, to which torch's threads are
    dealt out equally; with too few tiles to keep them all busy in one. `write` is called from one other thread and gets
    every pixel once, in windows of about `tile_px`, row by row from left to right. A tile whose core `wanted` refuses
    is not read and is NaN; one without a valid pixel is read but never sent to the network. `progress(done, total)`
    counts tiles. `tiles` are other ones than `tiles_of` gives (`lattice_tiles`).
    Raises `ModelingError` for impossible sizes and for a network that gives NaN or another shape.
    """
    tiles, buffers = tiles or tiles_of(shape_yx, tile_px, halo_px), Buffers()

    def read_one(tile: Tile) -> ReadTile | None:
        row, column = tile
        if wanted is not None and not wanted((row.core, column.core)):
            return None
        return read_tile(model.bands, read, tile, buffers, staged)

    staged = model if isinstance(model, StagedModel) and model.input_type is not None else None
    if len(tiles) < _TILES_PER_LANE * lanes * batch:
        lanes = 1
    with (
        _threads("read", 1, 1) as reader,
        _threads("network", lanes, max(1, torch.get_num_threads() // lanes)) as network,
    ):
        groups = _together(_ahead(reader, read_one, tiles, batch), batch)
        mapped = _mapped(network, lanes, lambda group: _through(model, group, buffers), groups)
        stitch(mapped, shape_yx, write, len(tiles), progress)


def tiles_of(shape_yx: tuple[int, int], tile_px: int, halo_px: int) -> list[Tile]:
    """The tiles of a scene, row by row; raises `ModelingError` for impossible sizes."""
    if min(shape_yx) < 1 or tile_px < 1 or halo_px < 0:
        raise ModelingError(f"cannot tile {shape_yx} pixels by {tile_px} with a halo of {halo_px}")
    rows, columns = (spans(size, tile_px, halo_px) for size in shape_yx)
    return [(row, column) for row in rows for column in columns]


def lattice_tiles(shape_yx: tuple[int, int], tile_px: int, halo_px: int) -> list[Tile]:
    """The tiles of a scene cut at every `tile_px`, row by row; raises `ModelingError` for impossible sizes."""
    if min(shape_yx) < 1 or halo_px < 0 or tile_px < max(1, halo_px):
        raise ModelingError(
            f"cannot tile {shape_yx} pixels by {tile_px} with a halo of {halo_px}, which is at most as large"
        )
    rows, columns = (regular_spans(size, tile_px, halo_px) for size in shape_yx)
    return [(row, column) for row in rows for column in columns]


class Buffers:
    """Memory of tiles that the network has seen, for those to be read next: every page of a fresh one costs a fault."""

    def __init__(self) -> None:
        self._free: dict[tuple[tuple[int, ...], torch.dtype], deque[torch.Tensor]] = {}

    def take(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A contiguous tensor of any content."""
        free = self._free.setdefault((shape, dtype), deque())
        try:
            return free.pop()
        except IndexError:
            return _off_heap(shape, dtype)

    def give(self, tensor: torch.Tensor) -> None:
        """Back, when nobody looks at it any more. May be called from another thread than `take`."""
        self._free.setdefault((tuple(tensor.shape), tensor.dtype), deque()).append(tensor)


def read_tile(
    bands: BandSet, read: TileReader, tile: Tile, buffers: Buffers | None = None, staged: StagedModel | None = None
) -> ReadTile:
    """Read a tile, in strips of at most `STRIP_ROWS`, and stack its channels, as `staged` takes them if given.

    Strips, because what a reader holds for a window (layers as they are stored, in physical units, masks) is several times
    what the network sees of it. The memory is from `buffers` if given; `give_back` returns it.
    """
    row, column = tile
    shape = row.window.stop - row.window.start, column.window.stop - column.window.start
    memory, count = buffers or Buffers(), len(bands.channels)
    dtype = torch.float32 if staged is None else staged.input_type or torch.float32
    taken = memory.take((count, *shape) if staged is None else (*shape, count), dtype)
    channels = taken if staged is None else taken.permute(2, 0, 1)
    valid = np.empty(shape, np.bool_)
    for top in range(row.window.start, row.window.stop, STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS, row.window.stop))
        layers, valid[within(rows, row.window)] = read((rows, column.window))
        part = channels[:, within(rows, row.window)]
        if staged is None:
            assemble(bands, layers, out=part.numpy())
        else:
            staged.make_ready(layers, part)
    core = valid[within(row.core, row.window), within(column.core, column.window)].copy()
    content = ReadTile(channels if staged is not None else channels.numpy(), core)
    if not valid[within(row.blend, row.window), within(column.blend, column.window)].any():
        _give_back(content, memory)
        return ReadTile(None, core)
    return content


def _give_back(content: ReadTile, buffers: Buffers) -> None:
    """Return what `read_tile` took for a tile, once the network has seen it."""
    if isinstance(content.channels, torch.Tensor):
        buffers.give(content.channels.permute(1, 2, 0))
    elif content.channels is not None:
        buffers.give(torch.from_numpy(content.channels))


def _off_heap(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor outside the C allocator's heap, where it would lie between the network's own and scatter them."""
    return torch.frombuffer(_own_pages(math.prod(shape) * dtype.itemsize), dtype=dtype).view(shape)


def _own_pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # one fault for each two megabytes
    return memory


Mapped = tuple[Tile, torch.Tensor | None, BoolArray | None]
"""A tile, its probability over its `blend`, and the valid pixels of its core; None where it was not mapped or not read."""
_Group = list[tuple[Tile, ReadTile | None]]


def as_mapped(tile: Tile, probability: FloatArray | None, valid: BoolArray) -> Mapped:
    """A tile whose probability was computed elsewhere and came as an array, for `stitch`."""
    # Writable, because blending writes into it; what came over the network may not be.
    return tile, None if probability is None else torch.from_numpy(np.require(probability, requirements="W")), valid


def stitch(
    mapped: Iterator[Mapped], shape_yx: tuple[int, int], write: TileWriter, total: int,
    progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    """Blend tiles, which come row by row, and write what is finished in another thread."""
    seams = Seams(shape_yx[1])
    with _Writer(write) as writer:
        for done, (tile, probability, valid) in enumerate(mapped, start=1):
            counts = None if valid is None else torch.from_numpy(valid)
            writer(tile, *seams.add(*tile, probability, counts))
            if progress is not None:
                progress(done, total)


def tile_probability(model: ProbabilityModel, tiles: list[Tile], channels: list[FloatArray]) -> list[torch.Tensor]:
    """The probability over each tile's `blend` (y, x), of windows (channel, y, x) that have one shape."""
    stacked = torch.from_numpy(channels[0][np.newaxis] if len(channels) == 1 else np.stack(channels))
    if torch.cuda.is_available():
        stacked = stacked.pin_memory()  # so that the copy to the device waits for nothing
    return _blends(tiles, stacked, model.probability)


def _blends(
    tiles: list[Tile], stacked: torch.Tensor, probability_of: Callable[[torch.Tensor], torch.Tensor]
) -> list[torch.Tensor]:
    with torch.inference_mode():
        probability = probability_of(stacked).float()
    if probability.shape != (stacked.shape[0], *stacked.shape[2:]):
        raise ModelingError(f"the network gave shape {tuple(probability.shape)} for an input of {tuple(stacked.shape)}")
    if probability.untyped_storage().data_ptr() == stacked.untyped_storage().data_ptr():
        probability = probability.clone()  # a network that passes its input on: the next tile is read into that
    return [
        one[within(row.blend, row.window), within(column.blend, column.window)]
        for (row, column), one in zip(tiles, probability, strict=True)
    ]


def _ahead(
    reader: ThreadPoolExecutor, read_one: Callable[[Tile], ReadTile | None], tiles: list[Tile], ahead: int
) -> Iterator[tuple[Tile, ReadTile | None]]:
    """Every tile with what was read of it, `ahead` of them being read while the consumer works."""
    waiting: deque[tuple[Tile, Future[ReadTile | None]]] = deque()
    left = iter(tiles)
    waiting.extend((tile, reader.submit(read_one, tile)) for tile in islice(left, ahead))
    try:
        while waiting:
            tile, future = waiting.popleft()
            content = future.result()
            del future  # or what was read would live on while the network works
            waiting.extend((following, reader.submit(read_one, following)) for following in islice(left, 1))
            yield tile, content
    finally:
        for _, future in waiting:
            future.cancel()


def _together(contents: Iterator[tuple[Tile, ReadTile | None]], batch: int) -> Iterator[_Group]:
    """Tiles in groups: those of one shape that follow each other, at most `batch` of them."""
    held: _Group = []
    for tile, content in contents:
        shape = None if content is None or content.channels is None else content.channels.shape
        others = {each.channels.shape for _, each in held if each is not None and each.channels is not None}
        if shape is not None and others - {shape}:
            yield held
            held = []
        held.append((tile, content))
        if len(held) == batch:  # at once: nothing more need be read before the network has these
            yield held
            held = []
    if held:
        yield held


def _through(model: ProbabilityModel, group: _Group, buffers: Buffers) -> list[Mapped]:
    """Send a group of tiles through the network together, those that it has to see."""
    seen = [(tile, content) for tile, content in group if content is not None and content.channels is not None]
    tiles = [tile for tile, _ in seen]
    ready = [content.channels for _, content in seen if isinstance(content.channels, torch.Tensor)]
    plain = [content.channels for _, content in seen if isinstance(content.channels, np.ndarray)]
    made: Iterator[torch.Tensor] = iter(())
    if plain:
        made = iter(tile_probability(model, tiles, plain))
    elif ready and isinstance(model, StagedModel):
        stacked = (
            ready[0][None] if len(ready) == 1 else torch.stack(ready).contiguous(memory_format=torch.channels_last)
        )
        made = iter(_blends(tiles, stacked, model.probability_of_ready))
    for _, content in seen:
        _give_back(content, buffers)
    return [
        (
            tile,
            next(made) if content is not None and content.channels is not None else None,
            None if content is None else content.valid,
        )
        for tile, content in group
    ]


@contextmanager
def _threads(name: str, count: int, each: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each computes with `each` of torch's."""
    before = torch.get_num_threads()
    try:
        # What torch is told holds for the thread that tells it, and for threads that begin later: taken back at the end.
        with ThreadPoolExecutor(count, name, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _mapped(
    pool: ThreadPoolExecutor, lanes: int, through: Callable[[_Group], list[Mapped]], groups: Iterator[_Group]
) -> Iterator[Mapped]:
    """What comes of the groups, in their order; one more than there are lanes waits for the first that is free."""
    running: deque[Future[list[Mapped]]] = deque()
    try:
        for group in groups:
            running.append(pool.submit(through, group))
            if len(running) > lanes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        for future in running:
            future.cancel()


class _Writer:
    """Hands finished tiles to a thread that writes them, at most two waiting."""

    def __init__(self, write: TileWriter) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Writer:
        return self

    def __call__(self, tile: Tile, values: torch.Tensor, counted: torch.Tensor) -> None:
        while len(self._waiting) > 1:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._one, tile, values, counted))

    def _one(self, tile: Tile, values: torch.Tensor, counted: torch.Tensor) -> None:
        # Here and not before: fetching from a GPU waits for it, and the next tile should be on its way meanwhile.
        finished, valid = values.cpu().numpy(), counted.cpu().numpy()
        row, column = tile
        if np.isnan(finished, where=valid, out=np.zeros(valid.shape, np.bool_)).any():
            raise ModelingError(
                f"the network gave NaN for valid pixels of rows {row.done.start}-{row.done.stop}, columns "
                f"{column.done.start}-{column.done.stop}: its weights or the layers there are damaged"
            )
        finished[~valid] = np.nan
        self._write((row.done, column.done), finished)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._pool:
            if kind is None:
                while self._waiting:
                    self._waiting.popleft().result()
            else:
                for future in self._waiting:
                    future.cancel()

"""Scene-sized prediction: overlapping tiles stream through a network and are blended into one seamless map.

One thread reads ahead, the caller's runs the network, a third takes what is finished to the writer. How tiles overlap
and fade into each other is `modeling.prediction.blend`. Memory is bounded by a few tiles and a seam as wide as the scene,
whatever its height.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from modeling.bands import BandSet, FloatArray, assemble
from modeling.errors import ModelingError
from modeling.prediction.blend import Seams, Span, spans, within

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


class ProbabilityModel(Protocol):
    """What prediction asks of a model."""

    @property
    def bands(self) -> BandSet:
        """The channels that `probability` takes."""
        ...

    def probability(self, channels: torch.Tensor, /) -> torch.Tensor:
        """Probability (batch, y, x) in [0, 1] of (batch, channel, y, x) physical values, NaN where unknown."""
        ...


@dataclass(frozen=True)
class ReadTile:
    """What was read of a tile; nothing is kept of one without a valid pixel."""

    channels: FloatArray | None
    """(channel, y, x) of its window, or None when the network need not see it."""
    valid: BoolArray
    """(y, x) of its core."""


def predict_tiles(
    model: ProbabilityModel,
    read: TileReader,
    shape_yx: tuple[int, int],
    write: TileWriter,
    *,
    tile_px: int = 512,
    halo_px: int = 24,
    batch: int = 1,
    wanted: Callable[[SlicesYX], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Map a scene of `shape_yx` pixels: float32 probability in [0, 1], NaN where a pixel is not valid.

    `read` is called from one other thread, one window at a time (at most `STRIP_ROWS` high), so that the next `batch`
    tiles are read while the network works on these. `write` is called from one other thread and gets every pixel once,
    in windows of about `tile_px`, row by row from left to right. A tile whose core `wanted` refuses
    is not read and is NaN; one without a valid pixel is read but never sent to the network. `progress(done, total)`
    counts tiles. Raises `ModelingError` for impossible sizes and for a network that gives NaN or another shape.
    """
    tiles = tiles_of(shape_yx, tile_px, halo_px)

    def read_one(tile: Tile) -> ReadTile | None:
        row, column = tile
        if wanted is not None and not wanted((row.core, column.core)):
            return None
        return read_tile(model.bands, read, tile)

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        stitch(_mapped(model, _ahead(reader, read_one, tiles, batch), batch), shape_yx, write, len(tiles), progress)


def tiles_of(shape_yx: tuple[int, int], tile_px: int, halo_px: int) -> list[Tile]:
    """The tiles of a scene, row by row; raises `ModelingError` for impossible sizes."""
    if min(shape_yx) < 1 or tile_px < 1 or halo_px < 0:
        raise ModelingError(f"cannot tile {shape_yx} pixels by {tile_px} with a halo of {halo_px}")
    rows, columns = (spans(size, tile_px, halo_px) for size in shape_yx)
    return [(row, column) for row in rows for column in columns]


def read_tile(bands: BandSet, read: TileReader, tile: Tile) -> ReadTile:
    """Read a tile, in strips of at most `STRIP_ROWS`, and stack its channels.

    Strips, because what a reader holds for a window (layers as they are stored, in physical units, masks) is several times
    what the network sees of it.
    """
    row, column = tile
    shape = row.window.stop - row.window.start, column.window.stop - column.window.start
    channels, valid = _off_heap((len(bands.channels), *shape)), np.empty(shape, np.bool_)
    for top in range(row.window.start, row.window.stop, STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS, row.window.stop))
        layers, valid[within(rows, row.window)] = read((rows, column.window))
        assemble(bands, layers, out=channels[:, within(rows, row.window)])
    core = valid[within(row.core, row.window), within(column.core, column.window)].copy()
    if not valid[within(row.blend, row.window), within(column.blend, column.window)].any():
        return ReadTile(None, core)
    return ReadTile(channels, core)


def _off_heap(shape: tuple[int, ...]) -> FloatArray:
    """An empty array outside the C allocator's heap, where it would lie between the network's tensors and scatter them."""
    size = math.prod(shape)
    memory = _own_pages(size * np.dtype(np.float32).itemsize)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


def _own_pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # one fault for each two megabytes
    return memory


Mapped = tuple[Tile, torch.Tensor | None, BoolArray | None]
"""A tile, its probability over its `blend`, and the valid pixels of its core; None where it was not mapped or not read."""


def as_mapped(tile: Tile, probability: FloatArray | None, valid: BoolArray) -> Mapped:
    """A tile whose probability was computed elsewhere and came as an array, for `stitch`."""
    return tile, None if probability is None else torch.from_numpy(probability), valid


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
    with torch.inference_mode():
        probability = model.probability(stacked).float()
    if probability.shape != (len(channels), *channels[0].shape[1:]):
        raise ModelingError(f"the network gave shape {tuple(probability.shape)} for an input of {tuple(stacked.shape)}")
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


def _mapped(model: ProbabilityModel, contents: Iterator[tuple[Tile, ReadTile | None]], batch: int) -> Iterator[Mapped]:
    """Send tiles through the network, those of one shape that follow each other together."""
    held: list[tuple[Tile, ReadTile | None]] = []

    def flush() -> Iterator[Mapped]:
        seen = [
            (tile, content.channels) for tile, content in held if content is not None and content.channels is not None
        ]
        made = iter(tile_probability(model, [tile for tile, _ in seen], [each for _, each in seen]) if seen else ())
        for tile, content in held:
            probability = next(made) if content is not None and content.channels is not None else None
            yield tile, probability, None if content is None else content.valid
        held.clear()

    for tile, content in contents:
        shape = None if content is None or content.channels is None else content.channels.shape
        others = {each.channels.shape for _, each in held if each is not None and each.channels is not None}
        if held and (len(held) == batch or (shape is not None and others - {shape})):
            yield from flush()
        held.append((tile, content))
    yield from flush()


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

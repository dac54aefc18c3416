"""`modeling.prediction.predict`: tiles are the whole, whatever their size; memory does not grow with the scene."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.bands import BandSet, FloatArray, band_set
from modeling.errors import BandSetError, ModelingError
from modeling.prediction.predict import BoolArray, Layers, ProbabilityModel, SlicesYX, predict_tiles, spans

TWO = BandSet("two", ("red_post", "slope"), "for tests")


class Blur:
    """A fixed random convolution that sees `radius` pixels in each direction."""

    def __init__(self, radius: int = 1) -> None:
        self.bands = TWO
        self.shapes: list[tuple[int, ...]] = []
        self.kernel = torch.randn((1, 2, 2 * radius + 1, 2 * radius + 1), generator=torch.Generator().manual_seed(1))

    def probability(self, channels: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(channels.shape))
        known = torch.nan_to_num(channels)
        return torch.sigmoid(torch.nn.functional.conv2d(known, self.kernel, padding="same"))[:, 0]


@dataclass
class Scene:
    """A scene in memory with holes, and the map that is written of it."""

    shape: tuple[int, int]
    seed: int = 0
    reads: list[SlicesYX] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.layers = {name: rng.normal(size=self.shape).astype(np.float32) for name in ("red_post", "slope")}
        self.valid: BoolArray = rng.random(self.shape) < 0.8
        for layer in self.layers.values():
            layer[~self.valid] = np.nan
        self.map = np.full(self.shape, -1, np.float32)
        self.written = np.zeros(self.shape, int)

    def read(self, where: SlicesYX) -> tuple[Layers, BoolArray]:
        self.reads.append(where)
        self.threads.add(threading.current_thread().name)
        return {name: layer[where] for name, layer in self.layers.items()}, self.valid[where]

    def write(self, where: SlicesYX, values: FloatArray) -> None:
        self.map[where] = values
        self.written[where] += 1

    def whole(self, model: ProbabilityModel) -> npt.NDArray[np.float32]:
        stacked = torch.from_numpy(np.stack([self.layers[name] for name in TWO.channels]))[None]
        return np.where(self.valid, model.probability(stacked)[0].numpy(), np.float32(np.nan))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile_px=st.integers(1, 80),
    radius=st.integers(0, 3),
    extra=st.integers(0, 5),
    seed=st.integers(0, 5),
)
def test_a_map_made_of_tiles_is_the_map_made_at_once(
    shape: tuple[int, int], tile_px: int, radius: int, extra: int, seed: int
) -> None:
    model, scene = Blur(radius), Scene(shape, seed)
    # The receptive field, 2 * radius + 1 pixels wide, fits into the halo.
    predict_tiles(model, scene.read, shape, scene.write, tile_px=tile_px, halo_px=2 * radius + extra)
    np.testing.assert_allclose(scene.map, scene.whole(model), rtol=0, atol=1e-5, equal_nan=True)
    assert (scene.written == 1).all()


def test_a_halo_narrower_than_the_network_sees_leaves_a_difference() -> None:
    """The property above can fail: it is not an accident of a network that looks at nothing."""
    model, scene = Blur(4), Scene((64, 64))
    predict_tiles(model, scene.read, scene.shape, scene.write, tile_px=16, halo_px=2)
    assert np.nanmax(np.abs(scene.map - scene.whole(model))) > 0.01


@settings(deadline=None)
@given(size=st.integers(1, 1500), tile_px=st.integers(1, 700), halo_px=st.integers(0, 60))
def test_cores_cut_the_axis_and_shares_add_up(size: int, tile_px: int, halo_px: int) -> None:
    share = np.zeros(size)
    found = spans(size, tile_px, halo_px)
    for span in found:
        share[span.blend] += span.weight
        assert span.window.start <= span.blend.start <= span.core.start < span.core.stop
        assert span.core.stop <= span.blend.stop <= span.window.stop
        assert span.window.start == max(0, min(span.window.start, span.core.start - halo_px))
        assert span.window.stop == min(size, max(span.window.stop, span.core.stop + halo_px))
    for part in ("core", "done"):
        cut = [getattr(span, part) for span in found]
        assert [each.stop for each in cut[:-1]] == [each.start for each in cut[1:]]
        assert (cut[0].start, cut[-1].stop) == (0, size)
    if min(span.core.stop - span.core.start for span in found) >= halo_px:
        np.testing.assert_allclose(share, 1.0, atol=1e-5)
    assert (share > 0.49).all()


@settings(deadline=None)
@given(size=st.integers(1, 2000), tile_px=st.integers(1, 700), halo_px=st.integers(0, 60))
def test_windows_have_one_size_and_compute_little_twice(size: int, tile_px: int, halo_px: int) -> None:
    found = spans(size, tile_px, halo_px)
    (length,) = {span.window.stop - span.window.start for span in found}
    assert length <= min(size, tile_px + 2 * halo_px)
    assert len(found) == max(1, -(-(size - 2 * halo_px) // tile_px))
    assert length * len(found) < size + 2 * halo_px * (len(found) - 1) + 16 * len(found)


def test_a_network_that_pools_over_its_tile_leaves_no_step_at_the_seams() -> None:
    class TileMean:
        bands = TWO

        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            mean = torch.nan_to_num(channels[:, 0]).mean()
            return torch.zeros(channels.shape[0], *channels.shape[2:]) + torch.sigmoid(mean)

    scene = Scene((256, 256))
    scene.valid[:] = True
    scene.layers["red_post"] = np.where(np.arange(256) < 128, -2, 2).astype(np.float32) * np.ones((256, 1), np.float32)
    predict_tiles(TileMean(), scene.read, scene.shape, scene.write, tile_px=64, halo_px=32)
    steps = np.abs(np.diff(scene.map, axis=1))
    spread = np.ptp(scene.map)
    assert spread > 0.2
    assert steps.max() < 1.1 * spread / 32


def test_tiles_without_a_valid_pixel_never_reach_the_network() -> None:
    model, scene = Blur(), Scene((64, 64))
    scene.valid[:, :] = False
    scene.valid[40, 40] = True
    predict_tiles(model, scene.read, scene.shape, scene.write, tile_px=16, halo_px=4)
    assert len(model.shapes) == 1
    assert np.isfinite(scene.map).sum() == 1


def test_unwanted_tiles_are_neither_read_nor_mapped() -> None:
    model, scene = Blur(), Scene((64, 48))

    refused = spans(64, 16, 4)[1].core, spans(48, 16, 4)[1].core

    def wanted(where: SlicesYX) -> bool:
        return where != refused

    predict_tiles(model, scene.read, scene.shape, scene.write, tile_px=16, halo_px=4, wanted=wanted)
    expected = scene.whole(model)
    expected[refused] = np.nan
    np.testing.assert_allclose(scene.map, expected, atol=1e-5, equal_nan=True)
    assert len(scene.reads) == 11


def test_reading_happens_two_tiles_ahead_in_another_thread() -> None:
    scene = Scene((16, 64))
    counts: list[int] = []

    class Counting(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            wait_until(lambda: len(scene.reads) >= min(len(counts) + 3, 4))
            counts.append(len(scene.reads))
            return super().probability(channels)

    predict_tiles(Counting(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=4)
    assert counts == [3, 4, 4, 4]
    assert len(scene.threads) == 1
    assert threading.current_thread().name not in scene.threads


def wait_until(happened: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(500):
        if happened():
            return
        pause.wait(0.01)


def test_progress_counts_every_tile() -> None:
    scene, seen = Scene((40, 40)), list[tuple[int, int]]()
    predict_tiles(
        Blur(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=2, progress=lambda *at: seen.append(at)
    )
    assert seen == [(done, 9) for done in range(1, 10)]


def peak_bytes(height: int, width: int = 256) -> int:
    """Peak of numpy's memory while a scene is mapped; layers are made on the fly and the map is dropped."""

    def read(where: SlicesYX) -> tuple[Layers, BoolArray]:
        shape = where[0].stop - where[0].start, where[1].stop - where[1].start
        return {name: np.zeros(shape, np.float32) for name in ("red_post", "slope")}, np.ones(shape, np.bool_)

    tracemalloc.start()
    try:
        predict_tiles(Blur(), read, (height, width), lambda _where, _values: None, tile_px=64, halo_px=16)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_height_of_the_scene() -> None:
    peak_bytes(128)
    # Of the further 1792 rows the map and the layers would be 5 megabytes; tiles that wait for a busy machine are less.
    assert peak_bytes(2048) < peak_bytes(256) + 2**20


def test_tiles_of_one_shape_go_through_the_network_together_and_give_the_same_map() -> None:
    model, scene = Blur(), Scene((64, 120))
    predict_tiles(model, scene.read, scene.shape, scene.write, tile_px=16, halo_px=4, batch=3)
    np.testing.assert_allclose(scene.map, scene.whole(model), atol=1e-5, equal_nan=True)
    assert (scene.written == 1).all()
    assert {shape[0] for shape in model.shapes} >= {1, 3}


@pytest.mark.parametrize("batch", [1, 3])
def test_lanes_change_nothing_but_who_computes(batch: int) -> None:
    class Heard(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            here = (threading.current_thread().name, torch.get_num_threads())
            if here not in heard:
                heard.add(here)
                together.wait(60)  # or one thread might be quick enough to take all tiles
            return super().probability(channels)

    before, heard, maps = torch.get_num_threads(), set[tuple[str, int]](), []
    for lanes in (1, 2, 3):
        heard.clear()
        together = threading.Barrier(lanes)
        scene = Scene((100, 90))
        predict_tiles(Heard(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=4, batch=batch, lanes=lanes)
        assert (scene.written == 1).all()
        assert len(heard) == lanes
        assert {threads for _, threads in heard} == {max(1, before // lanes)}
        maps.append(scene.map)
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
    assert torch.get_num_threads() == before


def test_too_few_tiles_for_the_lanes_go_through_one_with_all_threads() -> None:
    class Heard(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            heard.add((threading.current_thread().name, torch.get_num_threads()))
            return super().probability(channels)

    scene, heard = Scene((30, 30)), set[tuple[str, int]]()
    predict_tiles(Heard(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=2, lanes=2)
    assert {threads for _, threads in heard} == {torch.get_num_threads()}
    assert len(heard) == 1


def test_an_error_of_the_network_ends_the_run_in_any_lane() -> None:
    class Failing(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            raise MemoryError("too large")

    before, scene = torch.get_num_threads(), Scene((100, 100))
    with pytest.raises(MemoryError, match="too large"):
        predict_tiles(Failing(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=4, lanes=2)
    assert len(scene.reads) < 20
    assert torch.get_num_threads() == before


def test_the_map_is_written_row_by_row_by_one_other_thread() -> None:
    scene, windows, threads = Scene((40, 40)), list[SlicesYX](), set[str]()

    def write(where: SlicesYX, values: FloatArray) -> None:
        windows.append(where)
        threads.add(threading.current_thread().name)
        assert values.shape == (where[0].stop - where[0].start, where[1].stop - where[1].start)

    predict_tiles(Blur(), scene.read, scene.shape, write, tile_px=16, halo_px=2)
    parts = [span.done for span in spans(40, 16, 2)]
    assert windows == [(rows, columns) for rows in parts for columns in parts]
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_an_error_while_writing_ends_the_run_and_is_the_writers_own() -> None:
    scene = Scene((64, 64))

    def write(where: SlicesYX, values: FloatArray) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        predict_tiles(Blur(), scene.read, scene.shape, write, tile_px=16, halo_px=4)
    assert len(scene.reads) < 16


def test_an_error_while_reading_ends_the_run_and_is_the_readers_own() -> None:
    def read(where: SlicesYX) -> tuple[Layers, BoolArray]:
        raise OSError(f"bad block at {where[0].start}")

    with pytest.raises(OSError, match="bad block at 0"):
        predict_tiles(Blur(), read, (32, 32), lambda _where, _values: None, tile_px=16, halo_px=4)


def test_a_network_that_gives_nan_or_another_shape_is_an_error() -> None:
    class Broken(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            return super().probability(channels) * torch.nan

    class Cropping(Blur):
        def probability(self, channels: torch.Tensor) -> torch.Tensor:
            return super().probability(channels)[:, 1:]

    scene = Scene((32, 32))
    with pytest.raises(ModelingError, match="NaN for valid pixels of rows 0-14"):
        predict_tiles(Broken(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=4)
    with pytest.raises(ModelingError, match="shape"):
        predict_tiles(Cropping(), scene.read, scene.shape, scene.write, tile_px=16, halo_px=4)


@pytest.mark.parametrize(("shape", "tile_px", "halo_px"), [((0, 5), 4, 1), ((5, 5), 0, 1), ((5, 5), 4, -1)])
def test_impossible_sizes_are_refused(shape: tuple[int, int], tile_px: int, halo_px: int) -> None:
    scene = Scene((8, 8))
    with pytest.raises(ModelingError, match="cannot tile"):
        predict_tiles(Blur(), scene.read, shape, scene.write, tile_px=tile_px, halo_px=halo_px)


def test_the_layers_of_the_band_set_must_be_there() -> None:
    class Named(Blur):
        def __init__(self) -> None:
            self.shapes = []
            self.bands = band_set("rgb")

    scene = Scene((8, 8))
    with pytest.raises(BandSetError, match="green_post"):
        predict_tiles(Named(), scene.read, scene.shape, scene.write)

"""modeling/prediction/kept.py: a map of which only what changed was computed is the map computed anew, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.bands import BandSet, FloatArray
from modeling.errors import ModelingError
from modeling.prediction.blend import regular_spans
from modeling.prediction.kept import KeptMap
from modeling.prediction.predict import BoolArray, Layers, SlicesYX, lattice_tiles, predict_tiles

TWO = BandSet("two", ("red_post", "slope"), "for tests")


class LooksEverywhere:
    """A network whose every pixel depends on its whole window, as one that pools does."""

    def __init__(self) -> None:
        self.bands = TWO
        self.seen = 0

    def probability(self, channels: torch.Tensor) -> torch.Tensor:
        self.seen += len(channels)
        # One by one: of many at once a mean, or a sigmoid at the end of a vector, may round otherwise.
        return torch.stack([_one(torch.nan_to_num(image)) for image in channels])


def _one(known: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(known[0] + 3 * known.mean() + known[1].flip(-1))


@dataclass
class Ground:
    """A scene in memory, and the map that is written of it."""

    layers: dict[str, FloatArray]
    valid: BoolArray
    map: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.map = np.full(self.valid.shape, -1, np.float32)

    def read(self, where: SlicesYX) -> tuple[Layers, BoolArray]:
        return {name: layer[where] for name, layer in self.layers.items()}, self.valid[where]

    def write(self, where: SlicesYX, values: FloatArray) -> None:
        assert (self.map[where] == -1).all(), "each pixel once"
        self.map[where] = values


def ground(shape: tuple[int, int], seed: int = 0) -> Ground:
    rng = np.random.default_rng(seed)
    layers = {name: rng.normal(size=shape).astype(np.float32) for name in TWO.channels}
    return Ground(layers, rng.random(shape) < 0.8)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(8, 40), st.integers(0, 8),
    st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89)), max_size=3), st.integers(1, 3),
)  # fmt: skip
def test_only_what_changed_is_computed_and_the_map_is_the_same(
    shape: tuple[int, int], tile_px: int, halo_px: int, spots: list[tuple[int, int]], batch: int
) -> None:
    before, model = ground(shape), LooksEverywhere()
    tiles = lattice_tiles(shape, tile_px, halo_px)
    predict_tiles(model, before.read, shape, before.write, tiles=tiles, batch=batch)
    now = ground(shape)
    for y, x in spots:
        now.layers["slope"][y % shape[0], x % shape[1]] += 5
        now.valid[y % shape[0], x % shape[1]] ^= True
    differs = (now.layers["slope"] != before.layers["slope"]) | (now.valid != before.valid)
    changed = frozenset(n for n, (row, column) in enumerate(tiles) if differs[row.window, column.window].any())
    kept = KeptMap(tiles, changed, lambda where: before.map[where])
    model.seen = 0
    predict_tiles(model, now.read, shape, kept.writer(now.write), tiles=tiles, batch=batch, wanted=kept.wanted)
    assert model.seen <= len(kept.computed) <= min(len(tiles), 9 * len(changed))
    anew = Ground(now.layers, now.valid)
    predict_tiles(model, anew.read, shape, anew.write, tiles=tiles, batch=batch)
    np.testing.assert_array_equal(now.map, anew.map)


def test_a_changed_tile_that_was_not_named_shows() -> None:
    """The property above can fail: the network looks at all of its window."""
    shape, model = (60, 60), LooksEverywhere()
    before, now = ground(shape), ground(shape)
    now.layers["slope"][30, 30] += 50
    tiles = lattice_tiles(shape, 20, 4)
    predict_tiles(model, before.read, shape, before.write, tiles=tiles)
    predict_tiles(model, now.read, shape, now.write, tiles=tiles)
    changed = KeptMap(tiles, frozenset({4}), lambda where: before.map[where])
    same = now.map == before.map
    assert same[changed.stands((slice(0, 60), slice(0, 60)))].mean() > 0.75
    assert not same[22:38, 22:38].all()


@given(st.integers(1, 500), st.integers(0, 8), st.integers(8, 60), st.integers(0, 6))
def test_scenes_on_one_lattice_have_the_same_tiles_where_both_are_inside(
    size: int, halo_px: int, tile_px: int, more: int
) -> None:
    small, large = (regular_spans(length, tile_px, halo_px) for length in (size, size + more * tile_px))
    shift = more * tile_px
    inside = [s for s in small if s.core.start > 0]
    moved = {(s.core.start, s.core.stop, s.window.start, s.window.stop, s.blend.start, s.blend.stop) for s in large}
    for span in inside:
        own = span.core.start, span.core.stop, span.window.start, span.window.stop, span.blend.start, span.blend.stop
        assert tuple(value + shift for value in own) in moved
    share = np.zeros(size)
    for span in small:
        share[span.blend] += span.weight
    np.testing.assert_allclose(share, 1.0, atol=1e-5)
    assert [s.core.stop for s in small[:-1]] == [s.core.start for s in small[1:]]


@pytest.mark.parametrize("sizes", [((0, 5), 10, 2), ((5, 5), 0, 0), ((5, 5), 10, -1), ((5, 5), 4, 6)])
def test_impossible_sizes_are_refused(sizes: tuple[tuple[int, int], int, int]) -> None:
    with pytest.raises(ModelingError, match="cannot tile"):
        lattice_tiles(*sizes)

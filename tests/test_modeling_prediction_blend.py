"""modeling/prediction/blend.py: tiles that come one by one are the weighted mean of all of them at once."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeling.prediction.blend import Seams, regular_spans, spans, within


@settings(deadline=None, max_examples=80)
@example(size=(1, 3), tile_px=1, halo_px=1, regular=True, seed=1)  # a second column that reaches to the scene's edge
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile_px=st.integers(1, 50),
    halo_px=st.integers(0, 12),
    regular=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_finished_tile_by_tile_is_the_weighted_mean_of_all_tiles(
    size: tuple[int, int], tile_px: int, halo_px: int, regular: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    cut = regular_spans if regular and tile_px >= halo_px else spans
    rows, columns = (cut(each, tile_px, halo_px) for each in size)
    total, weights, valid = np.zeros(size), np.zeros(size), np.zeros(size, bool)
    made, counted, written = np.full(size, 9.0, np.float32), np.zeros(size, bool), np.zeros(size, int)
    seams = Seams(size[1])
    for row in rows:
        for column in columns:
            done = row.done, column.done
            values = counts = None
            if rng.random() < 0.8:  # the others are tiles that are not mapped
                blend, core = (row.blend, column.blend), (row.core, column.core)
                values = rng.random((row.blend.stop - row.blend.start, column.blend.stop - column.blend.start))
                counts = rng.random((row.core.stop - row.core.start, column.core.stop - column.core.start)) < 0.7
                weight = np.outer(row.weight, column.weight)
                total[blend] += values * weight
                weights[blend] += weight
                valid[core] = counts
            found, sure = seams.add(
                row, column, None if values is None else torch.from_numpy(values.astype(np.float32)),
                None if counts is None else torch.from_numpy(counts),
            )  # fmt: skip
            made[done], counted[done] = found.numpy(), sure.numpy()
            written[done] += 1
    assert (written == 1).all()
    np.testing.assert_array_equal(counted, valid)
    np.testing.assert_allclose(made[valid], (total / np.where(weights > 0, weights, 1))[valid], atol=2e-6)


def test_within_a_tile_its_values_are_the_map_to_the_bit() -> None:
    rows = columns = spans(300, 100, 16)
    row, column = rows[1], columns[1]
    values = torch.rand(row.blend.stop - row.blend.start, column.blend.stop - column.blend.start)
    counts = torch.ones(row.core.stop - row.core.start, column.core.stop - column.core.start, dtype=torch.bool)
    seams = Seams(300)
    for before in [*((rows[0], one) for one in columns), (row, columns[0])]:
        seams.add(*before, None, None)
    found, _ = seams.add(row, column, values, counts)
    inner = slice(row.done.start + 16, row.done.stop)
    assert torch.equal(
        found[within(inner, row.done), within(inner, column.done)],
        values[within(inner, row.blend), within(inner, column.blend)],
    )

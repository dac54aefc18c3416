"""modeling/data/patch_split.py: parts keep their distance and their shares, whatever the ground looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modeling.data.patch_split import LEFT_OUT, Split, balance, measured_distance, split_by_space
from modeling.errors import DataError


def ground(rows: int, columns: int, side: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2) * side
    corners = corners[rng.random(len(corners)) < 0.9]
    return corners, np.zeros(len(corners), np.int64), rng.random(len(corners)) < share


def nearest(corners: np.ndarray, place: np.ndarray, part: np.ndarray, side: int) -> float | None:
    """The slow way: every pair."""
    best = None
    for one in range(len(part)):
        for other in range(one):
            if LEFT_OUT in (part[one], part[other]) or part[one] == part[other] or place[one] != place[other]:
                continue
            gap = int(np.abs(corners[one] - corners[other]).max()) - side
            best = gap if best is None else min(best, gap)
    return best


@given(
    rows=st.integers(6, 14),
    columns=st.integers(6, 14),
    distance=st.integers(0, 40),
    shares=st.sampled_from([(7, 3), (7, 2, 1), (1, 1)]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_no_patch_is_nearer_to_another_part_than_stated(
    rows: int, columns: int, distance: int, shares: tuple[int, ...], seed: int
) -> None:
    side = 16
    corners, place, positive = ground(rows, columns, side, 0.4, seed)
    place = (corners[:, 0] > 4 * side).astype(np.int64)  # two places that lie on each other by their coordinates
    split = Split(shares, distance, seed)
    try:
        part = split_by_space(corners, place, positive, side, split)
    except DataError:
        assume(False)
    found = nearest(corners, place, part, side)
    assert found is None or found >= distance
    measured = measured_distance(corners, place, part, side)
    assert measured == found
    for number in range(len(shares)):
        assert (positive & (part == number)).any()
    np.testing.assert_array_equal(part, split_by_space(corners, place, positive, side, split))


def test_shares_are_kept_and_few_patches_are_left_out() -> None:
    corners, place, positive = ground(60, 60, 88, 0.2, 1)
    part = split_by_space(corners, place, positive, 88, Split())
    for kind in (positive, ~positive):
        kept = (part != LEFT_OUT) & kind
        assert (part[kept] == 0).mean() == pytest.approx(0.7, abs=0.03)
        assert kept.sum() > 0.75 * kind.sum()
    assert measured_distance(corners, place, part, 88) >= 88
    without = split_by_space(corners, place, positive, 88, Split(distance_px=0))
    assert (without != LEFT_OUT).all()


def test_another_seed_is_another_split() -> None:
    corners, place, positive = ground(20, 20, 88, 0.3, 2)
    one, other = (split_by_space(corners, place, positive, 88, Split(seed=seed)) for seed in (0, 1))
    assert (one != other).any()


def test_ground_that_is_too_small_is_refused() -> None:
    corners, place, positive = ground(2, 2, 88, 1.1, 0)
    with pytest.raises(DataError, match=r"cannot be split 7:3 with 88 pixels"):
        split_by_space(corners, place, positive, 88, Split())


@given(seed=st.integers(0, 50), negatives=st.sampled_from([0.5, 1.0, 3.0]))
@settings(max_examples=20, deadline=None)
def test_parts_are_balanced(seed: int, negatives: float) -> None:
    rng = np.random.default_rng(seed)
    part = rng.integers(-1, 2, 200).astype(np.int8)
    positive = rng.random(200) < 0.3
    keep = balance(part, positive, negatives, seed)
    assert not keep[part == LEFT_OUT].any()
    for number in (0, 1):
        own = part == number
        assert keep[own & positive].all(), "patches with landslides are never thrown away"
        there, wanted = (own & ~positive).sum(), round((own & positive).sum() * negatives)
        assert (keep & own & ~positive).sum() == min(there, wanted)


@pytest.mark.parametrize("text", ["7", "7:3:1:1", "0:3", "a:b", "7:-3", ""])
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"7:3 or 7:2:1"):
        Split.parse(text)


def test_a_process_that_trains_can_split_too() -> None:
    """Training flushes tiny numbers to zero, which SciPy's trees do not survive at a coordinate of 0."""
    torch.set_flush_denormal(True)
    try:
        corners, place, positive = ground(14, 14, 16, 0.4, seed=1)
        part = split_by_space(corners, place, positive, 16, Split((7, 3)))
    finally:
        torch.set_flush_denormal(False)
    assert set(part.tolist()) <= {LEFT_OUT, 0, 1}

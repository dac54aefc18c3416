"""Landslides are counted whole: found or not, right or not, and each in the class of its size."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from modeling.errors import DataError
from modeling.scoring.objects import ObjectCounts, object_counts, object_scores


def drawing(*rows: str) -> npt.NDArray[np.bool_]:
    return np.array([[mark == "#" for mark in row] for row in rows])


def test_landslides_are_found_when_half_of_them_is_covered() -> None:
    truth = drawing("##..####", "##..####", "........", "#.......")
    mapped = drawing("##......", "........", "......##", "......##")
    scores = object_scores(mapped, truth, np.ones_like(truth))
    assert (scores["true_objects"], scores["found"]) == (3, 1)  # half of the first, none of the others
    assert (scores["mapped_objects"], scores["right"]) == (2, 1)
    assert scores["precision"] == 0.5
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(0.4)


def test_diagonal_neighbours_are_one_landslide() -> None:
    assert object_scores(drawing("#.", ".#"), drawing("#.", ".#"), np.ones((2, 2), dtype=bool))["true_objects"] == 1


def test_one_blob_over_two_scars_finds_both() -> None:
    truth, mapped = drawing("##.##"), drawing("#####")
    scores = object_scores(mapped, truth, np.ones_like(truth))
    assert (scores["recall"], scores["precision"]) == (1, 1)


def test_objects_mostly_unseen_or_too_small_are_left_out() -> None:
    truth = drawing("####", "....", "#...")
    valid = drawing("#...", "####", "####")
    assert object_scores(truth, truth, valid)["true_objects"] == 1
    assert object_scores(truth, truth, valid, min_pixels=2)["true_objects"] == 0


def test_size_classes_by_hand() -> None:
    truth = drawing("#..##..####", "......####.", "...........")
    mapped = drawing("#..#.......", "......####.", "##.........")
    counts = object_counts(mapped, truth, np.ones_like(truth), pixel_area_m2=100.0, edges_m2=(200.0, 500.0))
    small, middle, large = counts.by_size()
    assert (small["low_m2"], small["high_m2"], small["true"], small["found"], small["recall"]) == (0, 200, 1, 1, 1)
    assert (middle["low_m2"], middle["true"], middle["found"], middle["pixel_recall"]) == (200, 1, 1, 0.5)
    assert (large["low_m2"], large["high_m2"], large["true"], large["pixel_recall"]) == (500, None, 1, 0.5)
    assert [row["mapped"] for row in counts.by_size()] == [2, 2, 0]
    assert [row["right"] for row in counts.by_size()] == [2, 1, 0]
    assert large["precision"] is None


def test_the_area_of_a_pixel_decides_the_class() -> None:
    truth = drawing("###")
    for area, expected in ((1.0, (1, 0)), (100.0, (0, 1))):
        counts = object_counts(truth, truth, np.ones_like(truth), pixel_area_m2=area, edges_m2=(200.0,))
        assert counts.true == counts.mapped == expected


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_classes_add_up_and_parts_add_to_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, mapped, valid = (ndimage.gaussian_filter(rng.normal(size=(40, 80)), 1.5) > cut for cut in (0.1, 0.08, -0.2))
    truth[:, 39:41] = mapped[:, 39:41] = False  # so that nothing crosses the cut
    whole = object_counts(mapped, truth, valid)
    halves = [object_counts(mapped[:, part], truth[:, part], valid[:, part]) for part in (slice(40), slice(40, 80))]
    assert sum(halves, ObjectCounts.none()) == whole
    assert whole.scores() == object_scores(mapped, truth, valid)
    assert sum(row["true"] for row in whole.by_size()) == whole.scores()["true_objects"]
    assert ObjectCounts.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_counts_of_other_size_classes_do_not_add_up() -> None:
    with pytest.raises(DataError, match="size classes"):
        ObjectCounts.none((1.0,)) + ObjectCounts.none((2.0,))
    with pytest.raises(DataError, match="size classes"):
        ObjectCounts.from_json({**ObjectCounts.none((1.0,)).to_json(), "true": [1]})

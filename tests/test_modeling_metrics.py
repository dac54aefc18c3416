"""Scores are the papers' definitions, over accumulated counts, by pixels and by landslides."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from modeling.metrics import Confusion, confusion, object_scores


def drawing(*rows: str) -> npt.NDArray[np.bool_]:
    return np.array([[mark == "#" for mark in row] for row in rows])


def test_counts_and_scores_by_hand() -> None:
    predicted, truth = drawing("##..", "...."), drawing("#.#.", "....")
    counted = confusion(predicted, truth, np.ones((2, 4), dtype=bool))
    assert counted == Confusion(tp=1, fp=1, fn=1, tn=5)
    scores = counted.scores()
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0.5
    assert scores["iou"] == pytest.approx(1 / 3)
    assert scores["oa"] == 6 / 8
    assert scores["mcc"] == pytest.approx((1 * 5 - 1 * 1) / math.sqrt(2 * 2 * 6 * 6))


def test_mcc_equals_the_correlation_of_the_two_maps() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((50, 50)) < 0.2
    predicted = truth ^ (rng.random((50, 50)) < 0.1)
    expected = np.corrcoef(truth.ravel(), predicted.ravel())[0, 1]
    assert confusion(predicted, truth, np.ones_like(truth)).scores()["mcc"] == pytest.approx(expected)


def test_masked_pixels_count_nowhere() -> None:
    truth, valid = drawing("##.."), np.array([[True, False, True, False]])
    assert confusion(drawing("####"), truth, valid) == Confusion(tp=1, fp=1, fn=0, tn=0)


def test_accumulating_is_not_averaging() -> None:
    parts = [Confusion(tp=90, fp=10, fn=0, tn=0), Confusion(tp=0, fp=0, fn=10, tn=90)]
    assert sum(parts, Confusion()).scores()["f1"] == pytest.approx(0.9)


def test_nothing_to_find_and_nothing_found_is_scored_without_a_division_by_zero() -> None:
    scores = Confusion(tn=10).scores()
    assert scores["f1"] == scores["mcc"] == 0
    assert scores["oa"] == 1


def test_huge_counts_do_not_overflow() -> None:
    billion = 10**9
    assert Confusion(tp=billion, fp=0, fn=0, tn=billion).scores()["mcc"] == 1


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

"""Scores are the papers' definitions, over accumulated counts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from modeling.scoring.metrics import SCORES, Confusion, confusion, scores_of


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


def test_the_papers_names_of_accuracy_by_hand() -> None:
    scores = Confusion(tp=6, fp=2, fn=4, tn=88).scores()
    assert tuple(scores) == SCORES
    assert scores["pa"] == scores["oa"] == 0.94
    assert scores["cpa"] == scores["precision"] == 6 / 8
    assert scores["miou"] == pytest.approx((6 / 12 + 88 / 94) / 2)


HOKKAIDO = {
    "fcn": (0.874, 0.594, 0.443, 0.652),
    "deeplabv3": (0.873, 0.584, 0.461, 0.659),
    "vgg-unet": (0.958, 0.865, 0.767, 0.859),
    "resunet-r50": (0.960, 0.864, 0.777, 0.865),
    "msf-litenet": (0.954, 0.836, 0.753, 0.850),
}
"""PA, CPA, IoU, mIoU of Dong et al. 2024."""


def test_the_published_tables_speak_for_the_definitions_of_cpa_and_miou() -> None:
    """PA and IoU give TP and FP + FN; CPA then gives the landslides' share, which a test set has only one of."""
    as_precision, as_recall = [], []
    for pa, cpa, iou, miou in HOKKAIDO.values():
        wrong = 1 - pa
        tp = iou * wrong / (1 - iou)
        claimed, real = tp / cpa, 2 * tp + wrong - tp / cpa
        counts = np.array([tp, claimed - tp, real - tp, 1 - tp - wrong])
        assert scores_of(counts)["cpa"] == pytest.approx(cpa)
        assert scores_of(counts)["miou"] == pytest.approx(miou, abs=1.5e-3)
        as_precision.append(real)
        as_recall.append(claimed)
    assert np.ptp(as_precision) < 0.002
    assert np.ptp(as_recall) > 0.02


def test_many_counts_are_scored_at_once() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (7, 3, 4))
    together = scores_of(counts.astype(np.float64))
    for index in np.ndindex(7, 3):
        one = Confusion(*(int(count) for count in counts[index])).scores()
        assert {name: float(together[name][index]) for name in SCORES} == pytest.approx(one)

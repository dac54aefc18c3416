"""`modeling.scoring.counting`: landslides counted one for one, against cases counted by hand and the paper's own tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from modeling.errors import DataError
from modeling.scoring.counting import LandslideCounts, MatchedCounts, count_landslides, matched_counts

Mask = npt.NDArray[np.bool_]
MASKS = arrays(bool, (12, 12))


def drawn(*boxes: tuple[int, int, int, int]) -> Mask:
    """Rectangles (top, bottom, left, right) in 20 x 40 pixels."""
    mask = np.zeros((20, 40), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


SCAR, OTHER = (2, 8, 2, 8), (2, 8, 12, 18)
CASES = {
    "two found": (drawn(SCAR, OTHER), drawn(SCAR, OTHER), (2, 0, 0)),
    "nothing mapped": (drawn(), drawn(SCAR, OTHER), (0, 0, 2)),
    "nothing there": (drawn(SCAR), drawn(), (0, 1, 0)),
    "two mapped as one": (drawn((2, 8, 2, 18)), drawn(SCAR, OTHER), (1, 0, 1)),
    "one in two pieces": (drawn((2, 4, 2, 8), (6, 8, 2, 8)), drawn(SCAR), (0, 2, 1)),
    "one and a speck beside": (drawn((2, 7, 2, 7), (2, 3, 9, 10)), drawn((2, 8, 2, 11)), (0, 2, 1)),
    "a flood over one": (drawn((0, 20, 0, 40)), drawn(SCAR), (0, 1, 1)),
    "a little too large": (drawn((1, 9, 2, 9)), drawn(SCAR), (1, 0, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_an_analyst(name: str) -> None:
    predicted, truth, (right, wrong, missed) = CASES[name]
    assert count_landslides(predicted, truth, np.ones_like(truth)) == LandslideCounts(right, wrong, missed)


def test_what_lies_outside_does_not_count() -> None:
    valid = np.ones((20, 40), bool)
    valid[:, :10] = False
    assert count_landslides(drawn(SCAR, OTHER), drawn(SCAR, OTHER), valid) == LandslideCounts(1, 0, 0)


@pytest.mark.parametrize(
    ("precision", "recall", "iou"),
    [(0.7388, 0.8855, 0.6744), (0.9180, 0.8855, 0.8206), (0.9943, 0.9042, 0.8995), (0.8428, 0.9020, 0.7721)],
)
def test_the_papers_rows_have_one_count_of_right_ones(precision: float, recall: float, iou: float) -> None:
    right = 10_000
    counts = LandslideCounts(right, round(right / precision) - right, round(right / recall) - right)
    assert counts.scores() == pytest.approx(
        {"precision": precision, "recall": recall, "iou": iou, "f1": 2 * iou / (1 + iou)}, abs=2e-4
    )


@settings(max_examples=50, deadline=None)
@given(predicted=MASKS, truth=MASKS)
def test_counts_add_up_and_are_symmetric_for_equal_maps(predicted: Mask, truth: Mask) -> None:
    everywhere = np.ones_like(truth)
    counts, own = count_landslides(predicted, truth, everywhere), count_landslides(truth, truth, everywhere)
    assert counts.right + counts.missed == own.right
    assert own.wrong == own.missed == 0
    assert counts.right + counts.wrong == count_landslides(predicted, predicted, everywhere).right


def test_matched_landslides_have_the_sizes_of_both_maps() -> None:
    """A small scar mapped large, a large one mapped as it is, one missed: 36, 100 and 9 pixels of 100 m²."""
    large = (9, 19, 20, 30)
    truth, predicted = drawn(SCAR, large, (2, 5, 36, 39)), drawn((1, 9, 1, 9), large)
    counts = matched_counts(predicted, truth, np.ones_like(truth), edges_m2=(1_000.0, 5_000.0))
    assert (counts.true, counts.found) == ((1, 1, 1), (0, 1, 1))
    assert (counts.mapped, counts.right) == ((0, 0, 2), (0, 0, 2))
    assert counts.whole() == count_landslides(predicted, truth, np.ones_like(truth)) == LandslideCounts(2, 0, 1)
    assert (counts + counts).counts == (6, 4, 4, 4)
    assert MatchedCounts.from_json(counts.to_json()) == counts
    with pytest.raises(DataError, match="other size classes"):
        counts + matched_counts(predicted, truth, np.ones_like(truth))
    with pytest.raises(DataError, match="cannot be read"):
        MatchedCounts.from_json({"edges_m2": [1.0]})
    with pytest.raises(DataError, match="do not have the 4 size classes"):
        MatchedCounts.from_json({**counts.to_json(), "edges_m2": [1.0, 2.0, 3.0]})


@settings(max_examples=50, deadline=None)
@given(predicted=MASKS, truth=MASKS)
def test_as_many_landslides_are_found_as_mapped_ones_are_right(predicted: Mask, truth: Mask) -> None:
    counts = matched_counts(predicted, truth, np.ones_like(truth), edges_m2=(300.0, 1_000.0))
    true, found, mapped, right = counts.counts
    assert found == right <= min(true, mapped)
    assert all(
        f <= t and r <= m for t, f, m, r in zip(*(counts.true, counts.found, counts.mapped, counts.right), strict=True)
    )


def test_stored_counts_are_checked() -> None:
    assert LandslideCounts.from_json(LandslideCounts(1, 2, 3).to_json()) == LandslideCounts(1, 2, 3)
    with pytest.raises(DataError):
        LandslideCounts.from_json([1, 2])

"""Scores by pixels, accumulated over whole test sets and never averaged over batches; by landslides in `objects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]

SCORES = ("precision", "recall", "f1", "iou", "mcc", "oa", "pa", "cpa", "miou")
"""The names that `Confusion.scores` gives."""


@dataclass(frozen=True)
class Confusion:
    """Pixel counts; add those of several maps, then ask for scores."""

    tp: int = 0
    """Landslide in truth and map."""
    fp: int = 0
    """Landslide in the map only."""
    fn: int = 0
    """Landslide in truth only."""
    tn: int = 0
    """Landslide in neither."""

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """tp, fp, fn, tn."""
        return self.tp, self.fp, self.fn, self.tn

    def scores(self) -> dict[str, float]:
        """The `SCORES`, as `scores_of` defines them."""
        return {name: float(value) for name, value in scores_of(np.array(self.counts, dtype=np.float64)).items()}


def scores_of(counts: DoubleArray) -> Mapping[str, DoubleArray]:
    """The `SCORES` of counts (..., 4) in the order tp, fp, fn, tn: arrays (...); a quotient 0/0 counts as 0.

    - precision, recall, f1, iou of the class landslide;
    - mcc = (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) (Matthews 1975; Yang et al. 2024 misprint it);
    - oa and pa, overall and pixel accuracy: the share of right pixels, one figure under two names;
    - cpa, the class pixel accuracy of Dong et al. 2024: TP / (TP + FP). They do not define it, but PA, CPA and IoU of a
      row of their tables leave one free count. With this reading the five networks of a table agree on how much of the
      ground is landslide (15.7 to 15.9 % in Hokkaido), as they must on one test set; with TP / (TP + FN) they do not;
    - miou, the mean of the landslides' and the background's IoU.
    """
    tp, fp, fn, tn = np.moveaxis(counts.astype(np.float64, copy=False), -1, 0)
    spread = np.sqrt(
        (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    )  # floats: the product passes 2**63 on a single scene
    precision, accuracy = _ratio(tp, tp + fp), _ratio(tp + tn, tp + fp + fn + tn)
    iou = _ratio(tp, tp + fp + fn)
    return {
        "precision": precision,
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "iou": iou,
        "mcc": _ratio(tp * tn - fp * fn, spread),
        "oa": accuracy,
        "pa": accuracy,
        "cpa": precision,
        "miou": (iou + _ratio(tn, tn + fp + fn)) / 2,
    }


def confusion(predicted: BoolArray, truth: BoolArray, valid: BoolArray) -> Confusion:
    """Counts over the pixels where `valid`; three bool arrays of one shape."""
    hit, claimed, real = predicted & truth & valid, predicted & valid, truth & valid
    tp, positives, landslides, total = (int(np.count_nonzero(part)) for part in (hit, claimed, real, valid))
    return Confusion(tp=tp, fp=positives - tp, fn=landslides - tp, tn=total - positives - landslides + tp)


def _ratio(part: DoubleArray, whole: DoubleArray) -> DoubleArray:
    return np.divide(part, whole, out=np.zeros_like(whole, dtype=np.float64), where=whole != 0)

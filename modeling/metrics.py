"""Scores by pixels and by landslides, accumulated over whole test sets and never averaged over batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]

OVERLAP = 0.5
"""Share of an object that must be covered for it to count as found; see `object_scores`."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


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

    def scores(self) -> dict[str, float]:
        """precision, recall, f1, iou, mcc, oa; a quotient 0/0 counts as 0.

        MCC = (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) (Matthews 1975; Yang et al. 2024 misprint it).
        """
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        # Python integers do not overflow: the product of four counts passes 2**63 on a single scene.
        spread = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return {
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "iou": _ratio(tp, tp + fp + fn),
            "mcc": _ratio(tp * tn - fp * fn, spread),
            "oa": _ratio(tp + tn, tp + fp + fn + tn),
        }


def confusion(predicted: BoolArray, truth: BoolArray, valid: BoolArray) -> Confusion:
    """Counts over the pixels where `valid`; three bool arrays of one shape."""
    hit, claimed, real = predicted & truth & valid, predicted & valid, truth & valid
    tp, positives, landslides, total = (int(np.count_nonzero(part)) for part in (hit, claimed, real, valid))
    return Confusion(tp=tp, fp=positives - tp, fn=landslides - tp, tn=total - positives - landslides + tp)


def object_scores(predicted: BoolArray, truth: BoolArray, valid: BoolArray, *, min_pixels: int = 1) -> dict[str, float]:
    """Precision, recall and F1 counted in landslides instead of pixels; bool arrays (y, x).

    Objects are 8-connected components. A true landslide is found when the map covers at least half of it; a mapped
    object is right when at least half of it is true. Halves rather than a one-to-one match by IoU, because neighbouring
    scars grow together in one map and apart in another, and each of them is found all the same. Objects are measured
    inside `valid`; those with less than half of their pixels there, or fewer than `min_pixels`, are left out.
    Returns precision, recall, f1, and the counts true_objects, found, mapped_objects, right.
    """
    real, found = _covered(truth, predicted, valid, min_pixels)
    mapped, right = _covered(predicted, truth, valid, min_pixels)
    precision, recall = _ratio(right, mapped), _ratio(found, real)
    return {
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "true_objects": float(real),
        "found": float(found),
        "mapped_objects": float(mapped),
        "right": float(right),
    }


def _covered(objects: BoolArray, other: BoolArray, valid: BoolArray, min_pixels: int) -> tuple[int, int]:
    """How many components of `objects` count, and how many of these `other` covers by at least half."""
    labels, count = ndimage.label(objects, structure=_EIGHT_NEIGHBOURS)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    seen = np.bincount(labels[valid], minlength=count + 1)[1:]
    hit = np.bincount(labels[valid & other], minlength=count + 1)[1:]
    counts = (seen >= OVERLAP * size) & (seen >= max(min_pixels, 1))
    return int(counts.sum()), int((counts & (hit >= OVERLAP * seen)).sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""Phase 1: a scene is classified sub-region by sub-region, as the networks' inputs are far smaller than a scene.

The paper cuts sub-regions side by side and puts their maps together. Here each may see some ground around it that is not
its own, so that its map is as good at its edges as in its middle; without overlap it is the paper's. Whole scenes are
streamed by `modeling.prediction.predict`, which fades neighbouring sub-regions into each other as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]
SlicesYX = tuple[slice, slice]
Classify = Callable[[torch.Tensor], torch.Tensor]
"""Physical channel values (1, channel, y, x) to a probability (1, y, x)."""

SIDE_PX = 512
"""Side of a sub-region: the patches that DFPENet is trained on."""
OVERLAP_PX = 32
"""What a sub-region sees beyond each of its edges."""


def sub_regions(
    shape_yx: tuple[int, int], side_px: int = SIDE_PX, overlap_px: int = OVERLAP_PX
) -> Iterator[tuple[SlicesYX, SlicesYX]]:
    """(what is its own, what it sees) of every sub-region, row by row; the first parts cover the scene exactly once."""
    if min(shape_yx) < 1 or side_px < 1 or overlap_px < 0:
        raise DataError(f"cannot cut {shape_yx} pixels into sub-regions of {side_px} with an overlap of {overlap_px}")
    height, width = shape_yx
    for top in range(0, height, side_px):
        for left in range(0, width, side_px):
            own = slice(top, min(top + side_px, height)), slice(left, min(left + side_px, width))
            rows, columns = (
                slice(max(part.start - overlap_px, 0), min(part.stop + overlap_px, size))
                for part, size in zip(own, shape_yx, strict=True)
            )
            yield own, (rows, columns)


def scan(
    classify: Classify, channels: FloatArray, *, side_px: int = SIDE_PX, overlap_px: int = OVERLAP_PX
) -> FloatArray:
    """Probability (y, x) of a scene (channel, y, x) in physical units."""
    shape = int(channels.shape[1]), int(channels.shape[2])
    found = np.empty(shape, np.float32)
    for own, seen in sub_regions(shape, side_px, overlap_px):
        part = torch.from_numpy(np.ascontiguousarray(channels[:, *seen], np.float32))[None]
        with torch.inference_mode():
            values = classify(part)[0].float().cpu().numpy()
        inside = tuple(slice(o.start - s.start, o.stop - s.start) for o, s in zip(own, seen, strict=True))
        found[own] = values[inside]
    return found

"""Any input size for networks that halve their input: pad before, crop after."""

from __future__ import annotations

import torch
from torch.nn import functional

from modeling.errors import ModelingError


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (batch, channel, y, x) at the bottom and right to multiples of `multiple`, repeating the edge pixels.

    Repeating is chosen over reflecting because it works for inputs smaller than the padding. Crop a result `z` back
    with `z[..., :height, :width]`. Raises `ModelingError` for an input that is not four-dimensional or has no pixels.
    """
    if x.ndim != 4 or 0 in x.shape:
        raise ModelingError(f"a network takes (batch, channel, y, x) with at least one pixel, not {tuple(x.shape)}")
    height, width = x.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return functional.pad(x, (0, right, 0, below), mode="replicate") if below or right else x

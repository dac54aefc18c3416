"""The scheme over blocks of ground: what the network maps after and before the event, and what each phase leaves of it.

Subtraction comes before the rules, so that the slivers which it leaves along old scars and river banks are regions of
their own and fall to the rules: that is the cleaning. The paper applies its rules first and does not say how it cleans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from modeling.bands import BandSet
from modeling.data.batches import IGNORE, Block
from modeling.errors import BandSetError
from modeling.geology.regions import apply_rules
from modeling.geology.rules import GeologyRules
from modeling.geology.scan import scan
from modeling.geology.subtraction import HistogramDecision, Histogrammed, bands_before, is_single_date, subtract
from modeling.model import LandslideModel
from modeling.rasters.coregister import stable_ground
from modeling.scoring.evaluate import PIXEL_M2

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_SLOPE = "slope"


@dataclass(frozen=True)
class BlockMaps:
    """One block of ground as a network maps it."""

    name: str
    """Of the block."""
    domain: str
    """Of the block."""
    after: BoolArray
    """Mapped after the event, (y, x)."""
    before: BoolArray | None
    """Mapped before it by the same network, (y, x); None where that is not possible or was not asked for."""
    truth: BoolArray
    """Landslides, (y, x)."""
    valid: BoolArray
    """Where the truth counts, (y, x)."""
    slope_deg: FloatArray | None
    """Slope, (y, x); None where the block does not have it."""
    pixel_m: float
    """Side of a pixel."""
    histograms: Histogrammed | None = None
    """Whether the image before was matched; None when it was not mapped."""

    def under(self, rules: GeologyRules | None = None, *, subtracted: bool = False) -> BoolArray:
        """The map (y, x) after subtraction, where there is a map before, and under rules."""
        mask = self.after
        if subtracted and self.before is not None:
            mask = subtract(mask, self.before)
        if rules is not None:
            mask = apply_rules(mask, rules, slope_deg=self.slope_deg, pixel_m=self.pixel_m).mask
        return mask


def bands_for(bands: BandSet, layers: Collection[str], *, subtracted: bool) -> BandSet:
    """The channels that a block needs for `map_block` with a network that sees `bands`: its own, slope where the ground has
    that layer, and those of the image before if that is mapped as well."""
    more = (_SLOPE,) if _SLOPE in layers else ()
    before = bands_before(bands).channels if subtracted else ()
    channels = tuple(dict.fromkeys((*bands.channels, *more, *before)))
    return bands if channels == bands.channels else BandSet(f"{bands.name}-geology", channels, bands.about)


def map_block(model: LandslideModel, block: Block, channels: Sequence[str], *, before: bool = False) -> BlockMaps:
    """Map a block whose channels are called `channels`, more than the network sees if need be (slope, the image before).

    With `before`, a network of one date maps the image before too, matched by histogram when they differ; one of two dates
    does not. Raises `BandSetError` when a channel is missing.
    """
    names = tuple(channels)
    place = next(model.network.parameters(), torch.empty(0)).device  # of no weights: where the input is

    def classify(x: torch.Tensor) -> torch.Tensor:
        return model.probability(x.to(place))

    after = scan(classify, _picked(block.channels, names, model.bands)) >= model.threshold
    mapped, histograms = None, None
    if before and is_single_date(model.bands):
        image = _picked(block.channels, names, bands_before(model.bands))
        histograms = _histograms(block, names, model.bands)
        if histograms.match is not None:
            for channel, name in zip(image, model.channels, strict=True):
                channel[...] = histograms.match.apply(name.removesuffix("_post"), channel)
        # What was not seen before cannot have been mapped there.
        mapped = (scan(classify, image) >= model.threshold) & np.isfinite(image).all(axis=0)
    pixel_m2 = block.pixel_m2 if math.isfinite(block.pixel_m2) else PIXEL_M2
    valid = block.truth != IGNORE
    slope = np.asarray(block.channels[names.index(_SLOPE)], np.float32) if _SLOPE in names else None
    return BlockMaps(
        block.name, block.domain, after & valid, mapped, block.truth == 1, valid, slope, math.sqrt(pixel_m2), histograms
    )


def _histograms(block: Block, names: tuple[str, ...], bands: BandSet) -> Histogrammed:
    colours = tuple(
        name.removesuffix("_post") for name in bands.channels if name.endswith("_post") and "ndvi" not in name
    )
    before, after = (
        {colour: block.channels[names.index(f"{colour}_{phase}")] for colour in colours} for phase in ("pre", "post")
    )
    decision = HistogramDecision(colours)
    decision.add(before, after, stable_ground(before, after, np.ones(block.truth.shape, bool)))
    return decision.decide()


def _picked(values: FloatArray, names: tuple[str, ...], wanted: BandSet) -> FloatArray:
    """The channels that a network sees, copied."""
    if missing := [name for name in wanted.channels if name not in names]:
        raise BandSetError(f"{wanted.name!r} needs the channels {', '.join(missing)}, which the ground does not have")
    return values[[names.index(name) for name in wanted.channels]]

"""Pre-minus-post: what a network of one date finds on the image before the event as well was there before it.

A network that sees only the image after takes old scars, quarries and river beds for landslides. Run on the image before
it takes them for landslides again, and the difference is what is new (Xu et al., DFPENet-geology). Where the two images'
histograms differ, the image before is matched to the one after first; whether they differ is decided by a distance that
is stated. A network that sees both dates cannot be run on one, and needs no subtraction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.bands import BandSet
from modeling.errors import BandSetError, DataError
from modeling.rasters.radiometry import Histograms, RadiometricMatch

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Layers = Mapping[str, FloatArray]

HISTOGRAM_DISTANCE = 0.01
"""Histograms differ when those of one colour lie further apart: mean distance of equal quantiles (the earth mover's or
first Wasserstein distance), in reflectance. Sentinel-2 is calibrated to 3 to 5 %, which is less on all but bright ground."""
MARGIN_PX = 1
"""What was there before reaches so many pixels further: images are aligned to about half a pixel, blended edges are one."""

_BEFORE, _AFTER = "_pre", "_post"


def is_single_date(bands: BandSet) -> bool:
    """Whether a network sees the image after the event and not the one before."""
    return any(name.endswith(_AFTER) for name in bands.channels) and not any(
        name.endswith(_BEFORE) for name in bands.channels
    )


def bands_before(bands: BandSet) -> BandSet:
    """The channels that a network of one date gets on the image before, in its order.

    Raises `BandSetError` for a network of two dates, of which nothing can be subtracted.
    """
    if not is_single_date(bands):
        raise BandSetError(
            f"the band set {bands.name!r} ({', '.join(bands.channels)}) is not of one date: subtraction is for networks "
            "that see the image after the event only"
        )
    channels = tuple(_before(name) for name in bands.channels)
    return BandSet(f"{bands.name}-before", channels, f"{bands.about}; read from the image before")


def as_after(layers: Layers, match: RadiometricMatch | None = None) -> dict[str, FloatArray]:
    """The image before under the names of the one after, matched when there is a match; terrain stays as it is."""
    found = {}
    for name, values in layers.items():
        if name.endswith(_AFTER):
            continue
        if not name.endswith(_BEFORE):
            found[name] = values
            continue
        colour = name.removesuffix(_BEFORE)
        found[colour + _AFTER] = values if match is None else match.apply(colour, values)
    return found


@dataclass(frozen=True)
class Histogrammed:
    """Whether the image before was matched to the one after."""

    distances: Mapping[str, float]
    """Mean distance of equal quantiles of each colour, in reflectance; empty when too little ground was comparable."""
    match: RadiometricMatch | None
    """How the image before is changed; None where the histograms do not differ."""
    why: str
    """What was decided, in words."""


class HistogramDecision:
    """Collects stable ground of both images window by window: `add` each, then `decide`."""

    def __init__(self, colours: tuple[str, ...]) -> None:
        """Of these colours."""
        self._histograms = Histograms(colours)

    def add(self, pre: Layers, post: Layers, stable: BoolArray) -> None:
        """Count a window: reflectance (y, x) by colour, and where the ground is `stable` (y, x): seen in both images and
        not changed (`modeling.rasters.coregister.stable_ground`), so that a wide change is not matched away."""
        self._histograms.add(pre, post, stable)

    def decide(self, distance: float = HISTOGRAM_DISTANCE) -> Histogrammed:
        """Match when the histograms of any colour lie further apart than `distance`."""
        return decided(self._histograms.match(), distance=distance)


def decided(
    match: RadiometricMatch, colours: Collection[str] | None = None, *, distance: float = HISTOGRAM_DISTANCE
) -> Histogrammed:
    """Whether to use a match: when the histograms of any of `colours` (default: all that it has) lie further apart."""
    bands = [band for band in match.bands if colours is None or band.colour in colours]
    if not bands:
        return Histogrammed({}, None, f"not matched: {match.why or 'no colour was compared'}")
    distances = {band.colour: band.difference_before for band in bands}
    furthest = max(distances, key=lambda colour: distances[colour])
    apart = f"the histograms of {furthest} lie {distances[furthest]:.4f} of reflectance apart"
    if distances[furthest] <= distance:
        return Histogrammed(distances, None, f"not matched: {apart}, not more than {distance:g}")
    return Histogrammed(distances, match, f"matched: {apart}, more than {distance:g}")


def grown(before: BoolArray, margin_px: int = MARGIN_PX) -> BoolArray:
    """A mask (y, x) and all pixels up to `margin_px` from it, corners included."""
    if margin_px < 0:
        raise DataError(f"a margin cannot be {margin_px} pixels")
    if margin_px == 0 or not before.any():
        return before
    side = 2 * margin_px + 1
    return np.asarray(ndimage.binary_dilation(before, np.ones((side, side), bool)))


def subtract(after: BoolArray, before: BoolArray, margin_px: int = MARGIN_PX) -> BoolArray:
    """What is mapped after (y, x) and not within `margin_px` of what is mapped before; never adds ground."""
    if after.shape != before.shape:
        raise DataError(f"maps of {before.shape} and {after.shape} pixels cannot be subtracted")
    return after & ~grown(before, margin_px)


def _before(name: str) -> str:
    return name.removesuffix(_AFTER) + _BEFORE if name.endswith(_AFTER) else name

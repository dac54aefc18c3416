"""From the clear pixels of many scenes to one image: which observation, or which mixture, a pixel shows.

Every composite has a date: that of the observation it shows, and for the median that of the latest one in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import ee

Composite = Literal["median", "medoid", "earliest_clear", "least_cloudy"]
"""- `median`: of each band by itself. The date is that of the latest clear observation.
- `medoid`: the observation nearest to the median of all bands. The date is its own.
- `earliest_clear`: the first clear observation. The date is its own.
- `least_cloudy`: the one pass that saw most of the area (`gee.passes`), and nothing else. The date is its own."""
COMPOSITES: tuple[Composite, ...] = get_args(Composite)
"""All of them."""

DAY = "day"
"""Band of an observation: days since 1970-01-01."""


@dataclass(frozen=True)
class Composed:
    """One image out of many; masked where nothing clear was seen."""

    values: ee.Image
    """The colours."""
    day: ee.Image
    """Days since 1970-01-01, band `day`."""


def composed(clear: ee.ImageCollection, colours: Sequence[str], composite: Composite, *, latest: bool) -> Composed:
    """The composite of clear observations: images with the bands `colours` and `day`, masked where they are not clear.

    Of equally good observations the `latest` is taken, or else the earliest: the one nearest to the event.
    """
    if composite == "median":
        return Composed(clear.select(list(colours)).median(), clear.select(DAY).max())
    if composite == "medoid":
        return _split(_nearest_to_median(clear, colours, latest), colours)
    # The granules of one pass overlap, but show the same ground at the same time: any of them is as good.
    return _split(clear.sort("system:time_start", False).mosaic(), colours)


def _split(image: ee.Image, colours: Sequence[str]) -> Composed:
    return Composed(image.select(list(colours)), image.select(DAY))


def _nearest_to_median(clear: ee.ImageCollection, colours: Sequence[str], latest: bool) -> ee.Image:
    """For each pixel the observation with the smallest distance to the per-band median.

    After the medoid of Flood (2013, Remote Sensing 5, 6481-6500), which minimises the sum of distances to all other
    observations; the distance to the median needs one pass over the scenes instead of one for each pair of them, and
    like the medoid it is a real observation, so that ratios of bands stay those of a real spectrum.
    Squared distances of digital numbers are multiples of a quarter: the day breaks ties, at 1e-4 a day.
    """
    median = clear.select(list(colours)).median()
    sign = 1e-4 if latest else -1e-4

    def with_nearness(image: ee.Image) -> ee.Image:
        apart = image.select(list(colours)).toDouble().subtract(median)
        distance = apart.multiply(apart).reduce(ee.Reducer.sum())
        nearness = image.select(DAY).toDouble().multiply(sign).subtract(distance)
        return image.addBands(nearness.rename("nearness"))

    nearest: ee.Image = clear.map(with_nearness).qualityMosaic("nearness")
    return nearest

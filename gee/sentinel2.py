"""Sentinel-2 before and after: which pixels count as clear, and the two composites, as `ee` expressions.

Reflectance travels as DN = reflectance * 10000 in int16, as the assets store it. A phase is named by its scenes, listed
beforehand, so that its expression is reproducible and its provenance exact.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ee

from gee.errors import NoScenesError
from gee.types import Observed, Scene

BANDS = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "swir1": "B11", "swir2": "B12"}
"""Colour -> band of the Sentinel-2 collections, in the order of the cube's layers."""
DN_PER_REFLECTANCE = 10_000
"""Scale of the assets."""
NODATA = -32_768
"""Where a phase has no clear pixel."""
NO_DATE = -1
"""Date where a phase has no clear pixel."""
MS_PER_DAY = 86_400_000

_RANK = {Observed.NO_PASS: 0, Observed.CLOUD: 1, Observed.CLEAR: 2}
"""The better of what several scenes saw of a pixel wins: the codes of `Observed` are not in that order."""


@dataclass(frozen=True)
class Mask:
    """Pixels whose cloud score is below a threshold are not clear."""

    collection: str
    """Collection whose images carry the score, with the `system:index` of the Sentinel-2 image."""
    threshold: float
    """Clear from this score on, in [0, 1]."""
    band: str = "cs"
    """Band of the score; Cloud Score+ has `cs` (sensitive to haze) and `cs_cdf`."""

    def __str__(self) -> str:
        """As a record and a report say it."""
        return f"{self.band} >= {self.threshold:.2f} of {self.collection}"


@dataclass(frozen=True)
class PhaseScenes:
    """The scenes of one phase and what decides which of their pixels are clear."""

    phase: str
    """`pre` or `post`."""
    scenes: tuple[Scene, ...]
    """The scenes used, by time; all of one collection."""
    mask: Mask | None = None
    """None: every imaged pixel counts as clear."""
    left_out: tuple[str, ...] = ()
    """Ids of scenes that were listed but have no cloud score while others have one."""

    @property
    def collection(self) -> str:
        """The collection that the scenes belong to."""
        return self.scenes[0].id.rpartition("/")[0]

    @property
    def rule(self) -> str:
        """The mask rule in words."""
        rule = str(self.mask) if self.mask else "none (no cloud score for these scenes)"
        left_out = f", {len(self.left_out)} scenes without a score left out" if self.left_out else ""
        return f"{self.phase}: {rule}{left_out}"


def phase_scenes(phase: str, scenes: Sequence[Scene], scored: Collection[str], mask: Mask | None) -> PhaseScenes:
    """Choose the scenes of a phase: those with a cloud score if there are any, else all of them without a mask.

    An unmasked cloud in a composite is worse than a scene less; no scene at all is worse than a cloud. `scored` holds
    the ids of the scenes that have a score. Raises `NoScenesError` when `scenes` is empty.
    """
    if not scenes:
        raise NoScenesError(f"no scene for the phase {phase!r}: widen its window or wait for the next pass")
    ordered = tuple(sorted(scenes, key=lambda scene: (scene.time, scene.id)))
    chosen = tuple(scene for scene in ordered if scene.id in scored)
    if mask is None or not chosen:
        return PhaseScenes(phase, ordered)
    return PhaseScenes(phase, chosen, mask, tuple(scene.id for scene in ordered if scene.id not in scored))


def common_colours(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """The colours of `BANDS` that every scene has."""
    return tuple(colour for colour, band in BANDS.items() if all(band in scene.bands for scene in scenes))


def phase_image(phase: PhaseScenes, colours: Sequence[str]) -> ee.Image:
    """One phase as an image, with bands named by phase, for example of `pre`.

    - `blue_pre`, ... (one for each of `colours`): int16 DN, `NODATA` where nothing clear was seen. Before the event the
      median of the clear pixels, after it the earliest clear pixel, all its bands from one scene.
    - `observed_pre`: uint8 code of `gee.types.Observed`.
    - `date_pre`: int32 days since 1970-01-01 of the latest clear pixel before, of the one used after; `NO_DATE`.
    """
    seen = _collection(phase).map(lambda image: _seen(image, phase.mask, colours))
    clear = seen.select([*colours, "day"])
    if phase.phase == "pre":
        values, day = clear.select(list(colours)).median(), clear.select("day").max()
    else:
        earliest_on_top = clear.sort("system:time_start", False).mosaic()
        values, day = earliest_on_top.select(list(colours)), earliest_on_top.select("day")
    rank = seen.select("rank").max().unmask(_RANK[Observed.NO_PASS], False)
    observed = rank.remap(list(_RANK.values()), [int(code) for code in _RANK]).toUint8()
    image: ee.Image = (
        values.round()
        .clamp(0, -NODATA - 1)
        .unmask(NODATA, False)
        .toInt16()
        .addBands(observed.rename("observed"))
        .addBands(day.unmask(NO_DATE, False).toInt32())
        .select(
            [*colours, "observed", "day"], [f"{name}_{phase.phase}" for name in (*colours, "observed", "date")]
        )
    )  # fmt: skip
    return image


def _collection(phase: PhaseScenes) -> ee.ImageCollection:
    times = [int(scene.time.timestamp() * 1000) for scene in phase.scenes]
    indices = [scene.id.rpartition("/")[2] for scene in phase.scenes]
    scenes: ee.ImageCollection = (
        ee.ImageCollection(phase.collection)
        .filterDate(min(times), max(times) + 1)  # the index of the archive is by time
        .filter(ee.Filter.inList("system:index", indices))
    )
    if phase.mask is not None:
        scenes = scenes.linkCollection(ee.ImageCollection(phase.mask.collection), [phase.mask.band])
    return scenes


def _seen(image: ee.Image, mask: Mask | None, colours: Sequence[str]) -> Any:
    """What one scene saw: its clear pixels, their day, and `rank` wherever it looked at all."""
    bands = image.select([BANDS[colour] for colour in colours], list(colours))
    # A pixel is one observation: all bands or none. DN 0 in all of them is how Sentinel-2 writes "no data".
    imaged = bands.mask().reduce(ee.Reducer.min()).And(bands.reduce(ee.Reducer.max()).gt(0))
    if mask is None:
        clear, rank = imaged, imaged.multiply(_RANK[Observed.CLEAR])
    else:
        scored_clear = image.select(mask.band).gte(mask.threshold).unmask(0, False)
        clear = imaged.And(scored_clear)
        rank = scored_clear.multiply(_RANK[Observed.CLEAR] - _RANK[Observed.CLOUD]).add(_RANK[Observed.CLOUD])
    day = image.metadata("system:time_start").divide(MS_PER_DAY).floor()
    return (
        bands.addBands(day.rename("day"))
        .updateMask(clear)
        .addBands(rank.updateMask(imaged).rename("rank"))
        .copyProperties(image, ["system:time_start"])
    )

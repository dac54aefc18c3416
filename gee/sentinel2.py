"""Sentinel-2 before and after: what the scenes of a phase saw of each pixel, as `ee` expressions.

Reflectance travels as DN = reflectance * 10000 in int16, as the assets store it, top of atmosphere or surface by the
collection. A phase is named by its scenes, listed beforehand, so that its expression is reproducible and its provenance
exact; `gee.phases` decides which scenes, which cloud mask and which composite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ee

from gee.composites import DAY, Composite, composed
from gee.errors import CubeError
from gee.masks import CloudMask, SceneClassification, link, look, mask_from_dict, mask_to_dict
from gee.passes import Pass, PassShare
from gee.reasons import Reason, level_ground, open_water, snow, surface_normal, terrain_shadow, terrain_shadow_by_class
from gee.types import Grid, Observed, Scene

BANDS = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "swir1": "B11", "swir2": "B12"}
"""Colour -> band of the Sentinel-2 collections, in the order of the cube's layers."""
DN_PER_REFLECTANCE = 10_000
"""Scale of the assets."""
NODATA = -32_768
"""Where a phase has no clear pixel."""
NO_DATE = -1
"""Date where a phase has no clear pixel."""
MS_PER_DAY = 86_400_000
USUAL_COMPOSITE: dict[str, Composite] = {"pre": "median", "post": "earliest_clear"}
"""What the shipped networks were trained on: the state before, at its most usual; the event's traces, at their freshest."""

_RANK = {
    Observed.CLOUD: 1,
    Observed.SHADOW: 2,
    Observed.TERRAIN_SHADOW: 3,
    Observed.SNOW: 4,
    Observed.CLEAR: 5,
}
"""What several scenes saw of a pixel is told by the one that saw most of it: the codes of `Observed` are not in that
order. 0 is a pixel that no scene imaged. (Open water is told of the composites, not of scenes: `event_image`.)"""
_WATER_COLOURS = ("green", "nir", "swir1")


@dataclass(frozen=True)
class PhaseScenes:
    """The scenes of one phase, and everything that decides what becomes of their pixels."""

    phase: str
    """`pre` or `post`."""
    scenes: tuple[Scene, ...]
    """The scenes used, by time; all of one collection."""
    mask: CloudMask | None = None
    """How cloud is told; None: every imaged pixel counts as free of it."""
    left_out: tuple[str, ...] = ()
    """Ids of scenes that were listed but lack the mask's image while others have it."""
    why: str = ""
    """Why not the mask that was wanted most; empty when it is that one."""
    composite: Composite | None = None
    """How one image is made of many; None: the usual way of the phase (`USUAL_COMPOSITE`)."""
    reasons: tuple[Reason, ...] = ()
    """Reasons apart from cloud that are told in this phase."""
    untold: tuple[str, ...] = ()
    """Reasons that were wanted but cannot be told, each with what is missing."""
    passes: tuple[PassShare, ...] = ()
    """The passes among which the least cloudy one was chosen; empty for other composites."""

    @property
    def collection(self) -> str:
        """The collection that the scenes belong to."""
        return self.scenes[0].id.rpartition("/")[0]

    @property
    def bands(self) -> frozenset[str]:
        """The bands that all scenes have of their own."""
        return frozenset.intersection(*(frozenset(scene.bands) for scene in self.scenes))

    @property
    def made_by(self) -> Composite:
        """The composite, the usual one when none is set."""
        return self.composite or USUAL_COMPOSITE[self.phase]

    @property
    def rule(self) -> str:
        """What makes a pixel clear, in words."""
        parts = [str(self.mask) if self.mask else "no cloud mask"]
        if self.why:
            parts[0] += f" ({self.why})"
        if self.left_out:
            parts.append(f"{len(self.left_out)} scenes without it left out")
        if self.reasons:
            parts.append(f"{', '.join(reason.replace('_', ' ') for reason in self.reasons)} told apart")
        if self.untold:
            parts.append(f"not told: {', '.join(self.untold)}")
        return f"{self.phase}: {', '.join(parts)}"

    @property
    def composition(self) -> str:
        """What a pixel shows and what its date is, in words."""
        if self.made_by == "median":
            return "the median of the clear observations, dated by the latest of them"
        if self.made_by == "medoid":
            return "the clear observation nearest to the median"
        if self.made_by == "earliest_clear":
            return "the earliest clear observation"
        others = f", the best of {len(self.passes)}" if len(self.passes) > 1 else ""
        return f"the pass of {self.scenes[0].time:%Y-%m-%d %H:%M} UTC alone{others}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `from_dict` makes an equal record of it."""
        return {
            "phase": self.phase,
            "scenes": [scene.to_dict() for scene in self.scenes],
            "mask": mask_to_dict(self.mask),
            "left_out": list(self.left_out),
            "why": self.why,
            "composite": self.composite,
            "reasons": list(self.reasons),
            "untold": list(self.untold),
            "passes": [share.to_dict() for share in self.passes],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> PhaseScenes:
        """The inverse of `to_dict`; raises `KeyError`, `TypeError` or `ValueError` when it is none."""
        return cls(
            phase=value["phase"],
            scenes=tuple(Scene.from_dict(scene) for scene in value["scenes"]),
            mask=mask_from_dict(value["mask"]),
            left_out=tuple(value["left_out"]),
            why=value["why"],
            composite=value["composite"],
            reasons=tuple(value["reasons"]),
            untold=tuple(value["untold"]),
            passes=tuple(PassShare.from_dict(share) for share in value["passes"]),
        )


def common_colours(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """The colours of `BANDS` that every scene has."""
    return tuple(colour for colour, band in BANDS.items() if all(band in scene.bands for scene in scenes))


def event_image(
    pre: PhaseScenes, post: PhaseScenes, colours: Sequence[str], elevation: ee.Image | None = None
) -> ee.Image:
    """Both phases as one image: the bands of `phase_image` of each, with open water told apart.

    A pixel is `Observed.WATER` where both composites show it clear and both show open water. Water seen only before may
    lie under a landslide now, and water seen only after may be the lake that one has dammed, or turbid flood: neither
    is taken out of the map. Raises `CubeError` as `phase_image` does.
    """
    normal = None if elevation is None else surface_normal(elevation)
    images = [_composite(phase, colours, normal) for phase in (pre, post)]
    if set(_WATER_COLOURS) <= set(colours) and all("water" in phase.reasons for phase in (pre, post)):
        level = ee.Image.constant(1) if normal is None else level_ground(normal)
        water = [open_water(*(image.select(colour) for colour in _WATER_COLOURS)) for image in images]
        images = [_with_water(image, water[0].And(water[1]).And(level)) for image in images]
    before, after = (_named(image, phase, colours) for image, phase in zip(images, (pre, post), strict=True))
    both: ee.Image = before.addBands(after)
    return both


def phase_image(phase: PhaseScenes, colours: Sequence[str], elevation: ee.Image | None = None) -> ee.Image:
    """One phase as an image, with bands named by phase, for example of `pre`.

    - `blue_pre`, ... (one for each of `colours`): int16 DN, `NODATA` where nothing clear was seen.
    - `observed_pre`: uint8 code of `gee.types.Observed`, of all that the scenes saw the one that is highest in `_RANK`.
      A pixel that none of them imaged is `SWATH_GAP` inside a scene's raster, else `NO_PASS`.
    - `date_pre`: int32 days since 1970-01-01 of the observation (of the median: the latest in it); `NO_DATE`.

    `elevation` (metres, on its own grid) is needed to tell the shadow of the terrain. Open water is clear here: telling
    it takes both phases (`event_image`). Raises `CubeError` when the phase tells terrain shadow and has no elevation.
    """
    normal = None if elevation is None else surface_normal(elevation)
    return _named(_composite(phase, colours, normal), phase, colours)


def pass_image(phase: PhaseScenes, passes: Sequence[Pass], colours: Sequence[str]) -> ee.Image:
    """For each pass a band `pass_0`, `pass_1`, ... (uint8): 1 where it saw the ground, 0 elsewhere. Cloud mask only."""
    bands = []
    for number, one in enumerate(passes):
        seen = _scenes(phase, one.scenes).map(lambda image: _seen(image, phase, colours, None))
        clear = seen.select("rank").max().eq(_RANK[Observed.CLEAR]).unmask(0, False)
        bands.append(clear.toUint8().rename(f"pass_{number}"))
    stacked: ee.Image = ee.Image.cat(bands)
    return stacked


def _with_water(image: ee.Image, water: ee.Image) -> ee.Image:
    observed = image.select("observed")
    told = observed.where(water.And(observed.eq(_code(Observed.CLEAR))), _code(Observed.WATER))
    replaced: ee.Image = image.addBands(told.toUint8(), None, True)
    return replaced


def _named(image: ee.Image, phase: PhaseScenes, colours: Sequence[str]) -> ee.Image:
    named: ee.Image = image.select(
        [*colours, "observed", DAY], [f"{name}_{phase.phase}" for name in (*colours, "observed", "date")]
    )
    return named


def _composite(phase: PhaseScenes, colours: Sequence[str], normal: ee.Image | None) -> ee.Image:
    """The bands `colours`, `observed` and `day` of a phase, filled everywhere."""
    if terrain_shadow_by_class(phase.mask, phase.scenes):
        normal = None
    elif "terrain_shadow" in phase.reasons and normal is None:
        raise CubeError(f"the phase {phase.phase} tells the shadow of the terrain: give an elevation model")
    seen = _scenes(phase, phase.scenes).map(lambda image: _seen(image, phase, colours, normal))
    made = composed(seen.select([*colours, DAY]), colours, phase.made_by, latest=phase.phase == "pre")
    rank = seen.select("rank").max().unmask(0, False)
    observed = rank.remap([0, *_RANK.values()], [_code(code) for code in (Observed.NO_PASS, *_RANK)])
    gap = rank.eq(0).And(_reached(scene.grid for scene in phase.scenes))
    image: ee.Image = (
        made.values.round()
        .clamp(0, -NODATA - 1)
        .unmask(NODATA, False)
        .toInt16()
        .addBands(observed.where(gap, _code(Observed.SWATH_GAP)).toUint8().rename("observed"))
        .addBands(made.day.unmask(NO_DATE, False).toInt32())
    )
    return image


def _code(code: Observed) -> int:
    return int(code)


def _scenes(phase: PhaseScenes, scenes: Sequence[Scene]) -> ee.ImageCollection:
    times = [round(scene.time.timestamp() * 1000) for scene in scenes]
    found = (
        ee.ImageCollection(phase.collection)
        .filterDate(min(times), max(times) + 1)  # the index of the archive is by time
        .filter(ee.Filter.inList("system:index", [scene.index for scene in scenes]))
    )
    return link(found, phase.mask, phase.bands)


def _reached(grids: Iterable[Grid | None]) -> ee.Image:
    """1 for the pixels whose centre lies in one of the rasters, 0 elsewhere; asks for no pixel of any scene."""
    by_crs: dict[str, set[tuple[float, float, float, float]]] = {}
    for grid in grids:
        if grid is not None:
            by_crs.setdefault(grid.crs, set()).add(grid.bounds)
    reached: Any = ee.Image.constant(0)
    for crs, rasters in sorted(by_crs.items()):
        place = ee.Image.pixelCoordinates(ee.Projection(crs))
        x, y = place.select("x"), place.select("y")
        for left, bottom, right, top in sorted(rasters):
            reached = reached.Or(x.gte(left).And(x.lt(right)).And(y.gt(bottom)).And(y.lte(top)))
    inside: ee.Image = reached
    return inside


def _seen(image: ee.Image, phase: PhaseScenes, colours: Sequence[str], normal: ee.Image | None) -> Any:
    """What one scene saw: its clear pixels, their day, and `rank` wherever it looked at all."""
    bands = image.select([BANDS[colour] for colour in colours], list(colours))
    # A pixel is one observation: all bands or none. DN 0 in all of them is how Sentinel-2 writes "no data".
    imaged = bands.mask().reduce(ee.Reducer.min()).And(bands.reduce(ee.Reducer.max()).gt(0))
    by_class = isinstance(phase.mask, SceneClassification)
    rank = ee.Image.constant(_RANK[Observed.CLEAR])
    if "snow" in phase.reasons:
        rank = rank.where(image.select("SCL").eq(11) if by_class else snow(image), _RANK[Observed.SNOW])
    told = None if phase.mask is None else look(image, phase.mask, phase.bands)
    if told is not None and told.shadow is not None:
        rank = rank.where(told.shadow, _RANK[Observed.SHADOW])
    if "terrain_shadow" in phase.reasons:  # of two reasons to be dark the one that the next scene has as well
        shaded = image.select("SCL").eq(2) if normal is None else terrain_shadow(image, normal)
        rank = rank.where(shaded, _RANK[Observed.TERRAIN_SHADOW])
    if told is not None:
        rank = rank.where(told.cloud, _RANK[Observed.CLOUD])
        if told.defective is not None:
            imaged = imaged.And(told.defective.Not())
    rank = rank.updateMask(imaged)
    day = image.metadata("system:time_start").divide(MS_PER_DAY).floor()
    return (
        bands.addBands(day.rename(DAY))
        .updateMask(rank.eq(_RANK[Observed.CLEAR]))
        .addBands(rank.rename("rank"))
        .copyProperties(image, ["system:time_start"])
    )

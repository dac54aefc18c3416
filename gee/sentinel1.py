"""Sentinel-1 before and after: how the radar echo changed, through cloud, as `ee` expressions.

Backscatter depends on where the satellite looks from, so only passes of one relative orbit are compared. The archive
`COPERNICUS/S1_GRD` holds the intensity in decibels, already calibrated and corrected for the terrain's position; all
arithmetic here is on linear power, of which decibels are only the writing: means, resampling and the ratio.

What lies in layover or radar shadow is left as it is: slopes that face the satellite, or turn away from it, steeper than
its angle of incidence of 29 to 46 degrees show no ground of their own, before or after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ee
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from gee.catalog import asset_exists, list_scenes
from gee.errors import NoScenesError, PermanentError
from gee.grid import unwrap
from gee.passes import Pass, passes_of
from gee.session import Session
from gee.terrain import NODATA, TerrainLayer
from gee.types import Scene, Window

COLLECTION = "COPERNICUS/S1_GRD"
"""The archive of ground-range detected scenes."""
RADAR_LAYERS: dict[str, TerrainLayer] = {
    "vv_change": TerrainLayer(0.01, "dB"),
    "vh_change": TerrainLayer(0.01, "dB"),
}
"""Name -> storage in int16: value = stored * scale, `gee.terrain.NODATA` where there is none."""
POLARISATIONS = ("VV", "VH")
"""Bands that are compared: the first always, the second when all scenes have it."""
PROPERTIES = (
    "relativeOrbitNumber_start", "orbitProperties_pass", "instrumentMode", "orbitNumber_start", "platform_number",
    "attribution", "quakeslide:simulated",
)  # fmt: skip
"""Properties of a scene that are kept in a cube's provenance."""
BORDER_DB = -30.0
"""Echoes weaker than this are the noise at a scene's border and are masked (as is the stillest water)."""
SAME_COVER = 0.05
"""Orbits that cover the area equally well to this share of it are chosen between by time."""
SPECKLE_SIDES = (0, 3, 5, 7, 9)
"""Sides in pixels of the square over which power may be averaged against speckle; 0 for none."""


@dataclass(frozen=True)
class RadarPair:
    """The scenes of one relative orbit before and after, and why these."""

    collection: str
    """The collection they belong to."""
    relative_orbit: int
    """Number of the ground track, 1 to 175."""
    direction: str
    """`ASCENDING` (looking east, in the evening) or `DESCENDING` (looking west, in the morning)."""
    polarisations: tuple[str, ...]
    """Bands that all scenes have."""
    before: tuple[Scene, ...]
    """Scenes whose mean power is the state before, by time."""
    after: tuple[Scene, ...]
    """Scenes after, by time: the earliest that sees a pixel is used."""
    covered: float
    """Share of the area that is seen before and after, 0 to 1, by the footprints."""
    speckle_px: int
    """Side in pixels of the square over which power is averaged, 0 for none."""
    why: str
    """What the other orbits had."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the pair gives."""
        return tuple(f"{polarisation.lower()}_change" for polarisation in self.polarisations)

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Asset ids of all scenes, by time."""
        return tuple(scene.id for scene in (*self.before, *self.after))

    @property
    def rule(self) -> str:
        """What was compared, in words."""
        passes = len(passes_of(self.before))
        smoothed = f", averaged over {self.speckle_px} x {self.speckle_px} pixels" if self.speckle_px else ""
        return (
            f"radar: relative orbit {self.relative_orbit} {self.direction.lower()}, {self.after[0].time:%Y-%m-%d} "
            f"against the mean of {passes} {'pass' if passes == 1 else 'passes'} before{smoothed}; echoes below "
            f"{BORDER_DB:g} dB masked, layover and radar shadow not"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "polarisations": list(self.polarisations),
            "before": [scene.to_dict() for scene in self.before],
            "after": [scene.to_dict() for scene in self.after],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RadarPair:
        """The inverse of `to_dict`."""
        return cls(
            **{name: value[name] for name in _PLAIN},
            polarisations=tuple(value["polarisations"]),
            before=tuple(Scene.from_dict(scene) for scene in value["before"]),
            after=tuple(Scene.from_dict(scene) for scene in value["after"]),
        )


_PLAIN = ("collection", "relative_orbit", "direction", "covered", "speckle_px", "why")


@dataclass(frozen=True)
class _Orbit:
    """What one relative orbit has of an area."""

    number: int
    direction: str
    before: tuple[Pass, ...]
    after: tuple[Pass, ...]
    covered: float
    found: tuple[int, int]

    def __str__(self) -> str:
        """As an error and a record say it."""
        seen = f", which cover {self.covered:.0%} of the area" if all(self.found) else ""
        return f"orbit {self.number} {self.direction.lower()} has {self.found[0]} passes before and {self.found[1]} after{seen}"


def find_radar_pair(
    session: Session,
    geometry: BaseGeometry,
    pre: Window,
    post: Window,
    *,
    collection: str = COLLECTION,
    max_before: int = 5,
    speckle_px: int = 5,
) -> RadarPair:
    """The scenes to compare for an area (WGS84): up to `max_before` passes before and the first after, of one orbit.

    Raises `NoScenesError` when there is no such collection, or when no orbit has passes in both windows.
    """
    if not asset_exists(session, collection):
        raise NoScenesError(f"{collection} does not exist here: no radar image of the area")
    before, after = (
        list_scenes(session, collection, geometry, window, properties=PROPERTIES) for window in (pre, post)
    )
    return choose_pair(
        before, after, geometry, collection=collection, max_before=max_before, speckle_px=speckle_px
    )  # fmt: skip


def choose_pair(
    before: Sequence[Scene],
    after: Sequence[Scene],
    geometry: BaseGeometry,
    *,
    collection: str = COLLECTION,
    max_before: int = 5,
    speckle_px: int = 5,
) -> RadarPair:
    """The pair of the orbit that covers most of the area (WGS84); of those that cover it alike, the soonest after.

    Of an orbit the latest `max_before` passes before are taken, and after the first pass, with later ones only if they
    see more of the area. Scenes of other modes than IW or without VV are passed over. Pure. Raises `NoScenesError`
    saying what each orbit has when none has passes before and after, `PermanentError` for settings that cannot be.
    """
    if max_before < 1 or speckle_px not in SPECKLE_SIDES:
        raise PermanentError(
            f"a radar pair of {max_before} passes before, averaged over {speckle_px} pixels: take at least one pass, and "
            f"{', '.join(map(str, SPECKLE_SIDES))} pixels"
        )
    area = unwrap(geometry)
    orbits = _orbits(before, after, area, max_before)
    served = [orbit for orbit in orbits if orbit.covered > 0]
    if not served:
        raise NoScenesError(
            "no Sentinel-1 orbit has passes over the area before and after the event "
            f"({'; '.join(map(str, orbits)) or 'there are none at all'}): wait for the next pass, or widen the windows"
        )
    most = max(orbit.covered for orbit in served)
    good = [orbit for orbit in served if orbit.covered >= most - SAME_COVER]
    chosen = min(good, key=lambda orbit: (orbit.after[0].time, -len(orbit.before), orbit.number, orbit.direction))
    scenes = [scene for one in (*chosen.before, *chosen.after) for scene in one.scenes]
    return RadarPair(
        collection=collection,
        relative_orbit=chosen.number,
        direction=chosen.direction,
        polarisations=tuple(name for name in POLARISATIONS if all(name in scene.bands for scene in scenes)),
        before=tuple(scene for one in chosen.before for scene in one.scenes),
        after=tuple(scene for one in chosen.after for scene in one.scenes),
        covered=round(chosen.covered, 4),
        speckle_px=speckle_px,
        why="; ".join(str(orbit) for orbit in orbits if orbit is not chosen),
    )


def radar_image(pair: RadarPair) -> ee.Image:
    """The change of the echo, after minus before, a band for each of `pair.layers`, stored as `RADAR_LAYERS` says.

    10 log10(after / before) of linear power: int16 hundredths of a decibel, `NODATA` where either is not seen. Power is
    averaged over `pair.speckle_px` on the pixels of each scene, and resampled bilinearly from them.
    """
    bands = list(pair.polarisations)
    before = _power(pair, pair.before).mean()
    # The earliest on top: a later pass only fills what it did not see.
    after = _power(pair, pair.after).sort("system:time_start", False).mosaic()
    steps = after.divide(before).log10().multiply(10 / RADAR_LAYERS["vv_change"].scale).round()
    stored = steps.clamp(NODATA + 1, -NODATA - 1).unmask(NODATA, False).toInt16()
    image: ee.Image = stored.select(bands, list(pair.layers))
    return image


def _power(pair: RadarPair, scenes: Sequence[Scene]) -> ee.ImageCollection:
    """The linear power of scenes, one image each."""
    times = [int(scene.time.timestamp() * 1000) for scene in scenes]
    bands = list(pair.polarisations)

    def linear(image: ee.Image) -> Any:
        decibels = image.select(bands)
        power = decibels.updateMask(decibels.gte(BORDER_DB)).multiply(math.log(10) / 10).exp()
        if pair.speckle_px:
            window = ee.Kernel.square(pair.speckle_px // 2, "pixels")
            power = power.reduceNeighborhood(ee.Reducer.mean(), window).rename(bands)
        native = power.reproject(image.select(bands[0]).projection())
        return native.resample("bilinear").copyProperties(image, ["system:time_start"])

    chosen: ee.ImageCollection = (
        ee.ImageCollection(pair.collection)
        .filterDate(min(times), max(times) + 1)  # the index of the archive is by time
        .filter(ee.Filter.inList("system:index", [scene.index for scene in scenes]))
        .map(linear)
    )
    return chosen


def _orbits(before: Sequence[Scene], after: Sequence[Scene], area: BaseGeometry, max_before: int) -> list[_Orbit]:
    """What each orbit has, by its number."""
    sides: dict[tuple[int, str], tuple[list[Scene], list[Scene]]] = {}
    for scene, late in [*((scene, False) for scene in before), *((scene, True) for scene in after)]:
        properties = dict(scene.properties)
        if properties.get("instrumentMode") == "IW" and POLARISATIONS[0] in scene.bands:
            key = int(properties["relativeOrbitNumber_start"]), str(properties["orbitProperties_pass"])
            sides.setdefault(key, ([], []))[late].append(scene)
    orbits = []
    for (number, direction), (earlier, later) in sorted(sides.items()):
        all_before, all_after = passes_of(earlier), passes_of(later)
        passes, first = all_before[-max_before:], _covering(all_after, area)
        seen = _seen(passes).intersection(_seen(first)).intersection(area)
        share = seen.area / area.area if area.area > 0 else float(not seen.is_empty)
        found = len(all_before), len(all_after)
        orbits.append(_Orbit(number, direction, passes, first, min(1.0, share), found))
    return orbits


def _covering(passes: Sequence[Pass], area: BaseGeometry) -> tuple[Pass, ...]:
    """The first pass, and those later ones that see more of an (unwrapped) area."""
    taken: list[Pass] = []
    seen: BaseGeometry = shapely.Polygon()
    for one in passes:
        whole = seen.union(_seen([one]).intersection(area))
        if not taken or whole.area - seen.area > 0.01 * area.area:
            taken.append(one)
            seen = whole
    return tuple(taken)


def _seen(passes: Sequence[Pass]) -> BaseGeometry:
    """What passes see, on every turn of the globe that an area may be written on."""
    footprints = [unwrap(shapely.from_wkt(scene.footprint_wkt)) for one in passes for scene in one.scenes]
    return shapely.union_all([translate(footprint, turn) for footprint in footprints for turn in (0, 360, -360)])

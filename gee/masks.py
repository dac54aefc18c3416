"""Which pixels of a Sentinel-2 scene are under cloud or in a cloud's shadow: four published ways to tell, one each.

Each way is a small record of its choices, and a function that turns a scene into `CloudLook`. What a way needs beside
the scene's own bands is linked to it by `system:index`, which granules share with the collections made from them.
Digital numbers are reflectance * 10000, top of atmosphere (`S2_HARMONIZED`) or surface (`S2_SR_HARMONIZED`) alike.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import ee

from gee.types import Scene

SURFACE_REFLECTANCE = "COPERNICUS/S2_SR_HARMONIZED"
"""The collection whose images carry `SCL`."""
DN = 10_000
"""Digital numbers per unit of reflectance."""
QA60_GAP = (dt.datetime(2022, 1, 25, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, tzinfo=dt.UTC))
"""[from, to) of the scenes whose QA60 is masked: ESA stopped its cloud polygons with processing baseline 04.00, and
Earth Engine builds QA60 anew, from `MSK_CLASSI`, after 2024-02-28 (data catalogue, COPERNICUS/S2_SR_HARMONIZED)."""


@dataclass(frozen=True)
class CloudScorePlus:
    """Pixels whose Cloud Score+ is below a threshold are not clear (Pasquarella et al. 2023, CVPR Workshops).

    One score for everything that hides the ground. What is not clear counts as shadow where it is dark in the near
    infrared and no open water, which a cloud never is (the rule of `S2Cloudless`, without its projection: the score has
    found the place already), and as cloud elsewhere: on simulated scenes 85 % of what lies in shadow, and 99 % of it
    does; with that rule's NDWI of 0 it is 30 %, as the blue air of the top of the atmosphere makes dark slopes look like
    water. Shadow on bright ground counts as cloud, and the shadow that a ridge casts as that of a cloud; scenes without
    B3 or B8 have one class for all of it.
    """

    threshold: float = 0.60
    """Clear from this score on, in [0, 1]; Google recommends 0.50 to 0.65."""
    band: Literal["cs", "cs_cdf"] = "cs"
    """`cs` (the pixel against a clear one, sensitive to haze) or `cs_cdf` (against its own history)."""
    collection: str = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
    """Collection that holds the score, linked by `system:index`."""
    dark_nir: float = 0.15
    """Reflectance in B8 below which a pixel that is not clear is in shadow."""
    water_ndwi: float = 0.3
    """NDWI of B3 and B8 from which it is open water instead (McFeeters 2013, Remote Sens. 5, 3544-3561)."""

    def __str__(self) -> str:
        """As a record and a report say it."""
        return f"{self.band} >= {self.threshold:.2f} of {self.collection}"


@dataclass(frozen=True)
class S2Cloudless:
    """Cloud by the probability of s2cloudless (Zupanc 2017), shadow by projecting it along the sun.

    The rule and its defaults are those of Google's tutorial "Sentinel-2 Cloud Masking with s2cloudless" (Braaten): a
    pixel is in shadow when it is dark in the near infrared, not water, and lies within reach of a cloud away from the
    sun. Specks are removed and what is left is widened, at 20 m.
    """

    probability_percent: float = 50.0
    """Cloud above this probability."""
    shadows: bool = True
    """Whether shadows are looked for; without, a coarse sample of a large area stays cheap."""
    dark_nir: float = 0.15
    """Reflectance in B8 below which a pixel may be in shadow."""
    reach_m: float = 1000.0
    """How far from a cloud's edge its shadow is looked for, along the ground."""
    buffer_m: float = 50.0
    """How far cloud and shadow are widened, over and above what the removal of specks takes off."""
    collection: str = "COPERNICUS/S2_CLOUD_PROBABILITY"
    """Collection that holds the probability in percent, linked by `system:index`."""

    def __str__(self) -> str:
        """As a record and a report say it."""
        shadows = f", shadows within {self.reach_m:g} m where B8 < {self.dark_nir:g}" if self.shadows else ""
        return f"probability > {self.probability_percent:g} % of {self.collection}{shadows}"


@dataclass(frozen=True)
class SceneClassification:
    """Cloud and cloud shadow by the scene classification of ESA's Sen2Cor (Main-Knorn et al. 2017).

    Scenes of the top of the atmosphere have none of their own; it is linked to them from the surface reflectance.
    """

    collection: str = SURFACE_REFLECTANCE
    """Collection whose images carry `SCL`, linked by `system:index` to scenes without it."""

    def __str__(self) -> str:
        """As a record and a report say it."""
        return f"SCL of {self.collection}"


@dataclass(frozen=True)
class Qa60:
    """Opaque cloud and cirrus by the scene's own QA60 band: coarse, without shadows, and masked for two years.

    Scenes of `QA60_GAP` do not count as having it.
    """

    def __str__(self) -> str:
        """As a record and a report say it."""
        return "bits 10 and 11 of QA60"


CloudMask = CloudScorePlus | S2Cloudless | SceneClassification | Qa60
MASKS: Mapping[str, type[CloudMask]] = {
    "cloud-score-plus": CloudScorePlus,
    "s2cloudless": S2Cloudless,
    "scl": SceneClassification,
    "qa60": Qa60,
}
"""The ways by name, best first: in the comparison of Pasquarella et al. (2023) Cloud Score+ leads s2cloudless, and that
leads the masks of the products."""


@dataclass(frozen=True)
class CloudLook:
    """What a mask says of one scene; images of 0 and 1, unmasked everywhere."""

    cloud: ee.Image
    """Under cloud, or not usable for a reason that the mask does not tell."""
    shadow: ee.Image | None = None
    """In the shadow of a cloud; None when the mask does not tell it from cloud."""
    defective: ee.Image | None = None
    """No valid observation, though the bands hold something; None when the mask does not know."""


def method_of(mask: CloudMask) -> str:
    """The name of a mask's way."""
    return next(name for name, kind in MASKS.items() if isinstance(mask, kind))


def mask_to_dict(mask: CloudMask | None) -> dict[str, Any] | None:
    """As plain JSON values; None stays None."""
    return None if mask is None else {"method": method_of(mask), **asdict(mask)}


def mask_from_dict(value: Mapping[str, Any] | None) -> CloudMask | None:
    """The inverse of `mask_to_dict`. Raises `KeyError` for an unknown way, `TypeError` for an unknown field."""
    if value is None:
        return None
    return MASKS[value["method"]](**{name: field for name, field in value.items() if name != "method"})


def own_support(mask: CloudMask, scene: Scene) -> bool | None:
    """Whether a scene's own bands and properties carry a mask; None when its link decides.

    s2cloudless with shadows needs B8, something that tells water, and the sun's azimuth besides its link.
    """
    match mask:
        case CloudScorePlus():
            return None
        case S2Cloudless():
            if not mask.shadows:
                return None
            water = "SCL" in scene.bands or "B3" in scene.bands
            sun = "MEAN_SOLAR_AZIMUTH_ANGLE" in dict(scene.properties)
            return None if "B8" in scene.bands and water and sun else False
        case SceneClassification():
            return True if "SCL" in scene.bands else None
        case Qa60():
            return "QA60" in scene.bands and not QA60_GAP[0] <= scene.time < QA60_GAP[1]


def linked_band(mask: CloudMask) -> str:
    """The band of `mask.collection` that the mask reads; empty for a mask without a collection."""
    match mask:
        case CloudScorePlus():
            return mask.band
        case S2Cloudless():
            return "probability"
        case SceneClassification():
            return "SCL"
        case Qa60():
            return ""


def link(scenes: ee.ImageCollection, mask: CloudMask | None, bands: frozenset[str]) -> ee.ImageCollection:
    """The scenes with the band that a mask reads; `bands` are those which all of them have already."""
    if mask is None or isinstance(mask, Qa60) or linked_band(mask) in bands:
        return scenes
    return scenes.linkCollection(ee.ImageCollection(mask.collection), [linked_band(mask)])


def look(image: ee.Image, mask: CloudMask, bands: frozenset[str]) -> CloudLook:
    """What a mask says of a scene that has its band (`link`); `bands` are the scene's own."""
    match mask:
        case CloudScorePlus():
            return cloud_score_plus(image, mask, bands)
        case S2Cloudless():
            return s2cloudless(image, mask, bands)
        case SceneClassification():
            return scene_classification(image)
        case Qa60():
            return qa60(image)


def cloud_score_plus(image: ee.Image, mask: CloudScorePlus, bands: frozenset[str]) -> CloudLook:
    """Not clear below the threshold, and where there is no score; shadow as `CloudScorePlus` says."""
    score = image.select(mask.band)
    hidden = score.gte(mask.threshold).unmask(0, False).Not()
    if not {"B3", "B8"} <= bands:
        return CloudLook(hidden)
    water = image.normalizedDifference(["B3", "B8"]).gte(mask.water_ndwi)
    dark = image.select("B8").lt(mask.dark_nir * DN).And(water.Not()).unmask(0, False)
    shadow = hidden.And(score.mask()).And(dark)
    return CloudLook(hidden.And(shadow.Not()), shadow)


def s2cloudless(image: ee.Image, mask: S2Cloudless, bands: frozenset[str]) -> CloudLook:
    """Cloud above the probability and where none is known; shadow as `S2Cloudless` says.

    Earth Engine counts the angle of `directionalDistanceTransform` from east to north, the sun's azimuth runs from
    north to east: looking from a shadow towards the sun is looking along 90 - azimuth. The transform and the opening
    run on grids of 100 m and 20 m of the scene's own zone, so that a tile is the same whatever it was cut from.
    """
    probability = image.select("probability")
    unknown = probability.mask().eq(0)
    cloud = probability.gt(mask.probability_percent).unmask(0, False)
    if not mask.shadows:
        return CloudLook(cloud.Or(unknown))
    nir = image.select("B8")
    water = image.select("SCL").eq(6) if "SCL" in bands else image.normalizedDifference(["B3", "B8"]).gt(0)
    dark = nir.lt(mask.dark_nir * DN).And(water.Not()).unmask(0, False)
    angle = ee.Number(90).subtract(ee.Number(image.get("MEAN_SOLAR_AZIMUTH_ANGLE")))
    towards_sun = cloud.directionalDistanceTransform(angle, round(mask.reach_m / 100))
    cast = towards_sun.reproject(nir.projection().atScale(100)).select("distance").mask()
    shadow = dark.And(cast).And(cloud.Not())
    return CloudLook(_widened(cloud, nir, mask.buffer_m).Or(unknown), _widened(shadow, nir, mask.buffer_m))


def scene_classification(image: ee.Image) -> CloudLook:
    """Classes 8, 9, 10 (cloud of medium and high probability, cirrus) and 3 (cloud shadow); 0 and 1 are no data."""
    scl = image.select("SCL").unmask(0, False)
    return CloudLook(scl.gte(8).And(scl.lte(10)), scl.eq(3), scl.lte(1))


def qa60(image: ee.Image) -> CloudLook:
    """Bit 10 (opaque) or 11 (cirrus); not clear where the band is masked."""
    flags = image.select("QA60").unmask(1 << 10, False).toUint16()
    return CloudLook(flags.bitwiseAnd((1 << 10) | (1 << 11)).neq(0))


def _widened(found: ee.Image, like: ee.Image, buffer_m: float) -> ee.Image:
    """Specks of less than 40 m removed, what is left widened by the buffer: at 20 m, which clouds do not need finer."""
    grid = like.projection().atScale(20)
    opened = found.focalMin(2).focalMax(buffer_m * 2 / 20)
    return opened.reproject(grid).unmask(0, False)

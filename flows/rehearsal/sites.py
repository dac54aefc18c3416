"""Where the rehearsal's earthquakes strike: a few small simulated regions, set down at many places far from each other.

Each site has scenes before and after, which come into the catalogue of the Earth Engine stand-in when their time has
come, and an elevation model. Everywhere else the simulated world is sea.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from affine import Affine
from pyproj import Transformer

from infra.local.scenes import CLOUD_SCORE, SENTINEL2, write_collection, write_geotiff, write_image
from infra.local.simulated import SIMULATED
from modeling.simulate import Pass, Region, domain, simulate_region
from modeling.simulate.reference import srtm_like

BANDS = ("B2", "B3", "B4", "B8")
"""Bands of the scenes: those that the ten-band network reads."""
DOMAINS = ("luding", "iburi", "palu", "gorkha")
"""Whose relatives the regions are."""
DEM, SEA = "JAXA/ALOS/AW3D30/V4_1", "SIMULATED/SEA"
"""The collection of the sites' elevation, and the image that is sea everywhere else."""
ZONES, NORTHS = range(31, 37), tuple(float(north) for north in np.arange(11.0, 27.1, 2.0))
"""UTM zones and latitudes of the sites: no earthquake of the recorded week is near, and none of another site."""
MOST = len(ZONES) * len(NORTHS)
"""How many sites there can be."""
CLEAR_SCORE = 0.6
"""Pixels of this Cloud Score+ and more are clear, as in `imagery.cloud_score_threshold`."""
SEA_STEP_DEG = 0.25
PASS_HOUR = dt.timedelta(hours=10.5)


@dataclass(frozen=True)
class Site:
    """One place."""

    number: int
    """From 0."""
    region: Region
    """The simulated region, set down at its place; its times mean nothing."""

    @property
    def name(self) -> str:
        """Short name, part of the ids of its scenes."""
        return f"S{self.number:02d}"

    @cached_property
    def lon_lat(self) -> tuple[float, float]:
        """The epicentre, degrees."""
        return self.region.event.lon, self.region.event.lat

    def clear_share(self, phase: str, number: int) -> float:
        """Share of the region that a pass shows clearly, 0 to 1."""
        score = self.passes(phase)[number].cs
        return float((np.nan_to_num(score) >= CLEAR_SCORE).mean())

    def passes(self, phase: str) -> list[Pass]:
        """The passes of a phase, `pre` or `post`, in order of time."""
        return [one for one in self.region.passes if one.phase == phase]


@dataclass(frozen=True)
class SceneDrop:
    """A scene that comes into the catalogue."""

    at: dt.datetime
    """When it is there."""
    site: int
    """Of which site."""
    phase: str
    """`pre` or `post` of the site's earthquake."""
    number: int
    """Which of the site's passes of that phase it shows."""
    taken: dt.datetime
    """When it was taken."""
    satellite: str
    """Which satellite took it."""


def make_regions(count: int, seed: int, size_px: int) -> list[Region]:
    """`count` simulated regions of `size_px` pixels a side, with two passes before and four after."""
    return [
        simulate_region(
            domain(DOMAINS[number % len(DOMAINS)]), seed=seed * 1000 + number, shape_yx=(size_px, size_px),
            dates_pre=2, dates_post=4, bands=BANDS,
        )
        for number in range(count)
    ]  # fmt: skip


def set_down(regions: Sequence[Region], count: int) -> list[Site]:
    """`count` sites, the regions in turn; raises `ValueError` when there is no room for so many."""
    if count > MOST:
        raise ValueError(f"{count} sites were asked for, there is room for {MOST}")
    places = [(zone, north) for north in NORTHS for zone in ZONES]
    step = len(places) // max(1, count)
    return [
        Site(number, _moved(regions[number % len(regions)], *places[number * max(1, step)])) for number in range(count)
    ]


def _moved(region: Region, zone: int, north: float) -> Region:
    """A region about the central meridian of a UTM zone at a latitude."""
    crs, (rows, cols), pixel = f"EPSG:{32600 + zone}", region.shape_yx, region.transform[0]
    to_utm = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_utm.transform(zone * 6 - 183.0, north)
    left, top = (round(value / pixel) * pixel for value in (x - cols * pixel / 2, y + rows * pixel / 2))
    shaken = np.unravel_index(int(np.argmax(region.mmi)), region.shape_yx)
    lon, lat = to_utm.transform(left + pixel * shaken[1], top - pixel * shaken[0], direction="INVERSE")
    event = replace(region.event, lon=float(lon), lat=float(lat))
    return replace(region, crs=crs, transform=(pixel, 0.0, left, 0.0, -pixel, top), event=event)


def write_world(catalogue: Path, sites: Sequence[Site]) -> None:
    """Write the rasters of all sites, the elevation and the sea; no scene is listed by that. What is there is kept."""
    for collection in (SENTINEL2, CLOUD_SCORE, DEM):
        write_collection(catalogue, collection, SIMULATED)
    sea = np.zeros((round(180 / SEA_STEP_DEG), round(360 / SEA_STEP_DEG)), np.int16)
    grid = Affine(SEA_STEP_DEG, 0, -180, 0, -SEA_STEP_DEG, 90)
    write_image(catalogue, SEA, {"elevation": sea}, crs="EPSG:4326", transform=grid, nodata=None, properties=SIMULATED)
    for site in sites:
        _write_site(catalogue, site)


def _write_site(catalogue: Path, site: Site) -> None:
    region, transform = site.region, Affine(*site.region.transform)
    if not (catalogue / f"{DEM}/{site.name}.json").is_file():
        elevation, degrees = srtm_like(region)
        write_image(
            catalogue, f"{DEM}/{site.name}", {"DSM": elevation}, crs="EPSG:4326", transform=degrees, nodata=None,
            properties=SIMULATED,
        )  # fmt: skip
    for phase in ("pre", "post"):
        for number, one in enumerate(site.passes(phase)):
            scene, score = (catalogue / file for file in _files(site.number, phase, number))
            if scene.is_file() and score.is_file():
                continue
            bands = dict(zip(region.bands, one.dn, strict=True))
            write_geotiff(scene, bands, crs=region.crs, transform=transform, nodata=0)
            values = dict.fromkeys(("cs", "cs_cdf"), np.round(one.cs, 3).astype(np.float32))
            write_geotiff(score, values, crs=region.crs, transform=transform, nodata=float("nan"))


def list_scene(catalogue: Path, drop: SceneDrop, sites: Sequence[Site]) -> str:
    """Let a scene be seen, its cloud score first; again is harmless. Returns the image's id."""
    one = sites[drop.site].passes(drop.phase)[drop.number]
    index = f"{drop.taken:%Y%m%dT%H%M%S}_{sites[drop.site].name}"
    scene, score = _files(drop.site, drop.phase, drop.number)
    seen = {
        "CLOUDY_PIXEL_PERCENTAGE": round(one.cloud_percent, 2), "MEAN_SOLAR_ZENITH_ANGLE": 30.0,
        "MEAN_SOLAR_AZIMUTH_ANGLE": 150.0, "SPACECRAFT_NAME": drop.satellite, "SENSING_ORBIT_NUMBER": drop.site + 1,
    }  # fmt: skip
    _describe(catalogue, f"{CLOUD_SCORE}/{index}", score, ("cs", "cs_cdf"), drop.taken, {})
    _describe(catalogue, f"{SENTINEL2}/{index}", scene, BANDS, drop.taken, seen)
    return f"{SENTINEL2}/{index}"


def _files(site: int, phase: str, number: int) -> tuple[str, str]:
    """Files of a pass and of its cloud score, below the catalogue."""
    name = f"S{site:02d}_{phase}{number}.tif"
    return f"{SENTINEL2}/{name}", f"{CLOUD_SCORE}/{name}"


def _describe(
    catalogue: Path, image_id: str, file: str, bands: Sequence[str], taken: dt.datetime, properties: dict[str, object]
) -> None:
    path = catalogue / f"{image_id}.json"
    body = {
        "id": image_id, "time_start": taken.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "time_end": None,
        "properties": {**SIMULATED, **properties},
        "bands": [{"id": name, "file": Path(file).name, "band": number} for number, name in enumerate(bands, start=1)],
    }  # fmt: skip
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(body), encoding="utf-8")
    temporary.replace(path)

"""One simulated earthquake: the ground, the shaking, the landslides, and what Sentinel-2 saw before and after."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from scipy import ndimage

from modeling.errors import DataError
from modeling.simulate.clouds import make_clouds, seen_through
from modeling.simulate.domains import Domain
from modeling.simulate.landcover import ROCK, make_cover
from modeling.simulate.landslides import make_slides, susceptibility
from modeling.simulate.noise import BoolArray, CodeArray, FloatArray, IntArray, fractal, stream
from modeling.simulate.optics import BANDS, illumination, mixture, spectra, sun_at, tint, to_sensor
from modeling.simulate.terrain import Terrain, make_terrain

PASS_HOUR_LOCAL = 10.5
"""Local solar time of Sentinel-2's descending node."""
ADJACENCY_M = 1000.0
"""Side of the square of ground from which the air scatters light into a pixel."""
SCALE = 10_000
"""Digital numbers per unit of reflectance."""


@dataclass(frozen=True)
class SimulatedQuake:
    """An earthquake that never happened."""

    time: dt.datetime
    """Origin time, UTC."""
    lon: float
    """Longitude of the epicentre, degrees."""
    lat: float
    """Latitude of the epicentre, degrees."""
    depth_km: float
    """Depth of the source, kilometres."""
    magnitude: float
    """Moment magnitude."""


@dataclass(frozen=True)
class Pass:
    """What one overpass recorded."""

    time: dt.datetime
    """Acquisition, UTC."""
    phase: str
    """`pre` or `post`."""
    dn: npt.NDArray[np.uint16]
    """Top-of-atmosphere reflectance times 10,000 (band, y, x), 0 where there is no data; bands as `Region.bands`."""
    cs: FloatArray
    """Cloud Score+ like score in [0, 1] (y, x), NaN where there is no data."""
    cloud: BoolArray
    """Truth: under cloud (y, x), known in the swath's gap as well."""
    shadow: BoolArray
    """Truth: in cloud shadow (y, x), known in the swath's gap as well."""
    cloud_percent: float
    """Share of the region, the swath's gap included, under cloud, in percent."""

    @property
    def observed(self) -> BoolArray:
        """Where the swath has data (y, x)."""
        return np.asarray(self.dn[0] > 0)


@dataclass(frozen=True)
class Region:
    """A region with its truth; arrays are (y, x), north up."""

    name: str
    """Name of the domain."""
    crs: str
    """UTM, `EPSG:…`."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients a, b, c, d, e, f; the origin is a multiple of the pixel."""
    event: SimulatedQuake
    """The earthquake."""
    elevation_m: FloatArray
    """True elevation, metres."""
    mmi: FloatArray
    """Shaking, Modified Mercalli Intensity."""
    landcover: CodeArray
    """Codes of `modeling.simulate.landcover.CLASSES`."""
    truth: BoolArray
    """Whether a landslide covers the pixel."""
    landslide_id: IntArray
    """0 outside, else the number of the landslide; a later one takes over where two meet."""
    bands: tuple[str, ...]
    """Bands of every pass."""
    passes: tuple[Pass, ...]
    """All passes in order of time."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.truth.shape


def simulate_region(
    domain: Domain,
    *,
    seed: int,
    shape_yx: tuple[int, int] = (1024, 1024),
    pixel_m: float = 10.0,
    dates_pre: int = 3,
    dates_post: int = 3,
    bands: Sequence[str] = BANDS,
) -> Region:
    """Make a region of `shape_yx` pixels with `dates_pre` and `dates_post` passes; raises `DataError` for unknown bands.

    The same domain, seed and arguments give the same bits in one environment. Another number of BLAS threads (or
    another BLAS) sums a pixel's mixture in another order: a digital number in a million or so then differs by one.
    """
    if unknown := [name for name in bands if name not in BANDS]:
        raise DataError(f"unknown bands {', '.join(unknown)}: the simulator knows {', '.join(BANDS)}")
    terrain = make_terrain(domain, seed, shape_yx, pixel_m)
    crs, transform, to_lonlat = _place(domain, shape_yx, pixel_m)
    rng = stream(seed, "event")
    epicentre = np.array(shape_yx) * rng.uniform(0.42, 0.58, 2)
    lon, lat = to_lonlat.transform(
        transform[2] + transform[0] * epicentre[1], transform[5] + transform[4] * epicentre[0]
    )  # fmt: skip
    moment = dt.datetime.fromisoformat(domain.event_date).replace(tzinfo=dt.UTC) + dt.timedelta(
        seconds=int(rng.integers(86_400))
    )
    quake = SimulatedQuake(moment, float(lon), float(lat), domain.depth_km, domain.magnitude)
    mmi = shaking(domain, seed, shape_yx, epicentre)
    cover = make_cover(domain, seed, terrain, pixel_m)
    chance = susceptibility(domain, terrain, mmi) * (0.35 + 0.65 * (cover.classes != ROCK))
    slides = make_slides(domain, seed, terrain, chance.astype(np.float32), domain.slide_share, "event", pixel_m)
    ground = spectra(domain, bands, tint(stream(seed, "tint")))
    passes = []
    for phase, times in _pass_times(domain, quake, stream(seed, "passes"), dates_pre, dates_post):
        for number, time in enumerate(times):
            own = stream(seed, "pass", phase, number)
            after = phase == "post"
            shares = mixture(domain, terrain, cover, slides, time, after=after, rng=stream(seed, "cover of", phase))
            passes.append(
                _observe(domain, own, terrain, cover.tone, shares, ground, time, phase, tuple(bands), pixel_m)
            )
    return Region(
        name=domain.name, crs=crs, transform=transform, event=quake, elevation_m=terrain.elevation_m, mmi=mmi,
        landcover=cover.classes, truth=slides.label > 0, landslide_id=slides.label, bands=tuple(bands),
        passes=tuple(sorted(passes, key=lambda one: one.time)),
    )  # fmt: skip


def shaking(domain: Domain, seed: int, shape_yx: tuple[int, int], epicentre_yx: npt.NDArray[np.float64]) -> FloatArray:
    """MMI (y, x) after Allen, Wald and Worden (2012, J. Seismol. 16, 409-433), the equation for rupture distance.

    The source is a point, and smooth noise stands for the site. A region is a few kilometres wide, and MMI 6 of a real
    quake would leave it; so distances are stretched until that contour runs at `domain.contour_share` of the way from
    the epicentre (row, column) to the nearest edge.
    """
    y, x = np.ogrid[: shape_yx[0], : shape_yx[1]]
    distance_px = np.hypot(y - epicentre_yx[0], x - epicentre_yx[1]).astype(np.float32)
    nearest = min(*epicentre_yx, shape_yx[0] - epicentre_yx[0], shape_yx[1] - epicentre_yx[1])
    saturation = 1 + 0.813 * math.exp(domain.magnitude - 5)
    reach_km = math.sqrt(
        max(math.exp((3.950 + 0.913 * domain.magnitude - 6.0) / 1.107) ** 2 - saturation**2 - domain.depth_km**2, 1.0)
    )
    stretch = reach_km / (domain.contour_share * nearest)
    rupture_km = np.hypot(distance_px * np.float32(stretch), np.float32(domain.depth_km))
    mmi = 3.950 + 0.913 * domain.magnitude - 1.107 * np.log(np.hypot(rupture_km, np.float32(saturation)))
    site = 0.12 * fractal(stream(seed, "site"), shape_yx, 200, 20)
    fade = np.clip(1 - distance_px / nearest, 0, 1)  # site terms vanish towards the edge, so that contours close
    return np.asarray(np.clip(mmi + site * fade, 1, 10), dtype=np.float32)


def _place(
    domain: Domain, shape_yx: tuple[int, int], pixel_m: float
) -> tuple[str, tuple[float, float, float, float, float, float], Transformer]:
    """(UTM zone, snapped affine coefficients, UTM to longitude and latitude) of a region about the domain's centre."""
    zone = int((domain.longitude + 180) // 6) + 1
    crs = f"EPSG:{32600 + zone if domain.latitude >= 0 else 32700 + zone}"
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(domain.longitude, domain.latitude)
    left = round((x - shape_yx[1] * pixel_m / 2) / pixel_m) * pixel_m
    top = round((y + shape_yx[0] * pixel_m / 2) / pixel_m) * pixel_m
    return crs, (pixel_m, 0.0, left, 0.0, -pixel_m, top), Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _pass_times(
    domain: Domain, quake: SimulatedQuake, rng: np.random.Generator, before: int, after: int
) -> list[tuple[str, list[dt.datetime]]]:
    """The passes of each phase, UTC, from the quake outwards: days drawn at random, not a real orbit."""
    pass_utc = dt.timedelta(hours=(PASS_HOUR_LOCAL - domain.longitude / 15) % 24)

    def times(count: int, sign: int, gap: tuple[int, int], step: tuple[int, int]) -> list[dt.datetime]:
        days = int(rng.integers(gap[0], gap[1] + 1))
        out = []
        for _ in range(count):
            day = (quake.time + dt.timedelta(days=sign * days)).replace(hour=0, minute=0, second=0, microsecond=0)
            out.append(day + pass_utc)
            days += int(rng.integers(step[0], step[1] + 1))
        return out

    return [
        ("pre", times(before, -1, domain.pre_gap_days, domain.pre_step_days)),
        ("post", times(after, 1, domain.post_gap_days, domain.post_step_days)),
    ]


def _observe(
    domain: Domain, rng: np.random.Generator, terrain: Terrain, tone: FloatArray, shares: FloatArray, ground: FloatArray,
    time: dt.datetime, phase: str, bands: tuple[str, ...], pixel_m: float,
) -> Pass:  # fmt: skip
    """One overpass: light, air, a shift against the grid, clouds, noise of the sensor, and the edge of the swath."""
    shape = tone.shape
    sun = sun_at(time, domain.latitude)
    aerosol = float(np.clip(domain.aerosol * math.exp(0.6 * rng.standard_normal()), 0.01, 0.8))
    cover = min(domain.cloudiness * math.exp(0.7 * rng.standard_normal()), 0.9) if rng.random() < 0.8 else 0.0
    clouds = make_clouds(rng, shape, cover, sun, pixel_m)
    light = illumination(terrain, sun, aerosol, bands, pixel_m=pixel_m, shade=clouds.shade) * tone
    # Not a product of matrices: BLAS sums in an order that depends on the number of threads.
    surface = np.einsum("kb,kyx->byx", ground.astype(np.float32), shares.astype(np.float32, copy=False))
    seen = to_sensor(surface, light, sun, aerosol, bands, around_px=round(ADJACENCY_M / pixel_m))
    shift = rng.normal(0, domain.misregistration_px, 2)
    for band in seen:
        band[:] = ndimage.shift(band, shift, order=1, mode="nearest", prefilter=False)
        if phase == "pre" and any(domain.shift_before_px):
            band[:] = ndimage.shift(band, domain.shift_before_px, order=3, mode="nearest")
    white = np.array([0.55 if name in ("B11", "B12") else 0.75 for name in bands], np.float32) * np.float32(
        rng.uniform(0.7, 1.1)
    )
    seen = seen_through(clouds, seen, white)
    seen *= 1 + 0.008 * domain.sensor_noise * rng.standard_normal((len(bands), 1, 1)).astype(np.float32)
    seen += 0.0015 * domain.sensor_noise * rng.standard_normal(seen.shape, dtype=np.float32)
    dn = np.clip(np.rint(seen * SCALE), 1, 65_000).astype(np.uint16)
    score = clouds.score.copy()
    if phase == "pre" and rng.random() < domain.swath_edge:
        y, x = np.ogrid[: shape[0], : shape[1]]
        outside = (x - shape[1] * rng.uniform(0.2, 0.8)) + 0.2 * (y - shape[0] / 2) > 0
        dn[:, outside], score[outside] = 0, np.nan
    return Pass(time, phase, dn, score, clouds.cloud, clouds.shadow, 100.0 * float(clouds.cloud.mean()))

"""From ground to top-of-atmosphere reflectance in the twelve bands of Sentinel-2.

Spectra, and the factors of light and air that have no source beside them, are rounded typical values set by hand.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.simulate.domains import Domain
from modeling.simulate.landcover import BROADLEAF, CONIFER, CROP, GRAVEL, OPEN, ROCK, TOWN, WATER, Cover
from modeling.simulate.landslides import Slides
from modeling.simulate.noise import FloatArray, fractal, ramp
from modeling.simulate.terrain import Terrain

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
"""Bands of Sentinel-2 that are simulated, in the order of arrays (band, y, x)."""
WAVELENGTH_NM = np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190], dtype=np.float64)
"""Centre of each of `BANDS`, rounded; a band is treated as one wavelength."""

# Reflectance of each surface in each of BANDS: rounded typical values, set by hand, of no one sample of any library.
_SPECTRA = {
    "broadleaf": (0.011, 0.015, 0.034, 0.018, 0.062, 0.190, 0.240, 0.255, 0.270, 0.255, 0.125, 0.052),
    "autumn": (0.012, 0.016, 0.030, 0.048, 0.082, 0.125, 0.150, 0.170, 0.180, 0.180, 0.150, 0.085),
    "conifer": (0.009, 0.012, 0.022, 0.014, 0.037, 0.110, 0.140, 0.150, 0.160, 0.150, 0.065, 0.027),
    "grass": (0.022, 0.030, 0.062, 0.042, 0.120, 0.250, 0.300, 0.320, 0.330, 0.310, 0.220, 0.120),
    "crop": (0.022, 0.028, 0.058, 0.034, 0.110, 0.290, 0.360, 0.390, 0.400, 0.370, 0.200, 0.100),
    "leafless": (0.028, 0.033, 0.046, 0.060, 0.084, 0.115, 0.130, 0.145, 0.160, 0.165, 0.210, 0.150),
    "straw": (0.047, 0.059, 0.088, 0.122, 0.180, 0.210, 0.230, 0.255, 0.275, 0.280, 0.330, 0.240),
    "slash": (0.036, 0.044, 0.065, 0.088, 0.125, 0.150, 0.165, 0.185, 0.200, 0.205, 0.260, 0.190),
    "char": (0.030, 0.035, 0.040, 0.045, 0.055, 0.065, 0.075, 0.085, 0.090, 0.095, 0.140, 0.130),
    "water": (0.055, 0.050, 0.048, 0.032, 0.026, 0.018, 0.016, 0.012, 0.010, 0.009, 0.005, 0.003),
    "town": (0.090, 0.100, 0.120, 0.140, 0.150, 0.160, 0.170, 0.185, 0.195, 0.190, 0.210, 0.190),
    "snow": (0.820, 0.830, 0.810, 0.790, 0.780, 0.760, 0.730, 0.710, 0.690, 0.600, 0.100, 0.080),
}
_VAPOUR = 0.33
"""Share of the light at 945 nm that gets through water vapour twice, of a few centimetres as in summer."""
SURFACES = (*_SPECTRA, "soil", "scar", "rock", "gravel")
"""Surfaces of which a pixel is mixed."""


def spectra(domain: Domain, bands: Sequence[str], tint: npt.NDArray[np.float64] | None = None) -> FloatArray:
    """Reflectance (surface, band) of `SURFACES` in `bands`; `tint` (surface, all of `BANDS`), see `tint`, multiplies it.

    Soil, rock and gravel follow a power of the wavelength, a weaker one beyond 700 nm, and are flat beyond 1150 nm.
    """
    # Iron colours the visible part; beyond 700 nm soils rise slowly, whatever their hue.
    rise = (np.minimum(WAVELENGTH_NM, 700) / 665.0) ** domain.soil_redness
    soil = domain.soil_brightness * rise * (np.clip(WAVELENGTH_NM, 700, 1150) / 700.0) ** min(domain.soil_redness, 0.6)
    rock = 0.17 * (np.minimum(WAVELENGTH_NM, 1150) / 665.0) ** 0.45
    rows = [*_SPECTRA.values(), 0.6 * soil, soil, rock, 1.1 * rock]
    table = np.array(rows) * (1.0 if tint is None else tint)
    return table[:, [BANDS.index(name) for name in bands]].astype(np.float32)


@dataclass(frozen=True)
class Sun:
    """Where the sun stands when Sentinel-2 passes (10:30 local solar time)."""

    zenith_deg: float
    """Angle from the vertical."""
    azimuth_deg: float
    """Clockwise from north."""


def sun_at(time: dt.datetime, latitude: float) -> Sun:
    """The sun at 10:30 local solar time on the day of `time`; declination after Cooper (1969), Solar Energy 12.

    The zenith angle is held below 83.1 degrees, where the plane-parallel air of `to_sensor` ends.
    """
    day = time.timetuple().tm_yday
    declination = math.radians(23.45 * math.sin(math.radians(360 * (284 + day) / 365)))
    hour, phi = math.radians(-22.5), math.radians(latitude)
    cosine = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    zenith = math.acos(max(0.12, min(1.0, cosine)))
    south = math.cos(hour) * math.sin(phi) - math.tan(declination) * math.cos(phi)
    azimuth = (math.degrees(math.atan2(math.sin(hour), south)) + 180.0) % 360.0
    return Sun(math.degrees(zenith), azimuth)


def season(time: dt.datetime, latitude: float) -> float:
    """-1 in the depth of winter to 1 at the height of summer (late January and late July in the north; else mirrored)."""
    angle = 2 * math.pi * (time.timetuple().tm_yday - 205) / 365.25
    return math.cos(angle) * (1 if latitude >= 0 else -1)


def leaf_on(time: dt.datetime, latitude: float, deciduous: float, delay_days: FloatArray | float = 0.0) -> FloatArray:
    """Share of full leaf in [0, 1]: two logistic ramps a year (the form of Zhang et al. 2003, Remote Sens. Environ. 84).

    `deciduous` is the share that falls in winter, `delay_days` shifts both ramps (of any shape, which the result has).
    The dates are set by hand for 45 degrees of latitude and move with it; the southern year is shifted by half.
    """
    shift = 0 if latitude >= 0 else 182.6
    warmer = max(0.0, 45.0 - abs(latitude)) * 0.9  # spring comes earlier and autumn later towards the equator
    day = (time.timetuple().tm_yday + shift) % 365.25
    delayed = np.asarray(delay_days, dtype=np.float32)
    up = 1 / (1 + np.exp(-(day - (124 - warmer) - delayed) / 8))
    down = 1 / (1 + np.exp((day - (295 + warmer) - delayed) / 9))
    return np.asarray(1 - deciduous * (1 - up * down), dtype=np.float32)


def autumn_share(time: dt.datetime, latitude: float, deciduous: float) -> float:
    """Share of the leaves still on the trees that have turned, 0 to 1: half of them 16 days before half have fallen."""
    shift = 0 if latitude >= 0 else 182.6
    warmer = max(0.0, 45.0 - abs(latitude)) * 0.9
    day = (time.timetuple().tm_yday + shift) % 365.25
    # Leaves that hang on into the new year are last year's: brown until spring.
    return float(deciduous / (1 + math.exp((279 + warmer - day) / 6)))


def mixture(
    domain: Domain,
    terrain: Terrain,
    cover: Cover,
    slides: Slides,
    time: dt.datetime,
    *,
    after: bool,
    rng: np.random.Generator,
) -> FloatArray:
    """Share (surface, y, x) of each of `SURFACES` in every pixel on one date, `after` the event or before.

    Shares add up to one, but for old scars (down to 0.87) and clear-cuts (0.92) where herbs are out of season: what is
    missing reflects nothing. `rng` draws the patches of snow and, after, of what survives in landslides.
    """
    shape = cover.classes.shape
    share = {name: np.zeros(shape, np.float32) for name in SURFACES}
    leaf = float(leaf_on(time, domain.latitude, domain.deciduous))
    green = float(leaf_on(time, domain.latitude, 0.85)) * (1 - domain.dryness)
    dense = np.clip(cover.density, 0, 1)
    is_ = {code: (cover.classes == code).astype(np.float32) for code in range(8)}
    coloured = autumn_share(time, domain.latitude, domain.deciduous)
    share["broadleaf"] += is_[BROADLEAF] * leaf * (1 - coloured) * dense
    share["autumn"] += is_[BROADLEAF] * leaf * coloured * dense
    share["leafless"] += is_[BROADLEAF] * (1 - leaf) * dense
    share["conifer"] += is_[CONIFER] * dense
    # Between crowns the sensor sees litter and stems in their shade, not soil.
    share["leafless"] += (is_[BROADLEAF] + is_[CONIFER]) * (1 - dense)
    share["grass"] += is_[OPEN] * green * dense
    share["straw"] += is_[OPEN] * (1 - green) * dense * 0.7
    crop = leaf_on(time, domain.latitude, 1.0, cover.field_phase)
    standing = crop * (1 - cover.harvested) if after else crop
    share["crop"] += is_[CROP] * standing * 0.9
    share["straw"] += is_[CROP] * (1 - standing) * 0.45
    share["town"] += is_[TOWN] * 0.8
    share["grass"] += is_[TOWN] * 0.15 * green
    share["rock"] += is_[ROCK] * 0.85
    share["grass"] += is_[ROCK] * 0.15 * green
    wet = np.clip(is_[WATER] + is_[GRAVEL] * np.clip(-cover.flooded if after else cover.flooded, 0, 1), 0, 1)
    share["water"] += wet
    share["gravel"] += np.clip(is_[GRAVEL] - wet, 0, 1)
    rest = np.clip(1 - sum(share.values()), 0, 1)
    share["soil"] += rest
    _replace(share, 0.85 * cover.old_scar, {"scar": 0.75, "rock": 0.1, "grass": 0.15 * green})
    if after:
        _replace(share, cover.felled, {"slash": 0.7, "soil": 0.22, "grass": 0.08 * green})
        _replace(share, 0.9 * cover.burnt, {"char": 0.75, "leafless": 0.25})
        _replace(share, cover.opened, {"soil": 0.6, "gravel": 0.4})
        mottled = np.clip(1 - domain.survival * (1 + fractal(rng, shape, 10, 2)) - 0.35 * (1 - slides.depth), 0.15, 1)
        _replace(share, np.where(slides.label > 0, mottled, 0).astype(np.float32), {"scar": 0.92, "rock": 0.08})
    level = 0.5 * (1 + season(time, domain.latitude))
    snow_line = domain.snow_line_winter + level * (domain.snow_line_summer - domain.snow_line_winter)
    # What melts last lies where the sun of early spring does not reach: on slopes away from the equator.
    shaded = terrain.gradient[0] * (1 if domain.latitude >= 0 else -1)
    height = terrain.elevation_m + 120 * fractal(rng, shape, 50, 3) - 4 * terrain.slope_deg + 250 * shaded
    snow = ramp(height.astype(np.float32), snow_line - 60, snow_line + 160)
    under_trees = 1 - 0.65 * (share["conifer"] + 0.5 * share["broadleaf"] + 0.35 * share["leafless"])
    _replace(share, np.clip(snow * under_trees, 0, 1), {"snow": 1.0})
    return np.stack([share[name] for name in SURFACES])


def _replace(share: dict[str, FloatArray], part: FloatArray, by: dict[str, float]) -> None:
    """Cover `part` (y, x) of every pixel with another mixture; changes `share` in place."""
    keep = 1 - np.clip(part, 0, 1)
    for name in share:
        share[name] *= keep
    for name, portion in by.items():
        share[name] += (1 - keep) * np.float32(portion)


def illumination(
    terrain: Terrain, sun: Sun, aerosol: float, bands: Sequence[str], *, pixel_m: float = 10.0,
    shade: FloatArray | None = None,
) -> FloatArray:  # fmt: skip
    """Irradiance (band, y, x) relative to level ground in the open: direct cos i / cos z, and diffuse by the visible sky.

    `aerosol` is the optical depth at 550 nm, `shade` (y, x) the share of the direct light that cloud takes. Ridges cast
    shadows (`cast_shadow`). The diffuse share falls with wavelength, as half the molecules' and a quarter of the
    particles' optical depth along the sun's path scatter down to the ground, with 0.03 for light from slopes about.
    """
    dy, dx = terrain.gradient
    zenith, azimuth = math.radians(sun.zenith_deg), math.radians(sun.azimuth_deg)
    norm = 1 / np.sqrt(1 + dx * dx + dy * dy)
    # Image rows run south: the surface normal is (-dz/dx east, +dz/dy north, 1).
    towards = -dx * math.sin(zenith) * math.sin(azimuth) + dy * math.sin(zenith) * math.cos(azimuth) + math.cos(zenith)
    direct = np.clip(towards * norm, 0, None) / math.cos(zenith)
    direct = direct * (1 - cast_shadow(terrain.elevation_m, sun, pixel_m))
    if shade is not None:
        direct = direct * (1 - np.float32(0.9) * shade)
    sky = 0.5 * (1 + norm)
    rayleigh, particles = _optical_depths(aerosol, bands)
    diffuse = 0.03 + 0.97 * (1 - np.exp(-(0.5 * rayleigh + 0.25 * particles) / math.cos(zenith)))
    share = diffuse.astype(np.float32)[:, None, None]
    return np.asarray((1 - share) * direct + share * sky, dtype=np.float32)


def cast_shadow(elevation_m: FloatArray, sun: Sun, pixel_m: float) -> FloatArray:
    """Share (y, x) of the sun's disc that ground towards it hides, 0 to 1; half a pixel's rise makes the penumbra.

    Looks from each pixel towards the sun in steps of a pixel until no ridge of the region can reach; the ground beyond
    the region's edge is taken for low.
    """
    rise = pixel_m / math.tan(math.radians(sun.zenith_deg)) if sun.zenith_deg > 1 else math.inf
    azimuth = math.radians(sun.azimuth_deg)
    north, east = math.cos(azimuth), math.sin(azimuth)
    rows, cols = elevation_m.shape
    steps = min(int(float(np.ptp(elevation_m)) / rise), max(rows, cols) - 1)
    over = np.full(elevation_m.shape, -np.inf, np.float32)
    for step in range(1, steps + 1):
        down, right = round(-step * north), round(step * east)  # rows run south
        if abs(down) >= rows or abs(right) >= cols:
            break
        here = slice(max(0, -down), rows - max(0, down)), slice(max(0, -right), cols - max(0, right))
        there = slice(max(0, down), rows - max(0, -down)), slice(max(0, right), cols - max(0, -right))
        above = elevation_m[there] - np.float32(step * rise)
        np.maximum(over[here], above, out=over[here])
    return ramp(np.maximum(over - elevation_m, np.float32(-1e4)), -0.25 * pixel_m / 2, 0.25 * pixel_m)


def _optical_depths(aerosol: float, bands: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(molecules, aerosol) of each band."""
    micron = WAVELENGTH_NM[[BANDS.index(name) for name in bands]] / 1e3
    return 0.0089 * micron**-4.05, aerosol * (micron / 0.55) ** -1.3


def to_sensor(
    surface: FloatArray, light: FloatArray, sun: Sun, aerosol: float, bands: Sequence[str], *, around_px: int = 0
) -> FloatArray:
    """Top-of-atmosphere reflectance (band, y, x) of ground reflectance (band, y, x) under `light`, (y, x) or by band.

    Path reflectance plus ground times transmittance, in the sense of 6S (Vermote et al. 1997, IEEE Trans. Geosci.
    Remote Sens. 35) but without coupling or gases, except that water vapour takes two thirds of B9. The path is single
    scattering seen from straight above, tau P / (4 cos z), with Rayleigh's phase function P = 0.75 (1 + cos2 z).
    Optical depth of molecules 0.0089 um**-4.05, of aerosol `aerosol` at 550 nm with Angstrom exponent 1.3; aerosol's P
    and the factors of the transmittance are set by hand. `around_px` is the side of the square from which light is
    scattered into a pixel's (adjacency; a kilometre is typical); 0 leaves that out.
    """
    rayleigh, particles = _optical_depths(aerosol, bands)
    mu = math.cos(math.radians(sun.zenith_deg))
    path = (0.75 * (1 + mu * mu) * rayleigh + 0.28 * particles) / (4 * mu)
    through = np.exp(-(0.5 * rayleigh + 0.16 * particles) * (1 / mu + 1))
    if around_px > 1:
        # What the air scatters on the way up reaches the sensor from the ground about: haze takes contrast.
        straight = np.exp(-(0.5 * rayleigh + 0.45 * particles)).astype(np.float32)
        lit = surface * light
        for index, share in enumerate(straight):
            lit[index] += (1 - share) * (ndimage.uniform_filter(lit[index], around_px, mode="nearest") - lit[index])
    else:
        lit = surface * light
    through *= np.where(np.array(bands) == "B9", _VAPOUR, 1.0)
    out: FloatArray = lit
    out *= through.astype(np.float32)[:, None, None]
    out += path.astype(np.float32)[:, None, None]
    return out


def tint(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A region's own shades (surface, all of `BANDS`): smooth factors about one, so that no two regions look the same."""
    level = np.exp(0.10 * rng.standard_normal((len(SURFACES), 1)))
    slope = 0.10 * rng.standard_normal((len(SURFACES), 1)) * np.log(WAVELENGTH_NM / 665)[None, :]
    return np.asarray(level * np.exp(slope))

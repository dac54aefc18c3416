"""The regions that the simulator knows, after the regions of the papers and others, and their random relatives.

Their order is a part of the seeds of benchmarks (`modeling.benchmark.data`): new ones come last, and there are ten at most.

The numbers are chosen by hand to give each region's look and difficulty; they are not measurements of the real region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modeling.errors import DataError


@dataclass(frozen=True)
class Domain:
    """Everything that makes one region different from another. Angles in degrees, lengths in metres, shares 0 to 1."""

    name: str
    """Short name."""
    about: str
    """Which real region it follows and why it is hard."""
    longitude: float
    """Longitude of the region's centre, degrees east."""
    latitude: float
    """Latitude of the region's centre, degrees north."""
    event_date: str
    """UTC date of the quake, ISO; the presets have the real quake's local date."""
    magnitude: float = 6.0
    """Moment magnitude. Small on purpose: the region is a few kilometres wide."""
    depth_km: float = 4.0
    """Depth of the source, kilometres."""
    contour_share: float = 0.88
    """Where MMI 6 runs, as a share of the distance from the epicentre to the nearest edge of the region."""
    base_elevation: float = 50.0
    """Elevation of the outlets before valleys are filled."""
    hillslope: float = 30.0
    """Steepest angle of the hillslopes before smoothing."""
    hillslope_spread: float = 0.2
    """How much the tangent of that angle varies from place to place: the deviation of its logarithm, cut off near the angle."""
    valley_spacing: float = 220.0
    """Sets how densely the land is dissected: slopes flatten where more than (0.45 times this) squared drains through."""
    concavity: float = 0.4
    """How fast channels flatten downstream: the exponent of drained area in the stream-power law, less 0.08."""
    ridge_rounding: float = 15.0
    """Standard deviation of the smoothing that stands for soil creep."""
    floodplain: float = 10.0
    """A sixth of the thickness of the valley fill along the trunk river; less along its tributaries."""
    river_width: float = 28.0
    """Width of the trunk river at mean stage."""
    conifer_share: float = 0.15
    """Share of the woodland that is evergreen conifer."""
    open_share: float = 0.08
    """Share of the hills under shrub and grass, the ground above the tree line apart."""
    rock_share: float = 0.02
    """Share of the region that is bare rock, on the steepest ground and above the tree line."""
    crop_share: float = 0.7
    """Share of the fields on flat ground that grow crops; the others are grass."""
    town_share: float = 0.05
    """Share of the flat ground built over, on average."""
    tree_line: float = 9000.0
    """Elevation above which no forest grows."""
    snow_line_summer: float = 3500.0
    """Elevation of the snow line at the height of summer."""
    snow_line_winter: float = -300.0
    """Elevation of the snow line in the depth of winter."""
    deciduous: float = 1.0
    """1: broadleaf woods lose all leaves in winter; 0: evergreen tropics."""
    dryness: float = 0.0
    """How brown grass and shrub are at the best of the season, 0 to 1."""
    soil_brightness: float = 0.22
    """Red reflectance of fresh, dry bare soil."""
    soil_redness: float = 1.3
    """Exponent of the rise of soil reflectance with wavelength: 0 grey, above 2 red."""
    friction: float = 30.0
    """Slides start around this slope: hardly 6 degrees below it, as easily as anywhere 10 degrees above it."""
    slide_share: float = 0.035
    """Sum of the areas drawn for landslides over the region's area; overlap takes a little from what is painted."""
    slide_scale: float = 1.0
    """Factor on the areas drawn from the distribution of Malamud et al. (2004)."""
    slide_min_m2: float = 900.0
    """Smallest landslide drawn: about nine pixels, the detectable minimum."""
    slide_max_m2: float = 250_000.0
    """Largest landslide drawn."""
    elongation: float = 3.0
    """Typical length over width of a landslide."""
    survival: float = 0.15
    """Share of the vegetation that survives inside a landslide, on average."""
    clearcut_share: float = 0.012
    """Share of the region felled between the dates, if all of it were wooded."""
    burnt_share: float = 0.008
    """Share of the woods and shrub burnt between the dates."""
    old_scar_share: float = 0.012
    """As `slide_share`, for the scars of earlier landslides."""
    road_km: float = 12.0
    """Length of tracks cut between the dates, per 100 km2."""
    sites: float = 14.0
    """Quarries and building sites opened between the dates, per 100 km2."""
    aerosol: float = 0.15
    """Median aerosol optical depth at 550 nm."""
    cloudiness: float = 0.12
    """Median cloud cover of a pass that is kept."""
    pre_gap_days: tuple[int, int] = (3, 12)
    """Range of days from the last pass before the quake to the quake."""
    pre_step_days: tuple[int, int] = (5, 20)
    """Range of days between the passes before."""
    post_gap_days: tuple[int, int] = (2, 9)
    """Range of days from the quake to the first pass after."""
    post_step_days: tuple[int, int] = (5, 15)
    """Range of days between the passes after."""
    misregistration_px: float = 0.25
    """Standard deviation of the shift of a pass against the grid, pixels."""
    shift_before_px: tuple[float, float] = (0.0, 0.0)
    """How far (rows, columns) the ground lies in passes before the quake from where those after have it, besides."""
    swath_edge: float = 0.0
    """Chance that the swath of a pass before the quake covers only part of the region."""
    sensor_noise: float = 1.0
    """Factor on the noise of a pass: on that of a band's gain and on that of each pixel."""


_PRESETS = (
    Domain(
        "iburi",
        "Hokkaido Eastern Iburi 2018: low, densely dissected hills under pumice and broadleaf forest; thousands of "
        "shallow slides",
        141.96, 42.73, "2018-09-06",
        hillslope=34.0, hillslope_spread=0.35, valley_spacing=130.0, ridge_rounding=9.0, floodplain=9.0,
        base_elevation=30.0, friction=24.0, slide_share=0.05, elongation=2.2, soil_brightness=0.18, aerosol=0.1, soil_redness=2.3,
        conifer_share=0.2, rock_share=0.003, snow_line_summer=3500.0, snow_line_winter=-500.0,
        pre_step_days=(5, 25),
    ),
    Domain(
        "jiuzhaigou",
        "Jiuzhaigou 2017: high steep mountains with rock, conifers and snow; slides beside bare rock",
        103.82, 33.20, "2017-08-08",
        base_elevation=2000.0, hillslope=43.0, valley_spacing=420.0, ridge_rounding=16.0, concavity=0.34, floodplain=5.0,
        river_width=16.0, conifer_share=0.6, open_share=0.18, rock_share=0.1, crop_share=0.25, tree_line=3100.0,
        snow_line_summer=4200.0, snow_line_winter=1800.0, soil_brightness=0.25, soil_redness=0.9, friction=34.0,
        slide_share=0.022, elongation=4.0, aerosol=0.08, cloudiness=0.18, clearcut_share=0.006,
        old_scar_share=0.02, burnt_share=0.006,
    ),
    Domain(
        "palu",
        "Palu 2018: a dry tropical valley below wet forested ranges; red soil, browned grass, cloud over the hills",
        119.88, -1.00, "2018-09-28",
        base_elevation=60.0, hillslope=36.0, valley_spacing=300.0, floodplain=14.0, river_width=40.0, conifer_share=0.0,
        open_share=0.35, rock_share=0.02, crop_share=0.6, town_share=0.1, deciduous=0.15, dryness=0.55,
        snow_line_summer=9000.0, snow_line_winter=9000.0, soil_brightness=0.23, soil_redness=2.4, friction=30.0,
        slide_share=0.025, elongation=3.6, aerosol=0.22, cloudiness=0.22, burnt_share=0.014, old_scar_share=0.015,
    ),
    Domain(
        "luding",
        "Luding 2022: deep gorges of the Dadu river, mixed forest and scrub; long slides to the river, haze",
        102.08, 29.60, "2022-09-05",
        base_elevation=1100.0, hillslope=40.0, valley_spacing=380.0, concavity=0.33, floodplain=6.0, river_width=60.0,
        conifer_share=0.35, open_share=0.25, rock_share=0.05, crop_share=0.5, tree_line=3600.0, deciduous=0.6,
        snow_line_summer=5000.0, snow_line_winter=2600.0, soil_brightness=0.24, soil_redness=1.3, friction=32.0,
        slide_share=0.03, elongation=3.8, aerosol=0.25, cloudiness=0.22, old_scar_share=0.018,
    ),
    Domain(
        "gorkha",
        "Gorkha 2015: terraced middle mountains of the Himalaya at the end of the dry season; few, long slides under "
        "thick haze",
        84.71, 28.15, "2015-04-25",
        base_elevation=900.0, hillslope=38.0, valley_spacing=460.0, concavity=0.34, floodplain=5.0, river_width=45.0,
        conifer_share=0.2, open_share=0.34, rock_share=0.04, crop_share=0.85, town_share=0.03, tree_line=3800.0,
        snow_line_summer=5200.0, snow_line_winter=3000.0, deciduous=0.35, dryness=0.45, soil_brightness=0.27,
        soil_redness=0.8, friction=34.0, slide_share=0.012, elongation=4.2, aerosol=0.38, cloudiness=0.2,
        old_scar_share=0.016, road_km=25.0, sensor_noise=1.4,
    ),
    Domain(
        "kaikoura",
        "Kaikoura 2016: grey rock under tussock, scrub and evergreen forest in a southern spring; a few very large "
        "slides beside scree",
        173.70, -42.30, "2016-11-13",
        base_elevation=150.0, hillslope=36.0, valley_spacing=360.0, ridge_rounding=18.0, floodplain=12.0,
        river_width=55.0, conifer_share=0.1, open_share=0.48, rock_share=0.06, crop_share=0.12, town_share=0.01,
        tree_line=1300.0, snow_line_summer=2600.0, snow_line_winter=900.0, deciduous=0.05, dryness=0.2,
        soil_brightness=0.3, soil_redness=0.35, friction=31.0, slide_share=0.02, slide_scale=4.0,
        slide_max_m2=700_000.0, elongation=2.4, survival=0.08, aerosol=0.05, cloudiness=0.26, old_scar_share=0.03,
        burnt_share=0.003, sensor_noise=0.7,
    ),
    Domain(
        "noto",
        "Noto 2024: low hills of cedar and leafless woods under a low winter sun, with snow and much cloud; autumn "
        "images before, small slides",
        137.10, 37.38, "2024-01-01",
        base_elevation=20.0, hillslope=28.0, valley_spacing=170.0, ridge_rounding=16.0, floodplain=8.0,
        river_width=14.0, conifer_share=0.5, open_share=0.05, rock_share=0.004, crop_share=0.75, town_share=0.08,
        snow_line_summer=3300.0, snow_line_winter=350.0, soil_brightness=0.18, soil_redness=1.7, friction=21.0,
        slide_share=0.022, slide_scale=0.7, elongation=2.2, survival=0.22, aerosol=0.1, cloudiness=0.32,
        old_scar_share=0.006, pre_gap_days=(25, 80), pre_step_days=(5, 30), post_gap_days=(5, 25), sensor_noise=2.0,
    ),
    Domain(
        "haiti",
        "Haiti 2021: pale limestone of the tropics, cleared of forest; small fields up the slopes, fires, cloud of the "
        "hurricane season",
        -73.80, 18.38, "2021-08-14",
        base_elevation=250.0, hillslope=34.0, valley_spacing=250.0, floodplain=9.0, river_width=30.0,
        conifer_share=0.05, open_share=0.6, rock_share=0.015, crop_share=0.85, town_share=0.14, deciduous=0.1,
        dryness=0.3, snow_line_summer=9000.0, snow_line_winter=9000.0, soil_brightness=0.32, soil_redness=0.9,
        friction=28.0, slide_share=0.032, elongation=3.0, survival=0.2, aerosol=0.28, cloudiness=0.3,
        clearcut_share=0.02, burnt_share=0.02, old_scar_share=0.014, road_km=18.0, sites=24.0, sensor_noise=1.2,
    ),
    Domain(
        "papua",
        "Papua New Guinea 2018: evergreen rain forest on steep mudstone and limestone under nearly constant cloud; dense, "
        "large slides and hardly a road",
        142.75, -6.07, "2018-02-25",
        base_elevation=1300.0, hillslope=39.0, valley_spacing=330.0, floodplain=6.0, river_width=35.0, conifer_share=0.0,
        open_share=0.08, rock_share=0.015, crop_share=0.15, town_share=0.01, tree_line=3600.0, deciduous=0.0,
        dryness=0.05, snow_line_summer=9000.0, snow_line_winter=9000.0, soil_brightness=0.22, soil_redness=1.5,
        friction=30.0, slide_share=0.045, slide_scale=2.0, elongation=3.2, survival=0.12, aerosol=0.13, cloudiness=0.36,
        clearcut_share=0.004, burnt_share=0.001, old_scar_share=0.012, road_km=3.0, sites=5.0, sensor_noise=1.1,
    ),
    Domain(
        "hualien",
        "Hualien 2024: marble gorges and steep subtropical forest in spring; rock falls and slides beside pale rock and "
        "the scars of typhoons",
        121.55, 24.15, "2024-04-02",
        base_elevation=250.0, hillslope=45.0, valley_spacing=350.0, concavity=0.33, floodplain=7.0, river_width=40.0,
        conifer_share=0.25, open_share=0.08, rock_share=0.08, crop_share=0.35, town_share=0.03, tree_line=3500.0,
        snow_line_summer=6000.0, snow_line_winter=3300.0, deciduous=0.15, dryness=0.1, soil_brightness=0.3,
        soil_redness=0.5, friction=36.0, slide_share=0.018, elongation=2.8, aerosol=0.24, cloudiness=0.3,
        old_scar_share=0.03, road_km=10.0, sites=12.0, sensor_noise=0.9,
    ),
)  # fmt: skip

DOMAINS: Mapping[str, Domain] = {preset.name: preset for preset in _PRESETS}
"""The presets by name, in the order in which they were added."""


def domain(name: str) -> Domain:
    """The preset called `name`; raises `DataError` naming the ones there are."""
    try:
        return DOMAINS[name]
    except KeyError:
        raise DataError(f"unknown simulated domain {name!r}: choose one of {', '.join(DOMAINS)}") from None


_SPREAD = {
    "hillslope": 0.1, "valley_spacing": 0.25, "ridge_rounding": 0.2, "floodplain": 0.35, "river_width": 0.4,
    "slide_share": 0.35, "elongation": 0.2, "soil_brightness": 0.15, "soil_redness": 0.35, "aerosol": 0.5,
    "cloudiness": 0.4, "clearcut_share": 0.5, "burnt_share": 0.6, "old_scar_share": 0.4, "road_km": 0.5, "sites": 0.5,
    "survival": 0.4, "conifer_share": 0.4, "open_share": 0.4, "rock_share": 0.4,
}  # fmt: skip
"""Log-normal spread of each field in `vary`."""


def vary(base: Domain, rng: np.random.Generator) -> Domain:
    """A random relative of `base`: other relief, soil, season and nuisance, the same character.

    Any day of the year can be the quake's, and in a third of the cases the passes before come from another season
    (leafless woods, remains of snow), as in archives of real events; in another third the valleys are wide farmland.
    """
    changed: dict[str, Any] = {
        name: float(getattr(base, name) * np.exp(spread * rng.standard_normal())) for name, spread in _SPREAD.items()
    }
    changed["hillslope"] = float(np.clip(changed["hillslope"], 24, 48))
    changed["cloudiness"] = float(np.clip(changed["cloudiness"], 0.02, 0.4))
    changed["aerosol"] = float(np.clip(changed["aerosol"], 0.03, 0.6))
    changed["soil_brightness"] = float(np.clip(changed["soil_brightness"], 0.14, 0.36))
    changed["conifer_share"] = float(np.clip(changed["conifer_share"], 0, 0.9))
    other_season = rng.random() < 1 / 3
    gap = (60, 200) if other_season else base.pre_gap_days
    post_gap = (20, 70) if rng.random() < 1 / 4 else base.post_gap_days
    start = np.datetime64(base.event_date[:4] + "-01-01") + int(rng.integers(365))
    date = base.event_date if rng.random() < 0.4 else str(start)
    latitude = base.latitude + float(rng.normal(0, 2))
    if rng.random() < 0.35:
        changed["floodplain"] *= float(rng.uniform(2, 6))
    return replace(
        base,
        **changed,
        event_date=date,
        pre_gap_days=gap,
        post_gap_days=post_gap,
        swath_edge=float(rng.random() < 0.3) * 0.3,
        latitude=latitude,
    )

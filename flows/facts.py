"""What is said about one version, as numbers and words: the report and the STAC item both say exactly this.

Pure: no file, no network, no clock. Areas in km2 or m2, coordinates in degrees WGS84, times in UTC.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from geopandas import GeoDataFrame
from pydantic import TypeAdapter

from flows.adapt_facts import AdaptationFacts
from flows.alignment import Alignment
from flows.campaign.context import CampaignContext
from flows.campaign.model import Cost
from flows.choice import Selection
from flows.speed import NetworkRun
from gee.types import OBSERVED_LABELS, Observed

LARGEST = 20
"""How many landslides are listed one by one."""

SIZE_LIMITS_M2 = (1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0)
"""Limits between the size classes: half decades, as size distributions of landslides are drawn on logarithmic axes."""

CodeArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EventFacts:
    """The earthquake, or the name that a user gave to a pair of rasters."""

    id: str
    """Preferred id."""
    title: str
    """Title for people, for example `M 6.6 - 27 km E of Tomakomai, Japan`."""
    time: dt.datetime | None = None
    """Origin time, UTC."""
    magnitude: float | None = None
    """Magnitude as USGS gives it."""
    depth_km: float | None = None
    """Depth of the hypocentre."""
    lon: float | None = None
    """Longitude of the epicentre, degrees."""
    lat: float | None = None
    """Latitude of the epicentre, degrees."""
    url: str = ""
    """Page about the event; shown as text, never followed."""
    simulated: bool = False
    """Whether the earthquake, its scenes and its landslides are made up."""


@dataclass(frozen=True)
class CoverageRow:
    """How much of the area has one observation code."""

    code: int
    """A code of `gee.types.Observed`."""
    label: str
    """The code in words."""
    area_km2: float
    """Area with this code."""
    percent: float
    """Share of the area of interest; 0 when that is empty."""


@dataclass(frozen=True)
class Coverage:
    """What was seen of the area of interest and why the rest was not."""

    rows: tuple[CoverageRow, ...]
    """One row a code that occurs, clear first, without what lies outside."""
    outside_km2: float = 0.0
    """Part of the grid outside the area of interest: never asked for."""

    @property
    def area_km2(self) -> float:
        """Area of interest."""
        return sum(row.area_km2 for row in self.rows)

    @property
    def observed_km2(self) -> float:
        """Area seen clearly both before and after."""
        return sum(row.area_km2 for row in self.rows if row.code == Observed.CLEAR)

    @property
    def observed_percent(self) -> float:
        """Share of the area of interest that was observed."""
        return sum(row.percent for row in self.rows if row.code == Observed.CLEAR)

    @property
    def unobserved_km2(self) -> float:
        """Area of which nothing is known."""
        return sum(row.area_km2 for row in self.rows if row.code != Observed.CLEAR)

    @property
    def unobserved_percent(self) -> float:
        """Share of the area of interest of which nothing is known."""
        return sum(row.percent for row in self.rows if row.code != Observed.CLEAR)


@dataclass(frozen=True)
class Landslide:
    """One mapped landslide."""

    area_m2: float
    """Area on the map."""
    lon: float
    """Longitude of a point inside, degrees."""
    lat: float
    """Latitude of a point inside, degrees."""
    length_m: float | None = None
    """Longer side of the smallest rectangle around it."""
    width_m: float | None = None
    """Shorter side of that rectangle."""
    mean_slope_deg: float | None = None
    """Mean slope of the ground."""
    mean_probability: float | None = None
    """Mean probability inside."""
    observed_date: dt.date | None = None
    """Date of the image after the event that shows it."""
    number: int | None = None
    """Its `landslide_id` in the inventory."""
    touches_unobserved: bool = False
    """Whether it borders on ground that was not seen, so that its area is a lower bound."""


@dataclass(frozen=True)
class SizeClass:
    """Landslides of one size class."""

    label: str
    """The class in words."""
    count: int
    """How many."""
    area_m2: float
    """Their total area."""


@dataclass(frozen=True)
class InventoryFacts:
    """The inventory in numbers."""

    count: int
    """How many landslides."""
    total_area_m2: float
    """Their total area."""
    sizes: tuple[SizeClass, ...]
    """All size classes, small to large, also the empty ones."""
    largest: tuple[Landslide, ...]
    """The `LARGEST` largest, largest first."""
    cut_off: int = 0
    """How many border on ground that was not seen."""


@dataclass(frozen=True)
class Imagery:
    """The scenes of one phase."""

    phase: str
    """`pre` or `post`."""
    scenes: tuple[str, ...]
    """Ids of the source scenes, or names of files."""
    window: str
    """The days that were searched, in words."""
    cloud_masked: bool
    """Whether clouds and their shadows were masked."""
    first_date: dt.date | None = None
    """Earliest acquisition that is in the map."""
    last_date: dt.date | None = None
    """Latest acquisition that is in the map."""
    dates_assumed: bool = False
    """Whether the dates were not recorded and are taken for granted."""
    made_by: str = ""
    """How one image was made of the scenes, in words; empty when it was one image already."""
    mask_rule: str = ""
    """What decided that a pixel was clear, in words; empty when nothing did."""


@dataclass(frozen=True)
class Scores:
    """Agreement with a known truth over the observed area."""

    name: str
    """Which method."""
    pixel: Mapping[str, float]
    """precision, recall, f1, iou, mcc counted in pixels."""
    objects: Mapping[str, float]
    """precision, recall, f1 counted in landslides."""


@dataclass(frozen=True)
class TotalsRange:
    """How far the totals may be off: fitted to events of regions that the network had not seen, on observed ground only."""

    level: float
    """Share of such events whose true totals lie between the ends."""
    area_low_m2: float
    """Lower end of the total area."""
    area_high_m2: float
    """Upper end."""
    count_low: int
    """Lower end of the number of landslides."""
    count_high: int
    """Upper end."""
    events: int
    """How many events it was fitted to."""
    regions: tuple[str, ...]
    """The regions that they lie in."""
    simulated: bool = True
    """Whether these events were simulated."""
    beyond: bool = False
    """Whether the scene is unlike all ground that the network was validated on, so that the rate may not hold."""


@dataclass(frozen=True)
class RulesFacts:
    """What the geology rules did to the inventory."""

    name: str
    """`geology` or `learnt`."""
    thresholds: str
    """The rules with their thresholds and units, in words."""
    dropped: Mapping[str, int]
    """Rule -> how many regions it dropped; a region that breaks two rules counts for both."""
    regions: int
    """How many regions were dropped in all."""
    area_m2: float
    """Their total area."""
    learnt_on: str = ""
    """What learnt thresholds were learnt on, in words."""
    subtraction: str = ""
    """Whether the image before was matched before its map was subtracted, in words; empty when nothing was subtracted."""


@dataclass(frozen=True)
class Provenance:
    """Where the result comes from, enough to make it again."""

    run_key: str
    """`flows.layout.RunIdentity.key`."""
    code_version: str
    """Version of the code."""
    model: str
    """Name of the model."""
    band_set: str
    """Band set that it needs."""
    weights_hash: str
    """SHA-256 of its weights."""
    threshold: float
    """Probability from which a pixel is called landslide."""
    cube_hash: str
    """Hash over the tiles of the cube, or over the input files."""
    dem: str
    """Elevation model."""
    mask_rule: str
    """How cloud was masked, in words; empty when it was not."""
    area_reason: str
    """Why the area is the area."""
    settings_hash: str = ""
    """Hash of the settings that change results."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Those settings, for people."""
    attribution: tuple[str, ...] = ()
    """Notices that the licences of the sources ask for."""
    trained_on_simulated: bool = True
    """Whether the network has learned from simulated landslides only."""
    kept_back: bool = False
    """Whether 0.9 and more is kept for the pixels of which the network is surest (`modeling.calibrated`)."""
    wrong_when_sure: float | None = None
    """Of such pixels the share that was none in the worst region that the network had not seen; None: not measured for maps
    that are made as this one."""


@dataclass(frozen=True)
class ReportFacts:
    """Everything that is said about one version."""

    event: EventFacts
    """The earthquake."""
    coverage: Coverage
    """What was seen."""
    inventory: InventoryFacts
    """What was found there."""
    imagery: tuple[Imagery, ...]
    """Scenes before and after."""
    provenance: Provenance
    """Where it comes from."""
    created: dt.datetime
    """When the products were made, UTC."""
    scores: tuple[Scores, ...] = ()
    """Agreement with truth, when there is one: the model first, then what it is compared with."""
    notes: tuple[str, ...] = ()
    """Further remarks that a reader must see."""
    earth_engine_assets: Mapping[str, str] = field(default_factory=dict)
    """Earth Engine image collections, and a folder of tables, that hold the versions of the event, by what they hold."""

    alignment: Alignment | None = None
    """How the image before lay to the one after, and what was done about it; None when nobody looked."""
    rules: RulesFacts | None = None
    """What the geology rules dropped; None without rules."""
    adaptation: AdaptationFacts | None = None
    """How polygons that an analyst drew changed the map; None when none did."""

    selection: Selection | None = None
    """Which model was chosen for the scene and why; None when nobody compared."""
    totals: TotalsRange | None = None
    """How far the totals may be off; None where nothing was fitted for this network, and nothing is claimed."""

    campaign: CampaignContext | None = None
    """The campaign that the version belongs to; None when it was asked for by itself."""
    used: Cost | None = None
    """What the cube of a campaign's version has cost; None outside of campaigns."""
    network: NetworkRun | None = None
    """How fast the network has mapped; None where nobody measured."""

    def to_json(self) -> str:
        """As JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> ReportFacts:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_json(text)

    def phase(self, name: str) -> Imagery | None:
        """The scenes of the phase called `name`."""
        return next((imagery for imagery in self.imagery if imagery.phase == name), None)


_ADAPTER = TypeAdapter(ReportFacts)


def combined_observed(phases: npt.NDArray[np.uint8]) -> CodeArray:
    """One code a pixel (y, x) from codes (phase, y, x): outside if any phase is, else the first that is not clear."""
    combined = np.full(phases.shape[1:], Observed.CLEAR, dtype=np.uint8)
    for codes in phases[::-1]:
        np.copyto(combined, codes, where=codes != Observed.CLEAR)
    combined[(phases == Observed.OUTSIDE).any(axis=0)] = Observed.OUTSIDE
    return combined


def coverage(counts: Mapping[int, int], pixel_m: float) -> Coverage:
    """Coverage from the number of pixels of each combined code; `pixel_m` is the pixel size in metres."""
    km2 = pixel_m * pixel_m / 1e6
    inside = {code: n for code, n in counts.items() if code != Observed.OUTSIDE and n > 0}
    total = sum(inside.values())
    order = sorted(inside, key=lambda code: (code != Observed.CLEAR, -inside[code]))
    if Observed.CLEAR not in inside:
        order.insert(0, Observed.CLEAR)
    rows = tuple(_coverage_row(code, inside.get(code, 0), total, km2) for code in order)
    return Coverage(rows, outside_km2=counts.get(Observed.OUTSIDE, 0) * km2)


def _coverage_row(code: int, pixels: int, total: int, km2: float) -> CoverageRow:
    label = OBSERVED_LABELS.get(code, f"unknown code {code}")
    return CoverageRow(int(code), label, pixels * km2, 100.0 * pixels / total if total else 0.0)


def inventory_facts(landslides: Sequence[Landslide]) -> InventoryFacts:
    """The inventory in numbers; every size class is there also when nothing was found."""
    limits = (0.0, *SIZE_LIMITS_M2, float("inf"))
    sizes = tuple(
        _size_class([slide.area_m2 for slide in landslides if low <= slide.area_m2 < high], low, high)
        for low, high in itertools.pairwise(limits)
    )
    largest = tuple(sorted(landslides, key=lambda slide: -slide.area_m2)[:LARGEST])
    total = sum(slide.area_m2 for slide in landslides)
    cut_off = sum(slide.touches_unobserved for slide in landslides)
    return InventoryFacts(len(landslides), total, sizes, largest, cut_off)


def landslides_of(inventory: GeoDataFrame) -> tuple[Landslide, ...]:
    """The rows of an inventory (columns of `modeling.vectors.inventory.SCHEMA`), in its order."""
    rows = inventory.drop(columns="geometry").to_dict("records")
    return tuple(
        Landslide(
            area_m2=float(row["area_m2"]),
            lon=float(row["centroid_lon"]),
            lat=float(row["centroid_lat"]),
            length_m=_number(row["length_m"]),
            width_m=_number(row["width_m"]),
            mean_slope_deg=_number(row["slope_mean_deg"]),
            mean_probability=_number(row["probability_mean"]),
            observed_date=_date(row["observed_post"]),
            number=int(row["landslide_id"]),
            touches_unobserved=bool(row["touches_unobserved"]),
        )
        for row in rows
    )


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _date(value: Any) -> dt.date | None:
    return dt.date.fromisoformat(value) if isinstance(value, str) and value else None


def _size_class(areas_m2: list[float], low: float, high: float) -> SizeClass:
    if low == 0:
        label = f"under {high:,.0f}"
    elif high == float("inf"):
        label = f"{low:,.0f} and more"
    else:
        label = f"{low:,.0f} to {high:,.0f}"
    return SizeClass(label, len(areas_m2), sum(areas_m2))

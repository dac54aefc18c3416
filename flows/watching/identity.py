"""Which records tell of one earthquake, and which earthquakes are one sequence. Pure.

The ids that the USGS lists for an event come first. Where they are silent, because two networks have reported the same
earthquake and nobody has put their records together yet, time, place and magnitude tell: within 16 s and 100 km, as the
USGS's own catalogue associates origins (https://github.com/usgs/pdl, indexer/DefaultAssociator.java), and one magnitude.
Two records that the USGS lists side by side at one time are two earthquakes all the same: a doublet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import shapely
from shapely.geometry.base import BaseGeometry

from flows.campaign.index import Index, IndexedQuake, IndexEntry
from flows.campaign.model import Campaign, Quake, State
from flows.event import EarthquakeEvent, ProductRef
from flows.intensity import magnitude_radius_km
from flows.settings import Settings, WatchSettings
from flows.sphere import GEOD, geodesic_circle

ONE_MAGNITUDE = 1.0
"""Magnitudes of one earthquake by several networks differ by no more."""

MINIMUM_RADIUS_KM = 10.0
"""An earthquake that was taken up shakes at least so far, whatever the equation says of its magnitude and depth."""

MINIMUM_OVERLAP = 0.1
"""Areas overlap when so much of the smaller lies in the larger; the circles of magnitudes are no better known."""

REACH_KM = 1500.0
"""No area of a campaign reaches farther from its epicentre."""

Apart = Callable[[tuple[str, ...]], bool]
"""Whether the USGS lists the earthquake of these ids now, in a record of its own."""


@dataclass(frozen=True)
class Alike:
    """An earthquake of a campaign that another record may tell of as well."""

    campaign_id: str
    """The campaign."""
    quake: IndexedQuake
    """The earthquake."""
    apart_s: float
    """Seconds between the two origin times."""
    apart_km: float
    """Distance between the two epicentres."""


def quake_of(event: EarthquakeEvent) -> Quake:
    """What a campaign keeps of an event."""
    return Quake(
        id=event.id, ids=tuple(sorted({event.id, *event.ids})), time=event.time, updated=event.updated, lon=event.lon,
        lat=event.lat, depth_km=event.depth_km, magnitude=event.magnitude, title=event.title, status=event.status,
        simulated=event.simulated, shakemap=_label(event.shakemap), ground_failure=_label(event.ground_failure),
    )  # fmt: skip


def _label(product: ProductRef | None) -> str:
    """A product with its version and, as makers send one version number more than once, its time."""
    if product is None:
        return ""
    return f"{product.name} of {product.updated:%Y-%m-%d %H:%M:%S} UTC" if product.version else product.name


def match(quake: Quake, index: Index, settings: WatchSettings, apart: Apart) -> str | None:
    """The campaign that an earthquake belongs to already, None for none."""
    known = named(quake.ids, index)
    if known:
        return known[0].id
    found = (one for one in alike(quake, index, settings) if not apart(one.quake.ids))
    return next((one.campaign_id for one in found), None)


def named(ids: Iterable[str], index: Index) -> list[IndexEntry]:
    """The campaigns of the earthquakes that go by one of `ids`: those not withdrawn first, then the first opened.

    There are several when the USGS has put two records together that were taken for two earthquakes.
    """
    wanted = set(ids)
    found = [entry for entry in index.campaigns.values() if not wanted.isdisjoint(entry.ids)]
    return sorted(found, key=lambda entry: (entry.state is State.WITHDRAWN, entry.opened, entry.id))


def alike(quake: Quake, index: Index, settings: WatchSettings) -> list[Alike]:
    """The earthquakes of campaigns that time, place and magnitude do not tell from `quake`, the nearest first."""
    found = []
    for entry in index.campaigns.values():
        for other in entry.quakes:
            apart_s = abs((other.time - quake.time).total_seconds())
            if apart_s > settings.same_event_s or abs(other.magnitude - quake.magnitude) > ONE_MAGNITUDE:
                continue
            apart_km = distance_km(quake, other)
            if apart_km <= settings.same_event_km:
                found.append(Alike(entry.id, other, apart_s, apart_km))
    return sorted(found, key=lambda one: one.apart_s / settings.same_event_s + one.apart_km / settings.same_event_km)


def companions(quake: Quake, index: Index, settings: WatchSettings) -> list[str]:
    """The campaigns whose sequence `quake` might belong to, by time and a generous distance."""
    longest = dt.timedelta(days=settings.sequence_days)
    return [
        entry.id
        for entry in index.campaigns.values()
        if entry.state is not State.WITHDRAWN
        and any(abs(one.time - quake.time) <= longest and distance_km(quake, one) <= REACH_KM for one in entry.quakes)
    ]


def sequence(quake: Quake, campaigns: Iterable[Campaign], settings: Settings) -> str | None:
    """Of `companions` the one whose area overlaps most with that of `quake`, None when none does.

    A campaign that was closed without a version, because the rule no longer wanted it, has no area to share.
    """
    own = _circle(quake, settings)
    shares = {
        campaign.id: _overlap(own, _ground(campaign, settings))
        for campaign in campaigns
        if campaign.open or campaign.versions
    }
    best = max(sorted(shares), key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= MINIMUM_OVERLAP else None


def fused(campaign: Campaign, ids: Iterable[str]) -> Campaign:
    """A campaign in which earthquakes that share one of `ids` are one: the newest record, with the ids of all."""
    wanted = set(ids)
    same = [quake for quake in campaign.quakes if not wanted.isdisjoint(quake.ids)]
    if len(same) < 2:
        return campaign
    newest = max(same, key=lambda quake: quake.updated)
    one = newest.model_copy(update={"ids": tuple(sorted({name for quake in same for name in quake.ids}))})
    quakes = sorted([one, *(quake for quake in campaign.quakes if quake not in same)], key=lambda q: (q.time, q.id))
    return campaign.model_copy(update={"quakes": tuple(quakes)})


def distance_km(one: Quake | IndexedQuake, other: Quake | IndexedQuake) -> float:
    """Distance between two epicentres on the ellipsoid."""
    return float(GEOD.inv(one.lon, one.lat, other.lon, other.lat)[2]) / 1000.0


def _circle(quake: Quake, settings: Settings) -> BaseGeometry:
    radius_km = magnitude_radius_km(quake.magnitude, quake.depth_km, settings.area.minimum_mmi)
    return geodesic_circle(quake.lon, quake.lat, max(MINIMUM_RADIUS_KM, radius_km))


def _ground(campaign: Campaign, settings: Settings) -> BaseGeometry:
    """A campaign's area, and until a step has made it the circles of its earthquakes' magnitudes."""
    if campaign.area is not None:
        return shapely.from_wkt(campaign.area.wkt)
    return shapely.union_all([_circle(quake, settings) for quake in campaign.quakes if quake.status != "deleted"])


def _overlap(one: BaseGeometry, other: BaseGeometry) -> float:
    """Share of the smaller of two areas that lies in the larger, in degrees: both lie at one latitude."""
    smaller = min(one.area, other.area)
    return float(shapely.intersection(one, other).area / smaller) if smaller > 0 else 0.0

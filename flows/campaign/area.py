"""Where a campaign looks for landslides: the ground that its earthquakes shook, as their newest ShakeMaps say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace

import shapely

from flows.area import ProductFiles, area_from_geometry, area_of_event, check_size
from flows.area_type import AreaOfInterest
from flows.campaign.model import Area, Campaign, Quake
from flows.campaign.record import living
from flows.errors import AreaError
from flows.event import EarthquakeEvent
from flows.settings import AreaSettings
from flows.sphere import area_km2, polygonal
from flows.watching.identity import quake_of

STEP_MMI = 0.5
"""An area that is too large is drawn at a higher intensity, in such steps."""
STRONGEST_MMI = 9.0
"""No area is drawn at a higher intensity than this."""

Cut = Callable[[AreaOfInterest], AreaOfInterest]
"""Cuts an area to the ground that can fail; raises `AreaError` when nothing is left."""


def basis(quake: Quake) -> str:
    """What an earthquake's area depends on: its ShakeMap's name and version, or its magnitude and place."""
    if quake.shakemap:
        return quake.shakemap
    depth = "unknown depth" if quake.depth_km is None else f"{quake.depth_km:g} km depth"
    return f"{quake.id}: M {quake.magnitude:g} at {quake.lat:.2f}, {quake.lon:.2f}, {depth}"


def is_outdated(campaign: Campaign) -> bool:
    """Whether its area comes from other products than its earthquakes have now."""
    return campaign.area is None or set(campaign.area.products) != {basis(quake) for quake in living(campaign)}


def shaken_ground(
    events: Sequence[EarthquakeEvent], client: ProductFiles, settings: AreaSettings, cut: Cut
) -> tuple[AreaOfInterest, tuple[str, ...]]:
    """(The ground that a campaign's earthquakes shook and that can fail, what it comes from).

    An earthquake that shook no ground strongly enough adds nothing. Where the whole is larger than
    `maximum_area_km2`, it is drawn at a higher intensity, which the notes say. Raises `AreaError` when nothing is left,
    `ServiceError` when the USGS cannot be reached.
    """
    level = settings.minimum_mmi
    while True:
        asked = settings.model_copy(update={"minimum_mmi": level})
        whole, products = _union(events, client, asked)
        # As one that was given: its size is looked at here.
        found = cut(replace(whole, source="given"))
        if found.area_km2 > settings.maximum_area_km2 and level + STEP_MMI <= STRONGEST_MMI:
            level += STEP_MMI
            continue
        check_size(replace(found, source=whole.source), settings.maximum_area_km2)
        note = f"drawn at MMI {level:g}: at {settings.minimum_mmi:g} it is larger than can be mapped"
        notes = (*found.notes, note) if level > settings.minimum_mmi else found.notes
        return replace(found, source=whole.source, notes=notes), products


def area_document(area: AreaOfInterest, products: tuple[str, ...], now: dt.datetime) -> Area:
    """The area as a campaign keeps it: its corners to a millionth of a degree, a tenth of a metre."""
    corners = polygonal(shapely.set_precision(area.geometry, 1e-6))
    return Area(
        wkt=shapely.to_wkt(corners, rounding_precision=6), reason=area.description, source=area.source, products=products,
        area_km2=round(area.area_km2, 3), since=now, steep_km2=round(area.area_km2, 3),
    )  # fmt: skip


def added_km2(old: Area | None, new: Area) -> float:
    """Ground of the new area that the old one did not hold, km²; 0 without an old one."""
    if old is None:
        return 0.0
    more = shapely.difference(shapely.from_wkt(new.wkt), shapely.from_wkt(old.wkt))
    return area_km2(polygonal(more))


def _union(
    events: Sequence[EarthquakeEvent], client: ProductFiles, settings: AreaSettings
) -> tuple[AreaOfInterest, tuple[str, ...]]:
    found: list[AreaOfInterest] = []
    nowhere: list[AreaError] = []
    for event in events:
        try:
            found.append(area_of_event(event, client, settings))
        except AreaError as error:
            nowhere.append(error)
    products = tuple(basis(quake_of(event)) for event in events)
    if not found:
        raise nowhere[0] if nowhere else AreaError("the campaign has no earthquake left: nothing is to be mapped")
    if len(found) == 1:
        return found[0], products
    reason = "; and ".join(one.reason for one in found)
    whole = area_from_geometry(shapely.union_all([one.geometry for one in found]), reason)
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    return replace(whole, source="sequence", notes=notes, minimum_mmi=settings.minimum_mmi), products

"""Which earthquakes are mapped, each decision with its reason. Pure.

The defaults are published ones:

- *Landslide alert and hazard.* The USGS's ground-failure product sums, over all cells, their area times the estimated
  share of it that fails. From below 1 km² "little or no landsliding is expected" (green), 1 to 10 km² are limited
  (yellow), 10 to 100 km² significant (orange), more is extensive (red); the alert is the worse of this colour and that
  of the people exposed (100, 1,000, 10,000). https://earthquake.usgs.gov/data/ground-failure/background.php
- *Magnitude.* Keefer (1984), GSA Bulletin 95, 406-421: the greatest area with landslides grows from nothing at M 4.0
  to 500,000 km² at M 9.2. About ten earthquakes a week reach M 5.5; that few below it leave slides which a pixel of
  10 m shows is this project's own choice. The USGS makes its product from M 5 within the United States, M 6 elsewhere.
- *Depth.* Earthquakes deeper than 70 km are intermediate or deep by the USGS's classes; shaking at the surface is that
  of a much smaller shallow one, so that two magnitudes more are asked of them.
- *Urgency.* The landslide hazard in km², or where it is not known the total area of landslides that Malamud, Turcotte,
  Guzzetti and Reichenbach (2004), Earth and Planetary Science Letters 229, 45-59, give for a magnitude:
  10^(1.29 M - 5.65) slides of 0.00307 km² each.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Literal

from flows.campaign.model import Decision
from flows.event import EarthquakeEvent, EventSummary, ProductRef
from flows.settings import Settings, WatchSettings

Event = EarthquakeEvent | EventSummary

COLOURS = ("green", "yellow", "orange", "red")
"""The USGS's alert levels, the harmless first."""

DEEPER_BY = 2.0
"""So many magnitudes more are asked of an earthquake below `watch.maximum_depth_km`."""

_KM2_FROM = dict(zip(COLOURS, (0.0, 1.0, 10.0, 100.0), strict=True))
_PAGER = dict(zip(COLOURS, (1.0, 2.0, 5.0, 10.0), strict=True))  # a choice: where more people were shaken, the sooner
_Basis = Literal["ground-failure", "magnitude", "record"]


def decide(event: Event, settings: Settings, now: dt.datetime, steep_km2: float | None = None) -> Decision:
    """Whether an earthquake is mapped, and why or why not, in words for the user and the record.

    `steep_km2` is the land under shaking that can fail, once it has been measured. Where the event has a ground-failure
    product that gives an alert or a hazard, this decides, even against a large magnitude.
    """
    magnitude = _known(event.magnitude)

    def made(wanted: bool, basis: _Basis, reason: str) -> Decision:
        return Decision(
            at=now, event_id=event.id, magnitude=magnitude, wanted=wanted, basis=basis, reason=reason,
            urgency=urgency(event, settings.watch) if wanted else 0.0,
        )  # fmt: skip

    if event.deleted:
        return made(False, "record", f"the USGS has deleted event {event.id}")
    if event.event_type != "earthquake":
        return made(False, "record", f"event {event.id} is not an earthquake but: {event.event_type}")
    alert, hazard_km2, product = _ground_failure(event)
    if product is not None:
        return made(*_by_ground_failure(alert, hazard_km2, product, settings.watch))
    if magnitude is None:
        return made(False, "record", f"event {event.id} has no magnitude yet")
    return made(*_by_magnitude(magnitude, event.depth_km, steep_km2, settings))


def urgency(event: Event, settings: WatchSettings) -> float:
    """How soon an earthquake is to be mapped: an expected area of landslides in km², the larger the sooner.

    From the ground-failure product; without one from magnitude, depth and PAGER's colour.
    """
    alert, hazard_km2, product = _ground_failure(event)
    if product is not None:
        return max(hazard_km2 or 0.0, _KM2_FROM.get(alert, 0.0))
    magnitude = _known(event.magnitude)
    if magnitude is None:
        return 0.0
    shallow = magnitude - (DEEPER_BY if _too_deep(event.depth_km, settings) else 0.0)
    return 0.00307 * 10 ** (1.29 * shallow - 5.65) * _PAGER.get(event.alert or "", 1.0)


def _by_ground_failure(
    alert: str, hazard_km2: float | None, product: ProductRef, settings: WatchSettings
) -> tuple[bool, _Basis, str]:
    least_alert, least_km2 = settings.landslide_alert, settings.minimum_hazard
    high_alert = alert in COLOURS and COLOURS.index(alert) >= COLOURS.index(least_alert)
    high_hazard = hazard_km2 is not None and hazard_km2 >= least_km2
    said = []
    if alert:
        said.append(f"landslide alert {alert} is {'not ' if high_alert else ''}below {least_alert}")
    if hazard_km2 is not None:
        said.append(f"landslide hazard {hazard_km2:g} km² is {'not ' if high_hazard else ''}below {least_km2:g} km²")
    return high_alert or high_hazard, "ground-failure", f"{', '.join(said)} (ground failure {product.name})"


def _by_magnitude(
    magnitude: float, depth_km: float | None, steep_km2: float | None, settings: Settings
) -> tuple[bool, _Basis, str]:
    least = settings.area.minimum_magnitude
    if magnitude < least:
        return False, "magnitude", f"M {magnitude:g} is below the rule's {least:g}"
    why = f"M {magnitude:g} is not below the rule's {least:g}"
    if _too_deep(depth_km, settings.watch):
        where = f"at {depth_km:g} km, deeper than {settings.watch.maximum_depth_km:g} km"
        if magnitude < least + DEEPER_BY:
            return False, "magnitude", f"M {magnitude:g} {where}, is below the {least + DEEPER_BY:g} asked of such"
        why = f"M {magnitude:g} {where}, is not below the {least + DEEPER_BY:g} asked of such"
    if steep_km2 is None:
        return True, "magnitude", why
    few = steep_km2 < settings.watch.minimum_steep_km2
    compared = f"{steep_km2:.1f} km² of steep land under shaking are {'' if few else 'not '}less than"
    return not few, "magnitude", f"{why}, {compared} {settings.watch.minimum_steep_km2:g} km²"


def _ground_failure(event: Event) -> tuple[str, float | None, ProductRef | None]:
    """Landslide alert (empty for none), aggregate landslide hazard (km²) and the product that gives one of them."""
    product = event.ground_failure if isinstance(event, EarthquakeEvent) else None
    if product is None:
        return "", None, None
    alert = (product.property("landslide-alert") or "").lower()
    alert = alert if alert in COLOURS else ""  # `pending` while the USGS reviews the shaking
    hazard_km2 = _number(product.property("landslide-hazard-alert-value"))
    return (alert, hazard_km2, product) if alert or hazard_km2 is not None else ("", None, None)


def _too_deep(depth_km: float | None, settings: WatchSettings) -> bool:
    return depth_km is not None and depth_km > settings.maximum_depth_km


def _known(magnitude: float | None) -> float | None:
    """The magnitude; an event given by hand has one that is not a number."""
    return None if magnitude is None or math.isnan(magnitude) else magnitude


def _number(text: str | None) -> float | None:
    """A finite number of at least 0, None for anything else: a product's properties are text from outside."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None

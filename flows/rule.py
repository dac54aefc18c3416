"""Which earthquakes are mapped, each decision with its reason. Pure."""

from __future__ import annotations

from flows.event import EarthquakeEvent, EventSummary
from flows.settings import AreaSettings


def qualifies(event: EarthquakeEvent | EventSummary, settings: AreaSettings) -> tuple[bool, str]:
    """Whether the rule wants an event mapped, and why or why not, in words for the user and the record."""
    if event.deleted:
        return False, f"the USGS has deleted event {event.id}"
    if event.event_type != "earthquake":
        return False, f"event {event.id} is a {event.event_type}, not an earthquake"
    if event.magnitude is None:
        return False, f"event {event.id} has no magnitude yet"
    rule = f"the rule's {settings.minimum_magnitude:g}"
    if event.magnitude < settings.minimum_magnitude:
        return False, f"M {event.magnitude:g} is below {rule}"
    return True, f"M {event.magnitude:g} is not below {rule}"

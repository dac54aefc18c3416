"""The rate of the network as it is known before a run: from the event's last version, else from all runs of the bucket."""

from __future__ import annotations

import logging

from flows.campaign.notes import facts_of
from flows.errors import PublicationError
from flows.layout import EventLayout
from flows.publish import read_versions
from flows.speed import ASSUMED, Speed
from flows.storage import Store
from flows.tallies import read_tally

log = logging.getLogger(__name__)

LOOKED_AT = 3
"""So many of an event's last versions are asked: one of drawn polygons tells none, nor one that mapped hardly anything."""


def known_speed(store: Store, event: EventLayout) -> Speed:
    """The rate that a plan of an event is reckoned with, and where it is from.

    Raises `ServiceError` when the bucket cannot be reached, `PublicationError` when the list of versions is damaged.
    """
    for publication in reversed(read_versions(store, event)[-LOOKED_AT:]):
        try:
            facts = facts_of(store, publication)
        except (PublicationError, ValueError) as error:  # it tells nothing: an estimate is no reason to stop
            log.warning("the facts of version %d cannot be read: %s", publication.version, error)
            continue
        rate = None if facts is None or facts.network is None else facts.network.px_per_s
        if rate is not None:
            return Speed(rate, f"measured by version {publication.version}")
    tally = read_tally(store)
    if tally.mapped_px > 0 and tally.map_s > 0:
        return Speed(tally.mapped_px / tally.map_s, "measured over all runs so far")
    return ASSUMED

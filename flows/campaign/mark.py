"""Withdrawn events: their versions stay where they are and say that they are withdrawn."""

from __future__ import annotations

import datetime as dt

from flows.layout import EventLayout
from flows.publish import set_withdrawn
from flows.storage import Store


def mark_withdrawn(store: Store, campaign_id: str, why: str, now: dt.datetime) -> None:
    """Mark the list of versions and the catalogue of a campaign; one without versions has nothing to mark."""
    set_withdrawn(store, EventLayout(store.bucket_url, campaign_id), {"reason": why, "at": now.isoformat()})


def unmark_withdrawn(store: Store, campaign_id: str) -> None:
    """Take the mark away: the USGS lists the event again."""
    set_withdrawn(store, EventLayout(store.bucket_url, campaign_id), None)

"""What runs that were given up have left in Earth Engine: found, reported, removed.

A run that is killed between writing its assets and publishing leaves assets without `version`. When it is started again
it takes them up; when nobody ever does, they are removed after `earthengine.orphan_hours`. Nothing that has a version,
and nothing that this program did not name, is ever touched.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Set

from flows.asset_names import VERSION, asset_containers
from flows.layout import EventLayout, asset_label
from flows.publish import read_versions
from flows.settings import Settings
from flows.storage import Store
from gee.assets import AssetRecord, delete_asset, find_asset, list_assets
from gee.session import Session

_LABEL = re.compile(r"[0-9a-f]{16}_[0-9a-f]{16}")


def leftovers(
    assets: Iterable[AssetRecord],
    published: Set[str],
    lost: Set[str],
    now: dt.datetime,
    grace: dt.timedelta,
) -> tuple[AssetRecord, ...]:
    """Which of an event's images and tables nobody will ever publish. Labels are those of `flows.layout.asset_label`.

    That is: named by this program, without a version, not among the `published`, and either known to be `lost` or not
    touched for the time of `grace`: a run that takes them up touches them first.
    """
    return tuple(
        asset
        for asset in assets
        if asset.kind in ("IMAGE", "TABLE")
        and _LABEL.fullmatch(asset.label)
        and VERSION not in asset.properties
        and asset.label not in published
        and (asset.label in lost or now - asset.updated > grace)
    )


def tidy(
    session: Session,
    store: Store,
    event: EventLayout,
    settings: Settings,
    now: dt.datetime,
    lost: Set[str] = frozenset(),
) -> tuple[str, ...]:
    """Delete the leftovers of an event in Earth Engine; returns their ids. Do it again at any time.

    `lost` are labels of attempts that can no longer be published, for which no time of grace is needed. Raises
    `AssetError` when Earth Engine refuses, `PublicationError` when the list of versions cannot be read.
    """
    containers = asset_containers(event.event_id, settings)
    present = [asset for container in containers.values() for asset in list_assets(session, container)]
    # Read after the listing: what is published meanwhile is kept.
    published = {asset_label(version.run_key, version.digest) for version in read_versions(store, event)}
    grace = dt.timedelta(hours=settings.earthengine.orphan_hours)
    removed = []
    for asset in leftovers(present, published, lost, now, grace):
        latest = find_asset(session, asset.name)
        if latest is None or not leftovers([latest], published, lost, now, grace):
            continue  # taken up, published or removed since it was listed
        if delete_asset(session, asset.name):
            removed.append(asset.name)
    return tuple(removed)

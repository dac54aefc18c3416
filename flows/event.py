"""What the USGS knows of an earthquake: its identity under every name, and the products that hang on it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from flows.errors import EventError

SHAKEMAP = "shakemap"
GROUND_FAILURE = "ground-failure"
KEPT_PRODUCTS = (SHAKEMAP, GROUND_FAILURE)
"""The product types that quakeslide looks at; the others of an event are not kept."""


@dataclass(frozen=True)
class ProductRef:
    """One version of one product of an event.

    A product is identified by source, type and code; `updated` tells its versions apart. A deletion is a version, too.
    """

    source: str
    """Who made it, for example `us` or `atlas`."""
    type: str
    """For example `shakemap`."""
    code: str
    """The maker's own name for it, for example `us2000h8ty`."""
    updated: dt.datetime
    """When this version was sent, UTC, to the millisecond."""
    version: str
    """The maker's version number; empty when not given. Not unique: a maker may send the same number twice."""
    status: str
    """`UPDATE`, or `DELETE` when this version withdraws the product."""
    preferred_weight: int
    """The larger, the more the USGS prefers it among products of its type."""
    contents: tuple[tuple[str, str], ...] = ()
    """Name and address of each file, sorted by name, for example (`download/grid.xml`, `https://…`)."""
    properties: tuple[tuple[str, str], ...] = ()
    """The product's own properties as text, sorted by name, for example (`landslide-alert`, `orange`)."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Source, type and code: what stays the same from version to version."""
        return self.source, self.type, self.code

    @property
    def name(self) -> str:
        """What a reader of a report sees: `us/us2000h8ty version 10`."""
        stem = f"{self.source}/{self.code}"
        return f"{stem} version {self.version}" if self.version else f"{stem} of {self.updated:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def deleted(self) -> bool:
        """Whether this version withdraws the product."""
        return self.status.upper() == "DELETE"

    def url(self, name: str) -> str | None:
        """The address of the file `name`, None when the product has no such file."""
        return dict(self.contents).get(name)

    def property(self, name: str) -> str | None:
        """The product's own property `name`, None when it has none."""
        return dict(self.properties).get(name)


def current_products(
    products: Iterable[ProductRef], product_type: str, at: dt.datetime | None = None
) -> list[ProductRef]:
    """The newest version of each product of a type, the preferred one first, those withdrawn left out.

    `at` asks as of an earlier moment: versions sent after it are not considered. The USGS's own order is followed:
    larger preferred weight first, then the later version.
    """
    newest: dict[tuple[str, str, str], ProductRef] = {}
    for product in products:
        if product.type != product_type or (at is not None and product.updated > at):
            continue
        known = newest.get(product.identity)
        if known is None or product.updated > known.updated:
            newest[product.identity] = product
    living = [product for product in newest.values() if not product.deleted]
    return sorted(living, key=lambda p: (p.preferred_weight, p.updated, p.identity), reverse=True)


@dataclass(frozen=True)
class EventSummary:
    """An earthquake as a feed or a query lists it. What a feed may leave out is None here."""

    id: str
    """The id that the USGS prefers now."""
    ids: tuple[str, ...]
    """Every id under which the event is known, `id` among them."""
    time: dt.datetime | None
    """Origin time, UTC."""
    updated: dt.datetime
    """When the record was last changed, UTC."""
    lon: float | None
    """Longitude of the epicentre in degrees, -180 to 180."""
    lat: float | None
    """Latitude of the epicentre in degrees."""
    depth_km: float | None
    """Depth in km, negative above sea level."""
    magnitude: float | None
    """Preferred magnitude."""
    magnitude_type: str
    """For example `mww`; empty when not given."""
    place: str
    """For example `27 km ESE of Chitose, Japan`."""
    title: str
    """For example `M 6.6 - 27 km ESE of Chitose, Japan`."""
    status: str
    """`automatic`, `reviewed` or `deleted`."""
    alert: str | None
    """PAGER's alert colour, None when there is none."""
    event_type: str
    """`earthquake`, `quarry blast`, …"""
    simulated: bool
    """Whether the record says that it is simulated."""
    product_types: tuple[str, ...] = ()
    """The types of all its products, for example `shakemap`; the products themselves are only in the detail."""

    @property
    def deleted(self) -> bool:
        """Whether the USGS has withdrawn the event."""
        return self.status == "deleted"


@dataclass(frozen=True)
class EarthquakeEvent:
    """An earthquake with its products, as the USGS's event detail describes it."""

    id: str
    """The id that the USGS prefers now."""
    ids: tuple[str, ...]
    """Every id under which the event is known, `id` among them."""
    time: dt.datetime
    """Origin time, UTC."""
    updated: dt.datetime
    """When the record was last changed, UTC."""
    lon: float
    """Longitude of the epicentre in degrees, -180 to 180."""
    lat: float
    """Latitude of the epicentre in degrees."""
    depth_km: float | None
    """Depth in km, negative above sea level; None when the record has none (some old events)."""
    magnitude: float
    """Preferred magnitude."""
    magnitude_type: str
    """For example `mww`; empty when not given."""
    place: str
    """For example `27 km ESE of Chitose, Japan`."""
    title: str
    """For example `M 6.6 - 27 km ESE of Chitose, Japan`."""
    status: str
    """`automatic`, `reviewed` or `deleted`."""
    alert: str | None
    """PAGER's alert colour, None when there is none."""
    event_type: str = "earthquake"
    """`earthquake`, `quarry blast`, …"""
    simulated: bool = False
    """Whether the record says that it is simulated."""
    products: tuple[ProductRef, ...] = ()
    """Every listed version of the products in `KEPT_PRODUCTS`, deletions among them, oldest first."""

    @property
    def deleted(self) -> bool:
        """Whether the USGS has withdrawn the event."""
        return self.status == "deleted"

    @property
    def shakemap(self) -> ProductRef | None:
        """The preferred ShakeMap, None when there is none."""
        return next(iter(current_products(self.products, SHAKEMAP)), None)

    @property
    def ground_failure(self) -> ProductRef | None:
        """The preferred ground-failure product, None when there is none."""
        return next(iter(current_products(self.products, GROUND_FAILURE)), None)

    def is_same_as(self, event_id: str) -> bool:
        """Whether `event_id` is one of the names of this event."""
        return event_id in self.ids

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; times are ISO 8601 in UTC."""
        value = asdict(self)
        value["time"], value["updated"] = self.time.isoformat(), self.updated.isoformat()
        for product, plain in zip(self.products, value["products"], strict=True):
            plain["updated"] = product.updated.isoformat()
            plain["contents"], plain["properties"] = dict(product.contents), dict(product.properties)
        value["products"], value["ids"] = list(value["products"]), list(self.ids)
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> EarthquakeEvent:
        """The inverse of `to_dict`. Raises `EventError` when `value` is not what `to_dict` writes."""
        try:
            products = tuple(
                ProductRef(
                    **{
                        **plain,
                        "updated": dt.datetime.fromisoformat(plain["updated"]),
                        "contents": tuple(sorted(plain["contents"].items())),
                        "properties": tuple(sorted(plain["properties"].items())),
                    }
                )
                for plain in value["products"]
            )
            times = {name: dt.datetime.fromisoformat(value[name]) for name in ("time", "updated")}
            return cls(**{**value, **times, "ids": tuple(value["ids"]), "products": products})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EventError(f"this is not a stored earthquake event: {error!r}; fetch the event again") from error

"""Tiny records as the USGS writes them: events, collections and product versions."""

from __future__ import annotations

import datetime as dt
from typing import Any

T0_MS = 1_536_170_879_150
T0 = dt.datetime(2018, 9, 5, 18, 7, 59, 150_000, tzinfo=dt.UTC)


def feature(event_id: str = "us2000h8ty", **properties: Any) -> dict[str, Any]:
    """One event as a feed writes it; `geometry` among the arguments replaces the point."""
    geometry = properties.pop("geometry", {"type": "Point", "coordinates": [141.9294, 42.6861, 35.0]})
    known = {
        "mag": 6.6, "place": "27 km ESE of Chitose, Japan", "time": T0_MS, "updated": T0_MS + 60_000,
        "ids": f",at00pelgzo,{event_id},", "alert": "orange", "status": "reviewed", "magType": "mww",
        "type": "earthquake", "title": "M 6.6 - 27 km ESE of Chitose, Japan",
    }  # fmt: skip
    return {"type": "Feature", "id": event_id, "properties": known | properties, "geometry": geometry}


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "metadata": {"count": len(features)}, "features": list(features)}


def product(source: str, updated_ms: int, weight: int, status: str = "UPDATE", version: str = "1") -> dict[str, Any]:
    url = f"https://earthquake.usgs.gov/product/shakemap/x/{source}/{updated_ms}/download/grid.xml"
    return {
        "source": source, "code": "us2000h8ty", "type": "shakemap", "updateTime": updated_ms, "status": status,
        "preferredWeight": weight, "properties": {"version": version, "maxmmi": "8.5"},
        "contents": {} if status == "DELETE" else {"download/grid.xml": {"url": url}},
    }  # fmt: skip

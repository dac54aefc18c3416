"""The rules on an inventory: the landslides that are left, and beside them what was dropped and why, both editable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors

from modeling.errors import InventoryError
from modeling.geology.rules import BEFORE, RULES, GeologyRules, Measures, judge
from modeling.vectors.inventory import SCHEMA, validate_inventory

BECAUSE = "dropped_because"
"""The column that says why a region is no landslide: every rule that it breaks, with its measure and the threshold."""
_ALREADY = f"{BEFORE}: the network maps it on the image before the event as well"


@dataclass(frozen=True)
class Judged:
    """An inventory under rules; nothing is in both parts, and nothing is lost."""

    kept: gpd.GeoDataFrame
    """The inventory that is left, numbered anew."""
    dropped: gpd.GeoDataFrame
    """The rest: the columns of an inventory and `dropped_because`, numbered by itself."""

    @property
    def counts(self) -> dict[str, int]:
        """Rule -> how many regions it dropped; a region that broke two counts for both, so the sum may exceed them all."""
        reasons = self.dropped[BECAUSE].astype(str)
        broken = reasons.str.split("; ").explode().str.partition(":")[0] if len(reasons) else pd.Series([], dtype=str)
        return {rule: int((broken == rule).sum()) for rule in (*RULES, BEFORE)}


def judged(inventory: gpd.GeoDataFrame, rules: GeologyRules, already: gpd.GeoDataFrame | None = None) -> Judged:
    """Sort an inventory into landslides and regions that break a rule.

    `already` is an inventory of what was mapped before the event too: all of it is dropped. Raises `InventoryError` when
    one of them is no inventory.
    """
    validate_inventory(inventory)
    columns = ("area_m2", "length_width_ratio", "slope_p95_deg")
    verdicts = judge(Measures(*(inventory[name].to_numpy(np.float64) for name in columns)), rules)
    kept = verdicts.kept
    dropped = _reasoned(inventory[~kept], [why for why in verdicts.dropped_because if why])
    if already is not None and len(already):
        validate_inventory(already)
        parts = [part for part in (dropped, _reasoned(already, [_ALREADY] * len(already))) if len(part)]
        dropped = pd.concat(parts).sort_values("area_m2", ascending=False, kind="stable")
    return Judged(validate_inventory(_numbered(inventory[kept])), _numbered(dropped))


def write_dropped(dropped: gpd.GeoDataFrame, path: Path) -> Path:
    """Write what was dropped as GeoPackage (`.gpkg`, in its own CRS) or GeoJSON (`.geojson`, WGS84), whole or not at all."""
    beside = path.with_name(f".partial-{path.name}")
    options: dict[str, Any] = {"driver": "GPKG", "layer": "dropped", "geometry_type": "Polygon"}
    if path.suffix == ".geojson":
        options = {"driver": "GeoJSON", "RFC7946": "YES", "COORDINATE_PRECISION": 7}
    try:
        pyogrio.write_dataframe(dropped, beside, **options)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        beside.unlink(missing_ok=True)
        raise InventoryError(f"what was dropped cannot be written to {path}: {error}") from error
    return beside.replace(path)


def _reasoned(frame: gpd.GeoDataFrame, reasons: list[str]) -> gpd.GeoDataFrame:
    told = frame.copy()
    told[BECAUSE] = pd.Series(reasons, index=frame.index, dtype="str")
    return told[[*(name for name in SCHEMA if name != "geometry"), BECAUSE, "geometry"]]


def _numbered(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    fresh = frame.reset_index(drop=True)
    fresh["landslide_id"] = np.arange(1, len(fresh) + 1, dtype=np.int32)
    return fresh

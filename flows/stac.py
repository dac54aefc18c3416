"""STAC items and catalogues that validate without a network.

No extension is declared: `pystac` fetches the schema of each declared one from the web, and a published item must
validate where there is none. The field names of the projection, file and processing extensions are used all the
same, because readers (QGIS, stackstac, odc-stac, rio-tiler) look for the fields; what is our own begins with
`quakeslide:`. Links to a parent are left out, so that an item and its files stay whole when they are copied together.
https://github.com/radiantearth/stac-spec/tree/v1.1.0/item-spec
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pystac
import shapely
from pystac.errors import STACError
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from flows.adapt_facts import AdaptationFacts
from flows.alignment import Alignment
from flows.campaign.wording import campaign_property
from flows.errors import PublicationError
from flows.facts import Imagery, ReportFacts
from flows.layout import PRODUCTS, TABLES, asset_label
from gee.types import OBSERVED_LABELS, Grid

LICENCE = "other"
"""The licence field: the sources' own terms apply, they stand in `quakeslide:attribution`."""

_LONGEST_CODE = 32  # `EPSG:32654` is a code, anything this long is WKT
_OBSERVED_CLASSES = [{"value": int(code), "description": label} for code, label in OBSERVED_LABELS.items()]


@dataclass(frozen=True)
class RasterBand:
    """One band of a raster, as the file itself says."""

    name: str
    """Description of the band."""
    data_type: str
    """Numpy name of the type, which is STAC's too."""
    nodata: float | None
    """Value of pixels without data, None when there is none."""


@dataclass(frozen=True)
class AssetFile:
    """One file of an item."""

    href: str
    """Relative to the item, or absolute."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal SHA-256."""
    bands: tuple[RasterBand, ...] = ()
    """Its bands when it is a raster."""


@dataclass(frozen=True)
class VersionLink:
    """One visible version, as a catalogue lists it."""

    version: int
    """Number, from 1."""
    href: str
    """The item, relative to the catalogue."""


def make_item(
    facts: ReportFacts, footprint: BaseGeometry, grid: Grid, assets: Mapping[str, AssetFile], digest: str = ""
) -> pystac.Item:
    """The STAC item of one version; `footprint` is the area of interest in WGS84, `assets` by key of `PRODUCTS`.

    Raises `PublicationError` when the item would not be valid, for example with an empty footprint.
    """
    if footprint.is_empty:
        raise PublicationError(f"the footprint of event {facts.event.id} is empty: there is nothing to publish")
    start, end = _time_range(facts)
    identity = "-".join(part for part in (facts.event.id, facts.provenance.run_key, digest) if part)
    item = pystac.Item(
        id=identity,
        geometry=mapping(footprint),
        bbox=stac_bbox(footprint),
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties={**_common(facts, grid), **_projection(grid), **_results(facts, digest), **_provenance(facts)},
    )
    for key, file in assets.items():
        item.add_asset(key, _asset(key, file, grid))
    return _checked(item)


def make_catalog(
    event_id: str, title: str, versions: Sequence[VersionLink], withdrawn: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The STAC catalogue of an event as JSON values, newest version last, hrefs relative to it.

    `withdrawn` (`reason`, `at`) says that the USGS has deleted the event.
    """
    links: list[dict[str, Any]] = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    links += [
        {"rel": "item", "href": link.href, "type": "application/geo+json", "title": f"Version {link.version}"}
        for link in versions
    ]
    if versions:
        links.append({**links[-1], "rel": "latest-version"})
    description = f"Landslide maps of {title}. Each version is immutable."
    extra: dict[str, Any] = {}
    if withdrawn is not None:
        description = f"Withdrawn: {withdrawn['reason']}. {description}"
        extra = {"deprecated": True, "quakeslide:withdrawn": dict(withdrawn)}
    catalog = pystac.Catalog(id=event_id, description=description, title=title, extra_fields=extra)
    return {**catalog.to_dict(include_self_link=False), "links": links}


def multihash(sha256: str) -> str:
    """A hexadecimal SHA-256 as the multihash that `file:checksum` holds: code 0x12, length 0x20, digest."""
    return f"1220{sha256}"


def stac_bbox(geometry: BaseGeometry) -> list[float]:
    """west, south, east, north in degrees; west > east when the geometry is cut at the antimeridian (RFC 7946, 5.2)."""
    west, south, east, north = (float(value) for value in geometry.bounds)
    if west <= -180.0 and east >= 180.0:
        parts = shapely.get_parts(geometry)
        left = [part for part in parts if part.bounds[0] > 0]
        right = [part for part in parts if part.bounds[2] < 0]
        if len(left) + len(right) == len(parts):
            west, east = min(part.bounds[0] for part in left), max(part.bounds[2] for part in right)
    return [west, south, east, north]


def _time_range(facts: ReportFacts) -> tuple[dt.datetime, dt.datetime]:
    """First and last acquisition after the event; without any, the event's own time, or that of the products."""
    post = facts.phase("post")
    if post and post.first_date and post.last_date:
        return _midnight(post.first_date), _midnight(post.last_date) + dt.timedelta(days=1, seconds=-1)
    moment = facts.event.time or facts.created
    return moment, moment


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _common(facts: ReportFacts, grid: Grid) -> dict[str, Any]:
    simulated = "Simulated example. " if facts.event.simulated else ""
    inventory, coverage = facts.inventory, facts.coverage
    return {
        "title": f"Landslides of {facts.event.title}",
        "description": (
            f"{simulated}{inventory.count} landslides over {inventory.total_area_m2 / 1e6:.3f} km2 in the "
            f"{coverage.observed_percent:.1f} % of {coverage.area_km2:.1f} km2 that could be observed. "
            "What was not observed is nodata, never 'no landslide'."
        ),
        "created": _timestamp(facts.created),
        "license": LICENCE,
        "gsd": grid.pixel_m,
        "keywords": ["landslides", "earthquake", facts.event.id, *(["simulated"] if facts.event.simulated else [])],
    }


def _projection(grid: Grid) -> dict[str, Any]:
    named = len(grid.crs) < _LONGEST_CODE
    return {
        "proj:code": grid.crs if named else None,
        **({} if named else {"proj:wkt2": grid.crs}),
        "proj:transform": list(grid.transform),
        "proj:shape": list(grid.shape_yx),
        "proj:bbox": list(grid.bounds),
    }


def _results(facts: ReportFacts, digest: str) -> dict[str, Any]:
    event, coverage, inventory = facts.event, facts.coverage, facts.inventory
    return {
        "quakeslide:simulated": event.simulated,
        "quakeslide:event_id": event.id,
        "quakeslide:event_title": event.title,
        "quakeslide:event_time": _timestamp(event.time) if event.time else None,
        "quakeslide:magnitude": event.magnitude,
        "quakeslide:area_km2": coverage.area_km2,
        "quakeslide:observed_fraction": coverage.observed_percent / 100,
        "quakeslide:observed_km2": coverage.observed_km2,
        "quakeslide:coverage_km2": {row.label: row.area_km2 for row in coverage.rows},
        "quakeslide:landslide_count": inventory.count,
        "quakeslide:landslide_area_m2": inventory.total_area_m2,
        "quakeslide:totals_range": None
        if facts.totals is None
        else {
            "on": "observed ground only",
            "level": facts.totals.level,
            "landslide_area_m2": [facts.totals.area_low_m2, facts.totals.area_high_m2],
            "landslide_count": [facts.totals.count_low, facts.totals.count_high],
            "fitted_to_simulated_events": facts.totals.simulated,
            "events": facts.totals.events,
            "regions": list(facts.totals.regions),
            "unlike_validated_ground": facts.totals.beyond,
        },
        "quakeslide:scores": {s.name: {"pixel": dict(s.pixel), "objects": dict(s.objects)} for s in facts.scores},
        "quakeslide:earth_engine_assets": _earth_engine(facts, digest),
        **({} if facts.campaign is None else {"quakeslide:campaign": campaign_property(facts)}),
    }


def _earth_engine(facts: ReportFacts, digest: str) -> dict[str, str]:
    """The assets of exactly these products, by what they are; without landslides there is no table."""
    label = asset_label(facts.provenance.run_key, digest)
    held = {name: f"{container}/{label}" for name, container in facts.earth_engine_assets.items()}
    return held if facts.inventory.count else {name: asset for name, asset in held.items() if name != TABLES}


def _provenance(facts: ReportFacts) -> dict[str, Any]:
    source = facts.provenance
    return {
        "processing:software": {"quakeslide": source.code_version},
        "processing:lineage": (
            f"Model {source.model} ({source.band_set}), threshold {source.threshold:g}, on optical scenes before and "
            f"after the event. Clouds: {source.mask_rule or 'not masked'}. Terrain: {source.dem}."
        ),
        "quakeslide:run_key": source.run_key,
        "quakeslide:scenes_pre": _scenes(facts.phase("pre")),
        "quakeslide:scenes_post": _scenes(facts.phase("post")),
        "quakeslide:dates_assumed": any(imagery.dates_assumed for imagery in facts.imagery),
        "quakeslide:alignment": _alignment(facts.alignment),
        "quakeslide:mask_rule": source.mask_rule,
        "quakeslide:dem": source.dem,
        "quakeslide:cube_hash": source.cube_hash,
        "quakeslide:model": source.model,
        "quakeslide:band_set": source.band_set,
        "quakeslide:weights_sha256": source.weights_hash,
        "quakeslide:threshold": source.threshold,
        "quakeslide:trained_on_simulated": source.trained_on_simulated,
        "quakeslide:rules": None
        if facts.rules is None
        else {**asdict(facts.rules), "dropped": dict(facts.rules.dropped)},
        "quakeslide:selection": None if facts.selection is None else json.loads(facts.selection.to_json()),
        "quakeslide:selection_warning": "" if facts.selection is None else facts.selection.warning,
        "quakeslide:adaptation": _adaptation(facts.adaptation),
        "quakeslide:area_reason": source.area_reason,
        "quakeslide:settings_hash": source.settings_hash,
        "quakeslide:settings": dict(source.settings),
        "quakeslide:attribution": list(source.attribution),
    }


def _adaptation(facts: AdaptationFacts | None) -> dict[str, Any] | None:
    """What the version came of, and how good it was found on held-out polygons."""
    if facts is None:
        return None
    judgement = facts.judgement
    return {
        "parent_version": facts.parent_version,
        "parent_run_key": facts.parent_run_key,
        "parent_weights_sha256": facts.parent_weights,
        "labels_sha256": facts.labels_sha256,
        "landslide_polygons": facts.landslide_polygons,
        "other_polygons": facts.other_polygons,
        "model_sha256": facts.model_sha256,
        "verdict": judgement.verdict,
        "chosen": judgement.chosen,
        "held_out": {
            part: {name: interval.value for name, interval in scores.items()}
            for part, scores in (("before", judgement.before), ("after", judgement.after))
        },
        "changed_m2": {row.label: row.area_m2 for row in facts.changes},
    }


def _alignment(alignment: Alignment | None) -> dict[str, Any] | None:
    """How the image before lay to the one after, and what was done; shifts and standard errors are (y, x) in pixels."""
    if alignment is None:
        return None
    shift, match = alignment.shift, alignment.radiometry
    return {
        "measured": shift.measured,
        "why": shift.why,
        "east_m": alignment.east_m if shift.measured else None,
        "north_m": alignment.north_m if shift.measured else None,
        "shift_px": [shift.dy_px, shift.dx_px] if shift.measured else None,
        "error_px": [shift.dy_error_px, shift.dx_error_px] if shift.measured else None,
        "windows": shift.windows,
        "ground": alignment.ground,
        "corrected": alignment.corrected,
        "radiometry": match.method if match and match.bands else "none",
    }


def _scenes(imagery: Imagery | None) -> list[str]:
    return list(imagery.scenes) if imagery else []


def _asset(key: str, file: AssetFile, grid: Grid) -> pystac.Asset:
    product = PRODUCTS[key]
    fields: dict[str, Any] = {"file:size": file.size, "file:checksum": multihash(file.sha256)}
    if file.bands:
        fields |= {**_projection(grid), "gsd": grid.pixel_m, "bands": [_band(key, band) for band in file.bands]}
    return pystac.Asset(
        href=file.href,
        title=product.title,
        media_type=product.media_type,
        roles=list(product.roles),
        extra_fields=fields,
    )


def _band(key: str, band: RasterBand) -> dict[str, Any]:
    """The common `bands` metadata of STAC 1.1 for one band."""
    known: dict[str, Any] = {"name": band.name, "data_type": band.data_type}
    if band.nodata is not None:
        known["nodata"] = "nan" if math.isnan(band.nodata) else band.nodata
    if key == "observed":
        known["classification:classes"] = _OBSERVED_CLASSES
    return known


def _timestamp(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _checked(item: pystac.Item) -> pystac.Item:
    try:
        item.validate()
    except STACError as error:
        raise PublicationError(f"the STAC item {item.id} would not be valid: {str(error).splitlines()[0]}") from error
    return item

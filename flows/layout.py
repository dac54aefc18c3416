"""Where everything of an event lies: every URI and every file name of a product, once.

    <bucket>/events/<event_id>/versions.json                 the only thing that makes a version visible
    <bucket>/events/<event_id>/catalog.json                  STAC catalogue, derived from versions.json
    <bucket>/events/<event_id>/cubes/<plan_hash>.zarr        scenes before and after, for every run that needs them
    <bucket>/events/<event_id>/runs/<run_key>/stages/…       what the finished stages of a run made, until it is visible
    <bucket>/events/<event_id>/runs/<run_key>/<digest>/…     its products, written once, never overwritten
    <bucket>/campaigns/index.json                            which earthquake belongs to which campaign
    <bucket>/campaigns/<campaign_id>.json                    one campaign; its id is the event id of its products
    <bucket>/watch/cursor.json                               how far the feed has been worked off
    <bucket>/watch/days/2018-09-05.json                      what was decided of the earthquakes of a day, UTC

A run key names what went in, a digest what came out: two attempts at one run whose bytes differ (a crash, a race, a
rounding of another processor) can never mix into one version.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from flows.errors import EventError

ITEM_NAME = "item.json"
"""File name of the STAC item, in the bucket and in a folder. It is written last."""

VERSIONS_NAME = "versions.json"
"""File name of the list of visible versions."""

CATALOG_NAME = "catalog.json"
"""File name of an event's STAC catalogue."""

INDEX_NAME = "index.json"
"""File name of the list of campaigns. No campaign can have the id `index`: the USGS gives none like it."""

FACTS = "facts.json"
"""File name of what the report and the item say, as JSON."""

NETWORK = "network.json"
"""File name of how fast the network has mapped, kept with the map of a run that is under way."""

ALIGNMENT = "alignment.json"
"""File name of how the image before lies to the one after, measured once in a run."""

SELECTION = "selection.json"
"""File name of which model was chosen for the scene, and why."""

TABLES = "landslides"
"""Name of an event's folder of tables in Earth Engine."""

KEY_LENGTH = 16
"""Hexadecimal digits of a run key or a digest: 64 bits."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Product:
    """One file of a version."""

    key: str
    """Name of the STAC asset."""
    filename: str
    """File name, the same in the working folder, the bucket and the local copy."""
    media_type: str
    """IANA or customary media type."""
    roles: tuple[str, ...]
    """STAC asset roles."""
    title: str
    """What a reader of the item sees."""
    required: bool = True
    """Whether a version is incomplete without it."""


_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_DATA, _VIEW, _META = ("data",), ("overview",), ("metadata",)

PRODUCTS: Mapping[str, Product] = MappingProxyType({
    product.key: product
    for product in (
        Product("probability", "probability.tif", _COG, _DATA, "Landslide probability, NaN where not observed"),
        Product("mask", "mask.tif", _COG, _DATA, "Landslide mask: 1 landslide, 0 none seen, nodata not observed"),
        Product("observed", "observed.tif", _COG, ("data", "data-mask"), "What was observed, and why the rest was not"),
        Product("landslides_gpkg", "landslides.gpkg", "application/geopackage+sqlite3", _DATA, "Landslide inventory"),
        Product("landslides_parquet", "landslides.parquet", "application/vnd.apache.parquet", _DATA, "As GeoParquet"),
        Product("landslides_geojson", "landslides.geojson", "application/geo+json", _DATA, "As GeoJSON in WGS84"),
        Product("dropped", "dropped.gpkg", "application/geopackage+sqlite3", _DATA,
                "What geology rules dropped, and why", required=False),
        Product("preview", "preview.png", "image/png", _VIEW, "Picture of the result"),
        Product("report", "report.html", "text/html", (*_VIEW, *_META), "Report for people, opens offline"),
        Product("facts", FACTS, "application/json", _META, "What the report says, as JSON", required=False),
        Product("adaptation", "adaptation.json", "application/json", _META,
                "How drawn polygons changed the map, with scores before and after", required=False),
        Product("changes", "changes.tif", _COG, _DATA,
                "What drawn polygons changed, and what was kept where nobody looked", required=False),
        Product("labels", "labels.geojson", "application/geo+json", _DATA,
                "Drawn polygons, each with its held-out result", required=False),
        Product("adapted_model", "model.safetensors", "application/octet-stream", _DATA,
                "Weights of the adapted network", required=False),
        Product("adapted_model_json", "model.json", "application/json", _META,
                "Description and card of the adapted network", required=False),
        Product("metrics", "metrics.json", "application/json", _META, "Agreement with known truth", required=False),
    )
})  # fmt: skip
"""Every product of a version except the item itself, by asset key."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything that determines a result: the same identity is the same work, done once."""

    event_id: str
    """The event's preferred id."""
    area: str
    """The area of interest, as WKT in WGS84."""
    scene_ids: tuple[str, ...]
    """Every source image, both phases and the elevation model; the order does not matter."""
    settings: Mapping[str, Any]
    """The settings that change results, as JSON values; not addresses or numbers of workers."""
    weights_hash: str
    """Hash of the weights file, or of all models among which the run chooses."""
    code_version: str
    """Version of the code."""

    @property
    def key(self) -> str:
        """The run key: `KEY_LENGTH` hexadecimal digits of the SHA-256 of the canonical JSON of all fields."""
        values = {**asdict(self), "scene_ids": sorted(set(self.scene_ids))}
        return short_hash(values)


def safe_id(event_id: str) -> bool:
    """Whether an id can name a folder."""
    return bool(_SAFE_ID.fullmatch(event_id))


def short_hash(value: Any) -> str:
    """`KEY_LENGTH` hexadecimal digits of the SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class EventLayout:
    """Where an event lies in the bucket. Raises `EventError` for an id that is not safe in a path."""

    bucket_url: str
    """`gs://bucket` or `gs://bucket/some/prefix`, with or without a slash at the end."""
    event_id: str
    """The event's preferred id."""

    def __post_init__(self) -> None:
        if not safe_id(self.event_id):
            raise EventError(
                f"event id {self.event_id!r} cannot name a folder: use letters, digits, '-' and '_', 64 at most"
            )

    @property
    def root(self) -> str:
        """The event's prefix, without a slash at the end."""
        return f"{self.bucket_url.rstrip('/')}/events/{self.event_id}"

    @property
    def versions(self) -> str:
        """The list of visible versions: the only document that readers need to look at."""
        return f"{self.root}/{VERSIONS_NAME}"

    @property
    def catalog(self) -> str:
        """The event's STAC catalogue."""
        return f"{self.root}/{CATALOG_NAME}"

    @property
    def cubes(self) -> str:
        """The folder of its cubes."""
        return f"{self.root}/cubes"

    def cube(self, plan_hash: str) -> str:
        """The Zarr store of a cube plan: shared by all runs that map the same scenes, so that none is pulled twice."""
        return f"{self.cubes}/{plan_hash[:KEY_LENGTH]}.zarr"

    def run(self, run_key: str) -> RunLayout:
        """Where one run lies."""
        return RunLayout(self, run_key)


@dataclass(frozen=True)
class RunLayout:
    """Where one run of an event lies."""

    event: EventLayout
    """The event."""
    run_key: str
    """`RunIdentity.key`."""

    @property
    def root(self) -> str:
        """The run's prefix, without a slash at the end."""
        return f"{self.event.root}/runs/{self.run_key}"

    def work(self, filename: str) -> str:
        """A file that a stage has finished, for a run that starts again; an empty name gives their prefix."""
        return f"{self.root}/stages/{filename}"

    def products(self, digest: str) -> ProductLayout:
        """Where the products of one attempt lie; `digest` is `products_digest` of their checksums."""
        return ProductLayout(self, digest)


@dataclass(frozen=True)
class ProductLayout:
    """Where the products of one attempt at a run lie."""

    run: RunLayout
    """The run."""
    digest: str
    """Short hash of the products' checksums."""

    @property
    def root(self) -> str:
        """The products' prefix, without a slash at the end."""
        return f"{self.run.root}/{self.digest}"

    @property
    def item(self) -> str:
        """The STAC item."""
        return self.uri(ITEM_NAME)

    @property
    def item_href(self) -> str:
        """The item as versions.json and catalog.json, which lie in the event's prefix, refer to it."""
        return f"./runs/{self.run.run_key}/{self.digest}/{ITEM_NAME}"

    def uri(self, filename: str) -> str:
        """The URI of one file among the products."""
        return f"{self.root}/{filename}"


@dataclass(frozen=True)
class CampaignsLayout:
    """Where the memory of watch and campaigns lies in the bucket."""

    bucket_url: str
    """`gs://bucket` or `gs://bucket/some/prefix`, with or without a slash at the end."""

    @property
    def prefix(self) -> str:
        """What the URIs of all campaign documents start with."""
        return f"{self.bucket_url.rstrip('/')}/campaigns/"

    @property
    def index(self) -> str:
        """Which earthquake belongs to which campaign."""
        return f"{self.prefix}{INDEX_NAME}"

    def campaign(self, campaign_id: str) -> str:
        """One campaign's document. Raises `EventError` for an id that is not safe in a path."""
        return f"{self.prefix}{EventLayout(self.bucket_url, campaign_id).event_id}.json"

    @property
    def cursor(self) -> str:
        """How far the feed has been worked off."""
        return f"{self.bucket_url.rstrip('/')}/watch/cursor.json"

    @property
    def days(self) -> str:
        """What the URIs of all journals start with."""
        return f"{self.bucket_url.rstrip('/')}/watch/days/"

    def day(self, day: dt.date) -> str:
        """The journal of what was decided of the earthquakes whose origin lies in a day, UTC."""
        return f"{self.days}{day.isoformat()}.json"


def products_digest(sha256_by_filename: Mapping[str, str]) -> str:
    """The digest that names a set of products: equal exactly when all files are."""
    return short_hash(dict(sha256_by_filename))


def key_of(*parts: str) -> str:
    """A key for a Prefect artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def version_name(version: int) -> str:
    """The folder name of a version in a local copy, for example `v0001`."""
    return f"v{version:04d}"


def asset_folder(project: str, root: str, event_id: str) -> str:
    """The Earth Engine folder of an event."""
    return f"projects/{project}/assets/{root.strip('/')}/{event_id}"


def asset_label(run_key: str, digest: str) -> str:
    """The last part of the names of a run's Earth Engine assets; a version's number is not known before it is visible."""
    return f"{run_key}_{digest}"

"""The REST interface: which path is answered by which function."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.earthengine import exports, ingestion, tables
from infra.local.earthengine.assets import asset_id
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.render import render
from infra.local.earthengine.service import Service
from infra.local.earthengine.signatures import listing
from infra.local.earthengine.values import to_json


@dataclass(frozen=True)
class Request:
    """One call."""

    service: Service
    """What it works on."""
    project: str
    """The project in the path."""
    name: str
    """The rest of the path: an asset id, an operation's id, or nothing."""
    query: Mapping[str, str]
    """Parameters of the query."""
    body: dict[str, Any]
    """The JSON body, empty when there is none."""

    @property
    def asset(self) -> str:
        """The id of the asset in the path."""
        return asset_id(f"projects/{self.project}/assets/{self.name}")


@dataclass(frozen=True)
class Answer:
    """Bytes with their type."""

    content: bytes
    """The body."""
    media_type: str = "application/json"
    """Its type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers."""


Handler = Callable[[Request], Answer | dict[str, Any]]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(verb: str, pattern: str) -> Callable[[Handler], Handler]:
    """Decorator: answer a path under `/v1/projects/P`; the group of the pattern is the request's name."""

    def add(handler: Handler) -> Handler:
        _ROUTES.append((verb, re.compile(pattern), handler))
        return handler

    return add


def dispatch(service: Service, verb: str, path: str, query: Mapping[str, str], raw: bytes) -> Answer:
    """The answer to a call. NotFoundError for an unknown path; `path` begins after `/v1/`."""
    found = re.fullmatch(r"projects/([^/:]+)(.*)", path)
    if found is None:
        raise NotFoundError(f"Unknown path '/v1/{path}'.")
    project, rest = found.groups()
    for wanted, pattern, handler in _ROUTES:
        match = pattern.fullmatch(rest)
        if match and wanted == verb:
            name = match.group(1) if match.re.groups else ""
            answer = handler(Request(service, project, name, query, _parsed(raw)))
            return answer if isinstance(answer, Answer) else Answer(json.dumps(answer).encode())
    raise NotFoundError(f"The method {verb} '/v1/{path}' is not known to the local Earth Engine stand-in.")


def _parsed(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ArgumentError(f"Invalid JSON payload received: {error}.") from error
    if not isinstance(body, dict):
        raise ArgumentError("Invalid JSON payload received: an object is needed.")
    return body


@route("GET", "/algorithms")
def list_algorithms(request: Request) -> dict[str, Any]:
    """The signatures of all algorithms."""
    return listing()


@route("POST", "/value:compute")
def compute_value(request: Request) -> dict[str, Any]:
    """The value of an expression."""
    return {"result": to_json(request.service.evaluate(request.body.get("expression")))}


@route("POST", "/image:computePixels")
def compute_pixels(request: Request) -> Answer:
    """Pixels of an expression."""
    image = request.service.image(request.body.get("expression"))
    return Answer(*render(image, request.body, request.service.reader))


@route("POST", "/assets/(.+):getPixels")
def get_pixels(request: Request) -> Answer:
    """Pixels of an image asset."""
    image = request.service.library.view().image(request.asset)
    return Answer(*render(image, request.body, request.service.reader))


@route("POST", "/maps")
def create_map(request: Request) -> dict[str, Any]:
    """Keep an expression as a map; it is evaluated once, so that mistakes show here and not in every tile."""
    request.service.image(request.body.get("expression"))
    return {"name": request.service.save("maps", request.project, request.body)}


TILE = 256
HALF_WORLD_M = 20037508.342789244
"""Half the side of the web mercator square."""


@route("GET", "/maps/([^/]+/tiles/[^/]+/[^/]+/[^/]+)")
def get_tile(request: Request) -> Answer:
    """A tile of a map in web mercator."""
    key, _, zoom, column, row = request.name.split("/")
    try:
        z, x, y = int(zoom), int(column), int(row)
    except ValueError as error:
        raise ArgumentError(f"A tile's zoom, x and y must be whole numbers, got {zoom}/{column}/{row}.") from error
    if not 0 <= z <= 24 or not 0 <= y < 2**z:
        raise NotFoundError(f"There is no tile {z}/{x}/{y}.")
    body = request.service.saved_request(f"projects/{request.project}/maps/{key}")
    side = 2 * HALF_WORLD_M / 2**z
    x %= 2**z
    transform = {
        "scaleX": side / TILE,
        "scaleY": -side / TILE,
        "translateX": -HALF_WORLD_M + x * side,
        "translateY": HALF_WORLD_M - y * side,
    }
    grid = {"crsCode": "EPSG:3857", "dimensions": {"width": TILE, "height": TILE}, "affineTransform": transform}
    image = request.service.image(body.get("expression"))
    return Answer(
        *render(image, {**body, "grid": grid}, request.service.reader), headers=(("Access-Control-Allow-Origin", "*"),)
    )


@route("POST", "/thumbnails")
def create_thumbnail(request: Request) -> dict[str, Any]:
    """Keep an expression for a picture or a download."""
    request.service.image(request.body.get("expression"))
    return {"name": request.service.save("thumbnails", request.project, request.body)}


@route("GET", "/thumbnails/([^/]+):getPixels")
def get_thumbnail(request: Request) -> Answer:
    """The picture or download itself."""
    body = request.service.saved_request(f"projects/{request.project}/thumbnails/{request.name}")
    image = request.service.image(body.get("expression"))
    content, media = render(image, body, request.service.reader)
    name = str(body.get("filenamePrefix") or "download").replace('"', "")
    suffix = {"application/zip": "zip", "image/tiff": "tif", "image/png": "png", "image/jpeg": "jpg"}.get(media, "npy")
    return Answer(content, media, (("Content-Disposition", f'attachment; filename="{name}.{suffix}"'),))


@route("POST", "/tables")
def create_table_download(request: Request) -> dict[str, Any]:
    """Keep an expression for a download of features."""
    request.service.features(request.body.get("expression"))
    return {"name": request.service.save("tables", request.project, request.body)}


@route("GET", "/tables/([^/]+):getFeatures")
def get_table_download(request: Request) -> Answer:
    """The features themselves."""
    body = request.service.saved_request(f"projects/{request.project}/tables/{request.name}")
    features = request.service.features(body.get("expression"))
    return Answer(*tables.to_bytes(features, str(body.get("fileFormat") or "CSV"), body.get("selectors")))


@route("POST", "/table:computeFeatures")
def compute_features(request: Request) -> dict[str, Any]:
    """Features of an expression, page by page."""
    collection = request.service.features(request.body.get("expression"))
    return tables.page(collection, request.body.get("pageSize"), request.body.get("pageToken"))


@route("GET", "/assets/(.+):listFeatures")
def list_features(request: Request) -> dict[str, Any]:
    """Features of a table, page by page."""
    collection = request.service.library.view().table(request.asset)
    return tables.page(collection, request.query.get("pageSize"), request.query.get("pageToken"))


def _listed(request: Request, parent: str) -> list[dict[str, Any]]:
    view = request.service.library.view()
    if view.kind(parent) not in ("FOLDER", "IMAGE_COLLECTION"):
        raise ArgumentError(f"Asset '{parent}' is neither a folder nor an image collection.")
    return [view.describe(child) for child in view.children(parent)]


def _paged(request: Request, items: list[dict[str, Any]], key: str) -> dict[str, Any]:
    size, start = int(request.query.get("pageSize") or 1000), int(request.query.get("pageToken") or 0)
    body: dict[str, Any] = {key: items[start : start + size]}
    return {**body, "nextPageToken": str(start + size)} if start + size < len(items) else body


@route("GET", ":listAssets")
def list_root(request: Request) -> dict[str, Any]:
    """Assets at the root of a project."""
    return _paged(request, _listed(request, f"projects/{request.project}/assets"), "assets")


@route("GET", "/assets/(.*):listAssets")
def list_assets(request: Request) -> dict[str, Any]:
    """Assets inside a folder or collection."""
    return _paged(request, _listed(request, request.asset), "assets")


@route("GET", "/assets/(.*):listImages")
def list_images(request: Request) -> dict[str, Any]:
    """Images inside a collection."""
    return _paged(request, [a for a in _listed(request, request.asset) if a["type"] == "IMAGE"], "images")


@route("POST", "/assets/(.+):(?:getIamPolicy|setIamPolicy)")
def iam_policy(request: Request) -> dict[str, Any]:
    """The access policy; it is kept and does not restrict anything."""
    request.service.library.view().kind(request.asset)
    key = f"policy:{request.asset}"
    if "policy" in request.body:
        request.service.saved.put(key, request.body["policy"])
    return request.service.saved.get(key) or {"bindings": [], "etag": "local"}


@route("GET", "/assets/?(.*)")
def get_asset(request: Request) -> dict[str, Any]:
    """What an asset is."""
    return request.service.library.view().describe(request.asset)


@route("POST", "/assets")
def create_asset(request: Request) -> dict[str, Any]:
    """Create a folder or an empty image collection."""
    wanted = f"projects/{request.project}/assets/{request.query.get('assetId', '').strip('/')}"
    kind = str(request.body.get("type", ""))
    if kind not in ("FOLDER", "IMAGE_COLLECTION"):
        raise ArgumentError(f"Assets of type '{kind}' cannot be created empty; use FOLDER or IMAGE_COLLECTION.")
    library = request.service.library
    library.check_writable(library.view(), wanted)
    library.put_container(wanted, kind, dict(request.body.get("properties") or {}))
    return library.view().describe(wanted)


@route("DELETE", "/assets/(.+)")
def delete_asset(request: Request) -> dict[str, Any]:
    """Delete an asset."""
    library = request.service.library
    library.delete(library.view(), request.asset)
    return {}


@route("PATCH", "/assets/(.+)")
def update_asset(request: Request) -> dict[str, Any]:
    """Change properties of a written asset; the mask names them as `properties.NAME` or all as `properties`."""
    library = request.service.library
    paths = (request.body.get("updateMask") or {}).get("paths") or []
    paths = paths.split(",") if isinstance(paths, str) else paths
    library.update_properties(request.asset, dict((request.body.get("asset") or {}).get("properties") or {}), paths)
    return library.view().describe(request.asset)


@route("POST", "/assets/(.+):copy")
def copy_asset(request: Request) -> dict[str, Any]:
    """A second asset with the same content."""
    return _transfer(request, keep=True)


@route("POST", "/assets/(.+):move")
def move_asset(request: Request) -> dict[str, Any]:
    """The same content under another id."""
    return _transfer(request, keep=False)


def _transfer(request: Request, *, keep: bool) -> dict[str, Any]:
    library = request.service.library
    target = asset_id(str(request.body.get("destinationName", "")))
    view = library.view()
    library.check_writable(view, target, overwrite=bool(request.body.get("overwrite")))
    library.transfer(view, request.asset, target, keep=keep)
    return library.view().describe(target)


@route("POST", "/image:importExternal")
def import_external(request: Request) -> dict[str, Any]:
    """A COG-backed image asset, at once."""
    return ingestion.import_external(request.service.library, request.service.reader, request.body)


@route("POST", "/image:import")
def import_image(request: Request) -> dict[str, Any]:
    """Ingest an image: an operation."""
    name = ingestion.check_image(request.service.library, request.body)
    return request.service.operations.start(request.project, "INGEST_IMAGE", f'Ingest image: "{name}"', request.body)


@route("POST", "/table:import")
def import_table(request: Request) -> dict[str, Any]:
    """Ingest a table: an operation."""
    name = ingestion.check_table(request.service.library, request.body)
    return request.service.operations.start(request.project, "INGEST_TABLE", f'Ingest table: "{name}"', request.body)


@route("POST", "/image:export")
def export_image(request: Request) -> dict[str, Any]:
    """Export an image to an asset or to Cloud Storage: an operation."""
    exports.check(request.service, request.body, table=False)
    text = str(request.body.get("description") or "myExportImageTask")
    return request.service.operations.start(request.project, "EXPORT_IMAGE", text, request.body)


@route("POST", "/table:export")
def export_table(request: Request) -> dict[str, Any]:
    """Export features to an asset or to Cloud Storage: an operation."""
    exports.check(request.service, request.body, table=True)
    text = str(request.body.get("description") or "myExportTableTask")
    return request.service.operations.start(request.project, "EXPORT_FEATURES", text, request.body)


@route("GET", "/operations")
def list_operations(request: Request) -> dict[str, Any]:
    """All operations of the project."""
    return _paged(request, request.service.operations.all(request.project), "operations")


@route("GET", "/operations/([^/:]+)")
def get_operation(request: Request) -> dict[str, Any]:
    """One operation."""
    return request.service.operations.get(f"projects/{request.project}/operations/{request.name}")


@route("POST", "/operations/([^/:]+):cancel")
def cancel_operation(request: Request) -> dict[str, Any]:
    """Cancel an operation."""
    request.service.operations.cancel(f"projects/{request.project}/operations/{request.name}")
    return {}


@route("DELETE", "/operations/([^/:]+)")
def delete_operation(request: Request) -> dict[str, Any]:
    """Forget an operation."""
    request.service.operations.delete(f"projects/{request.project}/operations/{request.name}")
    return {}


@route("GET", "/config")
def get_config(request: Request) -> dict[str, Any]:
    """Settings of the project."""
    return {"name": f"projects/{request.project}/config", "maxConcurrentExports": 2}

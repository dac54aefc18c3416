"""Paths of assets: listing, reading, creating, changing, ingesting and exporting them."""

from __future__ import annotations

from typing import Any

from infra.local.earthengine import exports, ingestion
from infra.local.earthengine.assets import asset_id
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.routing import Request, paged, route


def _listed(request: Request, parent: str) -> list[dict[str, Any]]:
    view = request.service.library.view()
    if view.kind(parent) not in ("FOLDER", "IMAGE_COLLECTION"):
        raise ArgumentError(f"Asset '{parent}' is neither a folder nor an image collection.")
    return [view.describe(child) for child in view.children(parent)]


@route("GET", ":listAssets")
def list_root(request: Request) -> dict[str, Any]:
    """Assets at the root of a project."""
    return paged(request, _listed(request, f"projects/{request.project}/assets"), "assets")


@route("GET", "/assets/(.*):listAssets")
def list_assets(request: Request) -> dict[str, Any]:
    """Assets inside a folder or collection."""
    return paged(request, _listed(request, request.asset), "assets")


@route("GET", "/assets/(.*):listImages")
def list_images(request: Request) -> dict[str, Any]:
    """Images inside a collection."""
    return paged(request, [a for a in _listed(request, request.asset) if a["type"] == "IMAGE"], "images")


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

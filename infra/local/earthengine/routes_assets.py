"""Paths of assets: listing, reading, creating, changing, ingesting and exporting them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from infra.local.earthengine import asset_filter, exports, ingestion
from infra.local.earthengine.assets import asset_id
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.routing import Request, paged, route

BASIC = ("type", "name", "id", "updateTime")
"""What a listing shows of an asset when only that is asked for."""


def _listed(request: Request, parent: str) -> list[dict[str, Any]]:
    view = request.service.library.view()
    if view.kind(parent) not in ("FOLDER", "IMAGE_COLLECTION"):
        raise ArgumentError(f"Asset '{parent}' is neither a folder nor an image collection.")
    found = [view.describe(child) for child in view.children(parent)]
    if wanted := request.query.get("filter"):
        passes = asset_filter.parse(wanted)
        found = [asset for asset in found if passes(asset)]
    if request.query.get("view") == "BASIC":
        found = [{field: asset[field] for field in BASIC if field in asset} for asset in found]
    return found


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


@route("POST", "/assets/(.+):getIamPolicy")
def get_policy(request: Request) -> dict[str, Any]:
    """The access policy of an asset."""
    library = request.service.library
    return library.policies.get(library.view().policy_holder(request.asset))


@route("POST", "/assets/(.+):setIamPolicy")
def set_policy(request: Request) -> dict[str, Any]:
    """Replace the access policy of an asset; it is kept and restricts nobody here."""
    library = request.service.library
    holder = library.view().policy_holder(request.asset)
    if holder != request.asset:
        raise ArgumentError(f"The images of a collection have its policy: set that of '{holder}'.")
    return library.policies.set(holder, request.body.get("policy"))


@route("POST", "/assets/(.+):testIamPermissions")
def test_permissions(request: Request) -> dict[str, Any]:
    """All permissions: whoever reaches a stand-in owns it."""
    request.service.library.view().kind(request.asset)
    return {"permissions": list(request.body.get("permissions") or ())}


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
    """Change properties and times of a written asset; see `AssetLibrary.update` for the mask."""
    library = request.service.library
    mask = request.body.get("updateMask") or []
    paths = mask.get("paths") or [] if isinstance(mask, dict) else mask
    paths = [path.strip() for path in paths.split(",")] if isinstance(paths, str) else list(paths)
    library.update(request.asset, dict(request.body.get("asset") or {}), paths)
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
    service = request.service
    return ingestion.import_external(service.library, service.reader, service.storage_endpoint, request.body)


def _begun(request: Request, kind: str, description: str, check: Callable[[], object]) -> dict[str, Any]:
    """The operation that a request begins, or began when it came before: then the asset may be there already."""
    operations = request.service.operations
    if known := operations.find(request.body):
        return known
    check()
    return operations.start(request.project, kind, str(request.body.get("description") or description), request.body)


def _ingested(request: Request, key: str) -> str:
    return str((request.body.get(key) or {}).get("name", ""))


@route("POST", "/image:import")
def import_image(request: Request) -> dict[str, Any]:
    """Ingest an image: an operation."""
    text = f'Ingest image: "{_ingested(request, "imageManifest")}"'
    return _begun(request, "INGEST_IMAGE", text, partial(ingestion.check_image, request.service.library, request.body))


@route("POST", "/table:import")
def import_table(request: Request) -> dict[str, Any]:
    """Ingest a table: an operation."""
    text = f'Ingest table: "{_ingested(request, "tableManifest")}"'
    return _begun(request, "INGEST_TABLE", text, partial(ingestion.check_table, request.service.library, request.body))


@route("POST", "/image:export")
def export_image(request: Request) -> dict[str, Any]:
    """Export an image to an asset or to Cloud Storage: an operation."""
    check = partial(exports.check, request.service, request.body, table=False)
    return _begun(request, "EXPORT_IMAGE", "myExportImageTask", check)


@route("POST", "/table:export")
def export_table(request: Request) -> dict[str, Any]:
    """Export features to an asset or to Cloud Storage: an operation."""
    check = partial(exports.check, request.service, request.body, table=True)
    return _begun(request, "EXPORT_FEATURES", "myExportTableTask", check)

"""Paths of values, pixels, maps, features and operations."""

from __future__ import annotations

from typing import Any

from infra.local.earthengine import tables
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.render import render
from infra.local.earthengine.routing import Answer, Request, paged, route
from infra.local.earthengine.signatures import listing
from infra.local.earthengine.values import to_json


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


@route("POST", "/(videoThumbnails|filmstripThumbnails)")
def create_moving_picture(request: Request) -> dict[str, Any]:
    """Refused: moving pictures are not drawn here."""
    raise ArgumentError(f"{request.name} are not known to the local Earth Engine stand-in; ask for single thumbnails.")


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


@route("GET", "/operations")
def list_operations(request: Request) -> dict[str, Any]:
    """All operations of the project."""
    return paged(request, request.service.operations.all(request.project), "operations")


@route("GET", "/operations/([^/:]+)")
def get_operation(request: Request) -> dict[str, Any]:
    """One operation."""
    return request.service.operations.get(f"projects/{request.project}/operations/{request.name}")


@route("POST", "/operations/([^/:]+):cancel")
def cancel_operation(request: Request) -> dict[str, Any]:
    """Cancel an operation."""
    request.service.operations.cancel(f"projects/{request.project}/operations/{request.name}")
    return {}


@route("POST", "/operations/([^/:]+):wait")
def wait_operation(request: Request) -> dict[str, Any]:
    """One operation, once it has ended or a while has passed."""
    text = str(request.body.get("timeout") or "1s").removesuffix("s")
    try:
        timeout_s = float(text)
    except ValueError as error:
        raise ArgumentError(f"Invalid timeout '{request.body.get('timeout')}': write it as '10s'.") from error
    return request.service.operations.wait(f"projects/{request.project}/operations/{request.name}", timeout_s)


@route("DELETE", "/operations/([^/:]+)")
def delete_operation(request: Request) -> dict[str, Any]:
    """Forget an operation."""
    request.service.operations.delete(f"projects/{request.project}/operations/{request.name}")
    return {}


@route("GET", "/config")
def get_config(request: Request) -> dict[str, Any]:
    """Settings of the project."""
    return {"name": f"projects/{request.project}/config", "maxConcurrentExports": 2}

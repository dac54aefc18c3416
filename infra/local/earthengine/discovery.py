"""The discovery document: which methods the service has, from which the client builds its calls.

Written here for the methods that are answered. The client fetches it from `/$discovery/rest?version=v1`.
"""

from __future__ import annotations

from typing import Any

PROJECT = "^projects/[^/]+$"
ASSET = "^projects/[^/]+/assets/.*$"
OPERATION = "^projects/[^/]+/operations/.+$"


def _thing(kind: str) -> str:
    return f"^projects/[^/]+/{kind}/[^/]+$"


PAGES = {"pageSize": "integer", "pageToken": "string"}
LISTS = {**PAGES, "filter": "string", "view": "string", "region": "string", "startTime": "string", "endTime": "string"}

# resource path, method, HTTP verb, path (the part in braces is the path parameter), pattern, query parameters, body
Method = tuple[str, str, str, str, str, dict[str, str], bool]
METHODS: list[Method] = [
    ("", "listAssets", "GET", "{+parent}:listAssets", PROJECT, LISTS, False),
    ("", "getConfig", "GET", "{+name}", "^projects/[^/]+/config$", {}, False),
    ("", "updateConfig", "PATCH", "{+name}", "^projects/[^/]+/config$", {"updateMask": "string"}, True),
    ("algorithms", "list", "GET", "{+parent}/algorithms", PROJECT, {}, False),
    ("value", "compute", "POST", "{+project}/value:compute", PROJECT, {}, True),
    ("image", "computePixels", "POST", "{+project}/image:computePixels", PROJECT, {}, True),
    ("image", "export", "POST", "{+project}/image:export", PROJECT, {}, True),
    ("image", "import", "POST", "{+project}/image:import", PROJECT, {}, True),
    ("image", "importExternal", "POST", "{+project}/image:importExternal", PROJECT, {}, True),
    ("imageCollection", "computeImages", "POST", "{+project}/imageCollection:computeImages", PROJECT, {}, True),
    ("table", "computeFeatures", "POST", "{+project}/table:computeFeatures", PROJECT, {}, True),
    ("table", "export", "POST", "{+project}/table:export", PROJECT, {}, True),
    ("table", "import", "POST", "{+project}/table:import", PROJECT, {}, True),
    ("tables", "create", "POST", "{+parent}/tables", PROJECT, {}, True),
    ("tables", "getFeatures", "GET", "{+name}:getFeatures", _thing("tables"), {}, False),
    ("maps", "create", "POST", "{+parent}/maps", PROJECT, {}, True),
    ("thumbnails", "create", "POST", "{+parent}/thumbnails", PROJECT, {}, True),
    ("thumbnails", "getPixels", "GET", "{+name}:getPixels", _thing("thumbnails"), {}, False),
    ("videoThumbnails", "create", "POST", "{+parent}/videoThumbnails", PROJECT, {}, True),
    ("filmstripThumbnails", "create", "POST", "{+parent}/filmstripThumbnails", PROJECT, {}, True),
    ("assets", "get", "GET", "{+name}", ASSET, {}, False),
    ("assets", "create", "POST", "{+parent}/assets", PROJECT, {"assetId": "string"}, True),
    ("assets", "delete", "DELETE", "{+name}", ASSET, {}, False),
    ("assets", "patch", "PATCH", "{+name}", ASSET, {}, True),
    ("assets", "getPixels", "POST", "{+name}:getPixels", ASSET, {}, True),
    ("assets", "listAssets", "GET", "{+parent}:listAssets", ASSET, LISTS, False),
    ("assets", "listImages", "GET", "{+parent}:listImages", ASSET, LISTS, False),
    ("assets", "listFeatures", "GET", "{+asset}:listFeatures", ASSET, LISTS, False),
    ("assets", "copy", "POST", "{+sourceName}:copy", ASSET, {}, True),
    ("assets", "move", "POST", "{+sourceName}:move", ASSET, {}, True),
    ("assets", "getIamPolicy", "POST", "{+resource}:getIamPolicy", ASSET, {}, True),
    ("assets", "setIamPolicy", "POST", "{+resource}:setIamPolicy", ASSET, {}, True),
    ("assets", "testIamPermissions", "POST", "{+resource}:testIamPermissions", ASSET, {}, True),
    ("operations", "get", "GET", "{+name}", OPERATION, {}, False),
    ("operations", "list", "GET", "{+name}/operations", PROJECT, {**PAGES, "filter": "string"}, False),
    ("operations", "cancel", "POST", "{+name}:cancel", OPERATION, {}, True),
    ("operations", "wait", "POST", "{+name}:wait", OPERATION, {}, True),
    ("operations", "delete", "DELETE", "{+name}", OPERATION, {}, False),
]


def document(base_url: str) -> dict[str, Any]:
    """The discovery document of a server at an address."""
    projects: dict[str, Any] = {"methods": {}, "resources": {}}
    for resource, name, verb, path, pattern, query, body in METHODS:
        holder = projects if not resource else projects["resources"].setdefault(resource, {"methods": {}})
        holder["methods"][name] = _method(f"{resource}.{name}".lstrip("."), verb, path, pattern, query, body)
    projects["resources"]["maps"]["resources"] = {"tiles": {"methods": {"get": _tiles()}}}
    common = ("access_token", "alt", "callback", "fields", "key", "oauth_token", "quotaUser", "uploadType")
    parameters: dict[str, Any] = {name: {"location": "query", "type": "string"} for name in common}
    parameters["prettyPrint"] = {"location": "query", "type": "boolean", "default": "true"}
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "earthengine:v1",
        "name": "earthengine",
        "version": "v1",
        "title": "Local Earth Engine stand-in",
        "protocol": "rest",
        "rootUrl": f"{base_url}/",
        "baseUrl": f"{base_url}/",
        "servicePath": "",
        "batchPath": "batch",
        "fullyEncodeReservedExpansion": True,
        "parameters": parameters,
        "schemas": {
            "Any": {"id": "Any", "type": "any"},
            # The client makes a method for the next page where the answer may have this token.
            "Page": {"id": "Page", "type": "object", "properties": {"nextPageToken": {"type": "string"}}},
        },
        "resources": {"projects": projects},
    }


def _method(identifier: str, verb: str, path: str, pattern: str, query: dict[str, str], body: bool) -> dict[str, Any]:
    parameter = path[path.index("{+") + 2 : path.index("}")]
    parameters: dict[str, Any] = {
        parameter: {"location": "path", "pattern": pattern, "required": True, "type": "string"},
        **{name: {"location": "query", "type": kind} for name, kind in query.items()},
    }
    method = {
        "id": f"earthengine.projects.{identifier}",
        "httpMethod": verb,
        "path": f"v1/{path}",
        "flatPath": f"v1/{path}",
        "parameterOrder": [parameter],
        "parameters": parameters,
        "response": {"$ref": "Page" if "pageToken" in query else "Any"},
    }
    return {**method, "request": {"$ref": "Any"}} if body else method


def _tiles() -> dict[str, Any]:
    method = _method("maps.tiles.get", "GET", "{+parent}/tiles/{zoom}/{x}/{y}", _thing("maps"), {}, False)
    for name in ("zoom", "x", "y"):
        method["parameters"][name] = {"location": "path", "required": True, "type": "integer", "format": "int32"}
    method["parameterOrder"] = ["parent", "zoom", "x", "y"]
    return method

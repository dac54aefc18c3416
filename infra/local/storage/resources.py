"""JSON resources of the service's JSON API, written and read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from infra.local.storage.model import ATTRIBUTES, NewObject, ObjectMeta, StorageError


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as the service writes times."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bucket_resource(name: str, created: float) -> dict[str, Any]:
    """A bucket."""
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "timeCreated": timestamp(created),
        "updated": timestamp(created),
        "metageneration": "1",
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "etag": "CAE=",
    }


def object_resource(meta: ObjectMeta, base_url: str) -> dict[str, Any]:
    """An object; `base_url` is the address under which the client reaches the stand-in."""
    path = f"b/{quote(meta.bucket, safe='')}/o/{quote(meta.name, safe='')}"
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{meta.bucket}/{meta.name}/{meta.generation}",
        "selfLink": f"{base_url}/storage/v1/{path}",
        "mediaLink": f"{base_url}/download/storage/v1/{path}?generation={meta.generation}&alt=media",
        "name": meta.name,
        "bucket": meta.bucket,
        "generation": str(meta.generation),
        "metageneration": str(meta.metageneration),
        "storageClass": "STANDARD",
        "size": str(meta.size),
        "md5Hash": meta.md5,
        "crc32c": meta.crc32c,
        "etag": meta.etag,
        "timeCreated": timestamp(meta.created),
        "updated": timestamp(meta.updated),
        "timeStorageClassUpdated": timestamp(meta.created),
        **meta.attributes,
        "contentType": meta.content_type,
    }
    if meta.metadata:
        resource["metadata"] = dict(meta.metadata)
    return resource


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object, empty for an empty body; `StorageError` 400 otherwise."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except ValueError:
        raise StorageError(400, "parseError", "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise StorageError(400, "parseError", "The body is not a JSON object.")
    return value


def new_object(
    bucket: str, resource: Mapping[str, Any], *, name: str | None = None, content_type: str | None = None
) -> NewObject:
    """What an uploaded resource says; `name` and `content_type` come from elsewhere in the request."""
    chosen = name or resource.get("name")
    if not isinstance(chosen, str) or not chosen:
        raise StorageError(400, "required", "The upload needs an object name.")
    attributes = _attributes(resource)
    if content_type and "contentType" not in attributes:
        attributes["contentType"] = content_type
    return NewObject(
        bucket,
        chosen,
        attributes,
        _metadata(resource),
        crc32c=_text(resource, "crc32c"),
        md5=_text(resource, "md5Hash"),
    )


def patched(meta: ObjectMeta, resource: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """(attributes, metadata) after a PATCH: a null drops a key, keys that are not named stay."""
    attributes = {**meta.attributes, **{k: v for k, v in resource.items() if k in ATTRIBUTES}}
    given = resource.get("metadata", {})
    metadata = {} if given is None else {**meta.metadata, **given}
    return (
        {key: str(value) for key, value in attributes.items() if value is not None},
        {key: str(value) for key, value in metadata.items() if value is not None},
    )


def updated(resource: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """(attributes, metadata) after a PUT, which replaces everything."""
    return _attributes(resource), _metadata(resource)


def _attributes(resource: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(resource[key]) for key in ATTRIBUTES if resource.get(key) is not None}


def _metadata(resource: Mapping[str, Any]) -> dict[str, str]:
    given = resource.get("metadata") or {}
    if not isinstance(given, dict):
        raise StorageError(400, "invalid", "metadata must be an object of strings")
    return {str(key): str(value) for key, value in given.items() if value is not None}


def _text(resource: Mapping[str, Any], key: str) -> str | None:
    value = resource.get(key)
    return str(value) if value is not None else None

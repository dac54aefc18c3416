"""Objects in the Cloud Storage stand-in: reading and writing `gs://` addresses over its JSON interface."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx

from infra.local.earthengine.errors import ArgumentError

MAX_OBJECT_BYTES = 4 * 2**30
"""Larger objects are not ingested."""
CHUNK = 1 << 20
TIMEOUT_S = 60.0


def split(uri: str) -> tuple[str, str]:
    """Bucket and name of a `gs://` address."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or not name:
        raise ArgumentError(f"'{uri}' is not a Cloud Storage address; it must be 'gs://BUCKET/NAME'.")
    return bucket, name


def _base(endpoint: str, uri: str) -> str:
    if not endpoint:
        raise ArgumentError(f"'{uri}' is in Cloud Storage, and this stand-in was started without a storage address.")
    return endpoint.rstrip("/")


def download(endpoint: str, uri: str, target: Path) -> None:
    """Copy an object into a file. ArgumentError when it is missing or too large."""
    bucket, name = split(uri)
    address = f"{_base(endpoint, uri)}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with httpx.stream("GET", address, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            if response.status_code != 200:
                raise ArgumentError(f"Cannot read '{uri}': Cloud Storage answered {response.status_code}.")
            for part in response.iter_bytes(CHUNK):
                written += len(part)
                if written > MAX_OBJECT_BYTES:
                    raise ArgumentError(f"'{uri}' is larger than {MAX_OBJECT_BYTES} bytes.")
                file.write(part)
    except httpx.HTTPError as error:
        raise ArgumentError(f"Cannot read '{uri}': {error}.") from error


def generation(endpoint: str, uri: str) -> int:
    """The present generation of an object, 0 when it is gone. ArgumentError when Cloud Storage does not answer."""
    bucket, name = split(uri)
    address = f"{_base(endpoint, uri)}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
    try:
        response = httpx.get(address, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        raise ArgumentError(f"Cannot read '{uri}': {error}.") from error
    return int(response.json()["generation"]) if response.status_code == 200 else 0


def upload(endpoint: str, uri: str, source: Path, media_type: str) -> None:
    """Copy a file into an object. ArgumentError when Cloud Storage refuses it."""
    bucket, name = split(uri)
    address = f"{_base(endpoint, uri)}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
    try:
        with source.open("rb") as file:
            response = httpx.post(
                address,
                params={"uploadType": "media", "name": name},
                content=iter(lambda: file.read(CHUNK), b""),
                headers={"Content-Type": media_type, "Content-Length": str(source.stat().st_size)},
                timeout=TIMEOUT_S,
            )
    except httpx.HTTPError as error:
        raise ArgumentError(f"Cannot write '{uri}': {error}.") from error
    if response.status_code >= 300:
        raise ArgumentError(f"Cannot write '{uri}': Cloud Storage answered {response.status_code}.")

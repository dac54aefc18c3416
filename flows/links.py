"""Addresses that people can click on, of objects that programs know by their URI."""

from __future__ import annotations

from urllib.parse import quote

from flows.errors import FlowError
from flows.storage import split_uri

BROWSER = "https://storage.cloud.google.com"
"""Where a browser opens an object of Cloud Storage, for people who have signed in and may read it."""


def browser_link(uri: str, endpoint: str = "") -> str:
    """The address at which a browser opens a `gs://` object; any other address, or what is none, as it is.

    `endpoint` is the address of a local stand-in, empty for the real Cloud Storage.
    """
    try:
        bucket, name = split_uri(uri)
    except FlowError:
        return uri
    if endpoint:
        return f"{endpoint.rstrip('/')}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
    return f"{BROWSER}/{quote(bucket, safe='')}/{quote(name)}"

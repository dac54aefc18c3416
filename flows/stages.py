"""Stages of a run that are done once: what a stage made lies in the bucket, and a run that starts again takes it there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.layout import RunLayout
from flows.product_set import sha256_of
from flows.storage import Store

_TYPE = "application/octet-stream"


def once(store: Store, run: RunLayout, folder: Path, filenames: tuple[str, ...], make: Callable[[], None]) -> bool:
    """Bring `filenames` into `folder`: from the bucket when an earlier attempt made them all, else by `make`.

    The last file is uploaded last, so that a stage is in the bucket whole or counts as not done. Returns whether the
    stage was made now.
    """
    uris = [run.work(name) for name in filenames]
    if store.exists(uris[-1]):
        for name, uri in zip(filenames, uris, strict=True):
            store.download_file(uri, folder / name)
        return False
    make()
    for name, uri in zip(filenames, uris, strict=True):
        store.delete(uri)
        store.upload_file(folder / name, uri, _TYPE, sha256_of(folder / name))
    return True


def clear(store: Store, run: RunLayout) -> None:
    """Delete what the stages of a published run left behind."""
    for entry in store.list(run.work("")):
        store.delete(entry.uri)

"""Stages of a run that are done once: what a stage made lies in the bucket, and a run that starts again takes it there.

Each attempt uploads under a name of its own; the stage's record, which only the first to finish can write, says which
attempt counts. So a killed attempt, or a second process at the same run, never mixes its files with another's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

from flows.errors import PublicationError
from flows.layout import RunLayout
from flows.product_set import sha256_of
from flows.storage import PreconditionFailedError, Store

_TYPE = "application/octet-stream"


def once(
    store: Store, run: RunLayout, stage: str, folder: Path, filenames: tuple[str, ...], make: Callable[[], None]
) -> bool:
    """Bring the files of `stage` into `folder`: from the bucket when an attempt finished them, else by `make`.

    Returns whether they were made now. Raises `PublicationError` when a stored file is damaged.
    """
    record = run.work(f"{stage}.json")
    if store.exists(record):
        _fetch(store, run, record, folder)
        return False
    make()
    attempt = secrets.token_hex(4)
    files = {name: {"key": f"{stage}-{attempt}/{name}", "sha256": sha256_of(folder / name)} for name in filenames}
    for name, file in files.items():
        store.upload_file(folder / name, run.work(file["key"]), _TYPE, file["sha256"])
    try:
        store.write_bytes(record, json.dumps(files, indent=1).encode(), "application/json", if_generation_match=0)
    except PreconditionFailedError:
        _fetch(store, run, record, folder)
        return False
    return True


def clear(store: Store, run: RunLayout) -> None:
    """Delete what the stages of a published run left behind; a killed clearing can be done again."""
    for entry in store.list(run.work("")):
        store.delete(entry.uri)


def _fetch(store: Store, run: RunLayout, record: str, folder: Path) -> None:
    for name, file in json.loads(store.read_bytes(record)).items():
        uri = run.work(file["key"])
        store.download_file(uri, folder / name)
        if sha256_of(folder / name) != file["sha256"]:
            raise PublicationError(f"{uri} is damaged: delete {run.work('')} and run again")

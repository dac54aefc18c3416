"""The folder that a command writes to, checked before any work."""

from __future__ import annotations

import os
from pathlib import Path

from flows.errors import PublicationError


def require_folder(out: Path) -> None:
    """Raise `PublicationError` when `out`, which will receive a folder, is something else or cannot be made."""
    if out.exists() and not out.is_dir():
        raise PublicationError(f"the output folder {out} is a file: name another one")
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise PublicationError(f"the output folder {out} cannot be made: {there} is a file; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PublicationError(f"the output folder {out} cannot be written: {there} is not yours; name another one")


def require_free_folder(out: Path) -> None:
    """Raise `PublicationError` unless `out` is an empty folder, or does not exist and can be made."""
    require_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise PublicationError(f"the output folder {out} is not empty: name a new one")

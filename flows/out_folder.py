"""The folder that a command writes to, checked before any work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flows.errors import PublicationError


def require_folder(out: Path) -> None:
    """Raise `PublicationError` when `out`, which will receive a folder, is something else or cannot be written."""
    if out.exists() and not out.is_dir():
        raise PublicationError(f"the output folder {out} is a file: name another one")
    _require_writable(out, out.absolute())


def require_free_folder(out: Path) -> None:
    """Raise `PublicationError` unless `out` is an empty folder, or does not exist and can be made."""
    require_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise PublicationError(f"the output folder {out} is not empty: name a new one")
    _require_writable(out, out.absolute().parent)  # where its content is staged


def _require_writable(out: Path, folder: Path) -> None:
    """Raise `PublicationError` naming `out` unless `folder`, or the first above it that exists, can be written."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise PublicationError(f"the output folder {out} cannot be made: {there} is a file; name another one")
    try:  # by writing: permissions say that root may write everywhere
        tempfile.TemporaryDirectory(dir=there, prefix=".").cleanup()
    except OSError as error:
        why = error.strerror or error
        raise PublicationError(
            f"the output folder {out} cannot be written, in {there}: {why}; name another one"
        ) from error

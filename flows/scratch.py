"""The folder for files that a run needs while it works: on a disk with room for them, gone when the run ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import FlowError
from flows.settings import WorkSettings

BYTES_PER_PX = 30
"""Of the products and what they are made from, uncompressed: about twice what they take."""


@contextmanager
def scratch_folder(settings: WorkSettings, shape_yx: tuple[int, int]) -> Iterator[Path]:
    """An empty folder for a map of so many pixels, removed with all that is in it at the end of the block.

    Raises `FlowError` when its disk has no room or cannot be written.
    """
    parent = Path(settings.scratch or tempfile.gettempdir())
    require_room(parent, shape_yx[0] * shape_yx[1] * BYTES_PER_PX, "QUAKESLIDE_WORK__SCRATCH")
    with tempfile.TemporaryDirectory(prefix="quakeslide-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def require_room(folder: Path, needed_bytes: int, setting: str) -> None:
    """Raise `FlowError` naming `setting` unless the disk of `folder` can take so many bytes: before any work."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FlowError(f"the folder {folder} cannot be used ({error.strerror}): mend {setting}") from error
    if free < needed_bytes:
        raise FlowError(
            f"the disk is full: {folder} has {free / 1e6:,.0f} MB left and {needed_bytes / 1e6:,.0f} MB may be needed: "
            f"free some, or name another folder by {setting}"
        )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists already."""
    return next(path for path in (folder, *folder.parents) if path.exists())

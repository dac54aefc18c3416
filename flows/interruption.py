"""What is said of Ctrl-C where nothing of the work is kept: elsewhere the same command goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@contextmanager
def beginning_anew() -> Iterator[None]:
    """On Ctrl-C leave the program with one line that promises nothing; what is inside removes what it has made."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing is kept of this: the same command begins anew", err=True)
        raise SystemExit(INTERRUPTED) from None

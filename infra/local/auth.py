"""The password of a local stack's Prefect server: drawn anew for each start, in one file that only its owner can read.

Whoever can reach the server can have any code run as its user, and on a machine that others use as well, they all reach
its loopback interface. The file's name may be told to anybody, what is in it stands nowhere else on disk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

AUTH_FILE = "prefect.auth"
"""In the home of a stack, with mode 0600."""


def fresh_auth() -> str:
    """A new `user:password`, as Prefect's settings and its sign-in page take it."""
    return f"admin:{secrets.token_urlsafe(24)}"


def write_auth(home: Path, auth: str) -> Path:
    """Put `auth` in the file of `home`, in place of any that a killed process has left; returns the file's path."""
    path = home / AUTH_FILE
    remove_auth(home)
    # Made by this call with this mode, and through no link: nobody can have opened it before.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{auth}\n")
    return path


def read_auth(home: Path) -> str:
    """What stands in the file of `home`, empty when there is none. Raises `PermissionError` when it is another user's."""
    with contextlib.suppress(FileNotFoundError):
        return (home / AUTH_FILE).read_text(encoding="utf-8").strip()
    return ""


def remove_auth(home: Path) -> None:
    """Remove the file of `home`, if it is there."""
    (home / AUTH_FILE).unlink(missing_ok=True)

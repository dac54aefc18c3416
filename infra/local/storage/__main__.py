"""`python -m infra.local.storage --root DIR --port 0`: serves until it is told to end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.local.standin import run
from infra.local.storage.app import create_app
from infra.local.storage.model import StorageError


def main() -> int:
    """Serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="infra.local.storage", description="A stand-in for Cloud Storage.")
    parser.add_argument("--root", type=Path, required=True, help="folder that keeps the objects")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1, 0 for a free one")
    arguments = parser.parse_args()
    try:
        app = create_app(arguments.root)
    except (StorageError, OSError) as error:
        sys.stderr.write(f"the storage stand-in cannot use {arguments.root}: {error}\n")
        return 2
    return run(app, arguments.port)


if __name__ == "__main__":
    sys.exit(main())

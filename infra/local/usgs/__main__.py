"""`python -m infra.local.usgs --data DIR --state DIR --port 0`: serves until it is told to end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.local.standin import run
from infra.local.usgs.app import create_app
from infra.local.usgs.book import BookError


def main() -> int:
    """Serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="infra.local.usgs", description="A stand-in for the USGS services.")
    parser.add_argument("--data", type=Path, action="append", default=[], help="folder of events; may be repeated")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps what is added while running")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1, 0 for a free one")
    arguments = parser.parse_args()
    try:
        app = create_app(arguments.data, arguments.state)
    except (BookError, OSError) as error:
        sys.stderr.write(f"the USGS stand-in cannot start: {error}\n")
        return 2
    return run(app, arguments.port)


if __name__ == "__main__":
    sys.exit(main())
